// SPDX-License-Identifier: GPL-2.0-only
/*
 * nmi_cost [-c SAMPLES [-p CPU]] [ROW...]: what NMIs cost a guest, in ticks of its TSC and in VM
 * exits.
 * The first line names all rows, then comes one line for each that is wanted:
 *
 *	cost NAME ticks N exits M alike A of B
 *	cost NAME never				the guest got no further
 *	cost NAME failed			the line above says why
 *
 * N is the least that an eighth of the B samples took, those A; M is the middle of
 * all. In an emulator whose TSC counts instructions (QEMU with -icount shift=0,
 * Bochs) nearly all samples are alike. The rest had the host's timer tick in them,
 * an end of RCU's grace period, or a page of the guest mapped. On a real CPU the
 * ticks are time, and no two samples need be alike: N is then the middle as well.
 *
 * With -c it is for a real CPU: so many samples of each row, on one CPU of the host,
 * but no row longer than a minute, and the first row once more at the end. Which CPU, -p
 * or the last, and on a hybrid CPU its core's type, is a line, "on CPU N, core type 0xN".
 * Of the ticks' distribution a line has the 1st percentile, the median and the 99th:
 *
 *	cycles NAME samples B p1 N median N p99 N exits M
 *
 * A sample is what passes between two RDTSCs of the guest, so that what user space
 * does is not in it. "End of the handler" is an RDTSC right before its IRET.
 * The exits are those of the KVM_RUN around it, without the final one, by which
 * the guest reports, and without the host's own interrupts.
 */
#include <sched.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "nmi_test.h"
#include "nmi_nested_svm.h"
#include "nmi_nested_vmx.h"

#define SAMPLES		64
#define SERIES		10000	/* samples of a row that takes all in one KVM_RUN */
#define NESTED_SERIES	200	/* at most, where each takes long */
#define SAMPLE_SECONDS	4	/* soft vNMI may take one */
#define ROW_SECONDS	60	/* with -c */
#define HALT_TRIES	50

/* SDM vol. 2, CPUID: CPUs with cores of several types, and the type of the one that asks. */
#define FEATURES_LEAF	7
#define EDX_HYBRID	(1 << 15)
#define HYBRID_LEAF	0x1a
#define CORE_TYPE_SHIFT	24

#define ICR_NMI		"$0x400"	/* to APIC 0, the only one */

/* What the guest measured: one sample, or a series of them. */
static uint32_t ticks[SERIES];
static uint64_t start_rflags;
static uint32_t series = SERIES;

/*
 * Handlers and the code they interrupt share registers: R8D is the time at the
 * handler's end, R9D counts what has arrived, EAX, ECX and EDX are anybody's. A
 * sample ends only when everything has arrived, however long that takes; with
 * IRQs off the loop that waits holds a CLI, for guest_spin_irqs_off()'s reason.
 * Differences of the TSC's lower half will do.
 */
#define PREPARE		"push start_rflags(%rip); popf; xor %r9d, %r9d\n"
#define UNTIL(condition, back)	"j" condition " 8f\n"			\
	"testb $2, 1+start_rflags(%rip); jnz " back "; cli; jmp " back "\n8:"
#define READY		ASM_STAGE(STAGE_READY)
#define IN_HANDLER	ASM_STAGE(STAGE_HANDLER)
#define END		ASM_STAGE(STAGE_END)
#define START		"rdtsc; mov %eax, %r8d\n"
#define SINCE_START	"sub %r8d, %eax; mov %eax, ticks(%rip)\n"

