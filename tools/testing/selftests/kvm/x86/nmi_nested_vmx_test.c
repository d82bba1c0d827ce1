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
#include <pthread.h>
#include <signal.h>

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

/* Leave L2's handler of the first NMI for L1, for good. */
static void first_nmi_vmcall(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	guest_log.in_nmi = 0;
	vmcall();
}

#define BAD_CS	0xfff8
#define FAULT_WITH_ERROR 0x80000b00	/* valid, an exception, with an error code */

/* Inject, intercept the #GP of the handler's IRET, give it to L2 with the window open. */
static void l1_reflects_fault(void)
{
	prepare_vmx_l2(l2);
	vmwrite(GUEST_GDTR_LIMIT, 0x7f);
	vmwrite(EXCEPTION_BITMAP, 1u << GP_VECTOR);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	run_vmx_l2();
	guest_stage(STAGE_L1);

	vmwrite(EXCEPTION_BITMAP, 0);
	vmwrite(VM_ENTRY_EXCEPTION_ERROR_CODE, BAD_CS);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, FAULT_WITH_ERROR | GP_VECTOR);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL,
		vmreadz(CPU_BASED_VM_EXEC_CONTROL) | CPU_BASED_NMI_WINDOW_EXITING);
	run_vmx_l2();
	guest_stage(STAGE_END);
}

static void return_nowhere(struct event_regs *regs)
{
	if (regs->vector == NMI_VECTOR)
		regs->cs = BAD_CS;
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

#define INTR_INFO_IRQ	(0x80000000 | IRQ_VECTOR)
#define VIRTUAL_NMIS	(PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS)
#define ACTIVITY_HLT	1
#define FAILED_ENTRY	(EXIT_REASON_INVALID_STATE | 1u << 31)

static uint32_t pin_controls;
static bool window, irq, bit3;

static void add_window(void)
{
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
					   CPU_BASED_NMI_WINDOW_EXITING);
}

/* Be blocked, get an NMI, and enter L2 with it and something else. */
static void l1_enters_with_nmi(void)
{
	uint64_t rsp;

	prepare_vmx_l2(l2);
	rsp = vmreadz(GUEST_RSP);
	run_vmx_l2();
	guest_stage(STAGE_L1);
	vmwrite(GUEST_RIP, (uint64_t)l2);
	vmwrite(GUEST_RSP, rsp);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	set_vmx_pin_controls(pin_controls);
	if (window)
		add_window();
	if (irq)
		vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_IRQ);
	run_vmx_l2();
	guest_stage(STAGE_END);
}

void l2_after_hlt(void);
asm("l2_halts: hlt\n"
    "l2_after_hlt: nop; vmcall");
void l2_halts(void);

static void l1_runs_halting_l2(void)
{
	x2apic_enable();
	prepare_vmx_l2(l2_halts);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL,
		vmreadz(CPU_BASED_VM_EXEC_CONTROL) & ~CPU_BASED_HLT_EXITING);
	if (bit3)
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, BLOCKED_BY_NMI);
	guest_stage(STAGE_L1);
	run_vmx_l2();
	guest_stage(STAGE_END);
}

void second_l2(void);
asm("second_l2: nop; vmcall");

/* An NMI makes the first L2 exit, the second has a window; then without. */
static void l1_runs_two(void)
{
	prepare_vmx_l2(l2);
	run_vmx_l2();
	guest_stage(STAGE_L1);
	prepare_second_vmx_l2(second_l2);
	add_window();
	run_vmx_l2();
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmreadz(CPU_BASED_VM_EXEC_CONTROL) &
					   ~CPU_BASED_NMI_WINDOW_EXITING);
	run_vmx_l2();
	back_to_first_vmx_l2();
	run_vmx_l2();
	guest_stage(STAGE_END);
}

static void l1_is_interrupted(void)
{
	prepare_vmx_l2(l2);
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_irqs_on();
	guest_irqs_off();
	guest_stage(STAGE_END);
}

/* With a limit that no GDT has: nested VMX leaves it to the CPU to see that. */
#define NO_GDT_LIMIT	0x10000

static uint32_t gdt_limit;

