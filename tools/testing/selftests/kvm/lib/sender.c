// SPDX-License-Identifier: GPL-2.0-only
/* The sender's two halves: the vCPU that sends, and the thread that runs it. */
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "nmi_sender.h"

enum { STAGE_PAUSE = STAGE_OWN, STAGE_SENT };

#define RECEIVER	0		/* APIC IDs */
#define SENDER		1
#define MAX_SPINS	2000		/* between two NMIs */
#define SPINS_A_LOOK	10000		/* of the host at the sender */
#define RANDOM_SLEEP_US	100
#define MIN_SLEEP_US	20
#define MAX_SLEEP_US	50000
#define LOST_SECONDS	10		/* more than a suspend of the host takes */
#define HUNG_SECONDS	(LOST_SECONDS + 10)

volatile uint64_t nmis_wanted, nmis_sent, nmis_own, nmi_on_its_way;
static bool sender_sleeps;
static struct kvm_vcpu *receiver;
static pthread_t sender_thread;

static bool guest_may_send(enum nmi_source from)
{
	return __sync_bool_compare_and_swap(&nmi_on_its_way, NO_NMI, from);
}

static void guest_send(volatile uint64_t *count)
{
	++*count;
	x2apic_write_reg(APIC_ICR, (uint64_t)RECEIVER << 32 | APIC_DM_NMI | APIC_INT_ASSERT);
}

void guest_send_nmi_to_self(void)
{
	if (guest_may_send(OWN_HANDLER))
		guest_send(&nmis_own);
}

static void guest_pause(uint32_t *random)
{
	uint32_t spins = next_random(random) % MAX_SPINS;

	if (sender_sleeps || next_random(random) % SPINS_A_LOOK == 0)
		guest_stage(STAGE_PAUSE);
	if (sender_sleeps)
		return;
	while (spins--)
		asm volatile("");
}

static void guest_sender(void)
{
	uint32_t random = 1;

	x2apic_enable();
	while (!guest_all_nmis_came()) {
		guest_pause(&random);
		if (nmis_sent != nmis_wanted && guest_may_send(OTHER_VCPU))
			guest_send(&nmis_sent);
	}
	guest_stage(STAGE_SENT);
}

/*
 * Sleep long enough for the receiver to take the last NMI, which depends on the
 * machine, and little longer. The longest sleep is far above what a run of the sender
 * takes anywhere: on a slow machine the receiver would be left with what the kernel
 * keeps from real-time threads, 5 % of the time.
 */
static void sleep_and_adapt(const volatile uint64_t *on_its_way)
{
	static uint32_t random = 1, least_us = MIN_SLEEP_US;
	struct timespec t = {
		.tv_nsec = (least_us + next_random(&random) % RANDOM_SLEEP_US) * 1000,
	};

	nanosleep(&t, NULL);
	if (*on_its_way != NO_NMI && least_us < MAX_SLEEP_US)
		least_us += least_us / 4;
	else if (least_us > MIN_SLEEP_US)
		least_us -= least_us / 32;
}

/* The alarm is for a receiver that hangs after the last one. */
bool nmi_is_lost(uint64_t nr)
{
	static uint64_t last, since;

	if (nr != last || !since) {
		last = nr;
		since = now_ns();
		limit_case(HUNG_SECONDS);
	}
	return now_ns() - since > patience(LOST_SECONDS) * 1000000000ull;
}

static void *run_sender(void *vcpu)
{
	struct sched_param first = { .sched_priority = 1 };
	struct kvm_vm *vm = receiver->vm;
	uint64_t *sent = addr_gva2hva(vm, (uint64_t)&nmis_sent);
	uint64_t *on_its_way = addr_gva2hva(vm, (uint64_t)&nmi_on_its_way);

	if (sender_sleeps && pthread_setschedparam(pthread_self(), SCHED_FIFO, &first))
		FAIL("one CPU only, and no priority for the sender: run it as root");

	while (next_stage(vcpu) == STAGE_PAUSE) {
		if (sender_sleeps)
			sleep_and_adapt(on_its_way);
		if (nmi_is_lost(*sent))
			FAIL("of %lu NMIs one did not come", *sent);
	}
	return NULL;
}

uint64_t worth_sending(uint64_t nr)
{
	const char *count = getenv("NMI_TEST_COUNT");

	if (count)
		return strtoul(count, NULL, 0);
	nr /= nmi_path() == SVM_IRET ? 1 : 20;
	return long_run() ? nr : nr / 5;
}

void start_sender(struct kvm_vcpu *vcpu, uint64_t nr)
{
	struct kvm_vcpu *sender = vm_vcpu_add(vcpu->vm, SENDER, guest_sender);

	/* The handlers of the receiver are shared, and stay. */
	init_events(sender, guest_on_event);
	receiver = vcpu;
	limit_case(HUNG_SECONDS);
	sender_sleeps = sysconf(_SC_NPROCESSORS_ONLN) == 1;
	*(uint64_t *)addr_gva2hva(vcpu->vm, (uint64_t)&nmis_wanted) = nr;
	sync_global_to_guest(vcpu->vm, sender_sleeps);
	TEST_ASSERT(!pthread_create(&sender_thread, NULL, run_sender, sender), "thread");
}

void end_sender(void)
{
	uint64_t *own = addr_gva2hva(receiver->vm, (uint64_t)&nmis_own);
	uint64_t *wanted = addr_gva2hva(receiver->vm, (uint64_t)&nmis_wanted);

	pthread_join(sender_thread, NULL);
	printf("%lu NMIs from the other vCPU, %lu from its own handler\n", *wanted, *own);
	CHECK_EQ(read_log(receiver)->nr_nmis, *wanted + *own);
}

/* A vCPU that sleeps in HLT, which only another thread can wake. */

#define LOOK_US		1000

/* The state is the first letter after the name, which may hold anything. */
static char state_of_first_thread(void)
{
	char text[256] = "", *end;
	FILE *f = fopen("/proc/self/stat", "r");

	TEST_ASSERT(f && fgets(text, sizeof(text), f), "/proc/self/stat");
	fclose(f);
	end = strrchr(text, ')');
	return end ? end[2] : 0;
}

void wait_until_vcpu_sleeps(void)
{
	while (state_of_first_thread() != 'S')
		usleep(LOOK_US);
}

static void *send_nmi_when_halted(void *vm)
{
	wait_until_vcpu_sleeps();
	send_nmi_by_msi(vm, 0);
	return NULL;
}

void run_over_halt_at(struct kvm_vcpu *vcpu, uint32_t stage, const char *name,
		      const char *file, int line)
{
	pthread_t sender;

	TEST_ASSERT(!pthread_create(&sender, NULL, send_nmi_when_halted, vcpu->vm),
		    "no thread");
	run_to_at(vcpu, stage, name, file, line);
	pthread_join(sender, NULL);
}
