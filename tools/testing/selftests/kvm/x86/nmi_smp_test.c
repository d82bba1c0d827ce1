// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPUs that send each other NMIs lose none and take none inside another one's
 * handler, whatever happens to the threads and the CPUs on which they run.
 *
 * Each vCPU sends to the others, spins with IRQs on and off and halts; the host sends
 * NMIs as well, by KVM_NMI and by MSI. At most one is on its way to a
 * vCPU, from whomever, and its handler lets the next one be sent as soon as it
 * begins: that one has to wait for the handler's end, and none can melt into another.
 * Meanwhile threads are moved, CPUs go offline and come back, or the machine sleeps.
 *
 * A wrong implementation looks for its state on the CPU that the vCPU has left, or
 * forgets what it has noted there, and loses an NMI, sends one twice, or nests one.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "nmi_sender.h"

enum { STAGE_PAUSE = STAGE_OWN };

#define MAX_VCPUS	4
#define NR_NMIS		25000		/* a case: 100,000 in all */
#define PAUSES		64		/* one turn in so many goes to user space */
#define HALTS		16		/* or halts */

#define POWER		"/sys/power/"
#define PAUSE_OF_TESTS	"/sys/module/suspend/parameters/pm_test_delay"

/* Of a vCPU, in guest memory. GS points to it. */
struct cpu {
	struct cpu *self;
	uint64_t on_its_way;		/* an NMI to this one */
	uint64_t sent, came, nested;	/* to this one */
	uint64_t in_nmi;
	uint32_t number, random;
};

/* What the guest and the host's threads share. */
struct shared {
	struct cpu cpu[MAX_VCPUS];
	uint64_t share;			/* to be sent by each vCPU */
	uint64_t ready, done;		/* vCPUs that may be sent to, and that have sent theirs */
	uint64_t host_done;
	uint32_t nr;
};

static struct shared shared;
extern char smp_nmi[], smp_nmi_end[];

asm(".pushsection .text\n"
	"smp_nmi:\n"
	"push %rax\n push %rcx\n push %rdx\n push %rsi\n push %rdi\n"
	"push %r8\n push %r9\n push %r10\n push %r11\n"
	"cld\n"
	"mov 72(%rsp), %rdi\n"			/* RIP of the frame */
	"call smp_on_nmi\n"
	"pop %r11\n pop %r10\n pop %r9\n pop %r8\n"
	"pop %rdi\n pop %rsi\n pop %rdx\n pop %rcx\n pop %rax\n"
	"iretq\n"
	"smp_nmi_end:\n"
	".popsection\n");

static struct cpu *this_cpu(void)
{
	struct cpu *cpu;

