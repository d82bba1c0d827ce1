// SPDX-License-Identifier: GPL-2.0-only
/* What comes first where an IRET opens NMIs and more than one event is due. */

#include "guest.h"

#define PRIORITY	"SDM 3: Priority Among Simultaneous Exceptions and Interrupts; APM 2: Priorities"
#define BREAKPOINTS	"SDM 3: Instruction-Breakpoint Exception Condition; " PRIORITY

#define DR7_EXECUTE_0	0x402		/* DR0, global, execution */
#define DR7_ACCESS_1	0xb00408ul	/* DR1, global, read or write, 8 bytes at bits 20 to 23 */

static void before_irq(void)
{
	run_plan(&(struct plan) { .rip = target, .nmis = 1, .irq = 1, .flags = FLAG_IF });
	check_event(1, VECTOR_NMI, target);
	check_event(2, VECTOR_IRQ, target);
	check_event(3, VECTOR_BACK, target_end + 2);
	check_nr(4);
}

static void irq_alone(void)
{
	run_plan(&(struct plan) { .rip = target, .irq = 1, .flags = FLAG_IF });
	check_event(1, VECTOR_IRQ, target);
	check_event(2, VECTOR_BACK, target_end + 2);
	check_nr(3);
}

static void step_of_iret(void)
{
	run_plan(&(struct plan) { .rip = target, .nmis = 1, .exit = exit_step });
	check_event(1, VECTOR_NMI, handler(1));
	check_event(2, 1, target);
	CHECK_EQ(event(2)->rflags & FLAG_TF, 0);
	CHECK_EQ(event(2)->dr6 & 0x400f, 0x4000);
	check_event(3, VECTOR_BACK, target_end + 2);
	check_nr(4);
}

/* A frame of its own: pushing that of the #DB must not meet the watchpoint again. */
static void watched_frame(void)
{
	run_plan(&(struct plan) { .rip = target, .nmis = 1, .exit = exit_elsewhere,
				  .watch_frame = 1, .dr7 = DR7_ACCESS_1 });
	check_event(1, VECTOR_NMI, handler(1));
	check_event(2, 1, target);
	CHECK_EQ(event(2)->dr6 & 0x400f, 2);
	check_event(3, VECTOR_BACK, target_end + 2);
	check_nr(4);
}

static void before_fault(void)
{
	run_plan(&(struct plan) { .rip = target_ud, .nmis = 1 });
	check_event(1, VECTOR_NMI, target_ud);
	check_event(2, 6, target_ud);
	check_nr(3);
}

static void before_fetch_fault(void)
{
	run_plan(&(struct plan) { .rip = (void *)0x8000000000, .nmis = 1 });
	check_event(1, VECTOR_NMI, (void *)0x8000000000);
	check_event(2, 14, (void *)0x8000000000);
	CHECK_EQ(event(2)->cr2, 0x8000000000);
	check_nr(3);
}

static void before_breakpoint(void)
{
	run_plan(&(struct plan) { .rip = target, .nmis = 1, .dr0 = (uintptr_t)target, .dr7 = DR7_EXECUTE_0 });
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->rflags & FLAG_RF, 0);
	check_event(2, 1, target);
	CHECK_EQ(event(2)->dr6 & 0x400f, 1);
	check_event(3, VECTOR_BACK, target_end + 2);
	check_nr(4);
}

static void keeps_rf(void)
{
	run_plan(&(struct plan) { .rip = target, .nmis = 1, .flags = FLAG_RF,
				  .dr0 = (uintptr_t)target, .dr7 = DR7_EXECUTE_0 });
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->rflags & FLAG_RF, FLAG_RF);
	check_event(2, VECTOR_BACK, target_end + 2);
	check_nr(3);
}

static void breakpoint_alone(void)
{
	run_plan(&(struct plan) { .rip = target, .dr0 = (uintptr_t)target, .dr7 = DR7_EXECUTE_0 });
	check_event(1, 1, target);
	check_event(2, VECTOR_BACK, target_end + 2);
	check_nr(3);
}

const struct claim order_claims[] = {
	{ "an IRQ comes before the instruction that the IRET goes to", irq_alone, PRIORITY },
	{ "an NMI comes before an IRQ at an IRET", before_irq, PRIORITY },
	{ "the #DB of a stepped IRET comes before an NMI, which interrupts its handler", step_of_iret, PRIORITY },
	{ "so does the #DB of a watchpoint on the IRET's frame", watched_frame, PRIORITY },
	{ "an NMI comes before the #UD of the IRET's target", before_fault, PRIORITY },
	{ "an NMI comes before the #PF of fetching the IRET's target", before_fetch_fault, PRIORITY },
	{ "a breakpoint at the IRET's target is met once", breakpoint_alone, BREAKPOINTS },
	{ "an NMI comes before the breakpoint at the IRET's target", before_breakpoint, BREAKPOINTS },
	{ "an RF that the IRET pops survives an NMI", keeps_rf, BREAKPOINTS },
	{ }
};
