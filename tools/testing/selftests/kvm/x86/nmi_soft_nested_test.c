// SPDX-License-Identifier: GPL-2.0-only
/*
 * Soft vNMI is for the VMCSs without virtual NMIs. With vnmi=0 a guest hypervisor
 * (L1) is one of those, but may run its guest (L2) with virtual NMIs all the same,
 * and then the CPU tracks blocking in L2, with all that this takes: an IRET that
 * exits because the host has to map its page runs again, still blocked.
 *
 * The page of L2's frame is dropped as in nmi_iret_fault_test.
 *
 * A wrong implementation clears the blocking bit of L2's VMCS, or leaves it clear
 * after such an IRET: L1's window then opens at the IRET, not after it. Or it
 * leaves the breakpoint of L1's handler in L2, or forgets it there.
 */
#include "nmi_nested_vmx.h"
#include "nmi_pages.h"
#include "nmi_soft.h"

enum { STAGE_L1 = STAGE_OWN, STAGE_L2 };

#define VIRTUAL_NMIS	(PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS)
#define STOPS_IN_L2	20	/* more than the breakpoint may miss */

static bool tell_l2;	/* that NMIs are blocked, which it cannot know by itself */

/* --- L2 --- */

void l2_next(void);
asm("l2_next: nop; vmcall");

static void l2_stops(void)
{
	int i;

	for (i = 0; i < STOPS_IN_L2; i++)
		guest_stop(STAGE_L2, RFLAGS_FIXED);
	vmcall();
}

/* --- L1 --- */

/* Inject, be called from the handler, ask for the window, let the IRET run. */
static void l1_injects(void)
{
	prepare_vmx_l2(l2_next);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	run_vmx_l2();

	vmwrite(CPU_BASED_VM_EXEC_CONTROL,
		vmreadz(CPU_BASED_VM_EXEC_CONTROL) | CPU_BASED_NMI_WINDOW_EXITING);
	guest_stage(STAGE_L1);
	run_vmx_l2();
	guest_stage(STAGE_END);
}

static void on_nmi_vmcall(struct event_regs *regs)
{
	vmcall();
}

static void l1_is_interrupted(void)
{
	prepare_vmx_l2(l2_stops);
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_open();
	guest_stage(STAGE_END);
}

static void on_nmi_runs_l2(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	if (tell_l2)
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, BLOCKED_BY_NMI);
	run_vmx_l2();
	if (!tell_l2)
		guest_log.in_nmi = 0;	/* open, so the next one nests */
	guest_stage(STAGE_HANDLER);
}

/* --- host --- */

static void iret_of_l2_runs_again(void)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_injects, VIRTUAL_NMIS, on_nmi_vmcall);
	const struct vmx_exit *exit;

	use_frame_page(vcpu);
	run_to(vcpu, STAGE_L1);
	exit = read_vmx_exits(vcpu, 1);
	CHECK_EQ(exit[0].reason, EXIT_REASON_VMCALL);
	CHECK_EQ(exit[0].interruptibility, BLOCKED_BY_NMI);

	drop_shared_page(vcpu, FRAME_PAGE);
	run_to(vcpu, STAGE_END);
	TEST_ASSERT(shared_page_is_used(vcpu, FRAME_PAGE), "the IRET did not touch its page");
	exit = read_vmx_exits(vcpu, 2);
	CHECK_EQ(exit[1].reason, EXIT_REASON_NMI_WINDOW);
	CHECK_EQ(exit[1].rip, (uint64_t)l2_next);
	CHECK_EQ(exit[1].interruptibility, 0);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void check_l2_in_handler(uint32_t controls)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_is_interrupted, controls, on_nmi_runs_l2);
	int i;

	if (nmi_path() == VMX_SOFT)
		require_exact();
	tell_l2 = !controls;
	sync_global_to_guest(vcpu->vm, tell_l2);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	for (i = 0; i < STOPS_IN_L2; i++)
		run_to(vcpu, STAGE_L2);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_vmx_exits(vcpu, 1)[0].reason, EXIT_REASON_VMCALL);
	if (tell_l2) {
		check_came_at_return(vcpu);
		return;
	}
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	CHECK(nmi_nr(&guest_log, 2)->rip != nmi_nr(&guest_log, 1)->rip,
	      "L1 stayed blocked");
}

static void l2_in_handler(void)
{
	check_l2_in_handler(VIRTUAL_NMIS);
}

static void l2_in_handler_blocked(void)
{
	check_l2_in_handler(0);
}

static const struct test_case cases[] = {
	{ "an IRET in L2 that the host interrupts to map a page leaves L2 blocked",
	  iret_of_l2_runs_again },
	{ "L1's handler runs L2 with virtual NMIs: that entry ends L1's blocking", l2_in_handler },
	{ "found: L1's handler runs L2, blocked, which passes the return address",
	  l2_in_handler_blocked },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		return skip_all("this KVM offers no VMX to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
