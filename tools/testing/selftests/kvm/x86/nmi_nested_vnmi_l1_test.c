// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hypervisor (L1) that uses vNMI for its guest (L2) still has NMIs of its own.
 *
 * When L1 uses vNMI there are two latches: an NMI handler of L2 does not block
 * L1, and L1 that runs L2 from inside its own handler is still blocked when L2
 * exits, whatever L2 has returned from. When it does not there is one, as the
 * CPU has one. What L1 intercepts it gets (its IRET and #DB intercepts are not
 * L0's to use up), what it does not intercept it never sees, and VMRUN refuses
 * vNMI without the NMI intercept.
 *
 * A wrong implementation mixes the latches up, so that L1 is masked until it
 * happens to execute an IRET, or is interrupted in its own handler; loses the
 * mask of one of them in a migration; or shows L1 exits that it did not ask for.
 */
#include "nmi_nested_svm.h"

enum { STAGE_L1 = STAGE_OWN, STAGE_L2, STAGE_L2_EXITED };

extern char l1_after_stgi[];

/* --- L2 --- */

static void l2_stops(void)
{
	guest_stop(STAGE_L2, RFLAGS_FIXED);
	l2_end();
}

static void l2_stops_and_returns(void)
{
	guest_stop(STAGE_L2, RFLAGS_FIXED);
	l2_iret();
}

static void l2_vmmcall(struct event_regs *regs)
{
	vmmcall();
}

/* --- L1 --- */

static noinline void set_gif(void)
{
	asm volatile("stgi\n\t"
		     "l1_after_stgi: nop" : : : "memory");
}

/* Handle whatever ends L2 the first time by setting GIF, then run it on. */
static void l1_runs_l2(void)
{
	prepare_l2();
	run_l2();
	set_gif();
	run_l2_to_end();
	stgi();
	guest_stage(STAGE_END);
}

static void l1_runs_l2_once(void)
{
	prepare_l2();
	run_l2();
	stgi();
	guest_stage(STAGE_END);
}

static void l1_waits_with_gif_clear(void)
{
	prepare_l2();
	clgi();
	guest_stage(STAGE_L1);
	run_l2();
	set_gif();
	run_l2_to_end();
	stgi();
	guest_stage(STAGE_END);
}

static void l1_drops_intercept(void)
{
	prepare_l2();
	run_l2();
	l1_svm->vmcb->control.intercept &= ~(1ull << INTERCEPT_IRET);
	run_l2_to_end();
	stgi();
	guest_stage(STAGE_END);
}

static void l1_gives_no_stack(void)
{
	uint64_t rsp;

	prepare_l2();
	rsp = l1_svm->vmcb->save.rsp;
	l1_svm->vmcb->save.rsp = 0x7f0000001000;
	l1_svm->vmcb->control.event_inj = run_l2()->int_info;
	l1_svm->vmcb->save.rsp = rsp;
	run_l2_to_end();
	stgi();
	guest_stage(STAGE_END);
}

static void l1_takes_nmis(void)
{
	guest_stop(STAGE_L1, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

/* The first NMI is L1's, and its handler runs L2. */
static void l2_in_handler(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	prepare_l2();
	run_l2();
	guest_stage(STAGE_L2_EXITED);
	set_gif();
	guest_stage(STAGE_HANDLER_END);
}

/* --- host --- */

static uint32_t state_bits(uint32_t int_ctl)
{
	return int_ctl & V_NMI_STATE;
}

static void check_nmi(struct kvm_vcpu *vcpu, unsigned int nr, void *rip)
{
	CHECK_EQ(nmi_nr(read_log(vcpu), nr)->rip, (uint64_t)rip);
}

static void handler_of_l2(void)
{
	const struct l2_start start = {
		.rip = l2_stops, .int_ctl = V_NMI_ENABLE | V_NMI_MASK,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2, &start, NULL);
	const struct l2_exit *exit;

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	exit = read_exits(vcpu, 2);
	CHECK_EQ(exit[0].code, SVM_EXIT_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)guest_stop_next);
	CHECK_EQ(state_bits(exit[0].int_ctl), V_NMI_MASK);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	check_nmi(vcpu, 1, l1_after_stgi);
	CHECK_EQ(exit[1].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(state_bits(exit[1].int_ctl), V_NMI_MASK);
}

/* L2 runs inside L1's handler, and a second NMI for L1 arrives meanwhile. */
static void run_l2_in_handler(const struct l2_start *start, bool migrates,
			      struct kvm_vcpu **vcpu)
{
	*vcpu = create_l1(l1_takes_nmis, start, l2_in_handler);
	run_to(*vcpu, STAGE_L1);
	send_nmi(*vcpu);
	run_to(*vcpu, STAGE_L2);
	if (migrates)
		*vcpu = migrate(*vcpu);
	send_nmi(*vcpu);
	if (migrates)
		*vcpu = migrate(*vcpu);
	run_to(*vcpu, STAGE_L2_EXITED);
}

static void check_l1_stayed_blocked(const struct l2_start *start, bool migrates)
{
	struct kvm_vcpu *vcpu;

	run_l2_in_handler(start, migrates, &vcpu);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(state_bits(l2_exits[0].int_ctl), 0);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	check_nmi(vcpu, 2, guest_stop_next);
}

static const struct l2_start handler_in_l2 = {
	.rip = l2_stops_and_returns, .int_ctl = V_NMI_ENABLE | V_NMI_MASK,
};

static void handler_of_l1(void)
{
	check_l1_stayed_blocked(&handler_in_l2, false);
}

static void handler_of_l1_migrates(void)
{
	check_l1_stayed_blocked(&handler_in_l2, true);
}

/* No IRET in L2: the only latch is across VMRUN and #VMEXIT as it was. */
static const struct l2_start no_iret_in_l2 = { .rip = l2_stops };

static void one_latch_kept(void)
{
	check_l1_stayed_blocked(&no_iret_in_l2, false);
}

static void one_latch_kept_migrates(void)
{
	check_l1_stayed_blocked(&no_iret_in_l2, true);
}

/* The IRET of L2 opens the only latch, and the NMI makes L2 exit. */
static void one_latch(void)
{
	const struct l2_start start = { .rip = l2_stops_and_returns };
	struct kvm_vcpu *vcpu;

	run_l2_in_handler(&start, false, &vcpu);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_NMI);
	CHECK_EQ(l2_exits[0].rip, (uint64_t)l2_open);
}

static void physical_first(void)
{
	const struct l2_start start = {
		.rip = l2_nop, .int_ctl = V_NMI_ENABLE | V_NMI,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_waits_with_gif_clear, &start, NULL);
	const struct l2_exit *exit;

	run_to(vcpu, STAGE_L1);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	exit = read_exits(vcpu, 2);
	CHECK_EQ(exit[0].code, SVM_EXIT_NMI);
	CHECK_EQ(exit[0].nr_nmis, 0);
	CHECK_EQ(state_bits(exit[0].int_ctl), V_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)l2_nop);
	CHECK_EQ(exit[1].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	check_nmi(vcpu, 1, l1_after_stgi);
	check_nmi(vcpu, 2, l2_nop);
}

static void iret_intercepted(void)
{
	const struct l2_start start = {
		.rip = l2_iret, .int_ctl = V_NMI_ENABLE | V_NMI | V_NMI_MASK,
		.intercepts = 1ull << INTERCEPT_IRET,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_drops_intercept, &start, NULL);
	const struct l2_exit *exit;

	run_to(vcpu, STAGE_END);
	exit = read_exits(vcpu, 2);
	CHECK_EQ(exit[0].code, SVM_EXIT_IRET);
	CHECK_EQ(exit[0].rip, (uint64_t)l2_iret_at);
	CHECK_EQ(state_bits(exit[0].int_ctl), V_NMI | V_NMI_MASK);
	CHECK_EQ(exit[1].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	check_nmi(vcpu, 1, l2_open);
}

static void db_intercepted(void)
{
	const struct l2_start start = {
		.rip = l2_iret, .int_ctl = V_NMI_ENABLE | V_NMI | V_NMI_MASK,
		.exceptions = ~4u,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &start, NULL);

	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	check_nmi(vcpu, 1, l2_open);
}

static void db_of_l2(void)
{
	const struct l2_start start = {
		.rip = l2_iret_tf, .int_ctl = V_NMI_ENABLE | V_NMI | V_NMI_MASK,
		.exceptions = 1u << DB_VECTOR,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &start, NULL);
	const struct event_regs *nmi;

	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_EXCP_BASE + DB_VECTOR);
	CHECK_EQ(l2_exits[0].rip, (uint64_t)l2_open_2);
	nmi = nmi_nr(read_log(vcpu), 1);
	CHECK_EQ(nmi->rip, (uint64_t)l2_open);
	CHECK_EQ(nmi->rflags & RFLAGS_TF, RFLAGS_TF);
}

/* The IRET has not completed; L1 takes L2 somewhere else. */
static void l1_skips_iret(void)
{
	prepare_l2();
	run_l2();
	l1_svm->vmcb->save.rip = (uint64_t)l2_open;
	run_l2_to_end();
	stgi();
	guest_stage(STAGE_END);
}

static void fault_intercepted(void)
{
	const struct l2_start start = {
		.rip = l2_bad_iret, .int_ctl = V_NMI_ENABLE | V_NMI | V_NMI_MASK,
		.exceptions = 1u << GP_VECTOR,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_skips_iret, &start, NULL);
	const struct l2_exit *exit;

	run_to(vcpu, STAGE_END);
	exit = read_exits(vcpu, 2);
	CHECK_EQ(exit[0].code, SVM_EXIT_EXCP_BASE + GP_VECTOR);
	CHECK_EQ(exit[0].rip, (uint64_t)l2_bad_iret_at);
	CHECK_EQ(state_bits(exit[0].int_ctl), V_NMI | V_NMI_MASK);
	CHECK_EQ(exit[1].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(state_bits(exit[1].int_ctl), V_NMI | V_NMI_MASK);
	CHECK_EQ(read_log(vcpu)->nr, 0);
}

/* The intercept that belongs to L1's latch is not for L2's IRET. */
static void fault_in_l1_handler(void)
{
	const struct l2_start start = {
		.rip = l2_bad_iret, .int_ctl = V_NMI_ENABLE,
		.exceptions = 1u << GP_VECTOR,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_takes_nmis, &start, l2_in_handler);

	run_to(vcpu, STAGE_L1);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L2_EXITED);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_EXCP_BASE + GP_VECTOR);
	CHECK_EQ(state_bits(l2_exits[0].int_ctl), 0);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
}

/* L0 has to map the stack before the IRET completes. */
static void exit_in_iret(void)
{
	const struct l2_start start = {
		.rip = l2_stop_iret, .int_ctl = V_NMI_ENABLE | V_NMI | V_NMI_MASK,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &start, NULL);
	uint64_t faults;

	run_to(vcpu, STAGE_L2_IRET);
	CHECK_EQ(saved_vnmi_bits(vcpu), V_NMI | V_NMI_MASK);
	take_l2_stack_away(vcpu);
	faults = vcpu_stat(vcpu, "pf_taken");
	run_to(vcpu, STAGE_END);
	TEST_ASSERT(vcpu_stat(vcpu, "pf_taken") > faults, "the stack was mapped");
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(state_bits(l2_exits[0].int_ctl), 0);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	check_nmi(vcpu, 1, l2_open);
}

static void aborted_delivery(void)
{
	const struct l2_start start = {
		.rip = l2_nop, .int_ctl = V_NMI_ENABLE | V_NMI,
		.exceptions = 1u << PF_VECTOR,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_gives_no_stack, &start, l2_vmmcall);
	const struct l2_exit *exit;

	run_to(vcpu, STAGE_END);
	exit = read_exits(vcpu, 3);
	CHECK_EQ(exit[0].code, SVM_EXIT_EXCP_BASE + PF_VECTOR);
	CHECK_EQ(exit[0].int_info & EVENT_TYPE, EVENT_NMI & EVENT_TYPE);
	CHECK_EQ(state_bits(exit[0].int_ctl), 0);
	CHECK_EQ(exit[0].rip, (uint64_t)l2_nop);
	CHECK_EQ(exit[1].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(state_bits(exit[1].int_ctl), V_NMI_MASK);
	CHECK_EQ(exit[2].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(state_bits(exit[2].int_ctl), 0);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

/* What wakes it is the NMI for L1, which makes it exit. */
static void halt_with(uint32_t bits)
{
	const struct l2_start start = {
		.rip = l2_halt, .int_ctl = V_NMI_ENABLE | bits,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &start, NULL);

	run_over_halt(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_NMI);
	CHECK_EQ(l2_exits[0].rip, (uint64_t)l2_halted);
	CHECK_EQ(l2_exits[0].nr_nmis, 0);
	CHECK_EQ(state_bits(l2_exits[0].int_ctl), bits);
}

static void halted(void)
{
	halt_with(V_NMI | V_NMI_MASK);
}

static void halted_only_masked(void)
{
	halt_with(V_NMI_MASK);
}

static void halted_nothing(void)
{
	halt_with(0);
}

static const struct l2_start without_intercept = {
	.rip = l2_nop, .int_ctl = V_NMI_ENABLE | V_NMI, .ignore_nmi = true,
};

static void refused(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &without_intercept, NULL);

	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, EXIT_INVALID);
	CHECK_EQ(state_bits(l2_exits[0].int_ctl), V_NMI);
	CHECK_EQ(read_log(vcpu)->nr, 0);
}

static void not_announced(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &without_intercept, NULL);

	vcpu_clear_cpuid_feature(vcpu, FEATURE_VNMI);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(read_log(vcpu)->nr, 0);
}

/* The same check where user space restores L2. */
static void restore_refused(void)
{
	const struct l2_start start = {
		.rip = l2_stops, .int_ctl = V_NMI_ENABLE | V_NMI_MASK,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &start, NULL);
	union nested_state nested;
	struct vmcb *vmcb12;

	run_to(vcpu, STAGE_L2);
	vmcb12 = saved_vmcb12(vcpu, &nested);
	vmcb12->control.intercept &= ~(1ull << INTERCEPT_NMI);
	CHECK_EQ(__vcpu_nested_state_set(vcpu, &nested.state), -1);
	CHECK_EQ(errno, EINVAL);

	vmcb12->control.intercept |= 1ull << INTERCEPT_NMI;
	CHECK_EQ(__vcpu_nested_state_set(vcpu, &nested.state), 0);
	CHECK_EQ(saved_vnmi_bits(vcpu), V_NMI_MASK);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(state_bits(l2_exits[0].int_ctl), V_NMI_MASK);
}

/* Written back as it was read, the state of a handler is what it was. */
static void set_what_was_got(void)
{
	const struct l2_start start = {
		.rip = l2_stops_and_returns, .int_ctl = V_NMI_ENABLE | V_NMI | V_NMI_MASK,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2_once, &start, NULL);
	struct kvm_vcpu_events events;
	union nested_state nested;
	int i;

	run_to(vcpu, STAGE_L2);
	for (i = 0; i < 3; i++) {
		saved_vmcb12(vcpu, &nested);
		CHECK_EQ(__vcpu_nested_state_set(vcpu, &nested.state), 0);
		vcpu_events_get(vcpu, &events);
		CHECK_EQ(events.nmi.masked, 0);
		CHECK_EQ(events.nmi.pending, 0);
		vcpu_events_set(vcpu, &events);
	}
	CHECK_EQ(saved_vnmi_bits(vcpu), V_NMI | V_NMI_MASK);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(state_bits(l2_exits[0].int_ctl), 0);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	check_nmi(vcpu, 1, l2_open);
}

static const struct test_case cases[] = {
	{ "an NMI handler of L2 does not block L1", handler_of_l2 },
	{ "an IRET of L2 does not unblock L1's handler", handler_of_l1 },
	{ "nor does a migration while L2 runs in it", handler_of_l1_migrates },
	{ "without vNMI it does: there is one latch", one_latch },
	{ "which VMRUN and #VMEXIT leave as it is", one_latch_kept },
	{ "and a migration between the two", one_latch_kept_migrates },
	{ "an NMI for L1 goes before one for L2", physical_first },
	{ "L1 can intercept the IRET of L2's handler", iret_intercepted },
	{ "L1 that intercepts exceptions sees none of L0's", db_intercepted },
	{ "L1 sees the #DB that L2's IRET asked for", db_of_l2 },
	{ "L1 that intercepts the fault of L2's IRET finds it masked", fault_intercepted },
	{ "and unmasked if it was so, in L1's own handler as well", fault_in_l1_handler },
	{ "an exit to L0 in the middle of L2's IRET leaves it masked", exit_in_iret },
	{ "an exit during delivery leaves the NMI to L1, unmasked", aborted_delivery },
	{ "a masked NMI does not wake L2 from HLT", halted },
	{ "L2 that is masked and has none sleeps, too", halted_only_masked },
	{ "so does L2 without any bit set", halted_nothing },
	{ "VMRUN refuses vNMI without the NMI intercept", refused },
	{ "so does KVM_SET_NESTED_STATE", restore_refused },
	{ "nested state and events set as they were read change nothing", set_what_was_got },
	{ "without the CPUID bit the VMCB's bits mean nothing", not_announced },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM) || !kvm_cpu_has(FEATURE_VNMI))
		return skip_all("this KVM offers no vNMI to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