static void on_nmi_enters(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	if (gdt_limit)
		vmwrite(GUEST_GDTR_LIMIT, gdt_limit);
	run_vmx_l2();
	guest_stage(STAGE_HANDLER_END);
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

/* Both are there when L2 is entered: one makes it exit, the other is for L1's IRET. */
static void second_after_exit(void)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_is_blocked, PIN_BASED_NMI_EXITING, NULL);

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_vmx_exits(vcpu, 1)[0].reason, EXIT_REASON_EXCEPTION_NMI);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 0);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void waits_while_l2_exits(void)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_is_blocked, 0, first_nmi_vmcall);

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_vmx_exits(vcpu, 1)[0].reason, EXIT_REASON_VMCALL);
	run_to(vcpu, STAGE_L1);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
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

/* The IRET has ended L2's blocking before it faults. (SDM, "Information for VM Exits") */
static void iret_faults_to_l1(void)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_reflects_fault,
					      PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS,
					      return_nowhere);
	const struct vmx_exit *exit;

	run_to(vcpu, STAGE_L1);
	exit = read_vmx_exits(vcpu, 1);
	CHECK_EQ(exit[0].reason, EXIT_REASON_EXCEPTION_NMI);
	CHECK_EQ(exit[0].intr_info, FAULT_WITH_ERROR | NMI_UNBLOCKING_IRET | GP_VECTOR);
	CHECK_EQ(exit[0].interruptibility, 0);

	run_to(vcpu, STAGE_END);
	exit = read_vmx_exits(vcpu, 2);
	CHECK_EQ(exit[1].reason, EXIT_REASON_NMI_WINDOW);
	CHECK_EQ(exit[1].rip, (uint64_t)event_entry_13);
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

/* The NMI that waits is after the event with which L2 is entered. */
static void check_entered_with_nmi(uint32_t controls, bool with_window, bool with_irq,
				   uint64_t reason, char *rip)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_enters_with_nmi, PIN_BASED_NMI_EXITING, NULL);
	const struct vmx_exit *exit;

	pin_controls = controls;
	window = with_window;
	irq = with_irq;
	sync_global_to_guest(vcpu->vm, pin_controls);
	sync_global_to_guest(vcpu->vm, window);
	sync_global_to_guest(vcpu->vm, irq);
	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	send_nmi(vcpu);
	/* The handler of the IRQ writes to the APIC, which ends L2 if nothing else does. */
	run_to(vcpu, STAGE_END);
	exit = read_vmx_exits(vcpu, 2);
	CHECK_EQ(exit[1].reason, reason);
	if (controls) {
		CHECK_EQ(exit[1].rip, (uint64_t)rip);
		CHECK_EQ(read_log(vcpu)->nr_nmis, reason == EXIT_REASON_NMI_WINDOW);
	} else {
		CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
		CHECK_EQ(nmi_nr(&guest_log, 1)->rip, (uint64_t)rip);
	}
}

static void window_before_nmi(void)
{
	check_entered_with_nmi(VIRTUAL_NMIS, true, false, EXIT_REASON_NMI_WINDOW, (char *)l2);
}

static void window_after_irq(void)
{
	check_entered_with_nmi(VIRTUAL_NMIS, true, true, EXIT_REASON_NMI_WINDOW,
			       event_entry_0x60);
}

static void exit_after_irq(void)
{
	check_entered_with_nmi(PIN_BASED_NMI_EXITING, false, true, EXIT_REASON_EXCEPTION_NMI,
			       event_entry_0x60);
}

static void exit_after_irq_virtual(void)
{
	check_entered_with_nmi(VIRTUAL_NMIS, false, true, EXIT_REASON_EXCEPTION_NMI,
			       event_entry_0x60);
}

static void nmi_after_irq(void)
{
	check_entered_with_nmi(0, false, true, EXIT_REASON_MSR_WRITE, event_entry_0x60);
}

/*
 * A second NMI that comes to L1 after the first exit has to wait; L1 takes it after
 * the exit for the window, for the entry before that has opened NMIs.
 */
static void check_two(bool second_nmi)
{
	const struct vmx_exit *exit;
	struct kvm_vcpu *vcpu;

	require_blocking_cleared_at_entry();
	vcpu = create_vmx_l1(l1_runs_two, VIRTUAL_NMIS, NULL);
	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	if (second_nmi)
		send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	exit = read_vmx_exits(vcpu, 4);
	CHECK_EQ(exit[0].reason, EXIT_REASON_EXCEPTION_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)guest_stop_next);
	CHECK_EQ(exit[1].reason, EXIT_REASON_NMI_WINDOW);
	CHECK_EQ(exit[1].rip, (uint64_t)second_l2);
	CHECK_EQ(exit[2].reason, EXIT_REASON_VMCALL);
	CHECK_EQ(exit[3].reason, EXIT_REASON_VMCALL);
	CHECK_EQ(read_log(vcpu)->nr, second_nmi);
}

