// SPDX-License-Identifier: GPL-2.0-only
/*
 * What user space does to a vCPU between two runs, while an NMI handler's return
 * is being waited for: QEMU reads and writes back the whole state around each
 * command of its monitor, the one that sends NMIs included, and that must cost
 * nothing. A debugger needs the debug registers for itself. A VM that was saved
 * and restored elsewhere has only the mask, which KVM_GET_VCPU_EVENTS carries.
 *
 * A wrong implementation forgets the breakpoint or starts its clock again when
 * state is written back unchanged, shows the breakpoint to user space, mixes it
 * with a debugger's, or nests or loses the NMI in the restored VM.
 */
#include "nmi_events.h"
#include "nmi_soft.h"

#define LONGEST_MS	2000
#define DR7_G0		0x2ul	/* global, execution */

static bool opens;
static volatile uint32_t nmis;
static uint64_t start, end;
static uint64_t ticks;		/* how long the handler takes */

static void guest(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	while (!opens && nmis < 2)
		guest_spin_irqs_off();
	guest_open();
	guest_stage(STAGE_END);
}

static void on_nmi(struct event_regs *regs)
{
	end = rdtsc();
	nmis = guest_log.nr_nmis;
	if (nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	start = rdtsc();
	while (rdtsc() - start < ticks)
		guest_spin_irqs_off();
	guest_stage(STAGE_HANDLER_END);
}

static struct kvm_vcpu *run_to_handler(bool guest_opens)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi);

	require_exact();
	opens = guest_opens;
	sync_global_to_guest(vcpu->vm, opens);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	return vcpu;
}

static struct kvm_vcpu *finish(struct kvm_vcpu *vcpu)
{
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_to(vcpu, STAGE_END);
	return vcpu;
}

static void check_came_after_timeout(struct kvm_vcpu *vcpu)
{
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	sync_global_from_guest(vcpu->vm, start);
	sync_global_from_guest(vcpu->vm, end);
	check_timed_out((end - start) / tsc_khz_of(vcpu), soft_timeout_ms() / 2);
}

/* --- unchanged state -------------------------------------------------------- */

static void write_back(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_mp_state mp_state;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vcpu_events_get(vcpu, &events);
	vcpu_ioctl(vcpu, KVM_GET_DEBUGREGS, &debugregs);
	vcpu_mp_state_get(vcpu, &mp_state);
	vcpu_sregs_get(vcpu, &sregs);
	vcpu_regs_get(vcpu, &regs);

	vcpu_regs_set(vcpu, &regs);
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_mp_state_set(vcpu, &mp_state);
	vcpu_ioctl(vcpu, KVM_SET_DEBUGREGS, &debugregs);
	vcpu_events_set(vcpu, &events);
}

static void written_back(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(true);

	finish_stage(vcpu);
	write_back(vcpu);
	send_nmi(vcpu);
	write_back(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	finish_stage(vcpu);
	write_back(vcpu);
	run_to(vcpu, STAGE_END);
	check_came_at_return(vcpu);
}

static void not_in_debugregs(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(true);
	struct kvm_debugregs debugregs;
	int i;

	run_to(vcpu, STAGE_HANDLER_END);
	vcpu_ioctl(vcpu, KVM_GET_DEBUGREGS, &debugregs);
	for (i = 0; i < 4; i++)
		CHECK_EQ(debugregs.db[i], 0);
	CHECK_EQ(debugregs.dr7, DR7_NONE);
	CHECK_EQ(debugregs.dr6, DR6_NONE);
}

static void set_debug(struct kvm_vcpu *vcpu, uint32_t control, void *address)
{
	struct kvm_guest_debug debug = {
		.control = control,
		.arch.debugreg = { (uint64_t)address, [7] = DR7_NONE | DR7_G0 },
	};

	vcpu_guest_debug_set(vcpu, &debug);
}

/* The timeout is that of the NMI which waits; nothing starts it again. */
static void clock_runs_on(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(false);

	set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, NULL);
	ticks = soft_timeout_ms() * 3 / 4 * tsc_khz_of(vcpu);
	sync_global_to_guest(vcpu->vm, ticks);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	finish_stage(vcpu);
	write_back(vcpu);
	run_to(vcpu, STAGE_END);
	check_came_after_timeout(vcpu);
}

/* --- a debugger ------------------------------------------------------------- */

/* It uses debug registers, so the return has none. */
static void debugger_comes(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(true);

	set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, guest_open_next);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	TEST_ASSERT(!__vcpu_run(vcpu), "KVM_RUN");
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_DEBUG);
	CHECK_EQ(vcpu->run->debug.arch.pc, (uint64_t)guest_open_next);
	CHECK_EQ(vcpu->run->debug.arch.dr6 & 0xf, 1);
	set_debug(vcpu, 0, NULL);
	run_to(vcpu, STAGE_END);
	check_came_by_search(vcpu);
}

/* Its breakpoint is at the very return address, and as good as ours. */
static void debugger_at_return(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(true);

	set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, guest_stop_next);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	TEST_ASSERT(!__vcpu_run(vcpu), "KVM_RUN");
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_DEBUG);
	CHECK_EQ(vcpu->run->debug.arch.pc, (uint64_t)guest_stop_next);
	set_debug(vcpu, 0, NULL);
	run_to(vcpu, STAGE_END);
	check_came_at_return(vcpu);
}

