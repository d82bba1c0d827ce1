// SPDX-License-Identifier: GPL-2.0-only
/*
 * NMIs and a guest hypervisor (L1) on SVM: where an NMI goes that arrives while
 * its guest (L2) runs, when L1 gets it, and what L1 may inject into L2.
 *
 * An NMI that L1 intercepts stays pending over the #VMEXIT, and L1 takes it when
 * it sets GIF again. L1 and L2 share one address space and one IDT, so the log
 * shows NMIs of both.
 *
 * A wrong implementation consumes the NMI with the #VMEXIT, delivers it with GIF
 * clear, lets the step over an IRET leak from L2 into L1, or counts an NMI that
 * L1 injects as one of its own.
 */
#include "nmi_nested_svm.h"

enum { STAGE_L2 = STAGE_OWN, STAGE_L1 };

extern char after_stgi[];

static void l2(void)
{
	guest_stop(STAGE_L2, RFLAGS_FIXED);
	vmmcall();
	vmmcall();
}

/* --- L1 --- */

static void l1_runs_l2(void)
{
	prepare_l2();
	run_l2();
	asm volatile("stgi\n\t"
		     "after_stgi: nop" : : : "memory");
	run_l2();
	stgi();
	guest_stage(STAGE_END);
}

static void l1_injects(void)
{
	prepare_l2();
	run_l2();
	stgi();
	guest_stop(STAGE_L1, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void on_nmi_vmmcall(struct event_regs *regs)
{
	if (guest_log.nr_nmis == 1)
		vmmcall();
}

/* The frame of the NMI has no stack: #PF, which is L1's, in the middle of it. */
static void l1_gives_no_stack(void)
{
	prepare_l2();
	l1_svm->vmcb->save.rsp = 0x7f0000001000;
	run_l2();
	stgi();
	guest_stop(STAGE_L1, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

/* --- host --- */

static const struct l2_start with_intercept = { .rip = l2 };
static const struct l2_start without_intercept = { .rip = l2, .ignore_nmi = true };
static const struct l2_start injection = { .rip = l2, .event_inj = EVENT_NMI };

static void intercepted(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2, &with_intercept, NULL);
	const struct l2_exit *exit;

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	exit = read_exits(vcpu, 2);
	CHECK_EQ(exit[0].code, SVM_EXIT_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)guest_stop_next);
	CHECK_EQ(exit[0].nr_nmis, 0);
	CHECK_EQ(exit[1].code, SVM_EXIT_VMMCALL);
}

static void taken_with_gif(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2, &with_intercept, NULL);

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)after_stgi);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rflags & (RFLAGS_TF | RFLAGS_RF), 0);
}

static void not_intercepted(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2, &without_intercept, NULL);

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
	check_nmis_at_stop(vcpu, 1);
}

static void second_waits_in_l2(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2, &without_intercept,
					  stop_in_first_handler);

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
}

static void injected_by_l1(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_injects, &injection, NULL);
	const struct event_log *log;

	run_to(vcpu, STAGE_L2);
	log = read_log(vcpu);
	CHECK_EQ(log->nr_nmis, 1);
	CHECK_EQ(nmi_nr(log, 1)->rip, (uint64_t)l2);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
}

/* What L1 injects is none of L0's business: an NMI for L1 comes at once. */
static void injection_does_not_block_l1(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_injects, &injection, on_nmi_vmmcall);
	const struct event_log *log;

	run_to(vcpu, STAGE_L1);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	log = read_log(vcpu);
	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(nmi_nr(log, 2)->rip, (uint64_t)guest_stop_next);
}

/* Nor is the next NMI for L1 what L1's was, whose delivery an exit has ended. */
static void aborted_injection_is_over(void)
{
	const struct l2_start start = {
		.rip = l2, .event_inj = EVENT_NMI, .exceptions = 1u << PF_VECTOR,
	};
	struct kvm_vcpu *vcpu = create_l1(l1_gives_no_stack, &start, NULL);
	const struct l2_exit *exit;
	uint64_t before;

	run_to(vcpu, STAGE_L1);
	exit = read_exits(vcpu, 1);
	CHECK_EQ(exit[0].code, SVM_EXIT_EXCP_BASE + PF_VECTOR);
	CHECK_EQ(exit[0].int_info & EVENT_TYPE, EVENT_NMI & EVENT_TYPE);
	before = vcpu_stat(vcpu, "nmi_injections");
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
	CHECK_EQ(vcpu_stat(vcpu, "nmi_injections"), before + 1);
}

static const struct test_case cases[] = {
	{ "an NMI that L1 intercepts ends L2 and stays pending", intercepted },
	{ "L1 takes it after its STGI", taken_with_gif },
	{ "an NMI that L1 does not intercept goes to L2's handler", not_intercepted },
	{ "a second one waits for the IRET in L2", second_waits_in_l2 },
	{ "L2 takes an NMI that L1 injects at its first instruction", injected_by_l1 },
	{ "an NMI injected into L2 does not block L1", injection_does_not_block_l1 },
	{ "nor does one whose delivery exits keep the next from being counted", aborted_injection_is_over },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM))
		return skip_all("this KVM offers no SVM to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
