// SPDX-License-Identifier: GPL-2.0-only
/* Runs a program in the VM and in the model, and shortens one that fails. */
#include <time.h>

#include "fuzz.h"

#define MAX_HALTS	4	/* in a row: with NMIs masked and IRQs off for good */
#define SHORTEN_SECONDS	3	/* once for stops, once for operations */

static struct fuzz_machine machine;
static bool have_machine;
static struct fuzz_program program;
static struct fuzz_models models;
unsigned long fuzz_nr_ended;
int fuzz_shadow_lost_to;

static void fresh_machine(void)
{
	if (have_machine)
		fuzz_destroy_machine(&machine);
	fuzz_create_machine(&machine);
	have_machine = true;
}

/* Models that the VM has not followed are out. */
static bool match(const struct fuzz_seen *seen, enum fuzz_stop at, bool print)
{
	unsigned int i, nr = 0;

	for (i = 0; i < models.nr; i++)
		if (fuzz_same(&models.model[i], seen, at, false))
			models.model[nr++] = models.model[i];
	if (nr) {
		models.nr = nr;
		return true;
	}
	for (i = 0; i < models.nr && fuzz_shadow_lost_to < 0; i++)
		fuzz_shadow_lost_to = fuzz_in_shadow(&models.model[i], seen);
	for (i = 0; i < models.nr && print; i++) {
		if (models.nr > 1)
			printf("  possibility %u:\n", i + 1);
		fuzz_same(&models.model[i], seen, at, true);
	}
	return false;
}

static bool any_model_at(enum fuzz_stop at)
{
	unsigned int i;

	for (i = 0; i < models.nr; i++)
		if (models.model[i].at == at)
			return true;
	return false;
}

/* An NMI waited for a shadow whose end only a timer has told, since the last stop. */
static bool any_model_by_timer(void)
{
	unsigned int i;

	for (i = 0; i < models.nr; i++)
		if (models.model[i].by_timer)
			return true;
	return false;
}

static bool failed(uint32_t stop, enum fuzz_say say)
{
	if (say)
		printf("stop %u: NOT as expected\n", stop);
	fresh_machine();
	return false;
}

bool fuzz_run_program(uint64_t seed, uint32_t with, const struct fuzz_omit *omit,
		      enum fuzz_say say)
{
	struct fuzz_seen seen;
	enum fuzz_stop at = AT_OUT;
	uint32_t stop, halts = 0;

	/* A trap that is due is nothing that user space can take away. */
	if (!have_machine || machine.run->s.regs.regs.rflags & RFLAGS_TF)
		fresh_machine();
	fuzz_generate(&program, seed, with, omit);
	fuzz_load_program(&machine, &program);
	fuzz_start(&models, &program);
	fuzz_shadow_lost_to = -1;

	for (stop = 0; halts < MAX_HALTS; stop++) {
		bool came, by_timer, late = machine.late_ns;

		if (!late)
			fuzz_run_models(&models, NULL);
		if (any_model_at(AT_LIMIT))
			return true;
		came = fuzz_run_machine(&machine, any_model_at(AT_HALT), &at, !say);
		fuzz_look(&machine, &seen);
		if (late)
			fuzz_run_models(&models, &seen);
		/*
		 * Where no model can follow the VM may have lost its way, too. A log
		 * that is full has lost what there was to follow.
		 */
		if (any_model_at(AT_LIMIT) || (late && seen.nr_events == FUZZ_LOG_SIZE)) {
			if (!came)
				fresh_machine();
			return true;
		}
		if (!came) {
			if (say)
				fuzz_say_why(&machine);
			return failed(stop, say);
		}
		by_timer = any_model_by_timer();
		if (!match(&seen, at, say && !by_timer))
			return by_timer || failed(stop, say);
		if (any_model_at(AT_END))
			break;
		halts = at == AT_HALT ? halts + 1 : 0;
		if (say == SAY_ALL)
			printf("stop %u: rip 0x%lx, %u events, as expected\n", stop,
			       seen.rip, seen.nr_events);
		if (at == AT_RESET) {
			fuzz_restart(&machine, &program);
			fuzz_restart_models(&models);
			continue;
		}
		if (stop >= 64 || !(omit->stops >> stop & 1))
			fuzz_act(&machine, &models, stop, say == SAY_ALL);
		if (any_model_at(AT_LIMIT))
			return true;
	}
	fuzz_nr_ended++;
	return true;
}

/* Is it still wrong without this? Then it stays out. */
static void try_without(uint64_t seed, uint32_t with, struct fuzz_omit *omit,
			uint64_t *words, unsigned int nr)
{
	time_t end = time(NULL) + SHORTEN_SECONDS;
	unsigned int i;

	for (i = 0; i < nr && time(NULL) < end; i++) {
		words[i / 64] |= 1ull << i % 64;
		if (fuzz_run_program(seed, with, omit, SAY_NOTHING))
			words[i / 64] &= ~(1ull << i % 64);
	}
}

void fuzz_report(uint64_t seed, uint32_t with)
{
	struct fuzz_omit omit = { };

	try_without(seed, with, &omit, &omit.stops, 64);
	try_without(seed, with, &omit, omit.ops, program.nr_ops);
	fuzz_run_program(seed, with, &omit, SAY_NOTHING);
	fuzz_print_program(&program);
	fuzz_run_program(seed, with, &omit, SAY_ALL);
}
