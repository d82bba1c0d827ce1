// SPDX-License-Identifier: GPL-2.0-only
/* HLT, and NMIs before, at and after it. */

#include "guest.h"

#define HLT	"SDM 2: HLT-Halt; APM 3: HLT"

static int irqs_at_hlt_end;

static void need_clock(void)
{
	if (!clock)
		skip("no clock was found");
}

static void need_timed_nmi(void)
{
	need_clock();
	if (!has_timed_nmi)
		skip("no NMI by PIT and I/O APIC");
}

static unsigned int tries;

/* On a machine that is busy the NMI may come ahead of the HLT, which nothing else ends. */
static int too_early(const struct regs *regs)
{
	if (regs->rip == (uintptr_t)cli_hlt_end || cpus[0].nmis > 1 || tries == 100)
		return 0;
	clear_events();
	nmi_in(++tries < 10 ? 5000 * tries : 50000);
	return 1;
}

static void again_if_early(struct regs *regs)
{
	too_early(regs);
}

static void wakes(void)
{
	need_timed_nmi();
	tries = 0;
	set_hook(VECTOR_NMI, again_if_early);
	nmi_in(2000);
	cli_hlt();
	settle();
	check_event(0, VECTOR_NMI, cli_hlt_end);
	check_nr(1);
}

static int second_to_come;

static void second_hook(struct regs *regs)
{
	if (!too_early(regs) && second_to_come) {
		second_to_come = 0;
		send_nmi();
		settle();
	}
}

static void wakes_then_second(void)
{
	need_timed_nmi();
	second_to_come = 1;
	tries = 0;
	set_hook(VECTOR_NMI, second_hook);
	nmi_in(2000);
	cli_hlt();
	settle();
	check_event(0, VECTOR_NMI, cli_hlt_end);
	check_event(1, VECTOR_NMI, cli_hlt_end);
	check_nr(2);
}

static void halting_hook(struct regs *regs)
{
	(void)regs;
	if (cpus[0].nmis > 1)
		return;
	/* A slow hypervisor has to be asleep in the HLT by then. */
	nmi_in(20000);
	irq_in(50000);
	sti_hlt();
	irqs_at_hlt_end = event(1)->vector == VECTOR_TIMER;
	stop_timer();
}

static void blocked_sleeps(void)
{
	need_timed_nmi();
	irqs_at_hlt_end = 0;
	set_hook(VECTOR_NMI, halting_hook);
	send_nmi();
	settle();
	CHECK(irqs_at_hlt_end);
	check_event(1, VECTOR_TIMER, sti_hlt_end);
	check_event(2, VECTOR_NMI, sti_hlt_end);
	check_nr(3);
}

/*
 * An NMI in the shadow of STI, where a CPU takes one there, ends it: an IRQ that waits comes
 * before the HLT then, as it should, and there has to be another for the HLT to end.
 */
static void race_hook(struct regs *regs)
{
	if (regs->rip == (uintptr_t)sti_hlt_at)
		irq_in(500);
}

/*
 * The NMI comes anywhere around "sti; hlt", the IRQ later. An NMI before the HLT must
 * not let the CPU sleep through the IRQ, nor one at it be lost.
 */
static void race(void)
{
	unsigned int before = 0, in_shadow = 0, behind = 0;

	need_timed_nmi();
	set_hook(VECTOR_NMI, race_hook);
	for (unsigned int i = 0; i < 200; i++) {
		clear_events();
		nmi_in(1 + i % 50);
		irq_in(i & 1 ? 500 : 50);
		delay_us(i % 30);
		sti_hlt();
		stop_timer();
		if (!wait_nmis(0, 1) || cpus[0].nmis > 1)
			break;
		for (unsigned int j = 0; j < cpus[0].nr; j++) {
			if (event(j)->vector != VECTOR_NMI)
				continue;
			before += event(j)->rip < (uintptr_t)sti_hlt_at;
			in_shadow += event(j)->rip == (uintptr_t)sti_hlt_at;
			behind += event(j)->rip == (uintptr_t)sti_hlt_end;
		}
		stop_timed_nmi();
	}
	CHECK_EQ(cpus[0].nmis, 1);
	print("# NMIs before STI and elsewhere: %lu, between STI and HLT: %lu, at HLT: %lu\n",
	      (uint64_t)before, (uint64_t)in_shadow, (uint64_t)behind);
}

static void ended_by_irq(void)
{
	need_clock();
	irq_in(2000);
	sti_hlt();
	stop_timer();
	check_event(0, VECTOR_TIMER, sti_hlt_end);
	check_nr(1);
}

static volatile int awake;

static void wake_cpu0(void)
{
	do {
		delay_us(3000);
		send_nmi_to(0);
	} while (!awake);
}

static void woken_by_cpu1(void)
{
	if (nr_cpus < 2)
		skip("one CPU");
	awake = 0;
	run_on_cpu1(wake_cpu0);
	cli_hlt();
	/* Ahead of it there may have been others. */
	check_event(cpus[0].nr - 1, VECTOR_NMI, cli_hlt_end);
	awake = 1;
	CHECK(cpu1_done());
}

const struct claim halt_claims[] = {
	{ "STI; HLT ends with an IRQ, behind the HLT", ended_by_irq, HLT },
	{ "an NMI ends a HLT with IRQs off, and its frame is behind the HLT", wakes, HLT },
	{ "so is that of a second one, sent in the handler", wakes_then_second, HLT },
	{ "the other CPU's NMI ends a HLT with IRQs off", woken_by_cpu1, HLT },
	{ "an NMI that is blocked does not end a HLT, an IRQ does, then the NMI comes", blocked_sleeps, HLT },
	{ "around STI; HLT neither an NMI nor an IRQ is lost", race, HLT },
	{ }
};
