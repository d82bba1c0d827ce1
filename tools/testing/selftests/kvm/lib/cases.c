// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs the cases of a test, each in a child, and speaks TAP about them.
 *
 * A case is presumed failed until its child exits with 0 after at least one
 * check. What the child printed follows as TAP comments, in front of its line.
 */
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "nmi_test.h"

#define CASE_SECONDS	5
#define NO_CHECK	3	/* exit status of a case that checked nothing */

/* How much slower than alone an emulated host may be, for what else its machine does. */
#define SHARE		6

static unsigned int nr_checks;
static bool expect_wrong;

bool holds(bool condition)
{
	nr_checks++;
	return condition != expect_wrong;
}

static void __attribute__((noreturn))
end_case(int status, const char *prefix, const char *fmt, va_list args)
{
	fputs(prefix, stdout);
	vprintf(fmt, args);
	putchar('\n');
	fflush(stdout);
	_exit(status);
}

void fail_at(const char *file, int line, const char *fmt, ...)
{
	char prefix[128];
	va_list args;

	snprintf(prefix, sizeof(prefix), "%s:%d: ", file, line);
	va_start(args, fmt);
	end_case(KSFT_FAIL, prefix, fmt, args);
}

void skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	end_case(KSFT_SKIP, "", fmt, args);
}

bool long_run(void)
{
	return getenv("NMI_TEST_LONG");
}

unsigned int patience(unsigned int seconds)
{
	const char *given = getenv("NMI_TEST_PATIENCE");
	static unsigned int times;

	if (!times) {
		times = given ? strtoul(given, NULL, 0) : 1;
		if (!tsc_counts_instructions())
			times *= SHARE;
	}
	return seconds * times;
}

/*
 * The first alarm only interrupts KVM_RUN, so that the case can still say where
 * its guest hangs. Should it not get that far, the second one ends it.
 */
static void on_alarm(int signal)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	sigaction(SIGALRM, &dfl, NULL);
	alarm(patience(2));
}

void limit_case(unsigned int seconds)
{
	alarm(patience(seconds));
}

static void __attribute__((noreturn)) child(const struct test_case *c, int out)
{
	struct sigaction act = { .sa_handler = on_alarm };

	if (dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
		_exit(KSFT_FAIL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGALRM, &act, NULL);
	limit_case(CASE_SECONDS);

	c->run();

	fflush(stdout);
	_exit(nr_checks ? KSFT_PASS : NO_CHECK);
}

/* Print all but the last line as comments; the last one is left in line[]. */
static void relay(int in, char *line, int size)
{
	FILE *f = fdopen(in, "r");
	char *next = malloc(size);

	line[0] = 0;
	while (f && next && fgets(next, size, f)) {
		if (line[0])
			printf("# %s\n", line);
		next[strcspn(next, "\n")] = 0;
		strcpy(line, next);
	}
	if (f)
		fclose(f);
	free(next);
}

static void run_case(const struct test_case *c)
{
	char last[512];
	int fd[2], status;
	pid_t pid;

	fflush(stdout);
	if (pipe(fd) || (pid = fork()) < 0)
		ksft_exit_fail_msg("no process for a case: %s\n", strerror(errno));
	if (!pid) {
		close(fd[0]);
		child(c, fd[1]);
	}
	close(fd[1]);
	relay(fd[0], last, sizeof(last));
	if (waitpid(pid, &status, 0) != pid)
		ksft_exit_fail_msg("lost a case: %s\n", strerror(errno));

	if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP) {
		ksft_test_result_skip("%s: %s\n", c->claim, last);
		return;
	}
	if (last[0])
		printf("# %s\n", last);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		printf("# the case did not end within its limit of time\n");
	else if (WIFSIGNALED(status))
		printf("# ended by signal %d (%s)\n", WTERMSIG(status),
		       strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == NO_CHECK)
		printf("# the case checked nothing\n");
	ksft_test_result(WIFEXITED(status) && !WEXITSTATUS(status), "%s\n", c->claim);
}

int skip_all(const char *reason)
{
	ksft_print_header();
	ksft_exit_skip("%s\n", reason);
	return KSFT_SKIP;
}

/* Results are known by their claims, and exceptions from them. */
static void require_own_claims(const struct test_case *cases, unsigned int nr)
{
	unsigned int i, j;

	for (i = 0; i < nr; i++)
		for (j = 0; j < i; j++)
			if (!strcmp(cases[i].claim, cases[j].claim))
				ksft_exit_fail_msg("cases %u and %u have one claim: %s\n",
						   j + 1, i + 1, cases[i].claim);
}

int run_cases(const struct test_case *cases, unsigned int nr)
{
	unsigned int i;

	expect_wrong = getenv("NMI_TEST_WRONG") != NULL;

	ksft_print_header();
	require_own_claims(cases, nr);
	if (access("/dev/kvm", R_OK | W_OK))
		ksft_exit_skip("/dev/kvm: %s\n", strerror(errno));
	if (!vendor_module_loaded())
		ksft_exit_skip("neither kvm_intel nor kvm_amd is loaded\n");

	ksft_set_plan(nr);
	for (i = 0; i < nr; i++)
		run_case(&cases[i]);

	ksft_print_cnts();
	if (ksft_get_fail_cnt())
		return KSFT_FAIL;
	return ksft_get_xskip_cnt() == nr ? KSFT_SKIP : KSFT_PASS;
}
