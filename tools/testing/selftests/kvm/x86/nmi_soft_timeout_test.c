// SPDX-License-Identifier: GPL-2.0-only
/*
 * Without virtual NMIs, an NMI that waits for a handler that never returns is
 * delivered when soft_vnmi_timeout_ms have passed, with one warning: this is the
 * only way to reach a guest that crashed in its NMI handler.
 *
 * The handler spins with IRQs off and causes no exits but those that Bochs needs for
 * its interrupts; or it halts, which gives no guest time to count. The guest measures with its TSC.
 *
 * A wrong implementation needs an exit to notice that time is up, forgets to
 * look at pending NMIs when it has noticed (the warning comes, the NMI does
 * not), lets a halted vCPU sleep on, or fires though nothing waits.
 */
#include <pthread.h>

#include "nmi_soft.h"

#define LATE_MS		500
#define LONGEST_MS	2000	/* a case has not more time than that */
#define LOWERED_AFTER_MS 300

static uint64_t spin_start, spin_end;
static uint64_t spin_limit;	/* TSC ticks, 0 for none */
static volatile uint32_t nmis;

static void guest(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
}

/* The first handler stays; the second NMI is expected to hit it. */
static void begin_stay(void)
{
	guest_stage(STAGE_HANDLER);
	guest_log.in_nmi = 0;
	spin_start = rdtsc();
}

static void on_nmi_spin(struct event_regs *regs)
{
	nmis = guest_log.nr_nmis;
	if (nmis == 1) {
		begin_stay();
		while (nmis == 1 && (!spin_limit || rdtsc() - spin_start < spin_limit))
			guest_spin_irqs_off();
	}
	spin_end = rdtsc();
	guest_stage(STAGE_END);
}

static void on_nmi_halt(struct event_regs *regs)
{
	nmis = guest_log.nr_nmis;
	if (nmis == 1) {
		begin_stay();
		for (;;)
			asm volatile("cli; hlt");
	}
	spin_end = rdtsc();
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *run_to_handler(void (*handler)(struct event_regs *),
				       unsigned int limit_ms)
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	spin_limit = limit_ms * tsc_khz_of(vcpu);
	sync_global_to_guest(vcpu->vm, spin_limit);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	return vcpu;
}

static void check_timeout(void (*handler)(struct event_regs *))
{
	struct kvm_vcpu *vcpu = run_to_handler(handler, 0);
	int log = open_kernel_log();

	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	sync_global_from_guest(vcpu->vm, spin_start);
	sync_global_from_guest(vcpu->vm, spin_end);
	check_timed_out((spin_end - spin_start) / tsc_khz_of(vcpu), LATE_MS);
	CHECK_EQ(nmi_messages(log), 1);
}

static void handler_spins(void)
{
	check_timeout(on_nmi_spin);
}

static void handler_halts(void)
{
	check_timeout(on_nmi_halt);
}

static void nothing_waits(void)
{
	unsigned int ms = soft_timeout_ms();
	int log = open_kernel_log();
	struct kvm_vcpu *vcpu = run_to_handler(on_nmi_spin, ms + ms / 4);

	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	CHECK_EQ(nmi_messages(log), 0);
}

/* --- the parameter of a module that is loaded --------------------------------- */

#define TIMEOUT_PARAM	"/sys/module/kvm_intel/parameters/soft_vnmi_timeout_ms"

static int set_timeout(const char *ms)
{
	int fd = open(TIMEOUT_PARAM, O_WRONLY), error = 0;

	if (fd < 0 && geteuid())
		skip("only root may change the timeout");
	TEST_ASSERT(fd >= 0, TIMEOUT_PARAM ": %s", strerror(errno));
	if (write(fd, ms, strlen(ms)) != (ssize_t)strlen(ms))
		error = errno;
	close(fd);
	return error;
}

/* A wait that begins after the change, in a guest that was there before it. */
static void changed_while_loaded(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(on_nmi_spin, 0);
	unsigned int waited;

	CHECK_EQ(set_timeout("400\n"), 0);
	CHECK_EQ(soft_timeout_ms(), 400);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	sync_global_from_guest(vcpu->vm, spin_start);
	sync_global_from_guest(vcpu->vm, spin_end);
	waited = (spin_end - spin_start) / tsc_khz_of(vcpu);
	check_timed_out(waited, LATE_MS);
}

static void *lower_timeout(void *unused)
{
	usleep(LOWERED_AFTER_MS * 1000);
	set_timeout("1\n");
	return NULL;
}

/* One has the hung guest before one, and an NMI has been sent already. */
static void lowered_while_waiting(void)
{
	struct kvm_vcpu *vcpu;
	unsigned int waited;
	pthread_t operator;

	CHECK_EQ(set_timeout("60000\n"), 0);
	vcpu = run_to_handler(on_nmi_spin, 0);
	send_nmi(vcpu);
	TEST_ASSERT(!pthread_create(&operator, NULL, lower_timeout, NULL), "no thread");
	run_to(vcpu, STAGE_END);
	pthread_join(operator, NULL);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	sync_global_from_guest(vcpu->vm, spin_start);
	sync_global_from_guest(vcpu->vm, spin_end);
	waited = (spin_end - spin_start) / tsc_khz_of(vcpu);
	CHECK(waited < LOWERED_AFTER_MS + LATE_MS, "%u ms", waited);
}

static void refused_while_loaded(void)
{
	const char * const values[] = { "0", "60001", "ten", "-1" };
	unsigned int i, before = soft_timeout_ms();
	int log = open_kernel_log();

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		CHECK_EQ(set_timeout(values[i]), EINVAL);
		CHECK_EQ(soft_timeout_ms(), before);
		CHECK_EQ(kernel_messages(log, "soft_vnmi_timeout_ms"), 1);
	}
}

static const struct test_case cases[] = {
	{ "a handler that spins for ever gets the next NMI after the timeout", handler_spins },
	{ "a handler that halts for ever gets the next NMI after the timeout", handler_halts },
	{ "a long handler is left alone when no NMI waits", nothing_waits },
	{ "the timeout changes while the module is loaded", changed_while_loaded },
	{ "a timeout that is lowered holds for an NMI that waits already", lowered_while_waiting },
	{ "a timeout out of range is refused with one line in the log", refused_while_loaded },
};

int main(void)
{
	char before[16];
	int status;

	if (nmi_path() != VMX_SOFT)
		return skip_all("NMIs need no timeout here");
	if (!soft_timeout_ms())
		return skip_all("this kvm_intel has no parameter soft_vnmi_timeout_ms");
	if (soft_timeout_ms() > LONGEST_MS)
		return skip_all("soft_vnmi_timeout_ms is more than this test waits");

	snprintf(before, sizeof(before), "%u", soft_timeout_ms());
	status = run_cases(cases, ARRAY_SIZE(cases));
	if (soft_timeout_ms() != (unsigned int)atoi(before))
		set_timeout(before);
	return status;
}
