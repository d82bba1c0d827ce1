// SPDX-License-Identifier: GPL-2.0-only
/* Runs claims one after the other and prints what came of them, as TAP. */

#include "guest.h"

static const struct claim *const groups[] = {
	blocking_claims, order_claims, shadow_claims, step_claims, fault_claims, target_claims,
	smp_claims, smi_claims, mode_claims, halt_claims,
};

static void *failed_claim[5];		/* where a claim is given up */
static int failed;
static int in_claim;			/* else there is nothing to give up */
static const char *skipped;
static unsigned int passes, failures, skips;
static struct outcome {
	const struct claim *claim;
	int failed;
	const char *skipped;
} outcomes[128];			/* by number */

int check(int holds, const char *file, int line, const char *what)
{
	if (holds)
		return 1;
	failed = 1;
	print("# %s:%lu: not so: %s\n", file, (uint64_t)line, what);
	return 0;
}

void check_equal(uint64_t got, uint64_t wanted, const char *file, int line, const char *what)
{
	if (!check(got == wanted, file, line, what))
		print("#   0x%lx, expected 0x%lx\n", got, wanted);
}

void saw(const char *what)
{
	print("# seen: %s\n", what);
}

void give_up(void)
{
	__builtin_longjmp(failed_claim, 1);
}

void skip(const char *why)
{
	skipped = why;
	give_up();
}

void unexpected(const struct regs *regs, uint64_t error)
{
	uint64_t cr2;

	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	print("# unexpected exception %lu, error code 0x%lx, at 0x%lx:0x%lx, flags 0x%lx, stack 0x%lx, CR2 0x%lx\n",
	      regs->vector, error, regs->cs, regs->rip, regs->rflags, regs->rsp, cr2);
	failed = 1;
	if (this_cpu())
		for (;;)
			asm volatile("hlt");
	if (!in_claim)
		bail_out("there was an exception outside of all claims");
	give_up();
}

static void print_outcome(unsigned int number)
{
	const struct outcome *outcome = &outcomes[number];

	print("%sok %lu - %s", outcome->failed ? "not " : "", (uint64_t)number, outcome->claim->name);
	if (outcome->skipped)
		print(" # SKIP %s", outcome->skipped);
	print("\n");
}

static void run(unsigned int number, const struct claim *claim)
{
	failed = 0;
	skipped = NULL;
	/* Ahead of it, so that the log of a machine that hangs ends with where. */
	print("# %lu: %s [%s]\n", (uint64_t)number, claim->name, claim->manual);
	reset_machine();
	if (!__builtin_setjmp(failed_claim)) {
		in_claim = 1;
		claim->run();
	}
	in_claim = 0;
	reset_machine();
	if (failed)
		failures++;
	else if (skipped)
		skips++;
	else
		passes++;
	outcomes[number] = (struct outcome) { claim, failed, failed ? NULL : skipped };
	print_outcome(number);
}

void run_claims(unsigned int from)
{
	unsigned int number = 0;

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		for (const struct claim *claim = groups[i]; claim->name; claim++)
			number++;
	print("1..%lu\n", (uint64_t)number);
	number = 0;
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		for (const struct claim *claim = groups[i]; claim->name; claim++)
			if (++number >= from && number < ARRAY_SIZE(outcomes))
				run(number, claim);
}

int totals(void)
{
	print("# Totals: pass:%lu fail:%lu xfail:0 xpass:0 skip:%lu error:0\n",
	      (uint64_t)passes, (uint64_t)failures, (uint64_t)skips);
	return failures != 0;
}

/* Failures last, where they stay on a screen that is too small. */
void sum_up(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(outcomes); i++)
		if (outcomes[i].skipped)
			print_outcome(i);
	for (unsigned int i = 0; i < ARRAY_SIZE(outcomes); i++)
		if (outcomes[i].failed)
			print_outcome(i);
}
