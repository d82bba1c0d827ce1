// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long an NMI waits for a handler that does not return, where only the
 * timeout of soft vNMI can end it: the vCPU's own time counts, running or halted,
 * and no other. In SMM no NMI comes at all, however long it takes.
 *
 * The guest measures with its TSC; the host lets time pass between two runs.
 *
 * A wrong implementation looks at the clock only when the timer fires, and lets a
 * vCPU sleep for ever that was stopped before it halted; or it counts the time
 * for which the VM was stopped; or it delivers into SMM.
 */
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "nmi_smm.h"
#include "nmi_soft.h"

#define STAGE_WAITING	STAGE_OWN

#define LONGEST_MS	2000

static uint64_t start, end;
static uint64_t ticks;		/* TSC ticks to spin for */
static bool halts;

static void spin(uint64_t how_long)
{
	uint64_t from = rdtsc();

	while (rdtsc() - from < how_long)
		guest_spin_irqs_off();
}

static void guest(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_open();
	guest_stage(STAGE_END);
}

/* The second NMI hits the first handler, which stays. */
static void on_nmi_stay(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1) {
		end = rdtsc();
		guest_stage(STAGE_END);
	}
	guest_stage(STAGE_HANDLER);
	guest_log.in_nmi = 0;
	start = rdtsc();
	spin(ticks);
	guest_stage(STAGE_WAITING);
	for (;;) {
		if (halts)
			asm volatile("hlt");
		else
			guest_spin_irqs_off();
	}
}

static void sleep_ms(unsigned int ms)
{
	struct timespec t = {
		.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L
	};

	nanosleep(&t, NULL);
}

/* In the handler that stays, after a timeout that does not count the VM's stop. */
static void check_second_came(struct kvm_vcpu *vcpu, unsigned int stop_ms)
{
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	sync_global_from_guest(vcpu->vm, start);
	sync_global_from_guest(vcpu->vm, end);
	check_timed_out((end - start) / tsc_khz_of(vcpu) - stop_ms, soft_timeout_ms() / 4);
}

/*
 * Part of the timeout passes, then the VM is stopped, then the rest passes. The
 * guest's TSC goes on while the VM is stopped.
 */
static void check_stopped(bool with_hlt, unsigned int stop_ms)
{
	unsigned int ms = soft_timeout_ms();
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi_stay);

	halts = with_hlt;
	ticks = ms / 4 * tsc_khz_of(vcpu);
	sync_global_to_guest(vcpu->vm, halts);
	sync_global_to_guest(vcpu->vm, ticks);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_WAITING);
	sleep_ms(stop_ms);
	check_second_came(vcpu, stop_ms);
}

static void stopped_then_spins(void)
{
	check_stopped(false, soft_timeout_ms() / 2);
}

static void stopped_then_halts(void)
{
	check_stopped(true, soft_timeout_ms() / 2);
}

static void stopped_long_then_spins(void)
{
	check_stopped(false, soft_timeout_ms() * 3 / 2);
}

/* --- stopped in the HLT --- */

static void on_signal(int signal)
{
}

static void *interrupt_vcpu(void *thread)
{
	wait_until_vcpu_sleeps();
	sleep_ms(10);
	pthread_kill(*(pthread_t *)thread, SIGUSR1);
	return NULL;
}

static void stopped_in_halt(void)
{
	struct sigaction act = { .sa_handler = on_signal };
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi_stay);
	unsigned int stop_ms = soft_timeout_ms() * 3;
	pthread_t self = pthread_self(), helper;

	halts = true;
	ticks = 0;
	sync_global_to_guest(vcpu->vm, halts);
	sync_global_to_guest(vcpu->vm, ticks);
	sigaction(SIGUSR1, &act, NULL);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	run_to(vcpu, STAGE_WAITING);
	send_nmi(vcpu);
	TEST_ASSERT(!pthread_create(&helper, NULL, interrupt_vcpu, &self), "thread");
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EINTR, "not interrupted");
	pthread_join(helper, NULL);
	sleep_ms(stop_ms);
	check_second_came(vcpu, stop_ms);
}