asm(
/* An NMI into running code. */
"run_lone:" PREPARE READY
"1:	rdtsc\n"
"	test %r9d, %r9d\n" UNTIL("nz", "1b") SINCE_START END
"	jmp run_lone\n"

/* An NMI into HLT. */
"run_halt:" PREPARE READY
"1:	hlt\n"
"	rdtsc\n"
"	test %r9d, %r9d\n"
"	jz 1b\n" SINCE_START END
"	jmp run_halt\n"

"nmi_lone:\n"
"	inc %r9d\n" START
"	iretq\n"

/* An IRQ waits after the NMI: from the NMI handler to the IRQ's. */
"run_irq:" PREPARE READY
"1:	cmp $2, %r9d\n" UNTIL("e", "1b")
"	jmp run_irq\n"
"irq_behind:\n"
"	rdtsc\n" SINCE_START END
"	inc %r9d\n"
"	mov $0x80b, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr\n"
"	iretq\n"

/* A second NMI waits: from one handler to the next. */
"run_pair:" PREPARE READY
"1:	cmp $2, %r9d\n" UNTIL("e", "1b")
"	jmp run_pair\n"
"nmi_pair:\n"
"	rdtsc\n"
"	inc %r9d\n"
"	cmp $2, %r9d\n"
"	je 1f\n" IN_HANDLER START
"	iretq\n"
"1:" SINCE_START END
"	iretq\n"

/* Ten more come in the handler, and make one: from the first's entry to home. */
"run_ten:" PREPARE READY
"1:	rdtsc\n"
"	cmp $2, %r9d\n"
"	jne 1b\n" SINCE_START END
"	jmp run_ten\n"
"nmi_ten:\n"
"	inc %r9d\n"
"	cmp $2, %r9d\n"
"	je 2f\n" START
"	mov $10, %esi; mov $0x830, %ecx; xor %edx, %edx\n"
"1:	mov " ICR_NMI ", %eax; wrmsr\n"
"	dec %esi\n"
"	jnz 1b\n"
"2:	iretq\n"

/* One after the other, each from its sending to the return. */
"run_series:" PREPARE READY
"	xor %ebx, %ebx\n"
"1:" START
"	mov $0x830, %ecx; xor %edx, %edx; mov " ICR_NMI ", %eax; wrmsr\n"
"2:	cmp %ebx, %r9d\n"
"	je 2b\n"
"	rdtsc; sub %r8d, %eax; mov %eax, ticks(,%rbx,4)\n"
"	inc %ebx\n"
"	cmp series(%rip), %ebx\n"
"	jne 1b\n" END
"	jmp run_series\n"
"nmi_series:\n"
"	inc %r9d\n"
"	iretq\n"

/* An exit that has nothing to do with NMIs. */
"run_plain:" PREPARE READY
"	xor %esi, %esi\n"
"1:" START
"	xor %eax, %eax; cpuid\n"
"	rdtsc; sub %r8d, %eax; mov %eax, ticks(,%rsi,4)\n"
"	inc %esi\n"
"	cmp series(%rip), %esi\n"
"	jne 1b\n" END
"	jmp run_plain\n"

/* L2 exits to L1, again and again at the same instruction. */
"svm_l2:	vmmcall; jmp svm_l2\n"
"vmx_l2:	vmcall; jmp vmx_l2\n"
);

extern char run_lone[], run_halt[], run_irq[], run_pair[], run_ten[], run_series[],
	    run_plain[];
extern char nmi_lone[], irq_behind[], nmi_pair[], nmi_ten[], nmi_series[];

void svm_l2(void);
void vmx_l2(void);

/* L2 leaves all registers alone, and L1 runs it without what costs exits of its own. */
static void run_nested_svm(void)
{
	prepare_l2();
	for (;;) {
		guest_stage(STAGE_READY);
		for (uint32_t i = 0; i < series; i++)
			asm volatile("rdtsc; mov %%eax, %%r8d\n"
				     "mov %1, %%rax; vmrun %%rax\n"
				     "rdtsc; sub %%r8d, %%eax; mov %%eax, %0"
				     : "=m" (ticks[i]) : "r" (l1_svm->vmcb_gpa)
				     : "rax", "rdx", "r8", "cc", "memory");
		guest_stage(STAGE_END);
	}
}

