// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NMI handler's IRET that faults raises the exception that it raises without
 * NMIs: vector, error code, CR2 and frame are the same while the next NMI waits
 * for that IRET. An IRET unblocks NMIs even if it faults, so the next one comes
 * at the first instruction of the fault's handler.
 *
 * The handler of the first NMI stops, the host sends the second one, and the
 * handler returns to a selector, an address or a stack that does not do.
 *
 * Software that steps over the IRET has to hand the exception to the guest by
 * itself. A wrong implementation shows its own TF in the frame, forgets CR2 or
 * the error code, or waits for an IRET that does not come.
 */
#include "nmi_events.h"

#define DF_VECTOR	8
#define ABSENT_CODE	0x38	/* after all that the library puts there */
#define BAD_SELECTOR	0xfff8
#define NOT_CANONICAL	0x8000000000000000ul
#define END_OF_CANONICAL 0x800000000000ul
#define NO_PAGE		0x7fff00000000ul

static struct event_regs bad;	/* what the first NMI's frame gets, 0: as it is */
uint64_t bad_rsp;		/* of the first NMI's handler */
uint32_t nr_bad_irets;

static void guest(void)
{
	guest_warm_up();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void put_bad(uint64_t *field, uint64_t value)
{
	if (value)
		*field = value;
}

/* The frame below the fault's is beyond repair: report from the handler. */
static void on_event(struct event_regs *regs)
{
	if (regs->vector == BP_VECTOR)
		return;
	if (regs->vector != NMI_VECTOR) {
		guest_stage(STAGE_END);
		return;
	}
	if (guest_log.nr_nmis + nr_bad_irets > 1)
		return;

	guest_stage(STAGE_HANDLER);
	put_bad(&regs->rip, bad.rip);
	put_bad(&regs->cs, bad.cs);
	put_bad(&regs->ss, bad.ss);
}

/* An NMI handler whose IRET has its frame after the page with its flags. */
extern char bad_iret_entry[], bad_iret[];
asm(".pushsection .text\n"
	"bad_iret_entry:\n"
	"incl nr_bad_irets\n"
	"cmpl $1, nr_bad_irets\n"
	"jne event_entry_2\n"
	ASM_STAGE(STAGE_HANDLER)
	"mov bad_rsp, %rsp\n"
	"popfq\n"
	"bad_iret: iretq\n"
	".popsection");

static struct kvm_vcpu *run_with(void *nmi_entry)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event);

	set_descriptor(vcpu, ABSENT_CODE, 0x00af1b000000ffff);

	sync_global_to_guest(vcpu->vm, bad);
	set_gate(vcpu, NMI_VECTOR, nmi_entry, INTERRUPT_GATE, 0);
	return vcpu;
}

/* By the manual of vNMI such an IRET leaves NMIs masked. */
static bool fault_opens(void)
{
	return nmi_path() != SVM_VNMI && nmi_path() != VMX_SOFT;
}

static void check_fault(struct kvm_vcpu *vcpu, uint64_t vector, char *entry,
			char *rip, uint64_t error, uint64_t tf)
{
	const struct event_regs *fault;

	run_through_handler(vcpu, true);
	fault = only_event(vcpu, vector);
	CHECK_EQ(fault->rip, (uint64_t)rip);
	CHECK_EQ(fault->error, error);
	CHECK_EQ(fault->rflags & RFLAGS_TF, tf);
	if (!on_qemu_tcg())
		CHECK_EQ(fault->rflags & RFLAGS_RF, RFLAGS_RF);
	if (fault_opens()) {
		unsigned int nr = read_log(vcpu)->nr_nmis;

		CHECK_EQ(nmi_nr(read_log(vcpu), nr)->rip, (uint64_t)entry);
	}
}

/*
 * There is no entry of its own for each vector. Have this one logged as #GP, and
 * #GP itself as #PF.
 */
static void expect_as_gp(struct kvm_vcpu *vcpu, int vector, int ist)
{
	set_gate(vcpu, vector, event_entry_13, INTERRUPT_GATE, ist);
	set_gate(vcpu, GP_VECTOR, event_entry_14, INTERRUPT_GATE, ist);
}

static void bad_code_segment(void)
{
	bad.cs = BAD_SELECTOR;
	check_fault(run_with(event_entry_2), GP_VECTOR, event_entry_13,
		    event_iret_2, BAD_SELECTOR, 0);
}

