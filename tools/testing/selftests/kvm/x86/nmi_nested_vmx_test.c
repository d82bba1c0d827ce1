// SPDX-License-Identifier: GPL-2.0-only
/*
 * NMIs and a guest hypervisor (L1) on VMX: where an NMI goes that arrives while
 * its guest (L2) runs, who is blocked after it, and whether L1 can inject NMIs
 * into L2 and learn when L2 is ready for the next.
 *
 * L1 and L2 share one address space and one IDT, so the log shows NMIs of both.
 *
 * A wrong implementation gives L2 an NMI that L1 asked to intercept, forgets
 * that such an exit blocks NMIs for L1, or confuses L1's blocking with L2's:
 * the window exit then comes inside L2's handler or not at all.
 */
#include "nmi_nested_vmx.h"

enum { STAGE_L2 = STAGE_OWN, STAGE_L1 };

/* IRQs on: L1 intercepts none, and soft vNMI needs the window they open. */
static void l2(void)
{
	guest_stop(STAGE_L2, RFLAGS_FIXED | RFLAGS_IF);
	vmcall();
}

/* --- L1 --- */

static void l1_runs_l2(void)
{
	prepare_vmx_l2(l2);
	while (run_vmx_l2()->reason != EXIT_REASON_VMCALL)
		;
	guest_stage(STAGE_END);
}

static void l1_is_blocked(void)
{
	prepare_vmx_l2(l2);
	run_vmx_l2();
	guest_stage(STAGE_L1);
	guest_stage(STAGE_L1);
	guest_iret();
	guest_irqs_on();
	guest_irqs_off();
	guest_stage(STAGE_END);
}

/* Inject, be called from the handler, ask for the window, inject again. */
static void l1_injects(void)
{
	uint64_t controls;

	prepare_vmx_l2(l2);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	run_vmx_l2();

	controls = vmreadz(CPU_BASED_VM_EXEC_CONTROL);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, controls | CPU_BASED_NMI_WINDOW_EXITING);
	run_vmx_l2();

	vmwrite(CPU_BASED_VM_EXEC_CONTROL, controls);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	run_vmx_l2();
	guest_stage(STAGE_END);
}

static void on_nmi_vmcall(struct event_regs *regs)
{
	vmcall();
}

/* --- host --- */

static void intercepted(void)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_runs_l2, PIN_BASED_NMI_EXITING, NULL);
	const struct vmx_exit *exit;

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	exit = read_vmx_exits(vcpu, 2);
	CHECK_EQ(exit[0].reason, EXIT_REASON_EXCEPTION_NMI);
	CHECK_EQ(exit[0].intr_info & 0x80000fff, INTR_INFO_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)guest_stop_next);
	CHECK_EQ(exit[1].reason, EXIT_REASON_VMCALL);
	CHECK_EQ(read_log(vcpu)->nr, 0);
}

static void exit_blocks_l1(void)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_is_blocked, PIN_BASED_NMI_EXITING, NULL);

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_vmx_exits(vcpu, 1)[0].reason, EXIT_REASON_EXCEPTION_NMI);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 0);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void not_intercepted(void)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_runs_l2, 0, NULL);

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
	CHECK_EQ(read_vmx_exits(vcpu, 1)[0].reason, EXIT_REASON_VMCALL);
}

static void second_waits_in_l2(void)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_runs_l2, 0, stop_in_first_handler);

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
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_injects,
					      PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS,
					      on_nmi_vmcall);
	const struct event_log *log;
	const struct vmx_exit *exit;

	run_to(vcpu, STAGE_END);
	log = read_log(vcpu);
	exit = read_vmx_exits(vcpu, 3);

	CHECK_EQ(exit[0].reason, EXIT_REASON_VMCALL);
	CHECK_EQ(exit[0].interruptibility, BLOCKED_BY_NMI);
	CHECK_EQ(exit[1].reason, EXIT_REASON_NMI_WINDOW);
	CHECK_EQ(exit[1].rip, (uint64_t)l2);
	CHECK_EQ(exit[1].interruptibility, 0);
	CHECK_EQ(exit[2].reason, EXIT_REASON_VMCALL);
	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(nmi_nr(log, 1)->rip, (uint64_t)l2);
	CHECK_EQ(nmi_nr(log, 2)->rip, (uint64_t)l2);
}

static const struct test_case cases[] = {
	{ "an NMI that L1 intercepts ends L2 and reaches no handler", intercepted },
	{ "such an exit blocks NMIs for L1 until its IRET", exit_blocks_l1 },
	{ "an NMI that L1 does not intercept goes to L2's handler", not_intercepted },
	{ "a second one waits for the IRET in L2", second_waits_in_l2 },
	{ "L1 injects an NMI, gets the window exit at L2's IRET, injects another", injected_by_l1 },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		return skip_all("this KVM offers no VMX to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
