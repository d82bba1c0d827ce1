// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_GET_NESTED_STATE and KVM_SET_NESTED_STATE at odd moments: in the middle of
 * the IRET that ends an NMI handler of L1, with NMIs waiting for L1 and L2, and in an
 * interrupt shadow of L2 whose instruction has not completed.
 *
 * What user space saves is where a CPU would stand, and what it restores goes on
 * from there.
 *
 * A wrong implementation lets L1's latch open while L2 takes the vCPU over, changes
 * intercepts while the VMCB of L2 is half set up (on CPUs with virtual VMLOAD and
 * VMSAVE the host's kernel complains), delivers to L2 first, or saves an interrupt
 * shadow that is over, or none where there is one.
 */
#include <sys/mman.h>

#include "nmi_nested_svm.h"
#include "nmi_events.h"

enum { STAGE_L2 = STAGE_OWN, STAGE_L1 };

#define PAGE		4096
#define FRAME_GPA	0x10000000
#define FRAME_SLOT	10
#define FRAME_SIZE	48		/* five words, at a 16-byte boundary */
#define MMIO_GPA	0x20000000

static void l2(void)
{
	guest_stop(STAGE_L2, RFLAGS_FIXED);
	l2_end();
}

static void l1(void)
{
	prepare_l2();
	run_l2_to_end();
	stgi();
	guest_stop(STAGE_L1, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void l1_runs_l2_once(void)
{
	prepare_l2();
	run_l2();
	guest_stage(STAGE_END);
}

static void set_nested(struct kvm_vcpu *vcpu, union nested_state *nested)
{
	TEST_ASSERT(!__vcpu_nested_state_set(vcpu, &nested->state),
		    "KVM_SET_NESTED_STATE: %s", strerror(errno));
}

static unsigned int masked(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	return events.nmi.masked;
}

/* --- L1's IRET has begun --------------------------------------------------- */

/* The frame of an NMI is alone on a page that can be taken out of the VM. */
static void set_frame_page(struct kvm_vcpu *vcpu, void *page)
{
	struct kvm_userspace_memory_region region = {
		.slot = FRAME_SLOT, .guest_phys_addr = FRAME_GPA,
		.memory_size = page ? PAGE : 0, .userspace_addr = (uint64_t)page,
	};

	vm_ioctl(vcpu->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static void *add_nmi_stack(struct kvm_vcpu *vcpu)
{
	void *frame = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t below = vm_vaddr_alloc_page(vcpu->vm);

	virt_map(vcpu->vm, FRAME_GPA - PAGE, addr_gva2gpa(vcpu->vm, below), 1);
	virt_map(vcpu->vm, FRAME_GPA, FRAME_GPA, 1);
	set_frame_page(vcpu, frame);
	set_ist(vcpu, 1, FRAME_GPA + FRAME_SIZE);
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
	return frame;
}

/* Its IRET was intercepted, has run, and cannot: its frame is no memory. */
static struct kvm_vcpu *run_into_iret(uint32_t int_ctl, void **frame, union nested_state *l2_state)
{
	const struct l2_start start = { .rip = l2, .int_ctl = int_ctl };
	struct kvm_vcpu *vcpu = create_l1(l1, &start, stop_in_first_handler);

	*frame = add_nmi_stack(vcpu);
	run_to(vcpu, STAGE_L2);
	saved_vmcb12(vcpu, l2_state);
	run_to(vcpu, STAGE_L1);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	run_to(vcpu, STAGE_HANDLER_END);
	set_frame_page(vcpu, NULL);
	TEST_ASSERT(!__vcpu_run(vcpu), "KVM_RUN: %s", strerror(errno));
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_INTERNAL_ERROR,
		    "the IRET ended in %s", exit_reason_str(vcpu->run->exit_reason));
	CHECK_EQ(masked(vcpu), 1);
	return vcpu;
}

/* L2 takes the vCPU over and is left again, and L1's IRET runs after all. */
static void check_iret(uint32_t int_ctl)
{
	union nested_state l2_state, l1_state;
	struct kvm_sregs sregs;
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;
	struct vmcb *vmcb12;
	void *frame;

	vcpu = run_into_iret(int_ctl, &frame, &l2_state);
	vcpu_regs_get(vcpu, &regs);
	vcpu_sregs_get(vcpu, &sregs);
	l1_state.state = (struct kvm_nested_state) { .size = sizeof(l1_state) };
	vcpu_nested_state_get(vcpu, &l1_state.state);

	/* Where there are these two, VMLOAD and VMSAVE of L2 do not exit. */
	vmcb12 = (struct vmcb *)l2_state.state.data.svm[0].vmcb12;
	if (kvm_cpu_has(X86_FEATURE_NPT)) {
		vmcb12->control.nested_ctl |= SVM_NESTED_CTL_NP_ENABLE;
		vmcb12->control.nested_cr3 = sregs.cr3;
		vmcb12->control.virt_ext |= VIRTUAL_VMLOAD_VMSAVE_ENABLE_MASK;
	}
	set_nested(vcpu, &l2_state);
	CHECK_EQ(masked(vcpu), 1);
	set_nested(vcpu, &l1_state);
	CHECK_EQ(masked(vcpu), 1);

	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
	set_frame_page(vcpu, frame);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
	CHECK_EQ(masked(vcpu), 0);
}

static void iret(void)
{
	check_iret(0);
}

static void iret_vnmi(void)
{
	check_iret(V_NMI_ENABLE | V_NMI_MASK);
}

/* --- NMIs that wait ---------------------------------------------------------- */

/* As right after VMRUN, with an NMI for either. */
static void l1_first(void)
{
	const struct l2_start start = { .rip = l2, .int_ctl = V_NMI_ENABLE };
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &start, NULL);
	union nested_state nested;
	const struct l2_exit *exit;

	run_to(vcpu, STAGE_L2);
	finish_stage(vcpu);
	saved_vmcb12(vcpu, &nested)->control.int_ctl |= V_NMI;
	nested.state.flags |= KVM_STATE_NESTED_RUN_PENDING;
	set_nested(vcpu, &nested);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	exit = read_exits(vcpu, 1);
	CHECK_EQ(exit[0].code, SVM_EXIT_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)guest_stop_next);
	CHECK_EQ(exit[0].int_ctl & V_NMI_STATE, V_NMI);
	CHECK_EQ(exit[0].nr_nmis, 0);
}

/* --- for how long L2 was masked ------------------------------------------------- */

/* KVM knows of it since VMRUN, or since it was restored. */
static void masked_since(void)
{
	const struct l2_start start = {
		.rip = l2_stop_iret, .int_ctl = V_NMI_ENABLE | V_NMI_MASK,
	};
	const char *heading = "kvm_nmi_unblock: vcpu_id=0 level=2 blocked_ns=";
	uint64_t begin = now_ns(), ns;
	struct kvm_vcpu *vcpu;
	char event[512];

	if (nmi_path() == SVM_VNMI)
		skip("the CPU keeps the end of L2's handler to itself");
	vcpu = create_l1(l1_runs_l2_once, &start, NULL);
	trace_begin();
	run_to(vcpu, STAGE_L2_IRET);
	run_to(vcpu, STAGE_END);
	trace_end(heading, event, sizeof(event));
	TEST_ASSERT(event[0], "no %s", heading);
	ns = strtoull(event + strlen(heading), NULL, 10);
	CHECK(ns > 0 && ns <= now_ns() - begin, "%lu ns", ns);
}

/* --- in an interrupt shadow of L2 --------------------------------------------- */

void state_pushf(void);
extern char state_pushf_next[];
asm(".pushsection .text\n"
    "state_pushf:\n"
    "	pushf\n"
    "state_pushf_next:\n"
    "	nop\n"
    "	vmmcall\n"
    ".popsection");

static bool saved_shadow(struct kvm_vcpu *vcpu)
{
	union nested_state nested;

	return saved_vmcb12(vcpu, &nested)->control.int_state & 1;
}

/* The flags go where no memory is: user space is asked before PUSHF completes. */
static void in_shadow(void)
{
	const struct l2_start start = { .rip = l2, .ignore_nmi = true };
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &start, NULL);
	union nested_state nested;
	const struct l2_exit *exit;
	struct kvm_regs regs;
	uint64_t stack;

	virt_map(vcpu->vm, MMIO_GPA, MMIO_GPA, 1);
	stack = vm_vaddr_alloc_page(vcpu->vm) + PAGE;
	set_ist(vcpu, 1, stack);
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
	run_to(vcpu, STAGE_L2);
	finish_stage(vcpu);
	vcpu_regs_get(vcpu, &regs);
	regs.rip = (uint64_t)state_pushf;
	regs.rsp = MMIO_GPA + PAGE;
	regs.rflags = RFLAGS_FIXED | RFLAGS_CF;
	vcpu_regs_set(vcpu, &regs);
	put_in_shadow(vcpu, KVM_X86_SHADOW_INT_MOV_SS);
	send_nmi(vcpu);
	TEST_ASSERT(!__vcpu_run(vcpu), "KVM_RUN: %s", strerror(errno));
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.phys_addr, MMIO_GPA + PAGE - 8);
	CHECK_EQ(*(uint64_t *)vcpu->run->mmio.data, RFLAGS_FIXED | RFLAGS_CF);
	CHECK(saved_shadow(vcpu), "no shadow");
	saved_vmcb12(vcpu, &nested);
	run_to(vcpu, STAGE_END);
	exit = read_exits(vcpu, 1);
	CHECK_EQ(exit[0].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)state_pushf_next);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rflags & RFLAGS_TF, 0);
}