/* --- a handler that has returned unseen --- */

/* After the handler has returned, and nobody has looked, the guest turns IRQs off. */
static void guest_hangs(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED | RFLAGS_IF);
	guest_irqs_off();
	spin(ticks);
	start = rdtsc();
	guest_stage(STAGE_WAITING);
	for (;;)
		guest_spin_irqs_off();
}

static void on_nmi_end(struct event_regs *regs)
{
	end = rdtsc();
	if (guest_log.nr_nmis > 1)
		guest_stage(STAGE_END);
}

static void hangs_after_handler(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_hangs, on_nmi_end);
	unsigned int ms = soft_timeout_ms(), waited;
	uint64_t khz = tsc_khz_of(vcpu);

	ticks = ms * 5 / 4 * khz;
	sync_global_to_guest(vcpu->vm, ticks);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_WAITING);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	sync_global_from_guest(vcpu->vm, start);
	sync_global_from_guest(vcpu->vm, end);
	waited = (end - start) / khz;
	printf("waited %u ms\n", waited);
	CHECK(waited < ms / 4, "waited %u ms, the timeout is %u", waited, ms);
}

/* --- SMM -------------------------------------------------------------------- */

/* An exit with IRQs on, then as long as ESI says. */
extern char smm_code[], smm_code_end[];
asm(".pushsection .rodata\n"
    ".code16\n"
    "smm_code: mov $" __stringify(STAGE_SMM) ", %eax\n"
    "	sti; nop; out %eax, $" __stringify(STAGE_PORT) "; nop; cli\n"
    "	rdtsc; mov %eax, %ebx\n"
    "1:	cli; rdtsc; sub %ebx, %eax; cmp %esi, %eax; jb 1b\n"
    ASM_STAGE(STAGE_SMM)
    "	rsm\n"
    "smm_code_end:\n"
    ".code64\n"
    ".popsection\n");

static void on_nmi_smm(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	/* ESI is what SMM finds in it. */
	asm volatile("out %0, $" __stringify(STAGE_PORT) "\n\t"
		     "nop" : : "a"(STAGE_HANDLER), "S"((uint32_t)ticks) : "memory");
	guest_stage(STAGE_WAITING);
}

static void smm_while_blocked(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi_smm);
	int log = open_kernel_log();

	require_exact();
	set_smi_handler(vcpu, smm_code, smm_code_end);
	ticks = soft_timeout_ms() * 3 / 2 * tsc_khz_of(vcpu);
	sync_global_to_guest(vcpu->vm, ticks);

	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	run_to(vcpu, STAGE_SMM);
	run_to(vcpu, STAGE_WAITING);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_to(vcpu, STAGE_END);
	check_came_at_return(vcpu);
	CHECK_EQ(nmi_messages(log), 0);
}

static const struct test_case cases[] = {
	{ "time for which the VM is stopped does not count: the handler spins", stopped_then_spins },
	{ "time for which the VM is stopped does not count: the handler halts", stopped_then_halts },
	{ "nor does it if it is more than the timeout", stopped_long_then_spins },
	{ "time for which a halted VM is stopped does not count", stopped_in_halt },
	{ "an NMI that comes a timeout after one that hit code with IRQs on does not wait",
	  hangs_after_handler },
	{ "in SMM no NMI comes, by IRQs on or by the timeout; afterwards the return is found",
	  smm_while_blocked },
};

int main(void)
{
	if (nmi_path() != VMX_SOFT)
		return skip_all("this machine has virtual NMIs, or no need of them");
	if (!soft_timeout_ms())
		return skip_all("this kvm_intel has no parameter soft_vnmi_timeout_ms");
	if (soft_timeout_ms() > LONGEST_MS)
		return skip_all("soft_vnmi_timeout_ms is more than this test waits");
	return run_cases(cases, ARRAY_SIZE(cases));
}
