// SPDX-License-Identifier: GPL-2.0-only
/* NMIs between two CPUs. */

#include "guest.h"

#define ICR	"SDM 3: Interrupt Command Register (ICR); APM 2: Interprocessor Interrupts (IPI)"
#define BLOCKING	"SDM 3: Handling Multiple NMIs"
#define ROUND_TRIPS	500
#define STORM		3000

static unsigned int nested, handled;
static volatile int storm_over;

static void need_cpu1(void)
{
	if (nr_cpus < 2)
		skip("one CPU");
}

static void wait_for_nmi(void)
{
	wait_nmis(1, 1);
	open_nmis();
}

static void to_cpu1(void)
{
	need_cpu1();
	run_on_cpu1(wait_for_nmi);
	send_nmi_to(1);
	CHECK(cpu1_done());
	CHECK_EQ(cpus[1].nr, 1);
	CHECK_EQ(cpus[1].events[0].tr, TSS64 + 16);
	CHECK_EQ(cpus[0].nr, 0);
}

static void answer(struct regs *regs)
{
	(void)regs;
	send_nmi_to(0);
}

static void wait_for_all(void)
{
	uint64_t limit = rdtsc() + 20000 * tsc_per_ms;

	while (cpus[1].nmis < ROUND_TRIPS && !storm_over && (int64_t)(rdtsc() - limit) < 0)
		delay_us(10);
}

static void round_trips(void)
{
	unsigned int i;

	need_cpu1();
	storm_over = 0;
	hooks[1][VECTOR_NMI] = answer;
	run_on_cpu1(wait_for_all);
	for (i = 0; i < ROUND_TRIPS; i++) {
		send_nmi_to(1);
		if (!wait_nmis(0, i + 1))
			break;
	}
	storm_over = 1;
	CHECK(cpu1_done());
	hooks[1][VECTOR_NMI] = NULL;
	CHECK_EQ(i, ROUND_TRIPS);
	CHECK_EQ(cpus[0].nmis, ROUND_TRIPS);
	CHECK_EQ(cpus[1].nmis, ROUND_TRIPS);
}

static void send_storm(void)
{
	for (unsigned int i = 0; i < STORM; i++)
		send_nmi_to(0);
	storm_over = 1;
}

static void note_nesting(struct regs *regs)
{
	(void)regs;
	nested += cpus[0].depth > 1;
	handled++;
	for (int i = 0; i < 50; i++)
		asm volatile("pause");
}

static void storm(void)
{
	unsigned int before_last;

	need_cpu1();
	nested = 0;
	handled = 0;
	storm_over = 0;
	set_hook(VECTOR_NMI, note_nesting);
	run_on_cpu1(send_storm);
	for (int i = 0; i < 2000 && !storm_over; i++)
		delay_us(10000);
	CHECK(cpu1_done());
	settle();
	before_last = handled;
	print("# %lu NMIs sent, %lu came\n", (uint64_t)STORM, (uint64_t)handled);
	CHECK_EQ(nested, 0);
	/* As few as one: they merge while CPU 0 is not on. */
	CHECK(handled && handled <= STORM);
	send_nmi();
	settle();
	CHECK_EQ(handled, before_last + 1);
}

/* CPU 1 sends three while CPU 0 is in its handler. */
static void send_three(void)
{
	for (int i = 0; i < 3; i++)
		send_nmi_to(0);
	settle();
	storm_over = 1;
}

static void wait_for_three(struct regs *regs)
{
	(void)regs;
	if (cpus[0].nmis > 1)
		return;
	run_on_cpu1(send_three);
	for (int i = 0; i < 1000 && !storm_over; i++)
		delay_us(1000);
	settle();
	handled = cpus[0].nmis;
}

static void three_in_handler(void)
{
	need_cpu1();
	storm_over = 0;
	handled = 0;
	set_hook(VECTOR_NMI, wait_for_three);
	send_nmi();
	settle();
	CHECK(cpu1_done());
	CHECK_EQ(handled, 1);
	check_nr(2);
	CHECK_EQ(event(1)->rip, event(0)->rip);
}

const struct claim smp_claims[] = {
	{ "an NMI to another CPU comes there, once", to_cpu1, ICR },
	{ "500 NMIs there and 500 back: none is lost", round_trips, ICR },
	{ "three from another CPU to one in its handler are one, after the IRET", three_in_handler, BLOCKING },
	{ "in a storm no handler nests, and the next NMI after it comes", storm, BLOCKING },
	{ }
};
