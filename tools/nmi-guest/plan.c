// SPDX-License-Identifier: GPL-2.0-only
/*
 * Most claims are about the IRET of an NMI's handler, and about the instruction it
 * goes to. The plan says what the first handler does and where it returns to, all
 * later NMIs are just logged, and VECTOR_BACK or an exception leads back to what
 * the first one interrupted.
 */

#include "guest.h"

struct regs interrupted, at_back;
static const struct plan *plan;
static int begun;
static uint64_t frame[5];

static void go_back(struct regs *regs)
{
	at_back = *regs;
	asm volatile("mov %0, %%dr7" :: "r"(0x400ul));
	*regs = interrupted;
}

/* One more instruction has been stepped over, or a breakpoint met: on, without either. */
static void step_done(struct regs *regs)
{
	regs->rflags &= ~(uint64_t)FLAG_TF;
	regs->rflags |= FLAG_RF;
}

/* Returns where. */
static uintptr_t copy_frame(const struct regs *regs)
{
	uint32_t *frame32;

	if (plan->exit != exit_iretl) {
		memcpy(frame, &regs->rip, sizeof(frame));
		return (uintptr_t)frame;
	}
	/* Whether the CPU pops the last two or not, RSP is the same. */
	frame32 = (uint32_t *)(plan->rsp - 32);
	frame32[0] = regs->rip;
	frame32[1] = regs->cs;
	frame32[2] = regs->rflags;
	frame32[3] = (uintptr_t)&frame32[3];
	frame32[4] = regs->ss;
	return (uintptr_t)frame32;
}

static void first_nmi(struct regs *regs)
{
	extern uint64_t exit_rsp;

	if (begun)
		return;
	begun = 1;
	interrupted = *regs;
	if (plan->rip)
		regs->rip = (uintptr_t)plan->rip;
	regs->cs = plan->cs ? plan->cs : CODE64;
	regs->ss = plan->ss ? plan->ss : DATA;
	regs->rflags = plan->flags | FLAG_FIXED;
	if (plan->rsp)
		regs->rsp = plan->rsp;
	if (plan->exit)
		regs->exit = (uintptr_t)plan->exit;
	if (plan->irq)
		send_irq();
	for (int i = 0; i < plan->nmis; i++)
		send_nmi();
	settle();
	if (plan->exit == exit_lret) {
		uint64_t *below = (uint64_t *)regs->rsp - 3;

		below[0] = regs->rflags;
		below[1] = regs->rip;
		below[2] = regs->cs;
		exit_rsp = (uintptr_t)below;
	} else if (plan->exit) {
		exit_rsp = copy_frame(regs);
		if (plan->iret_rsp)
			exit_rsp = plan->iret_rsp;
	}
	if (plan->dr7) {
		asm volatile("mov %0, %%dr0" :: "r"(plan->dr0));
		asm volatile("mov %0, %%dr1" :: "r"(plan->watch_frame ? (uintptr_t)frame : 0));
		asm volatile("mov %0, %%dr7" :: "r"(plan->dr7));
	}
}

void run_plan(const struct plan *the_plan)
{
	static const uint8_t leads_back[] = { 6, 10, 11, 12, 13, 14, VECTOR_BACK };

	plan = the_plan;
	begun = 0;
	for (size_t i = 0; i < sizeof(leads_back); i++)
		set_hook(leads_back[i], go_back);
	if (plan->repair)
		set_hook(14, plan->repair);
	set_hook(1, step_done);
	set_hook(VECTOR_NMI, first_nmi);
	clear_events();
	send_nmi();
	settle();
	asm volatile("mov %0, %%dr7" :: "r"(0x400ul));
	/* Not from here on, where there is nothing left to go back to. */
	for (size_t i = 0; i < sizeof(leads_back); i++)
		set_hook(leads_back[i], NULL);
	if (!begun)
		CHECK(!"an NMI sent to oneself comes");
}

const void *handler(unsigned int vector)
{
	return stubs64 + 16 * vector;
}

void check_event(unsigned int n, unsigned int vector, const void *rip)
{
	struct event *e = event(n);

	if (e->vector == vector && (!rip || e->rip == (uintptr_t)rip))
		return;
	print("# event %lu should be %lu at 0x%lx, and is %ld at 0x%lx\n", (uint64_t)n, (uint64_t)vector,
	      (uint64_t)rip, (long)e->vector, e->rip);
	check(0, __FILE__, __LINE__, "the events are in order");
}

void check_nr(unsigned int nr)
{
	unsigned int seen = cpus[this_cpu()].nr;

	if (seen == nr)
		return;
	print("# %lu events, not %lu:", (uint64_t)seen, (uint64_t)nr);
	for (unsigned int i = 0; i < seen && i < 12; i++)
		print(" %lu at 0x%lx", event(i)->vector, event(i)->rip);
	print("\n");
	check(0, __FILE__, __LINE__, "there are as many events as there should be");
}