/*
 * As user space reads it while an exit has the delivery of an NMI that L1 injects in two:
 * whose it is the events do not say, but one of L1's own would have made L2 exit.
 */
static void injected_stays_l1s(void)
{
	const struct l2_start start = { .rip = l2 };
	struct kvm_vcpu *vcpu = create_l1(l1, &start, NULL);
	struct kvm_vcpu_events events;
	const struct l2_exit *exit;
	uint64_t injections;

	run_to(vcpu, STAGE_L2);
	finish_stage(vcpu);
	injections = vcpu_stat(vcpu, "nmi_injections");
	vcpu_events_get(vcpu, &events);
	events.nmi.injected = 1;
	vcpu_events_set(vcpu, &events);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	exit = read_exits(vcpu, 1);
	CHECK_EQ(exit[0].code, SVM_EXIT_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)event_entry_2);
	CHECK_EQ(vcpu_stat(vcpu, "nmi_injections"), injections + 1);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static const struct test_case cases[] = {
	{ "L2 restored in the middle of an IRET of L1's handler leaves L1 blocked", iret },
	{ "so does an L2 with vNMI", iret_vnmi },
	{ "restored as by VMRUN, with an NMI for either, L1 takes its own first", l1_first },
	{ "L2's V_NMI_MASK is no older than its VMRUN", masked_since },
	{ "an NMI that L1 injects, restored on its way into L2, does not block L1", injected_stays_l1s },
	{ "a shadow of L2 is saved while PUSHF in it waits for user space", in_shadow },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM) || !kvm_cpu_has(FEATURE_VNMI))
		return skip_all("this KVM offers no vNMI to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