	asm("mov %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

void __attribute__((used)) smp_on_nmi(uint64_t rip)
{
	struct cpu *cpu = this_cpu();
	int spins = 200;

	if (cpu->in_nmi++ || (rip >= (uint64_t)smp_nmi && rip < (uint64_t)smp_nmi_end))
		cpu->nested++;
	cpu->came++;
	__atomic_store_n(&cpu->on_its_way, 0, __ATOMIC_SEQ_CST);
	while (spins--)
		asm volatile("");
	cpu->in_nmi--;
}

/* Whether the caller, and nobody else, now may send one to this vCPU. */
static bool may_send(struct cpu *to)
{
	uint64_t none = 0;

	if (!__atomic_compare_exchange_n(&to->on_its_way, &none, 1, false,
					 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return false;
	to->sent++;
	return true;
}

static uint32_t guest_random(struct cpu *cpu, uint32_t below)
{
	return next_random(&cpu->random) % below;
}

/* The host's threads wake who halts. */
static void guest_pass_time(struct cpu *cpu)
{
	uint32_t spins = guest_random(cpu, 500);

	if (guest_random(cpu, PAUSES) == 0)
		guest_stage(STAGE_PAUSE);
	if (guest_random(cpu, HALTS) == 0) {
		asm volatile("sti; hlt; cli" : : : "memory");
		return;
	}
	if (guest_random(cpu, 2))
		guest_irqs_on();
	while (spins--)
		asm volatile("");
	guest_irqs_off();
}

static bool guest_is_over(struct cpu *cpu)
{
	return __atomic_load_n(&shared.host_done, __ATOMIC_SEQ_CST) &&
	       !__atomic_load_n(&cpu->on_its_way, __ATOMIC_SEQ_CST);
}

static void guest(void)
{
	struct cpu *cpu = this_cpu(), *to;
	uint64_t sent = 0;

	x2apic_enable();
	__atomic_add_fetch(&shared.ready, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&shared.ready, __ATOMIC_SEQ_CST) != shared.nr)
		guest_spin_irqs_off();
	while (sent < shared.share) {
		to = &shared.cpu[(cpu->number + 1 + guest_random(cpu, shared.nr - 1)) % shared.nr];
		if (may_send(to)) {
			x2apic_write_reg(APIC_ICR, (uint64_t)to->number << 32 |
					 APIC_DM_NMI | APIC_INT_ASSERT);
			sent++;
		}
		guest_pass_time(cpu);
	}
	__atomic_add_fetch(&shared.done, 1, __ATOMIC_SEQ_CST);
	while (!guest_is_over(cpu))
		guest_spin_irqs_off();
	guest_stage(STAGE_END);
}

/* --- the host's side ------------------------------------------------------ */

static struct kvm_vcpu *vcpus[MAX_VCPUS];
static pthread_t threads[MAX_VCPUS];
static pid_t tids[MAX_VCPUS];
static bool to_be_sent[MAX_VCPUS];	/* by the vCPU's thread, with KVM_NMI */
static struct shared *seen;		/* the guest's, in this process */
static uint32_t nr_vcpus;

/* As QEMU does it: to send its vCPU an NMI a thread is interrupted in KVM_RUN, now or the next time. */
static __thread struct kvm_run *own_run;

static void on_kick(int signal)
{
	if (own_run)
		own_run->immediate_exit = 1;
}

/* A thread that is frozen for a suspend leaves KVM_RUN as well. */
static void *run_vcpu(void *number)
{
	uintptr_t i = (uintptr_t)number;
	struct kvm_vcpu *vcpu = vcpus[i];
	uint32_t stage = STAGE_PAUSE;

	tids[i] = gettid();
	own_run = vcpu->run;
	while (stage == STAGE_PAUSE) {
		while (__vcpu_run(vcpu)) {
			if (errno != EINTR)
				FAIL("KVM_RUN: %s", strerror(errno));
			vcpu->run->immediate_exit = 0;
			if (__atomic_exchange_n(&to_be_sent[i], false, __ATOMIC_SEQ_CST))
				send_nmi(vcpu);
		}
		if (vcpu->run->exit_reason != KVM_EXIT_IO || vcpu->run->io.port != STAGE_PORT)
			fail_on_exit(vcpu);
		stage = *(uint32_t *)((char *)vcpu->run + vcpu->run->io.data_offset);
	}
	CHECK_EQ(stage, STAGE_END);
	return NULL;
}

static bool all_sent(void)
{
	return __atomic_load_n(&seen->done, __ATOMIC_SEQ_CST) == nr_vcpus;
}

/* By MSI and by KVM_NMI in turn. Who halts is woken by one of these at the latest. */
static void *send_from_host(void *unused)
{
	uint32_t i, turn = 0;

	while (!all_sent()) {
		for (i = 0; i < nr_vcpus; i++) {
			if (!may_send(&seen->cpu[i]))
				continue;
			if (turn++ % 2) {
				send_nmi_by_msi(vcpus[i]->vm, i);
				continue;
			}
			__atomic_store_n(&to_be_sent[i], true, __ATOMIC_SEQ_CST);
			pthread_kill(threads[i], SIGUSR1);
		}
		usleep(200);
	}
	return NULL;
}

static uint64_t taken(void)
{
	uint64_t nr = 0;
	uint32_t i;

	for (i = 0; i < nr_vcpus; i++)
		nr += __atomic_load_n(&seen->cpu[i].came, __ATOMIC_SEQ_CST);
	return nr;
}

static void fail_if_lost(void)
{
	uint32_t i;

	if (!nmi_is_lost(taken()))
		return;
	for (i = 0; i < nr_vcpus; i++)
		printf("vCPU %u: of %lu NMIs %lu came\n", i, seen->cpu[i].sent, seen->cpu[i].came);
	FAIL("after %lu NMIs one did not come", taken());
}

static void create_vcpus(uint32_t fewer)
{
	struct kvm_sregs sregs;
	uint32_t i;

	vcpus[0] = create_vm(guest, NULL);
	for (i = 1; i < nr_vcpus; i++) {
		vcpus[i] = vm_vcpu_add(vcpus[0]->vm, i, guest);
		init_events(vcpus[i], NULL);
	}
	for (i = 0; i < nr_vcpus; i++) {
		shared.cpu[i] = (struct cpu) { .self = &shared.cpu[i], .number = i, .random = i };
		vcpu_sregs_get(vcpus[i], &sregs);
		sregs.gs.base = (uint64_t)&shared.cpu[i];
		vcpu_sregs_set(vcpus[i], &sregs);
		set_gate(vcpus[i], NMI_VECTOR, smp_nmi, INTERRUPT_GATE, 0);
	}
	shared.nr = nr_vcpus;
	shared.share = worth_sending(NR_NMIS) / nr_vcpus / fewer;
	sync_global_to_guest(vcpus[0]->vm, shared);
	seen = addr_gva2hva(vcpus[0]->vm, (uint64_t)&shared);
}

/*
 * Does something to the host again and again as long as NMIs are sent: so many times fewer
 * where nobody sends most of the time.
 */
static void storm(void (*disturb)(void), uint32_t fewer)
{
	struct sigaction act = { .sa_handler = on_kick };
	pthread_t sender;
	uintptr_t i;

	sigaction(SIGUSR1, &act, NULL);
	create_vcpus(fewer);
	for (i = 0; i < nr_vcpus; i++)
		TEST_ASSERT(!pthread_create(&threads[i], NULL, run_vcpu, (void *)i), "no thread");
	while (__atomic_load_n(&seen->ready, __ATOMIC_SEQ_CST) != nr_vcpus)
		usleep(1000);
	TEST_ASSERT(!pthread_create(&sender, NULL, send_from_host, NULL), "no thread");
	while (!all_sent()) {
		fail_if_lost();
		disturb();
		usleep(1000);
	}
	pthread_join(sender, NULL);
	__atomic_store_n(&seen->host_done, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < nr_vcpus; i++)
		pthread_join(threads[i], NULL);

	printf("%u vCPUs have taken %lu NMIs\n", nr_vcpus, taken());
	for (i = 0; i < nr_vcpus; i++) {
		CHECK_EQ(seen->cpu[i].came, seen->cpu[i].sent);
		CHECK_EQ(seen->cpu[i].nested, 0);
	}
	CHECK(taken() >= nr_vcpus * shared.share, "too few NMIs");
}

static cpu_set_t cpus;			/* that this process may run on */
static uint32_t nr_cpus;

static uint32_t nth_cpu(uint32_t n)
{
	uint32_t cpu;

	for (cpu = 0; cpu < CPU_SETSIZE - 1; cpu++) {
		if (CPU_ISSET(cpu, &cpus) && !n--)
			break;
	}
	return cpu;
}

static void require_cpus(void)
{
	TEST_ASSERT(!sched_getaffinity(0, sizeof(cpus), &cpus), "sched_getaffinity");
	nr_cpus = CPU_COUNT(&cpus);
	nr_vcpus = nr_cpus > MAX_VCPUS ? MAX_VCPUS : nr_cpus;
	if (nr_cpus < 2)
		skip("one CPU");
}

/* The machine may be somebody's. */
static void require_leave(const char *to)
{
	const char *may = getenv("NMI_TEST_MAY");

	if (!may || !strstr(may, to))
		skip("not without %s in NMI_TEST_MAY", to);
}

static void leave_alone(void)
{
}

static void undisturbed(void)
{
	require_cpus();
	storm(leave_alone, 1);
}

static void move_one(void)
{
	static uint32_t turn;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(nth_cpu(turn / nr_vcpus % nr_cpus), &set);
	sched_setaffinity(tids[turn % nr_vcpus], sizeof(set), &set);
	turn += 1 + turn % 3;
}

static void moved(void)
{
	require_cpus();
	storm(move_one, 1);
}

static uint32_t disturbed;

/* The first CPU of a machine stays. */
static void switch_one(void)
{
	uint32_t stays = nth_cpu(0) == 0;
	char file[64];

	snprintf(file, sizeof(file), "/sys/devices/system/cpu/cpu%u/online",
		 nth_cpu(stays + disturbed++ % (nr_cpus - stays)));
	write_file(file, "0");
	usleep(10000);
	write_file(file, "1");
	/* On one CPU the vCPUs send little: each waits for the other's turn. */
	usleep(20000);
}

static void hotplug(void)
{
	require_cpus();
	require_leave("offline");
	storm(switch_one, 1);
	printf("%u times\n", disturbed);
	CHECK(disturbed > 2, "too few");
}

/* Up to where the firmware would take over: all CPUs but one are off, KVM has left SVM or VMX. */
static void sleep_once(void)
{
	write_file(POWER "state", "mem");
	disturbed++;
}

static void suspend(void)
{
	require_cpus();
	require_leave("suspend");
	write_file(POWER "pm_test", "core");
	write_file(PAUSE_OF_TESTS, "0");
	storm(sleep_once, 5);
	printf("%u times\n", disturbed);
	CHECK(disturbed > 2, "too few");
}

static const struct test_case cases[] = {
	{ "vCPUs that send each other NMIs lose none, and none is nested", undisturbed },
	{ "nor while their threads are moved between CPUs", moved },
	{ "nor while CPUs go offline and come back", hotplug },
	{ "nor while the machine is suspended", suspend },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