static void window_of_other_vmcs(void)
{
	check_two(false);
}

static void window_of_other_vmcs_before_nmi(void)
{
	check_two(true);
}

static struct kvm_vcpu *run_to_entering_handler(uint32_t limit)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_is_interrupted, 0, on_nmi_enters);

	gdt_limit = limit;
	sync_global_to_guest(vcpu->vm, gdt_limit);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	return vcpu;
}

/* What KVM refuses never gets to the CPU, and undoes what the entry has prepared. */
static void l1_injects_in_vain(void)
{
	prepare_vmx_l2(l2);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	vmwrite(GUEST_CR0, vmreadz(GUEST_CR0) & ~X86_CR0_NE);
	run_vmx_l2();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void refused_injection(void)
{
	struct kvm_vcpu *vcpu;

	require_window_with_irqs_off();
	vcpu = create_vmx_l1(l1_injects_in_vain, 0, stop_in_first_handler);
	run_to_handlers_end(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_vmx_exits(vcpu, 1)[0].reason, FAILED_ENTRY);
	check_nmis_at_stop(vcpu, 2);
}

static void failed_entry(void)
{
	struct kvm_vcpu *vcpu;

	require_window_with_irqs_off();
	vcpu = run_to_entering_handler(NO_GDT_LIMIT);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_vmx_exits(vcpu, 1)[0].reason, FAILED_ENTRY);
	check_nmis_at_stop(vcpu, 2);
}

/* The events say of L1's blocking what the entry makes of it. */
static void failed_entry_reports_nothing(void)
{
	struct kvm_vcpu *vcpu;
	char event[512];

	trace_begin();
	vcpu = run_to_entering_handler(NO_GDT_LIMIT);
	run_to(vcpu, STAGE_HANDLER_END);
	trace_end("kvm_nmi_unblock: ", event, sizeof(event));
	CHECK_EQ(read_vmx_exits(vcpu, 1)[0].reason, FAILED_ENTRY);
	CHECK(!event[0], "%s", event);
}

static void entry_reports_opening(void)
{
	struct kvm_vcpu *vcpu;
	char event[512];

	trace_begin();
	vcpu = run_to_entering_handler(0);
	run_to(vcpu, STAGE_L2);
	trace_end("kvm_nmi_unblock: ", event, sizeof(event));
	CHECK(strstr(event, "state-restored"), "the last event is '%s'", event);
}

/* L1 goes on later, and its blocking has not ended for a second time then. */
static void opening_is_reported_once(void)
{
	struct kvm_vcpu *vcpu;
	unsigned int nr;
	char event[512];

	trace_begin();
	vcpu = run_to_entering_handler(0);
	run_to(vcpu, STAGE_L2);
	run_to(vcpu, STAGE_HANDLER_END);
	nr = trace_end("kvm_nmi_unblock: ", event, sizeof(event));
	CHECK(nr == 1, "%u events, the last one is '%s'", nr, event);
}

/* What L2's IRET ends there never was blocking of the vCPU's own NMIs. */
static void l1_injection_reports_nothing(void)
{
	struct kvm_vcpu *vcpu;
	char event[512];

	trace_begin();
	vcpu = create_vmx_l1(l1_injects, PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS,
			     on_nmi_vmcall);
	run_to(vcpu, STAGE_END);
	trace_end("kvm_nmi_unblock: ", event, sizeof(event));
	CHECK(!event[0], "%s", event);
}

/* --- L2 in HLT --- */

static struct kvm_vcpu *run_to_halting_l2(uint32_t controls, bool blocked)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1_runs_halting_l2, controls, NULL);

	bit3 = blocked;
	sync_global_to_guest(vcpu->vm, bit3);
	run_to(vcpu, STAGE_L1);
	return vcpu;
}

static void check_hlt_ends(uint32_t controls)
{
	struct kvm_vcpu *vcpu = run_to_halting_l2(controls, false);
	const struct vmx_exit *exit;

	run_over_halt(vcpu, STAGE_END);
	exit = read_vmx_exits(vcpu, 1);
	if (controls) {
		CHECK_EQ(exit[0].reason, EXIT_REASON_EXCEPTION_NMI);
		CHECK_EQ(exit[0].rip, (uint64_t)l2_after_hlt);
		CHECK_EQ(exit[0].activity, ACTIVITY_HLT);
		CHECK_EQ(exit[0].insn_length, 1);
		CHECK_EQ(read_log(vcpu)->nr_nmis, 0);
	} else {
		CHECK_EQ(exit[0].reason, EXIT_REASON_VMCALL);
		CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)l2_after_hlt);
	}
}