/* It looks on while the handler runs, and has no use for debug registers. */
static void debugger_looks_on(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(true);

	set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, NULL);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	check_came_at_return(vcpu);
}

static void debugger_leaves(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(true);

	set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, guest_open_next);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	set_debug(vcpu, 0, NULL);
	run_to(vcpu, STAGE_END);
	check_came_at_return(vcpu);
}

/* --- a failed entry --------------------------------------------------------- */

/* User space asks for what no CPU enters, and mends it. */
static struct kvm_vcpu *fail_an_entry(uint8_t masked)
{
	struct kvm_vcpu *vcpu = run_to_handler(true);
	struct kvm_vcpu_events events;

	finish_stage(vcpu);
	put_in_shadow(vcpu, KVM_X86_SHADOW_INT_STI);
	TEST_ASSERT(!__vcpu_run(vcpu), "KVM_RUN");
	if (vcpu->run->exit_reason != KVM_EXIT_FAIL_ENTRY)
		skip("this CPU enters in the shadow of an STI with IRQs off");
	vcpu_events_get(vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
	events.interrupt.shadow = 0;
	events.nmi.masked = masked;
	vcpu_events_set(vcpu, &events);
	return vcpu;
}

static void check_after_failed_entry(uint8_t masked)
{
	struct kvm_vcpu *vcpu = fail_an_entry(masked);

	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void failed_entry(void)
{
	check_after_failed_entry(1);
}

static void failed_entry_unmasked(void)
{
	check_after_failed_entry(0);
}

static void failed_entry_then_debugger(void)
{
	struct kvm_vcpu *vcpu = fail_an_entry(1);

	set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, guest_open_next);
	run_to(vcpu, STAGE_HANDLER_END);
	finish_stage(vcpu);
	TEST_ASSERT(!__vcpu_run(vcpu), "KVM_RUN");
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_DEBUG);
}

/* --- another VM ------------------------------------------------------------- */

static void restored_then_opens(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(true);

	send_nmi(vcpu);
	vcpu = migrate(vcpu);
	finish(vcpu);
	if (soft_searches())
		check_came_at_return_after_cut(vcpu);
	else
		check_came_in_irq_window(vcpu);
}

static void restored_then_spins(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(false);
	int log = open_kernel_log();

	send_nmi(vcpu);
	vcpu = migrate(vcpu);
	finish(vcpu);
	if (soft_searches()) {
		CHECK_EQ(nmi_messages(log), 0);
		check_came_at_return_after_cut(vcpu);
		return;
	}
	check_came_after_timeout(vcpu);
	CHECK_EQ(nmi_messages(log), 1);
}

/* The second NMI hits the first handler, which has halted. */
static void on_nmi_halt(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1) {
		end = rdtsc();
		guest_stage(STAGE_END);
	}
	guest_log.in_nmi = 0;
	start = rdtsc();
	guest_stage(STAGE_HANDLER);
	for (;;)
		asm volatile("hlt");
}

static void restored_halted(void)
{
	struct kvm_mp_state halted = { KVM_MP_STATE_HALTED };
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi_halt);
	int log = open_kernel_log();

	require_exact();
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	finish_stage(vcpu);
	vcpu_mp_state_set(vcpu, &halted);
	send_nmi(vcpu);
	vcpu = migrate(vcpu);
	run_to(vcpu, STAGE_END);
	check_came_after_timeout(vcpu);
	CHECK_EQ(nmi_messages(log), 1);
}

static void restored_unblocked(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi);

	require_exact();
	opens = true;
	sync_global_to_guest(vcpu->vm, opens);
	run_to(vcpu, STAGE_READY);
	vcpu = migrate(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	check_came_at_return_after_cut(finish(vcpu));
}

static const struct test_case cases[] = {
	{ "found: user space writes back registers, debug registers and events", written_back },
	{ "user space does not see the breakpoint in the debug registers", not_in_debugregs },
	{ "nor does writing back start the timeout again", clock_runs_on },
	{ "found by the search for the IRET, or in the IRQ window: a debugger has a breakpoint elsewhere, and it fires",
	  debugger_comes },
	{ "found: a debugger has a breakpoint at the return address", debugger_at_return },
	{ "found: a debugger looks on", debugger_looks_on },
	{ "found: a debugger has left by then", debugger_leaves },
	{ "after an entry that failed the guest gets no #DB", failed_entry },
	{ "after an entry that failed, and user space ends blocking, it gets none either",
	  failed_entry_unmasked },
	{ "a breakpoint that user space sets after an entry has failed is hit",
	  failed_entry_then_debugger },
	{ "found by the search, or in the IRQ window: a VM restored in the handler", restored_then_opens },
	{ "found by the search, or after the timeout: the same with IRQs off", restored_then_spins },
	{ "not found, timeout: a VM restored in a handler that has halted", restored_halted },
	{ "found: a VM restored before the NMI", restored_unblocked },
};

int main(void)
{
	if (nmi_path() != VMX_SOFT)
		return skip_all("this machine has virtual NMIs, or no need of them");
	if (soft_timeout_ms() > LONGEST_MS)
		return skip_all("soft_vnmi_timeout_ms is more than this test waits");
	return run_cases(cases, ARRAY_SIZE(cases));
}
