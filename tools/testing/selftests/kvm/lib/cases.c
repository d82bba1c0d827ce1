// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs the cases of a test, each in a child, and speaks TAP about them.
 *
 * A case is presumed failed until its child exits with 0 after at least one
 * check. What the child printed follows as TAP comments, before its line.
 */
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "nmi_events.h"

#define NO_CHECK	3	/* exit status of a case that checked nothing */

/* How much slower than alone an emulated host may be, for what else its machine does. */
#define SHARE		6

static unsigned int nr_checks;
static bool expect_wrong;
static int emulation;		/* of instructions with the prefix, before the cases */
static volatile pid_t case_pid;

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

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

unsigned int patience(unsigned int seconds)
{
	const char *given = getenv("NMI_TEST_PATIENCE");
	static unsigned int times;

	if (!times) {
		times = given ? strtoul(given, NULL, 0) : 1;
		if (!on_bochs())
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
	struct sigaction act = { .sa_handler = on_alarm };

	sigaction(SIGALRM, &act, NULL);
	alarm(patience(seconds));
}

static void on_end(void (*handler)(int))
{
	static const int signals[] = { SIGHUP, SIGINT, SIGPIPE, SIGTERM };
	struct sigaction act = { .sa_handler = handler };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &act, NULL);
}

/* This machine's KVM is to be left as it was, also by tests that are broken off. */
static void give_back(void)
{
	if (emulation >= 0)
		force_emulation(emulation);
	on_end(SIG_DFL);
}

static void end(int signal)
{
	if (case_pid)
		kill(case_pid, SIGKILL);
	give_back();
	raise(signal);
}

static void __attribute__((noreturn)) child(const struct test_case *c, int out)
{
	if (dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
		_exit(KSFT_FAIL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	on_end(SIG_DFL);
	setvbuf(stdout, NULL, _IOLBF, 0);
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
		memcpy(line, next, strlen(next) + 1);
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
	case_pid = pid;
	if (!pid) {
		close(fd[0]);
		child(c, fd[1]);
	}
	close(fd[1]);
	relay(fd[0], last, sizeof(last));
	if (waitpid(pid, &status, 0) != pid)
		ksft_exit_fail_msg("lost a case: %s\n", strerror(errno));
	case_pid = 0;
	trace_discard(pid);
	/* The case may not have got to that itself. */
	if (emulation >= 0)
		force_emulation(0);

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
	emulation = force_emulation(0);
	on_end(end);
	for (i = 0; i < nr; i++)
		run_case(&cases[i]);

	give_back();
	ksft_print_cnts();
	if (ksft_get_fail_cnt())
		return KSFT_FAIL;
	return ksft_get_xskip_cnt() == nr ? KSFT_SKIP : KSFT_PASS;
}

/* Prints what a guest has seen, for a comparison of hosts. */

static bool wanted(void)
{
	return getenv("NMI_TEST_LOG");
}

/* On QEMU TCG a frame has RF or not, depending on who delivers the event. */
uint64_t logged_flags(uint64_t rflags)
{
	return on_qemu_tcg() ? rflags & ~RFLAGS_RF : rflags;
}

void log_line(const char *fmt, ...)
{
	va_list args;

	if (!wanted())
		return;
	printf("log: ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}

static void log_events(const struct event_log *log)
{
	static unsigned int nr_logged;

	/* Guests may forget events: guest_warm_up(). */
	if (log->nr < nr_logged)
		nr_logged = 0;
	for (; nr_logged < log->nr && nr_logged < EVENT_LOG_SIZE; nr_logged++) {
		const struct event_regs *event = &log->event[nr_logged];

		log_line("vector %lu error 0x%lx rip 0x%lx cs 0x%lx rflags 0x%lx rsp 0x%lx",
			 event->vector, event->error, event->rip, event->cs,
			 logged_flags(event->rflags), event->rsp);
	}
	if (log->nr > EVENT_LOG_SIZE)
		log_line("%u events, %u of them NMIs", log->nr, log->nr_nmis);
}

void log_stage(struct kvm_vcpu *vcpu, uint32_t stage)
{
	if (!wanted())
		return;
	if (compat_has_pgd(vcpu->vm))
		log_events(read_log(vcpu));
	log_line("stage %u", stage);
}