static void run_nested_vmx(void)
{
	prepare_vmx_l2(vmx_l2);
	run_vmx_l2();
	for (;;) {
		guest_stage(STAGE_READY);
		asm volatile("vmwrite %%rsp, %0\n"
			     "lea 2f(%%rip), %%rax; vmwrite %%rax, %1\n"
			     "xor %%esi, %%esi\n"
			     "1:	rdtsc; mov %%eax, %%r8d; vmresume\n"
			     "2: rdtsc; sub %%r8d, %%eax; mov %%eax, ticks(,%%rsi,4)\n"
			     "inc %%esi; cmp series(%%rip), %%esi; jne 1b"
			     : : "r" ((uint64_t)HOST_RSP), "r" ((uint64_t)HOST_RIP)
			     : "rax", "rdx", "rsi", "r8", "cc", "memory");
		guest_stage(STAGE_END);
	}
}

static void run_nested(void)
{
	if (this_cpu_has(X86_FEATURE_VMX))
		run_nested_vmx();
	else
		run_nested_svm();
}

static void (*guest_run)(void);

static void guest(void)
{
	x2apic_enable();
	guest_run();
}

/* --- rows ---------------------------------------------------------------- */

struct row {
	const char *name;
	void *run, *on_nmi;
	uint64_t rflags;
	/* What the host does while the guest waits to be measured. */
	void (*cause)(struct kvm_vcpu *vcpu);
	bool in_handler;	/* the guest waits in the handler of a first NMI */
	bool series;
	bool nested;
};

static const struct row *row;

static void __attribute__((noreturn)) never(void)
{
	printf("cost %s never\n", row->name);
	fflush(stdout);
	_exit(0);
}

/* Like run_to() where getting there is not taken for granted. */
static void run_on(struct kvm_vcpu *vcpu, uint32_t stage)
{
	struct itimerval limit = { .it_value.tv_sec = SAMPLE_SECONDS };

	setitimer(ITIMER_REAL, &limit, NULL);
	if (__vcpu_run(vcpu)) {
		TEST_ASSERT(errno == EINTR, "KVM_RUN: %s", strerror(errno));
		never();
	}
	if (vcpu->run->exit_reason != KVM_EXIT_IO || vcpu->run->io.port != STAGE_PORT)
		fail_on_exit(vcpu);
	CHECK_EQ(*(uint32_t *)((char *)vcpu->run + vcpu->run->io.data_offset), stage);
}

static void nothing(struct kvm_vcpu *vcpu)
{
}

static void nmi_and_irq(struct kvm_vcpu *vcpu)
{
	struct kvm_msi msi = {
		.address_lo = APIC_DEFAULT_GPA,
		.data = APIC_DM_FIXED | IRQ_VECTOR,
	};

	send_nmi(vcpu);
	CHECK(__vm_ioctl(vcpu->vm, KVM_SIGNAL_MSI, &msi) == 1, "no MSI");
}

/*
 * By the time of the signal the guest has long halted, unless the host had other things to
 * do; then even the first signal may come ahead of the KVM_RUN that it is to end.
 */
static void nmi_when_halted(struct kvm_vcpu *vcpu)
{
	struct itimerval soon = { .it_value.tv_usec = 2000, .it_interval.tv_usec = 2000 };
	struct itimerval never = {};
	struct kvm_mp_state state;
	unsigned int i = 0;

	do {
		setitimer(ITIMER_REAL, &soon, NULL);
		CHECK(__vcpu_run(vcpu) && errno == EINTR, "the guest did not halt");
		vcpu_mp_state_get(vcpu, &state);
	} while (state.mp_state != KVM_MP_STATE_HALTED && ++i < HALT_TRIES);
	setitimer(ITIMER_REAL, &never, NULL);
	CHECK_EQ(state.mp_state, KVM_MP_STATE_HALTED);
	send_nmi(vcpu);
}

