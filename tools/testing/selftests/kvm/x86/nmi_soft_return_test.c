// SPDX-License-Identifier: GPL-2.0-only
/*
 * Soft vNMI recognises the end of an NMI handler by where it returns to. Here the
 * handler gets to that place otherwise, or does not get there at all, or the
 * breakpoint there stays silent.
 *
 * A second NMI waits in the first one's handler. It comes where the first one
 * did (the return was found), or where the guest lets IRQs in (it was not, and
 * the claim says so), but never within the handler.
 *
 * A wrong implementation takes a call of the interrupted function for the return,
 * goes round in circles on its breakpoint, shows RF to the guest, or loses the
 * second NMI when the return cannot be found.
 */
#include "nmi_events.h"
#include "nmi_pages.h"
#include "nmi_soft.h"

enum { STAGE_PASSING = STAGE_OWN };

#define OTHER_STACK_SIZE	512
#define REP_COUNT		16

/* --- guest ------------------------------------------------------------------ */

static uint32_t nr_calls;
static uint32_t passed_moved;
static uint64_t saved_rsp;
static char other_stack[OTHER_STACK_SIZE] __attribute__((aligned(16)));
static uint64_t rep_target, rep_left;

/*
 * visit(stage) reports the stage, if any; what arrives there arrives at
 * visit_next. visit_moved is where a handler may send it instead, and it keeps
 * its stack pointer if a handler changes it.
 */
void visit(uint32_t stage);
extern char visit_next[], visit_moved[];
asm("visit:	mov %rsp, saved_rsp(%rip)\n"
    "	mov %edi, %eax\n"
    "	test %eax, %eax\n"
    "	jz visit_next\n"
    "	out %eax, $" __stringify(STAGE_PORT) "\n"
    "visit_next: nop\n"
    "	mov saved_rsp(%rip), %rsp\n"
    "	ret\n"
    "visit_moved: incl passed_moved(%rip)\n"
    "	ret\n");

static void guest(void)
{
	visit(STAGE_READY);
	guest_open();
	guest_stage(STAGE_END);
}

static void wait_for_second(void)
{
	if (guest_log.nr_nmis == 1)
		guest_stage(STAGE_HANDLER);
}

static void on_nmi(struct event_regs *regs)
{
	wait_for_second();
}

static void on_nmi_call(struct event_regs *regs)
{
	uint64_t rsp = saved_rsp;
	uint32_t i;

	wait_for_second();
	for (i = 0; guest_log.nr_nmis == 1 && i < nr_calls; i++)
		visit(0);
	saved_rsp = rsp;
}

static void on_nmi_move(struct event_regs *regs)
{
	wait_for_second();
	if (guest_log.nr_nmis == 1)
		regs->rip = (uint64_t)visit_moved;
}

static void on_nmi_switch(struct event_regs *regs)
{
	wait_for_second();
	if (guest_log.nr_nmis == 1)
		regs->rsp = (uint64_t)other_stack + OTHER_STACK_SIZE;
}

/* --- host ------------------------------------------------------------------- */

/* From where the guest has stopped: one NMI, a second in its handler. */
static void send_two(struct kvm_vcpu *vcpu)
{
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
}

static struct kvm_vcpu *interrupt_guest(void (*handler)(struct event_regs *))
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	require_exact();
	sync_global_to_guest(vcpu->vm, nr_calls);
	run_to(vcpu, STAGE_READY);
	send_two(vcpu);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)visit_next);
	return vcpu;
}

static void calls_once(void)
{
	nr_calls = 1;
	check_came_at_return(interrupt_guest(on_nmi_call));
}

static void calls_15_times(void)
{
	nr_calls = 15;
	check_came_at_return(interrupt_guest(on_nmi_call));
}

static void calls_20_times(void)
{
	nr_calls = 20;
	check_came_by_search(interrupt_guest(on_nmi_call));
}

static void own_stack(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi);

	require_exact();
	run_to(vcpu, STAGE_READY);
	set_ist(vcpu, 1, (uint64_t)other_stack + OTHER_STACK_SIZE);
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
	send_two(vcpu);
	check_came_at_return(vcpu);
}

static void moves_return(void)
{
	struct kvm_vcpu *vcpu = interrupt_guest(on_nmi_move);

	check_came_in_irq_window(vcpu);
	sync_global_from_guest(vcpu->vm, passed_moved);
	CHECK_EQ(passed_moved, 1);
}

