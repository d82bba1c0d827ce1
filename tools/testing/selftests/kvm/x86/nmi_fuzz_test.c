// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random programs of a guest and its host do what a model of the architecture says.
 *
 *   nmi_fuzz_test			2,040 programs, 170 of each kind; with NMI_TEST_LONG ten
 *				times as many, on a host in a host a quarter
 *   nmi_fuzz_test SEED PROGRAMS [FAILURES]
 *   nmi_fuzz_test SEED MINUTESm [FAILURES]
 *				from this seed on, all kinds in turn, so many or so long,
 *				or until so many have failed (1)
 *
 * A program is its seed, on every machine. Of one that fails, all that is not needed
 * for its failure is left out, and what remains is printed; nmi_fuzz_test SEED 1 runs
 * it again.
 *
 * fuzz/fuzz.h says how it works.
 */
#include <time.h>

#include "nmi_events.h"
#include "nmi_soft.h"
#include "fuzz.h"

#define PROGRAMS	170
#define SECONDS		60	/* a program, or all that finds out why it failed */
#define PROGRESS	1000
#define AGAIN		3

/*
 * So many percent of the programs the model has to follow to their end. It gives more of
 * them up where a guest steps itself through shadows and faults.
 */
static const struct {
	const char *what;
	uint32_t with;
	unsigned int least;
} kinds[] = {
	{ "with NMIs and IRETs", 0 },
	{ "that step themselves", WITH_STEPS, 55 },
	{ "with interrupt shadows", WITH_SHADOWS },
	{ "with faults", WITH_FAULTS },
	{ "with IRQs and HLT", WITH_IRQS | WITH_HALTS },
	{ "in user mode and 32-bit code", WITH_MODES },
	{ "saved, restored and disturbed", WITH_STATE },
	{ "with shadows, steps and faults", WITH_STEPS | WITH_SHADOWS | WITH_FAULTS, 25 },
	{ "with debug registers, a debugger and steps", WITH_DEBUG | WITH_STEPS },
	{ "with NMIs at any time", WITH_ASYNC | WITH_FAULTS | WITH_IRQS | WITH_HALTS, 60 },
	{ "with SMIs and INIT", WITH_SMM | WITH_INIT },
	{ "of all sorts", WITH_ALL, 35 },
};

#define LEAST		70	/* of the other kinds */

#define NR_KINDS ARRAY_SIZE(kinds)

static unsigned int nr_excused;

/*
 * VMRUN of QEMU TCG 7.2 does not load the interrupt shadow: after an exit in a shadow an
 * IRQ comes one instruction early, and an NMI if the host has an interrupt just then.
 * With the NMI such a program does as it should when it runs again. There are few.
 */
static bool is_excused(uint64_t seed, uint32_t with)
{
	static const struct fuzz_omit nothing;
	unsigned int i;

	if (!on_qemu_tcg() || fuzz_shadow_lost_to < 0 || shadow_survives_entry())
		return false;
	for (i = 0; i < AGAIN; i++)
		if (!fuzz_run_program(seed, with, &nothing, SAY_NOTHING) &&
		    fuzz_shadow_lost_to != V_IRQ)
			return false;
	printf("  QEMU TCG has lost an interrupt shadow\n");
	nr_excused++;
	return true;
}

static bool run_seed(uint64_t seed)
{
	static const struct fuzz_omit nothing;
	uint32_t with = kinds[seed % NR_KINDS].with;

	limit_case(SECONDS);
	if (fuzz_run_program(seed, with, &nothing, SAY_DIFFERENCE))
		return true;
	printf("program %lu, %s\n", seed, kinds[seed % NR_KINDS].what);
	if (is_excused(seed, with))
		return true;
	limit_case(SECONDS);
	printf("what is left of it without what is not needed:\n");
	fuzz_report(seed, with);
	return false;
}

static unsigned int programs_of_a_kind(void)
{
	if (long_run())
		return PROGRAMS * 10;
	return nmi_path() == SVM_VNMI ? PROGRAMS / 4 : PROGRAMS;
}

static void run_kind(unsigned int kind)
{
	unsigned int i, nr = programs_of_a_kind(), least = kinds[kind].least ?: LEAST;

	for (i = 0; i < nr; i++) {
		uint64_t seed = i * NR_KINDS + kind;

		if (!holds(run_seed(seed)))
			FAIL("program %lu does not do as the model says", seed);
	}
	/* Where the model cannot tell nothing is compared. */
	printf("%lu of %u programs came to their end, wanted %u %%\n", fuzz_nr_ended, nr, least);
	CHECK(fuzz_nr_ended * 100 >= nr * least, "the model gave up too many");
	CHECK(nr_excused <= nr / 20, "%u of %u programs do not repeat", nr_excused, nr);
}

#define KIND(n) static void kind_##n(void) { run_kind(n); }
KIND(0) KIND(1) KIND(2) KIND(3) KIND(4) KIND(5) KIND(6) KIND(7) KIND(8) KIND(9) KIND(10)
KIND(11)

static void print_left_out(void)
{
	unsigned int part;

	for (part = 0; part < NR_FUZZ_PARTS; part++)
		if (fuzz_left_out(part))
			printf("# left out: %s\n", fuzz_left_out(part));
}

static int run_from(uint64_t seed, unsigned long nr, time_t until, unsigned long failures)
{
	unsigned long i, failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	print_left_out();
	for (i = 0; until ? time(NULL) < until : i < nr; i++) {
		if (i && i % PROGRESS == 0)
			printf("%lu programs\n", i);
		if (run_seed(seed + i))
			continue;
		printf("failed: nmi_fuzz_test %lu 1\n", seed + i);
		if (++failed == failures)
			return KSFT_FAIL;
	}
	printf("%lu programs from seed %lu on, %lu to their end, %lu not as the model says\n",
	       i, seed, fuzz_nr_ended, failed);
	return failed ? KSFT_FAIL : KSFT_PASS;
}

static unsigned long number(const char *text, char **end)
{
	unsigned long value = strtoul(text, end, 0);

	if (*end == text) {
		fprintf(stderr, "nmi_fuzz_test: '%s' is not a number\n", text);
		exit(KSFT_FAIL);
	}
	return value;
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "programs with NMIs and IRETs", kind_0 },
		{ "programs that step themselves", kind_1 },
		{ "programs with interrupt shadows", kind_2 },
		{ "programs with faults", kind_3 },
		{ "programs with IRQs and HLT", kind_4 },
		{ "programs in user mode and 32-bit code", kind_5 },
		{ "programs saved, restored and disturbed", kind_6 },
		{ "programs with shadows, steps and faults", kind_7 },
		{ "programs with debug registers, a debugger and steps", kind_8 },
		{ "programs with NMIs at any time", kind_9 },
		{ "programs with SMIs and INIT", kind_10 },
		{ "programs of all sorts", kind_11 },
	};
	unsigned long seed, amount, failures;
	char *end;

	/* Whether an NMI has waited for long is nothing that the model could know. */
	soft_no_search();
	if (argc != 3 && argc != 4)
		return run_cases(cases, ARRAY_SIZE(cases));
	seed = number(argv[1], &end);
	failures = argc == 4 ? number(argv[3], &end) : 1;
	amount = number(argv[2], &end);
	return run_from(seed, amount, *end == 'm' ? time(NULL) + amount * 60 : 0, failures);
}