static const struct row rows[] = {
	{ "plain-exit", run_plain, nmi_lone, 0, nothing, .series = true },
	{ "lone", run_lone, nmi_lone, RFLAGS_IF, send_nmi },
	{ "lone-irqs-off", run_lone, nmi_lone, 0, send_nmi },
	{ "halted", run_halt, nmi_lone, RFLAGS_IF, nmi_when_halted },
	{ "pair", run_pair, nmi_pair, RFLAGS_IF, send_nmi, .in_handler = true },
	{ "pair-irqs-off", run_pair, nmi_pair, 0, send_nmi, .in_handler = true },
	{ "irq-behind", run_irq, nmi_lone, RFLAGS_IF, nmi_and_irq },
	{ "ten-in-handler", run_ten, nmi_ten, RFLAGS_IF, send_nmi },
	{ "ten-thousand", run_series, nmi_series, RFLAGS_IF, nothing, .series = true },
	{ "nested-round", run_nested, nmi_lone, 0, nothing, .series = true, .nested = true },
};

/* --- samples ------------------------------------------------------------- */

static uint64_t sample_ticks[SERIES], sample_exits[SERIES];

/* With -c. */
static bool in_cycles;
static unsigned int nr_samples = SAMPLES;

/* The guest's code up to the OUT that ends a sample, whose exit is not counted. */
static uint64_t run_sample(struct kvm_vcpu *vcpu)
{
	uint64_t before;

	run_on(vcpu, STAGE_READY);
	if (row->in_handler) {
		send_nmi(vcpu);
		run_on(vcpu, STAGE_HANDLER);
	}
	before = exits_of(vcpu);
	row->cause(vcpu);
	run_on(vcpu, STAGE_END);
	sync_global_from_guest(vcpu->vm, ticks);
	return exits_of(vcpu) - before - 1;
}

static unsigned int take_samples(struct kvm_vcpu *vcpu)
{
	time_t until = time(NULL) + ROW_SECONDS;
	uint64_t exits;
	unsigned int i;

	if (!row->series) {
		for (i = 0; i < nr_samples && (i < SAMPLES || time(NULL) < until); i++) {
			sample_exits[i] = run_sample(vcpu);
			sample_ticks[i] = ticks[0];
		}
		return i;
	}

	/* The first series is the one that maps the guest's memory. */
	run_sample(vcpu);
	exits = run_sample(vcpu);
	/* What an interrupt of the host costs a real machine may be an exit more. */
	CHECK(in_cycles || row->nested || exits % series == 0, "%lu exits in %u samples", exits, series);
	for (i = 0; i < series; i++) {
		sample_exits[i] = exits / series;
		sample_ticks[i] = ticks[i];
	}
	return series;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t middle(uint64_t *values, unsigned int nr)
{
	qsort(values, nr, sizeof(*values), by_value);
	return values[nr / 2];
}

/* How many of the first of these sorted values are the same. */
static unsigned int alike(const uint64_t *values, unsigned int nr)
{
	unsigned int i = 0;

	while (i < nr && values[i] == values[0])
		i++;
	return i;
}

static void print_cycles(unsigned int nr)
{
	uint64_t median = middle(sample_ticks, nr);

	printf("cycles %s samples %u p1 %lu median %lu p99 %lu exits %lu\n", row->name, nr,
	       sample_ticks[nr / 100], median, sample_ticks[nr - 1 - nr / 100],
	       middle(sample_exits, nr));
}

static void print_cost(unsigned int nr)
{
	uint64_t ticks = middle(sample_ticks, nr);
	unsigned int i, same = 0;

	for (i = 0; i < nr && same < nr / 8; i += same)
		same = alike(&sample_ticks[i], nr - i);
	if (same >= nr / 8)
		ticks = sample_ticks[i - same];
	else
		same = 1;
	printf("cost %s ticks %lu exits %lu alike %u of %u\n", row->name,
	       ticks, middle(sample_exits, nr), same, nr);
}

static void on_alarm(int signal)
{
}

static struct kvm_vcpu *create_nested(void)
{
	static const struct l2_start start = { .rip = svm_l2 };

	return kvm_cpu_has(X86_FEATURE_VMX) ? create_vmx_l1(guest, 0, NULL) :
					      create_l1(guest, &start, NULL);
}

static void measure(void)
{
	struct sigaction act = { .sa_handler = on_alarm };
	struct kvm_vcpu *vcpu;

	sigaction(SIGALRM, &act, NULL);
	if (row->nested && series > NESTED_SERIES)
		series = NESTED_SERIES;
	vcpu = row->nested ? create_nested() : create_vm(guest, NULL);
	set_gate(vcpu, NMI_VECTOR, row->on_nmi, INTERRUPT_GATE, 0);
	set_gate(vcpu, IRQ_VECTOR, irq_behind, INTERRUPT_GATE, 0);
	guest_run = row->run;
	start_rflags = RFLAGS_FIXED | row->rflags;
	sync_global_to_guest(vcpu->vm, guest_run);
	sync_global_to_guest(vcpu->vm, start_rflags);
	sync_global_to_guest(vcpu->vm, series);
	/* What the start of a VM has left to be done in the host. */
	sleep(1);
	if (in_cycles)
		print_cycles(take_samples(vcpu));
	else
		print_cost(take_samples(vcpu));
}

/* A row that ends in a failure takes no other with it. */
static bool measure_in_child(void)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		measure();
		fflush(stdout);
		_exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	if (status)
		printf("cost %s failed\n", row->name);
	return !status;
}

