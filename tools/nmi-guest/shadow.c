// SPDX-License-Identifier: GPL-2.0-only
/*
 * STI and MOV SS. An IRET ends a shadow, so an NMI has to come from elsewhere to
 * meet one: by a timer or from the other CPU, into a long run of short shadows.
 */

#include "guest.h"

#define MOV_SS	"SDM 3: Masking Exceptions and Interrupts When Switching Stacks; APM 3: MOV"
#define STI	"SDM 2: STI-Set Interrupt Flag (may be blocked); APM 3: STI"
#define ROUNDS	300

static uint64_t begin, end;
static unsigned int period;
static unsigned int in_run, in_shadow, wrong_if;

static void note(struct regs *regs)
{
	unsigned int shadow;

	if (regs->rip < begin || regs->rip >= end)
		return;
	in_run++;
	shadow = (regs->rip - begin) % period == period - 1;
	in_shadow += shadow;
	/* The STI run: interrupts are on in the shadow, and nowhere else. */
	if (period == 2 && shadow != !!(regs->rflags & FLAG_IF))
		wrong_if++;
}

static void run_until_nmi(void (*code)(void))
{
	uint64_t limit = rdtsc() + 100 * tsc_per_ms;

	while (!cpus[0].nmis && (int64_t)(rdtsc() - limit) < 0)
		code();
}

static volatile int stop;

static void storm(void)
{
	for (unsigned int i = 0; !stop; i++) {
		send_nmi_to(0);
		delay_us(2 + i % 23);
	}
}

static void run_sled(void (*code)(void), const char *first, const char *last, unsigned int length)
{
	begin = (uintptr_t)first;
	end = (uintptr_t)last;
	period = length;
	in_run = 0;
	in_shadow = 0;
	wrong_if = 0;
	set_hook(VECTOR_NMI, note);
	for (int i = 0; i < ROUNDS && has_timed_nmi; i++) {
		clear_events();
		nmi_in(5 + i % 40);
		run_until_nmi(code);
	}
	if (nr_cpus > 1) {
		stop = 0;
		run_on_cpu1(storm);
		for (int i = 0; i < ROUNDS; i++) {
			clear_events();
			run_until_nmi(code);
		}
		stop = 1;
		CHECK(cpu1_done());
	}
	print("# %lu NMIs came in the code, %lu of them in a shadow\n", (uint64_t)in_run, (uint64_t)in_shadow);
	if (in_run < 10)
		skip(has_timed_nmi || nr_cpus > 1 ? "too few NMIs came in the code" :
		     "nothing here sends an NMI at an odd time");
}

static void mov_ss(void)
{
	run_sled(mov_ss_sled, mov_ss_pairs, mov_ss_sled_end, 3);
	CHECK_EQ(in_shadow, 0);
}

static void sti(void)
{
	run_sled(sti_sled, (const char *)sti_sled, sti_sled_end, 2);
	CHECK_EQ(wrong_if, 0);
	saw(in_shadow ? "an NMI comes between STI and the next instruction" : "STI holds NMIs back");
}

static void before_iret(const void *exit)
{
	run_plan(&(struct plan) { .rip = target, .nmis = 1, .exit = exit });
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->rflags, FLAG_FIXED);
	check_event(2, VECTOR_BACK, target_end + 2);
	check_nr(3);
}

static void sti_iret(void)
{
	before_iret(exit_sti);
}

static void mov_ss_iret(void)
{
	before_iret(exit_mov_ss);
}

const struct claim shadow_claims[] = {
	{ "an IRET in the shadow of STI leaves no shadow", sti_iret, STI },
	{ "an IRET in the shadow of MOV SS leaves none", mov_ss_iret, MOV_SS },
	{ "no NMI comes between MOV SS and the next instruction", mov_ss, MOV_SS },
	{ "one between STI and the next instruction sees IF set, any other sees it clear", sti, STI },
	{ }
};
