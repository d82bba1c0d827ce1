// SPDX-License-Identifier: GPL-2.0-only
/*
 * An IRET that does not complete because the host has to map its stack page
 * first does not open the window: it runs again, still blocked. An IRET that
 * faults in the guest costs no NMI, and each still comes once.
 *
 * The NMI handler runs on a stack of its own (IST), where the IRET frame is alone
 * on a page. While the handler is in a stage, the host drops that page. The next
 * access, the IRET's, makes the vCPU exit.
 *
 * If there is no memory at all below the frame, KVM gives up and asks user space,
 * with the IRET next. Then something else comes first: an IRQ, or other code.
 *
 * The CPU clears the blocking bit when the IRET starts. A wrong implementation
 * does not put it back, and the waiting NMI hits the IRET: its frame goes over
 * the first one's, and the guest never gets home.
 */
#include "nmi_events.h"
#include "nmi_pages.h"

#define STAGE_ELSEWHERE	STAGE_OWN
#define STAGE_STILL	(STAGE_OWN + 1)

#define IRET_FRAME	40
#define BAD_CS		0xfff8

extern char gp_fixup[];
static uint64_t good_cs;

static void guest(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED | RFLAGS_IF);
	guest_irqs_on();
	guest_irqs_off();
	guest_stage(STAGE_END);
}

static void on_nmi(struct event_regs *regs)
{
	if (regs->vector == NMI_VECTOR && guest_log.nr_nmis == 1)
		guest_stage(STAGE_HANDLER);
}

static void host_page_missing(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi);

	use_frame_page(vcpu);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	drop_shared_page(vcpu, FRAME_PAGE);
	run_to(vcpu, STAGE_END);
	TEST_ASSERT(shared_page_is_used(vcpu, FRAME_PAGE), "the IRET did not touch its page");
	check_nmis_at_stop(vcpu, 2);
}

/* Without a second NMI waiting, nothing must be left behind either. */
static void host_page_missing_alone(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi);

	use_frame_page(vcpu);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	drop_shared_page(vcpu, FRAME_PAGE);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

/*
 * The handler returns to a selector that does not exist: #GP at its IRET. The
 * #GP handler, which has the NMI's frame right above its own, returns in its
 * place: with vNMI its IRET is the one that opens the window, and an NMI in
 * front of the first one would look like a nested one.
 */
static void on_event_bad_cs(struct event_regs *regs)
{
	uint64_t *nmi_frame = (uint64_t *)regs->rsp;

	if (regs->vector == GP_VECTOR) {
		regs->rip = nmi_frame[0];
		regs->cs = good_cs;
		regs->rflags = nmi_frame[2];
		regs->rsp = nmi_frame[3];
		regs->ss = nmi_frame[4];
		return;
	}
	if (guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	good_cs = regs->cs;
	regs->cs = BAD_CS;
}

static struct kvm_vcpu *run_over_gp(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event_bad_cs);

	run_through_handler(vcpu, true);
	return vcpu;
}

static void gp_at_iret(void)
{
	struct kvm_vcpu *vcpu = run_over_gp();
	const struct event_log *log = read_log(vcpu);

	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(log->nr, 3);
	CHECK_EQ(only_event(vcpu, GP_VECTOR)->rip, (uint64_t)event_iret_2);
	CHECK_EQ(only_event(vcpu, GP_VECTOR)->error, BAD_CS);
}

/* Intel and AMD without vNMI; the manual of vNMI keeps NMIs masked here. */
static void gp_at_iret_opens(void)
{
	struct kvm_vcpu *vcpu;

	require_iret_tracked();
	if (nmi_path() == SVM_VNMI)
		skip("an IRET that faults leaves NMIs masked with vNMI");
	vcpu = run_over_gp();
	CHECK_EQ(nmi_nr(read_log(vcpu), 2)->rip, (uint64_t)event_entry_13);
}

static void gp_frame(void)
{
	struct kvm_vcpu *vcpu = run_over_gp();
	uint64_t rflags = only_event(vcpu, GP_VECTOR)->rflags;

	CHECK_EQ(rflags & (RFLAGS_TF | RFLAGS_IF), 0);
}

/* The guest's own page tables lack the frame's page when the IRET runs. */
static uint64_t *frame_pte;	/* in the guest, where its page tables are mapped */