static void switches_stack(void)
{
	check_came_in_irq_window(interrupt_guest(on_nmi_switch));
}

/* --- the return address is passed by an instruction that exits --------------- */

/*
 * report(stage, twice): the second report is where NMIs arrive that are sent at
 * the first.
 */
void report(uint32_t stage, uint32_t twice);
extern char report_next[], report_end[];
asm("report: mov %edi, %eax\n"
    "	test %esi, %esi\n"
    "	jz report_next\n"
    "	out %eax, $" __stringify(STAGE_PORT) "\n"
    "report_next: out %eax, $" __stringify(STAGE_PORT) "\n"
    "report_end: ret\n");

static void guest_reports(void)
{
	report(STAGE_READY, 1);
	guest_open();
	guest_stage(STAGE_END);
}

static void on_nmi_report(struct event_regs *regs)
{
	wait_for_second();
	if (guest_log.nr_nmis == 1)
		report(STAGE_PASSING, 0);
}

static struct kvm_vcpu *run_to_passing(void (*code)(void),
				       void (*handler)(struct event_regs *))
{
	struct kvm_vcpu *vcpu = create_vm(code, handler);

	require_exact();
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_PASSING);
	return vcpu;
}

static void passing_is_invisible(void)
{
	struct kvm_vcpu *vcpu = run_to_passing(guest_reports, on_nmi_report);
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	CHECK_EQ(regs.rflags & RFLAGS_RF, 0);
	run_to(vcpu, STAGE_READY);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)report_next);
	check_came_at_return(vcpu);
}

/* The guest has a breakpoint at the instruction after the one that is passed. */
static void guest_watches_report(void)
{
	asm volatile("mov %0, %%db0; mov %1, %%db7"
		     : : "r"(report_end), "r"(DR7_L0_EXEC) : "memory");
	guest_reports();
}

static void on_event_report(struct event_regs *regs)
{
	if (regs->vector == DB_VECTOR)
		regs->rflags |= RFLAGS_RF;
	else
		on_nmi_report(regs);
}

static void passing_ends_in_time(void)
{
	struct kvm_vcpu *vcpu = run_to_passing(guest_watches_report, on_event_report);
	const struct event_log *log;

	require_no_search();
	run_to(vcpu, STAGE_READY);
	run_to(vcpu, STAGE_END);
	check_came_at_return(vcpu);
	log = read_log(vcpu);
	CHECK_EQ(log->nr, 4);
	CHECK_EQ(log->event[1].vector, DB_VECTOR);
	CHECK_EQ(log->event[1].rip, (uint64_t)report_end);
	CHECK_EQ(log->event[3].vector, DB_VECTOR);
	CHECK_EQ(log->event[3].rip, (uint64_t)report_end);
}

/* --- HLT with IRQs off ------------------------------------------------------ */

extern char after_hlt[];

static void guest_halts(void)
{
	x2apic_enable();
	guest_stage(STAGE_READY);
	asm volatile("cli; hlt\n\t"
		     "after_hlt: nop; nop" : : : "memory");
	guest_open();
	guest_stage(STAGE_END);
}

static void halted(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_halts, on_nmi);

	require_exact();
	run_to(vcpu, STAGE_READY);
	run_over_halt(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)after_hlt);
	check_came_at_return(vcpu);
}

/* --- RF in the interrupted context ------------------------------------------ */

extern char loop_next[];