static void hlt_neither(void)
{
	check_hlt_ends(0);
}

static void hlt_exiting(void)
{
	check_hlt_ends(PIN_BASED_NMI_EXITING);
}

static void hlt_virtual(void)
{
	check_hlt_ends(VIRTUAL_NMIS);
}

static void on_signal(int signal)
{
}

static struct kvm_vm *vm_of_l1;

/* What the NMI wakes has had its time to run by then. */
static void *send_nmi_and_interrupt(void *thread)
{
	wait_until_vcpu_sleeps();
	send_nmi_by_msi(vm_of_l1, 0);
	usleep(50000);
	pthread_kill(*(pthread_t *)thread, SIGUSR1);
	return NULL;
}

static void check_hlt_goes_on(uint32_t controls)
{
	struct kvm_vcpu *vcpu = run_to_halting_l2(controls, true);
	struct sigaction act = { .sa_handler = on_signal };
	pthread_t self = pthread_self(), helper;
	struct kvm_mp_state state;
	int r;

	sigaction(SIGUSR1, &act, NULL);
	vm_of_l1 = vcpu->vm;
	TEST_ASSERT(!pthread_create(&helper, NULL, send_nmi_and_interrupt, &self), "thread");
	r = __vcpu_run(vcpu);
	pthread_join(helper, NULL);
	CHECK(r == -1, "L2's HLT has ended");
	vcpu_mp_state_get(vcpu, &state);
	CHECK_EQ(state.mp_state, KVM_MP_STATE_HALTED);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 0);
}

static void hlt_blocked_neither(void)
{
	check_hlt_goes_on(0);
}

static void hlt_blocked_exiting(void)
{
	check_hlt_goes_on(PIN_BASED_NMI_EXITING);
}

static const struct test_case cases[] = {
	{ "an NMI that L1 intercepts ends L2 and reaches no handler", intercepted },
	{ "such an exit blocks NMIs for L1 until its IRET", exit_blocks_l1 },
	{ "of two NMIs that come at once one makes L2 exit, one is for L1's IRET", second_after_exit },
	{ "an NMI that waits while L2 exits out of its handler comes in L1", waits_while_l2_exits },
	{ "an NMI that L1 does not intercept goes to L2's handler", not_intercepted },
	{ "a second one waits for the IRET in L2", second_waits_in_l2 },
	{ "the NMI window makes L2 exit before an NMI does", window_before_nmi },
	{ "the NMI window opens at the first instruction of the handler of an injected IRQ",
	  window_after_irq },
	{ "an NMI makes L2 exit there, too", exit_after_irq },
	{ "an NMI makes an L2 with virtual NMIs exit there, too", exit_after_irq_virtual },
	{ "an NMI that L1 does not intercept comes there, too", nmi_after_irq },
	{ "an NMI that L1 does not intercept ends L2's HLT", hlt_neither },
	{ "an NMI exit out of L2's HLT says that L2 has halted", hlt_exiting },
	{ "an NMI exit out of the HLT of an L2 with virtual NMIs says so, too", hlt_virtual },
	{ "L2's HLT goes on when an NMI comes that is blocked", hlt_blocked_neither },
	{ "L2's HLT goes on when an NMI exit is blocked", hlt_blocked_exiting },
	{ "after an NMI exit of one L2 the NMI window of another opens at once", window_of_other_vmcs },
	{ "so it does before an NMI that waits, which then comes in L1",
	  window_of_other_vmcs_before_nmi },
	{ "an entry that fails in L1's handler leaves L1 blocked until its IRET, and no longer",
	  failed_entry },
	{ "an NMI that L1 was to inject by an entry that is refused does not open its own",
	  refused_injection },
	{ "an entry of L2 that fails in L1's handler reports no end of blocking",
	  failed_entry_reports_nothing },
	{ "an entry of L2 that ends L1's blocking reports it", entry_reports_opening },
	{ "and nothing reports it once more", opening_is_reported_once },
	{ "L2's IRET from an NMI that L1 injects ends no blocking of the vCPU",
	  l1_injection_reports_nothing },
	{ "an IRET of L2 whose fault L1 intercepts has ended L2's blocking", iret_faults_to_l1 },
	{ "L1 injects an NMI, gets the window exit at L2's IRET, injects another", injected_by_l1 },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		return skip_all("this KVM offers no VMX to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