static void on_event_no_page(struct event_regs *regs)
{
	if (regs->vector == PF_VECTOR) {
		*frame_pte |= 1;
		return;
	}
	if (guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	*frame_pte &= ~1ul;
	asm volatile("invlpg (%0)" : : "r"((uint64_t)FRAME_PAGE) : "memory");
}

/* Map the page with the frame page's PTE into the guest; return where. */
static uint64_t *map_pte(struct kvm_vcpu *vcpu)
{
	uint64_t gva = vm_vaddr_alloc_page(vcpu->vm);
	uint64_t *pte_of_gva = guest_pte(vcpu, gva);
	uint64_t *pte = guest_pte(vcpu, FRAME_PAGE);
	uint64_t gpa = addr_hva2gpa(vcpu->vm, pte);

	*pte_of_gva = (gpa & ~0xffful) | (*pte_of_gva & 0xfff);
	return (uint64_t *)(gva | (gpa & 0xfff));
}

static void pf_at_iret(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event_no_page);

	use_frame_page(vcpu);
	/* Its frame must not land on the page that is away. */
	set_ist(vcpu, 2, SHARED_GPA + 4096);
	set_gate(vcpu, PF_VECTOR, event_entry_14, INTERRUPT_GATE, 2);
	frame_pte = map_pte(vcpu);
	sync_global_to_guest(vcpu->vm, frame_pte);

	run_through_handler(vcpu, false);
	CHECK_EQ(read_log(vcpu)->nr, 2);
	CHECK_EQ(only_event(vcpu, PF_VECTOR)->rip, (uint64_t)event_iret_2);
	CHECK_EQ(only_event(vcpu, NMI_VECTOR)->rip, (uint64_t)guest_stop_next);
}

/* --- an IRET that turns out not to be next ------------------------------- */

extern char elsewhere[];
asm(".pushsection .text\n"
	"elsewhere:" ASM_STAGE(STAGE_ELSEWHERE)
	"nop; nop\n"
	ASM_STAGE(STAGE_STILL)
	".popsection");

static void guest_with_apic(void)
{
	x2apic_enable();
	guest();
}

static void on_irq_in_handler(struct event_regs *regs)
{
	on_nmi(regs);
	if (regs->vector == IRQ_VECTOR) {
		guest_stage(STAGE_ELSEWHERE);
		guest_stage(STAGE_STILL);
	}
}

/* Take the IRET's memory away, and give it back when KVM has noticed. */
static struct kvm_vcpu *run_to_iret(struct kvm_regs *regs)
{
	struct kvm_vcpu *vcpu = create_vm(guest_with_apic, on_irq_in_handler);
	char stack[SHARED_PAGES * 4096];

	vm_enable_cap(vcpu->vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	use_frame_page(vcpu);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);

	memcpy(stack, addr_gpa2hva(vcpu->vm, SHARED_GPA), sizeof(stack));
	finish_stage(vcpu);
	vcpu_regs_get(vcpu, regs);
	regs->rip = (uint64_t)event_iret_2;
	regs->rsp = FRAME_PAGE + FRAME_SIZE - IRET_FRAME;
	vcpu_regs_set(vcpu, regs);
	vm_mem_region_delete(vcpu->vm, SHARED_SLOT);
	TEST_ASSERT(!__vcpu_run(vcpu), "KVM_RUN");
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_INTERNAL_ERROR);

	vm_userspace_mem_region_add(vcpu->vm, VM_MEM_SRC_SHMEM, SHARED_GPA,
				    SHARED_SLOT, SHARED_PAGES, 0);
	memcpy(addr_gpa2hva(vcpu->vm, SHARED_GPA), stack, sizeof(stack));
	vcpu_regs_get(vcpu, regs);
	CHECK_EQ(regs->rip, (uint64_t)event_iret_2);
	return vcpu;
}

static void check_still_blocked(struct kvm_vcpu *vcpu)
{
	run_to(vcpu, STAGE_ELSEWHERE);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_STILL);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void irq_in_front(void)
{
	struct kvm_msi msi = {
		.address_lo = APIC_DEFAULT_GPA,
		.data = IRQ_VECTOR,
	};
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	require_iret_tracked();
	vcpu = run_to_iret(&regs);
	regs.rflags |= RFLAGS_IF;
	vcpu_regs_set(vcpu, &regs);
	TEST_ASSERT(__vm_ioctl(vcpu->vm, KVM_SIGNAL_MSI, &msi) == 1, "no MSI");
	check_still_blocked(vcpu);
}

static void moved_away(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	require_iret_tracked();
	vcpu = run_to_iret(&regs);
	regs.rip = (uint64_t)elsewhere;
	vcpu_regs_set(vcpu, &regs);
	check_still_blocked(vcpu);
}

static const struct test_case cases[] = {
	{ "an IRET that waits for its stack page keeps NMIs blocked", host_page_missing },
	{ "it returns where it should with no NMI waiting", host_page_missing_alone },
	{ "an IRET that takes #GP costs no NMI", gp_at_iret },
	{ "it opens the window at the #GP handler's first instruction", gp_at_iret_opens },
	{ "the #GP frame shows the handler's own flags", gp_frame },
	{ "an IRET that takes #PF returns when it runs again", pf_at_iret },
	{ "an IRQ that comes before the IRET keeps NMIs blocked", irq_in_front },
	{ "so does user space that takes the vCPU elsewhere", moved_away },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
