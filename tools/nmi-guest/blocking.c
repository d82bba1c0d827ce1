// SPDX-License-Identifier: GPL-2.0-only
/* One NMI in service, one pending, and what ends the first. */

#include "guest.h"

#define BLOCKING	"SDM 3: Handling Multiple NMIs; APM 2: NMI-Non-Maskable-Interrupt Exception (Vector 2)"

static unsigned int inside;		/* NMIs that had come when the first handler was done waiting */
static int to_send;

static void send_more(struct regs *regs)
{
	(void)regs;
	if (cpus[this_cpu()].nmis > 1)
		return;
	for (int i = 0; i < to_send; i++)
		send_nmi();
	settle();
	inside = cpus[this_cpu()].nmis;
}

static void nmi_that_sends(int nmis)
{
	to_send = nmis;
	inside = 0;
	set_hook(VECTOR_NMI, send_more);
	send_nmi();
	settle();
}

static void arrives(void)
{
	nmi_that_sends(0);
	check_nr(1);
	check_event(0, VECTOR_NMI, NULL);
	CHECK_EQ(event(0)->cs, CODE64);
	CHECK(!(event(0)->rflags & FLAG_IF));
}

static void second_waits(void)
{
	nmi_that_sends(1);
	CHECK_EQ(inside, 1);
	CHECK_EQ(event(1)->depth, 0);
	check_nr(2);
}

static void third_merges(void)
{
	nmi_that_sends(10);
	CHECK_EQ(inside, 1);
	check_nr(2);
}

static void second_at_target(void)
{
	run_plan(&(struct plan) { .rip = target, .nmis = 1 });
	check_event(1, VECTOR_NMI, target);
	check_event(2, VECTOR_BACK, target_end + 2);
	check_nr(3);
}

static void chain_hook(struct regs *regs)
{
	(void)regs;
	if (cpus[this_cpu()].nmis < 100) {
		send_nmi();
		settle();
	}
}

/* Each is sent in the handler of the one before: all interrupt the same place. */
static void chain(void)
{
	set_hook(VECTOR_NMI, chain_hook);
	send_nmi();
	settle();
	check_nr(100);
	for (unsigned int i = 1; i < 100; i++)
		if (event(i)->rip != event(0)->rip || event(i)->depth || event(i)->rsp != event(0)->rsp) {
			CHECK_EQ(i, 100);
			check_event(i, VECTOR_NMI, (const void *)event(0)->rip);
			return;
		}
}

static void int3_hook(struct regs *regs)
{
	if (cpus[this_cpu()].nmis > 1)
		return;
	send_more(regs);
	nested_int3();
}

static void ignore(struct regs *regs)
{
	(void)regs;
}

static void nested_iret(void)
{
	to_send = 1;
	set_hook(VECTOR_NMI, int3_hook);
	set_hook(3, ignore);
	send_nmi();
	settle();
	CHECK_EQ(inside, 1);
	check_event(1, 3, nested_int3_end);
	check_event(2, VECTOR_NMI, nested_int3_end);
	check_nr(3);
}

static void irq_hook(struct regs *regs)
{
	if (cpus[this_cpu()].nmis > 1)
		return;
	send_irq();
	send_more(regs);
	nested_irq();
}

static void irq_inside(void)
{
	to_send = 1;
	set_hook(VECTOR_NMI, irq_hook);
	send_nmi();
	settle();
	CHECK_EQ(inside, 1);
	check_event(1, VECTOR_IRQ, nested_irq_end);
	check_event(2, VECTOR_NMI, nested_irq_end);
	check_nr(3);
}

static void far_return(void)
{
	run_plan(&(struct plan) { .exit = exit_lret, .nmis = 1 });
	settle();
	CHECK_EQ(cpus[0].nmis, 1);
	open_nmis();
	check_event(1, VECTOR_NMI, opened);
	check_nr(2);
}

static void handler_flags(void)
{
	set_hook(1, ignore);
	asm volatile("pushfq; orl %0, (%%rsp); popfq" :: "i"(FLAG_IF | FLAG_NT) : "memory");
	send_nmi();
	settle();
	asm volatile("pushfq; andl %0, (%%rsp); popfq" :: "i"(~(FLAG_IF | FLAG_NT)) : "memory");
	CHECK_EQ(event(0)->rflags & (FLAG_IF | FLAG_NT), FLAG_IF | FLAG_NT);
	CHECK_EQ(event(0)->flags & (FLAG_IF | FLAG_NT | FLAG_TF | FLAG_RF), 0);
}

static void frame_is_right(void)
{
	run_plan(&(struct plan) { .rip = target, .nmis = 1, .flags = 0x8d5 });
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->rflags, 0x8d7);
	CHECK_EQ(event(1)->rsp, interrupted.rsp);
	CHECK_EQ(event(1)->cs, CODE64);
	CHECK_EQ(event(1)->ss, DATA);
	CHECK_EQ(event(1)->frame & 15, 8);
	CHECK_EQ(event(1)->frame + 40, interrupted.rsp & ~15ull);
}

static void own_stack(void)
{
	use_stack_for_nmi(1);
	run_plan(&(struct plan) { .rip = target, .nmis = 1 });
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(0)->frame, stack_of_ist(1) - 40);
	CHECK_EQ(event(1)->frame, stack_of_ist(1) - 40);
	CHECK_EQ(event(1)->rsp, interrupted.rsp);
}

const struct claim blocking_claims[] = {
	{ "an NMI that a CPU sends to itself comes, once", arrives, "SDM 3: Interrupt Command Register (ICR)" },
	{ "a second NMI waits for the handler's IRET", second_waits, BLOCKING },
	{ "a third NMI is one with the second", third_merges, BLOCKING },
	{ "the second comes before the instruction that the IRET goes to", second_at_target, BLOCKING },
	{ "100 NMIs, each sent in the handler of the last, interrupt one place", chain, BLOCKING },
	{ "the IRET of an INT3 in the handler opens NMIs", nested_iret, BLOCKING },
	{ "the IRET of an IRQ in the handler opens NMIs", irq_inside, BLOCKING },
	{ "a handler left by a far return leaves NMIs blocked, until an IRET", far_return, BLOCKING },
	{ "the handler begins with IF, TF, NT and RF clear", handler_flags,
	  "SDM 3: Flag Usage By Exception- or Interrupt-Handler Procedure; APM 2: Interrupt To Same Privilege in Long Mode" },
	{ "the second NMI's frame shows what the IRET went to, on an aligned stack", frame_is_right,
	  "SDM 3: 64-Bit Mode Stack Frame; APM 2: Interrupt Stack Frame" },
	{ "NMIs use the stack of their IST entry, one after the other", own_stack,
	  "SDM 3: Interrupt Stack Table; APM 2: Interrupt-Stack Table" },
	{ }
};