static void bad_address(void)
{
	if (on_qemu_tcg())
		skip("QEMU TCG lets IRET go to an address that is not canonical");
	bad.rip = NOT_CANONICAL;
	check_fault(run_with(event_entry_2), GP_VECTOR, event_entry_13,
		    event_iret_2, 0, 0);
}

static void absent_code_segment(void)
{
	struct kvm_vcpu *vcpu;

	bad.cs = ABSENT_CODE;
	vcpu = run_with(event_entry_2);
	expect_as_gp(vcpu, NP_VECTOR, 0);
	check_fault(vcpu, GP_VECTOR, event_entry_13, event_iret_2, ABSENT_CODE, 0);
}

/* The IRET runs with these flags and a frame at the page, which is not there. */
static struct kvm_vcpu *run_without_frame(uint64_t page, uint64_t rflags)
{
	struct kvm_vcpu *vcpu = run_with(bad_iret_entry);
	uint64_t gva = vm_vaddr_alloc_page(vcpu->vm);
	uint64_t *words = addr_gva2hva(vcpu->vm, gva);

	words[511] = rflags;
	virt_map(vcpu->vm, page - 4096, addr_gva2gpa(vcpu->vm, gva), 1);
	bad_rsp = page - 8;
	sync_global_to_guest(vcpu->vm, bad_rsp);
	set_ist(vcpu, 1, vm_vaddr_alloc_page(vcpu->vm) + 4096);
	/* The event that warms up uses this stack, too. */
	set_gate(vcpu, BP_VECTOR, event_entry_3, INTERRUPT_GATE, 1);
	set_gate(vcpu, PF_VECTOR, event_entry_14, INTERRUPT_GATE, 1);
	expect_as_gp(vcpu, SS_VECTOR, 1);
	return vcpu;
}

static void bad_stack(void)
{
	struct kvm_vcpu *vcpu;

	if (on_qemu_tcg())
		skip("QEMU TCG does not look whether an address is canonical");
	vcpu = run_without_frame(END_OF_CANONICAL, RFLAGS_FIXED);
	check_fault(vcpu, GP_VECTOR, event_entry_13, bad_iret, 0, 0);
}

static void check_no_page(uint64_t tf)
{
	struct kvm_vcpu *vcpu = run_without_frame(NO_PAGE, RFLAGS_FIXED | tf);
	struct kvm_sregs sregs;

	check_fault(vcpu, PF_VECTOR, event_entry_14, bad_iret, 0, tf);
	vcpu_sregs_get(vcpu, &sregs);
	/* Of the five words a CPU may read any first. */
	CHECK(sregs.cr2 >= NO_PAGE && sregs.cr2 < NO_PAGE + 40, "0x%llx", sregs.cr2);
}

static void no_page(void)
{
	check_no_page(0);
}

/* A fault comes in place of the trap, and shows the TF that is the guest's. */
static void no_page_stepped(void)
{
	check_no_page(RFLAGS_TF);
}

/* Delivery of the #GP meets a gate that is not present. */
static void double_fault(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_sregs sregs;
	uint64_t *idt;

	bad.cs = BAD_SELECTOR;
	vcpu = run_with(event_entry_2);
	expect_as_gp(vcpu, DF_VECTOR, 0);
	vcpu_sregs_get(vcpu, &sregs);
	idt = addr_gva2hva(vcpu->vm, sregs.idt.base);
	idt[2 * GP_VECTOR] = 0;
	run_through_handler(vcpu, true);
	CHECK_EQ(only_event(vcpu, GP_VECTOR)->error, 0);
	CHECK_EQ(only_event(vcpu, GP_VECTOR)->rflags & RFLAGS_TF, 0);
}

static const struct test_case cases[] = {
	{ "#GP for a code segment that does not exist", bad_code_segment },
	{ "#GP for an address that is not canonical", bad_address },
	{ "#NP for a code segment that is not present", absent_code_segment },
	{ "#SS for a stack that is not canonical", bad_stack },
	{ "#PF for a frame that is not mapped", no_page },
	{ "#PF for the same with TF set by the handler itself", no_page_stepped },
	{ "#DF when the fault cannot be delivered", double_fault },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