static void guest_loops(void)
{
	asm volatile("mov $10, %%ebx\n\t"
		     "out %%eax, $" __stringify(STAGE_PORT) "\n"
		     "loop_next: dec %%ebx\n\t"
		     "jnz loop_next" : : "a"(STAGE_READY) : "rbx", "memory");
	guest_open();
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *interrupt_with_rf(void (*code)(void))
{
	struct kvm_vcpu *vcpu = create_vm(code, on_nmi);
	struct kvm_regs regs;

	require_exact();
	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	vcpu_regs_get(vcpu, &regs);
	regs.rflags |= RFLAGS_RF;
	vcpu_regs_set(vcpu, &regs);
	send_two(vcpu);
	CHECK(nmi_nr(read_log(vcpu), 1)->rflags & RFLAGS_RF, "no RF in the frame");
	return vcpu;
}

static void rf_straight(void)
{
	check_came_by_search(interrupt_with_rf(guest));
}

static void rf_loop(void)
{
	struct kvm_vcpu *vcpu = interrupt_with_rf(guest_loops);
	const struct event_log *log = read_log(vcpu);

	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(nmi_nr(log, 1)->rip, (uint64_t)loop_next);
	CHECK_EQ(nmi_nr(log, 1)->rbx, 10);
	CHECK_EQ(nmi_nr(log, 2)->rip, (uint64_t)loop_next);
	CHECK_EQ(nmi_nr(log, 2)->rbx, soft_searches() ? 10 : 9);
	CHECK_EQ(nmi_nr(log, 2)->rflags & RFLAGS_RF, soft_searches() ? RFLAGS_RF : 0);
}

/* --- REP string instructions ------------------------------------------------ */

extern char rep_next[], rep_end[];

/* The first bytes go where there is no memory: each one is an exit. */
static void guest_rep(void)
{
	uint64_t left = REP_COUNT, to = rep_target;

	/* The rest of them is to cause no exit at all. */
	*(volatile char *)(to + REP_COUNT) = 0;
	asm volatile("rep_next: rep stosb\n"
		     "rep_end: nop"
		     : "+c"(left), "+D"(to) : "a"(0) : "memory");
	rep_left = left;
	guest_open();
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *create_rep(unsigned int on_mmio)
{
	struct kvm_vcpu *vcpu = create_vm(guest_rep, on_nmi);
	uint64_t page = vm_vaddr_alloc(vcpu->vm, 2 * getpagesize(), 0x40000000);

	/* The first page becomes one that no memslot has. */
	*guest_pte(vcpu, page) = 0xd0000003;
	rep_target = page + getpagesize() - on_mmio;
	sync_global_to_guest(vcpu->vm, rep_target);
	return vcpu;
}

static void run_to_mmio(struct kvm_vcpu *vcpu)
{
	int r = __vcpu_run(vcpu);

	TEST_ASSERT(!r && vcpu->run->exit_reason == KVM_EXIT_MMIO,
		    "KVM_RUN returned %d, %s", r, exit_reason_str(vcpu->run->exit_reason));
}

/* No exit between the return and the end of the instruction, and RF is set. */
static void rep_memory(void)
{
	struct kvm_vcpu *vcpu = create_rep(1);
	const struct event_regs *first;

	require_exact();
	run_to_mmio(vcpu);
	send_two(vcpu);
	first = nmi_nr(read_log(vcpu), 1);
	CHECK_EQ(first->rip, (uint64_t)rep_next);
	CHECK_EQ(first->rcx, REP_COUNT - 1);
	check_came_by_search(vcpu);
}

/* The instruction causes an exit of its own. */
static void rep_mmio(void)
{
	struct kvm_vcpu *vcpu = create_rep(8);
	const struct event_regs *first, *second;
	int i;

	require_exact();
	run_to_mmio(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	for (i = 1; i < 8; i++)
		run_to_mmio(vcpu);
	run_to(vcpu, STAGE_END);

	first = nmi_nr(read_log(vcpu), 1);
	CHECK_EQ(first->rip, (uint64_t)rep_next);
	CHECK_EQ(first->rcx, REP_COUNT - 1);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	second = nmi_nr(read_log(vcpu), 2);
	CHECK_EQ(second->rip, (uint64_t)rep_next);
	CHECK_EQ(second->rcx, REP_COUNT - (soft_searches() ? 1 : 2));
}

static const struct test_case cases[] = {
	{ "found: the handler calls the function it interrupted", calls_once },
	{ "found: it does so 15 times", calls_15_times },
	{ "found by the search for the IRET, or in the IRQ window: it does so 20 times", calls_20_times },
	{ "found: it does so, where user space sees no trace of it", passing_is_invisible },
	{ "found: it does so, and a breakpoint of the guest's right after it fires", passing_ends_in_time },
	{ "found: the handler runs on a stack of its own", own_stack },
	{ "not found, IRQ window: the handler moves its return address", moves_return },
	{ "not found, IRQ window: the handler returns to another stack", switches_stack },
	{ "found: the NMI interrupted HLT with IRQs off", halted },
	{ "found by the search, or in the IRQ window: the interrupted instruction has RF set", rf_straight },
	{ "found by the search, or one pass later: the same in a loop", rf_loop },
	{ "found by the search, or in the IRQ window: a string instruction that causes no exit", rep_memory },
	{ "found by the search, or at the next exit: a string instruction that causes one", rep_mmio },
};

int main(void)
{
	if (nmi_path() != VMX_SOFT)
		return skip_all("this machine has virtual NMIs, or no need of them");
	return run_cases(cases, ARRAY_SIZE(cases));
}