static bool wanted(const char *name, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

/* Of the core that this runs on, 0 where all are alike. */
static uint32_t core_type(void)
{
	uint32_t eax, ebx, ecx, edx;

	cpuid(0, &eax, &ebx, &ecx, &edx);
	if (eax < HYBRID_LEAF)
		return 0;
	cpuid(FEATURES_LEAF, &eax, &ebx, &ecx, &edx);
	if (!(edx & EDX_HYBRID))
		return 0;
	cpuid(HYBRID_LEAF, &eax, &ebx, &ecx, &edx);
	return eax >> CORE_TYPE_SHIFT;
}

/*
 * Without one that is wanted it is the last that this may run on: the first one has most of
 * the host's own work.
 */
static void stay_on_one_cpu(int wanted)
{
	int cpu = wanted < 0 ? CPU_SETSIZE - 1 : wanted;
	cpu_set_t cpus;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(cpus), &cpus), "sched_getaffinity: %s",
		    strerror(errno));
	while (wanted < 0 && !CPU_ISSET(cpu, &cpus))
		cpu--;
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(cpus), &cpus), "sched_setaffinity: %s",
		    strerror(errno));
	printf("on CPU %d", cpu);
	if (core_type())
		printf(", core type 0x%x", core_type());
	printf("\n");
}

static void __attribute__((noreturn)) usage(void)
{
	fprintf(stderr, "usage: nmi_cost [-c SAMPLES [-p CPU]] [ROW...]; SAMPLES: %u to %u\n",
		SAMPLES, SERIES);
	exit(2);
}

int main(int argc, char **argv)
{
	int option, cpu = -1;
	bool good = true;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((option = getopt(argc, argv, "c:p:")) != -1) {
		if (option == 'p') {
			cpu = atoi(optarg);
			if (cpu < 0 || cpu >= CPU_SETSIZE)
				usage();
			continue;
		}
		if (option != 'c')
			usage();
		in_cycles = true;
		nr_samples = series = atoi(optarg);
		if (nr_samples < SAMPLES || nr_samples > SERIES)
			usage();
	}
	argv += optind;

	printf("rows");
	for (row = rows; row < rows + ARRAY_SIZE(rows); row++)
		printf(" %s", row->name);
	printf("\n");
	if (in_cycles)
		stay_on_one_cpu(cpu);

	for (row = rows; row < rows + ARRAY_SIZE(rows); row++)
		if (wanted(row->name, argv))
			good &= measure_in_child();
	row = rows;
	if (in_cycles && wanted(row->name, argv))
		good &= measure_in_child();
	return !good;
}
