// SPDX-License-Identifier: GPL-2.0-only
/* This machine: descriptor tables, the log of events, the sources of NMIs and IRQs, time. */

#include "guest.h"

#define APIC_ID		0x20
#define APIC_EOI	0xb0
#define APIC_VERSION	0x30
#define APIC_SVR	0xf0
#define APIC_CMCI	0x2f0
#define APIC_ICR_HIGH	0x310
#define APIC_TIMER	0x320
#define APIC_THERMAL	0x330
#define APIC_PERFORMANCE	0x340
#define APIC_LINT0	0x350
#define APIC_LINT1	0x360
#define APIC_ERROR	0x370
#define APIC_COUNT	0x380
#define APIC_CURRENT	0x390
#define APIC_DIVIDE	0x3e0
#define APIC_EXTENDED	0x400		/* AMD's: how many more */
#define APIC_MORE	0x500
#define DELIVERY	(7 << 8)
#define SMI		(2 << 8)
#define MASKED		(1 << 16)
#define IOAPIC		0xfec00000
#define IOAPIC_VERSION	1
#define IOAPIC_PIT	(0x10 + 2 * 2)	/* its redirection entry: pin 2 */
#define HPET_CONFIG	0x10
#define MSR_APIC_BASE	0x1b
#define X2APIC		(1 << 10)
#define HIGHEST_ID	254		/* of a CPU, in xAPIC mode */
#define PIT_HZ		1193182
#define PM_TIMER_HZ	3579545
#define STACK		8192
#define ISTS		3
#define IST_FAULT	2
#define IST_DOUBLE	3

struct tss64 {
	uint32_t reserved;
	uint64_t rsp[3], reserved2, ist[7], reserved3;
	uint16_t reserved4, iomap;
} __attribute__((packed));

struct gate64 {
	uint16_t low, selector;
	uint8_t ist, type;
	uint16_t middle;
	uint32_t high, reserved;
};

struct table_register {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

struct cpu cpus[MAX_CPUS];
hook_fn hooks[MAX_CPUS][256];
unsigned int nr_cpus = 1;
uint64_t tsc_per_ms;
const char *clock;
int is_intel, is_amd, has_timed_nmi;

static struct gate64 idt64[256];
static struct tss64 tss64[MAX_CPUS];
static uint8_t stacks[MAX_CPUS][ISTS + 1][STACK] __attribute__((aligned(16)));
static uint32_t apic_ids[MAX_CPUS];
static uint64_t timer_per_ms;
static job_fn *volatile cpu1_job;
static volatile int cpu1_up;

extern uint64_t gdt[];
extern volatile uint32_t aps;
void on_event(struct regs *regs);
void ap_main(void);

void *memcpy(void *to, const void *from, size_t size)
{
	void *start = to;

	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) :: "memory");
	return start;
}

void *memset(void *to, int value, size_t size)
{
	void *start = to;

	asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
	return start;
}

/* The task register tells the CPUs apart, whatever handler interrupted whatever. */
unsigned int this_cpu(void)
{
	uint32_t tr;

	asm volatile("str %0" : "=r"(tr));
	return tr == TSS64 + 16;
}

struct event *event(unsigned int n)
{
	static struct event none;
	struct cpu *cpu = &cpus[this_cpu()];

	none = (struct event) { .vector = -1, .rip = -1 };
	return n < cpu->nr && n < MAX_EVENTS ? &cpu->events[n] : &none;
}

void on_event(struct regs *regs)
{
	uint64_t now = rdtsc(), flags, cr2, dr6, tr = 0, ss = 0;
	unsigned int me = this_cpu();
	struct cpu *cpu = &cpus[me];
	uint64_t error = regs->exit;
	hook_fn hook = hooks[me][regs->vector];
	unsigned int n = cpu->nr++;

	if (n < MAX_EVENTS) {
		asm volatile("pushfq; pop %0" : "=r"(flags));
		asm volatile("mov %%cr2, %0" : "=r"(cr2));
		asm volatile("mov %%dr6, %0" : "=r"(dr6));
		asm volatile("str %k0" : "=r"(tr));
		asm volatile("mov %%ss, %k0" : "=r"(ss));
		cpu->events[n] = (struct event) {
			.vector = regs->vector, .error = error, .rip = regs->rip, .cs = regs->cs,
			.rflags = regs->rflags, .rsp = regs->rsp, .ss = regs->ss, .cr2 = cr2, .dr6 = dr6,
			.tsc = now, .flags = flags, .frame = (uintptr_t)&regs->rip, .depth = cpu->depth,
			.tr = tr, .handler_ss = ss,
		};
	}
	if (regs->vector == 1)
		asm volatile("mov %0, %%dr6" :: "r"(0xffff0ff0ul));
	regs->exit = (uintptr_t)exit_iret;
	cpu->depth++;
	if (regs->vector == VECTOR_NMI)
		cpu->nmis++;
	if (hook)
		hook(regs);
	else if (regs->vector < 32 && regs->vector != VECTOR_NMI)
		unexpected(regs, error);
	/* Whoever has sent it: without that none of the same or a lower priority comes again. */
	if (regs->vector >= 32 && regs->vector != VECTOR_SPURIOUS && regs->vector != VECTOR_BACK)
		end_of_irq();
	cpu->depth--;
}

void set_hook(unsigned int vector, hook_fn hook)
{
	hooks[this_cpu()][vector] = hook;
}

void clear_events(void)
{
	struct cpu *cpu = &cpus[this_cpu()];

	cpu->nr = 0;
	cpu->nmis = 0;
	cpu->depth = 0;
}

static void set_gate(unsigned int vector, const char *entry, int ist, int dpl)
{
	uintptr_t address = (uintptr_t)entry;

	idt64[vector] = (struct gate64) {
		.low = address, .selector = CODE64, .ist = ist, .type = 0x8e | dpl << 5,
		.middle = address >> 16, .high = address >> 32,
	};
}

/* A user's INT3 and "int" come back by their gates; a frame that faults may be its stack's fault. */
static void fill_idt(void)
{
	for (int i = 0; i < 256; i++)
		set_gate(i, stubs64 + 16 * i, i == 14 ? IST_FAULT : i == 8 ? IST_DOUBLE : 0,
			 i == 3 || i == VECTOR_BACK ? 3 : 0);
}

void use_stack_for_nmi(int ist)
{
	idt64[VECTOR_NMI].ist = ist;
}

uint64_t stack_of_ist(int ist)
{
	return tss64[this_cpu()].ist[ist - 1];
}

static void load_tables(unsigned int cpu)
{
	struct table_register idtr = { sizeof(idt64) - 1, (uintptr_t)idt64 };
	uintptr_t base = (uintptr_t)&tss64[cpu];
	unsigned int selector = TSS64 + 16 * cpu;

	tss64[cpu].rsp[0] = (uintptr_t)stacks[cpu][0] + STACK;
	for (int i = 0; i < ISTS; i++)
		tss64[cpu].ist[i] = (uintptr_t)stacks[cpu][i + 1] + STACK;
	tss64[cpu].iomap = sizeof(tss64[0]);
	gdt[selector / 8] = (sizeof(tss64[0]) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
	gdt[selector / 8 + 1] = base >> 32;
	asm volatile("lidt %0" :: "m"(idtr));
	asm volatile("ltr %w0" :: "r"(selector));
	/* SYSCALL goes to syscall_entry, with TF cleared. */
	wrmsr(0xc0000081, (uint64_t)CODE64 << 32);
	wrmsr(0xc0000082, (uintptr_t)syscall_entry);
	wrmsr(0xc0000084, FLAG_TF);
}

static void skip_wrmsr(struct regs *regs)
{
	regs->rip += 2;
}

/* The way back leads over a disabled APIC. Firmware may have locked it: there the WRMSR faults. */
static __attribute__((noinline)) void leave_x2apic(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE);

	if (!(base & X2APIC))
		return;
	set_hook(13, skip_wrmsr);
	wrmsr(MSR_APIC_BASE, base & ~0xc00ull);
	set_hook(13, NULL);
	if (rdmsr(MSR_APIC_BASE) & X2APIC)
		bail_out("the firmware keeps the APIC in x2APIC mode, which this program cannot use: turn that off in its setup");
}

/* An SMI is the firmware's business, and may be what keeps the machine cool. */
static void mask_local(unsigned int reg)
{
	if ((read32(APIC + reg) & DELIVERY) != SMI)
		write32(APIC + reg, MASKED);
}

/* What has a number of its own sends interrupts, if the firmware has left it so. */
static void mask_all_local(void)
{
	uint32_t version = read32(APIC + APIC_VERSION);
	unsigned int highest = version >> 16 & 0xff;

	mask_local(APIC_LINT0);
	mask_local(APIC_LINT1);
	mask_local(APIC_TIMER);
	mask_local(APIC_ERROR);
	if (highest >= 4)
		mask_local(APIC_PERFORMANCE);
	if (highest >= 5)
		mask_local(APIC_THERMAL);
	if (highest >= 6)
		mask_local(APIC_CMCI);
	if (version >> 31)
		for (unsigned int i = 0; i < (read32(APIC + APIC_EXTENDED) >> 16 & 0xff); i++)
			mask_local(APIC_MORE + 16 * i);
}

static void apic_init(void)
{
	leave_x2apic();
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x800);
	write32(APIC + APIC_SVR, 0x100 | VECTOR_SPURIOUS);
	mask_all_local();
	write32(APIC + APIC_DIVIDE, 3);		/* by 16 */
	write32(APIC + 0x80, 0);		/* TPR */
}

static void wait_icr(void)
{
	for (int i = 0; i < 100000 && read32(APIC + APIC_ICR) & 1 << 12; i++)
		;
}

static void send(uint32_t id, uint32_t command)
{
	write32(APIC + APIC_ICR_HIGH, id);
	write32(APIC + APIC_ICR, command);
	wait_icr();
}

void send_nmi_to(unsigned int cpu)
{
	send(apic_ids[cpu], ICR_NMI);
}

void send_nmi(void)
{
	send_nmi_to(this_cpu());
}

void send_irq(void)
{
	send(apic_ids[this_cpu()], 0x4000 | VECTOR_IRQ);
}

void end_of_irq(void)
{
	write32(APIC + APIC_EOI, 0);
}

/* Until an NMI that was sent is sure to be there. The APIC is read for hypervisors, to have their say. */
void settle(void)
{
	for (int i = 0; i < SETTLE; i++)
		asm volatile("pause");
	read32(APIC + APIC_ID);
}

void delay_us(unsigned int us)
{
	uint64_t end = rdtsc() + tsc_per_ms * us / 1000;

	while ((int64_t)(rdtsc() - end) < 0)
		read32(APIC + APIC_ID);
}

int wait_nmis(unsigned int cpu, unsigned int nmis)
{
	for (int i = 0; i < 3000 && cpus[cpu].nmis < nmis; i++)
		for (int j = 0; j < 100 && cpus[cpu].nmis < nmis; j++)
			delay_us(10);
	return cpus[cpu].nmis >= nmis;
}

static void mask_ioapic(uintptr_t ioapic)
{
	unsigned int pins;

	write32(ioapic, IOAPIC_VERSION);
	if (read32(ioapic + 0x10) == 0xffffffff)
		return;
	pins = (read32(ioapic + 0x10) >> 16 & 0xff) + 1;
	for (unsigned int i = 0; i < pins; i++) {
		write32(ioapic, 0x10 + 2 * i);
		write32(ioapic + 0x10, MASKED);
	}
}

/* What firmware has left on comes at an STI, where no claim has asked for it. */
static void mask_devices(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	mask_ioapic(IOAPIC);
	for (unsigned int i = 0; i < acpi.nr_ioapics; i++)
		if (acpi.ioapics[i] != IOAPIC)
			mask_ioapic(acpi.ioapics[i]);
	/* It can go past the I/O APIC, and take the PIT's pin. */
	if (acpi.hpet)
		write32(acpi.hpet + HPET_CONFIG, read32(acpi.hpet + HPET_CONFIG) & ~3);
}

static void write_ioapic(uint32_t reg, uint32_t value)
{
	write32(IOAPIC, reg);
	write32(IOAPIC + 0x10, value);
}

/* PIT, channel 0, goes high once, and the I/O APIC makes an NMI of that edge. */
void nmi_in(unsigned int us)
{
	uint32_t count = (uint64_t)us * PIT_HZ / 1000000 + 1;

	write_ioapic(IOAPIC_PIT, MASKED);
	outb(0x43, 0x30);
	write_ioapic(IOAPIC_PIT + 1, apic_ids[this_cpu()]);
	write_ioapic(IOAPIC_PIT, 0x400);
	outb(0x40, count);
	outb(0x40, count >> 8);
}

void stop_timed_nmi(void)
{
	write_ioapic(IOAPIC_PIT, MASKED);
	outb(0x43, 0x30);
}

void irq_in(unsigned int us)
{
	write32(APIC + APIC_TIMER, VECTOR_TIMER);
	write32(APIC + APIC_COUNT, timer_per_ms * us / 1000 + 1);
}

void stop_timer(void)
{
	write32(APIC + APIC_TIMER, MASKED);
	write32(APIC + APIC_COUNT, 0);
}

static uint64_t began;
static uint32_t timer_began;

static void begin(void)
{
	write32(APIC + APIC_COUNT, ~0u);
	timer_began = read32(APIC + APIC_CURRENT);
	began = rdtsc();
}

/* For 10 ms, on any CPU. What comes after all, as this was not running, has come. */
static int too_long(void)
{
	return rdtsc() - began > 1000000000;
}

/* By channel 2 of the PIT, which needs no interrupt. Its output is low until it is through. */
static int wait_by_pit(void)
{
	unsigned int count = PIT_HZ / 100;

	outb(0x61, (inb(0x61) & ~2) | 1);
	outb(0x43, 0xb0);
	outb(0x42, count);
	begin();
	outb(0x42, count >> 8);
	/* Where there is no such port all bits are set, where its clock is off they stay clear. */
	if (inb(0x61) & 0x20)
		return 0;
	for (int i = 0; i < 10000000; i++)
		if (inb(0x61) & 0x20)
			return 1;
		else if (too_long())
			return 0;
	return 0;
}

/* ACPI's has 24 bits at least. */
static int wait_by_pm_timer(void)
{
	uint32_t start;

	if (!acpi.pm_timer)
		return 0;
	start = inl(acpi.pm_timer);
	begin();
	for (int i = 0; i < 10000000; i++)
		if (((inl(acpi.pm_timer) - start) & 0xffffff) >= PM_TIMER_HZ / 100)
			return 1;
		else if (too_long())
			return 0;
	return 0;
}

/* By the TSC itself, for the APIC's timer. */
static int wait_by_tsc(void)
{
	begin();
	while (rdtsc() - began < 10 * tsc_per_ms)
		;
	return 1;
}

/* Some hypervisors and CPUs say what it counts; 0 if not. */
static uint64_t tsc_per_ms_said(void)
{
	uint32_t regs[4], highest;

	cpuid(1, regs);
	if (regs[2] >> 31) {
		cpuid(0x40000000, regs);
		if (regs[0] >= 0x40000003 && regs[1] == 0x7263694d) {	/* "Micr" */
			cpuid(0x40000003, regs);
			/* May its frequencies be read? */
			return regs[0] & 1 << 11 ? rdmsr(0x40000022) / 1000 : 0;
		}
		if (regs[0] >= 0x40000010 && regs[0] < 0x40010000) {
			cpuid(0x40000010, regs);
			if (regs[0])
				return regs[0];
		}
	}
	cpuid(0, regs);
	/* AMD's have other things there. */
	if (!is_intel || regs[0] < 0x15)
		return 0;
	highest = regs[0];
	cpuid(0x15, regs);
	if (regs[0] && regs[1] && regs[2])
		return (uint64_t)regs[2] * regs[1] / regs[0] / 1000;
	if (highest < 0x16)
		return 0;
	/* The crystal is not told, but the base frequency in MHz. */
	cpuid(0x16, regs);
	return (regs[0] & 0xffff) * 1000;
}

/* The shortest of five: a hypervisor may have let us wait in the others. */
static int measure(int (*wait_10ms)(void))
{
	uint64_t shortest = 0;

	for (int i = 0; i < 5; i++) {
		uint64_t tsc;
		uint32_t ticks;

		if (!wait_10ms())
			continue;
		tsc = rdtsc() - began;
		ticks = timer_began - read32(APIC + APIC_CURRENT);
		if (!shortest || tsc < shortest) {
			shortest = tsc;
			tsc_per_ms = tsc / 10;
			timer_per_ms = ticks / 10;
		}
	}
	write32(APIC + APIC_COUNT, 0);
	return tsc_per_ms && timer_per_ms;
}

static void calibrate(void)
{
	if (measure(wait_by_pit)) {
		clock = "the PIT";
		return;
	}
	if (measure(wait_by_pm_timer)) {
		clock = "ACPI's timer";
		return;
	}
	tsc_per_ms = tsc_per_ms_said();
	if (tsc_per_ms && measure(wait_by_tsc)) {
		clock = "CPUID";
		return;
	}
	/* As on the fastest of CPUs: where a claim waits, it waits long enough. */
	tsc_per_ms = 5000000;
	timer_per_ms = 100000;
}

static void find_timed_nmi(void)
{
	write32(IOAPIC, IOAPIC_VERSION);
	if (!clock || read32(IOAPIC + 0x10) == 0xffffffff)
		return;
	nmi_in(100);
	has_timed_nmi = wait_nmis(0, 1);
	stop_timed_nmi();
}

static void find_vendor(void)
{
	uint32_t regs[4];

	cpuid(0, regs);
	is_intel = regs[1] == 0x756e6547;				/* "Genu" */
	is_amd = regs[1] == 0x68747541 || regs[1] == 0x6f677948;	/* "Auth", "Hygo" */
}

/* All of them, where xAPIC mode shows no more than the low bits: those of another CPU. */
static uint32_t x2apic_id(void)
{
	uint32_t regs[4];

	cpuid(0, regs);
	if (regs[0] < 11)
		return 0;
	cpuid(11, regs);
	return regs[3];
}

void catch_exceptions(void)
{
	fill_idt();
	load_tables(0);
}

void machine_init(void)
{
	find_vendor();
	mask_devices();
	apic_init();
	if (x2apic_id() > HIGHEST_ID)
		bail_out("this CPU's APIC ID is higher than an NMI can be sent to");
	apic_ids[0] = read32(APIC + APIC_ID);
	calibrate();
	find_timed_nmi();
	reset_machine();
}

/* On another CPU than the first: wait for something to do. */
void ap_main(void)
{
	load_tables(1);
	apic_init();
	apic_ids[1] = read32(APIC + APIC_ID);
	cpu1_up = 1;
	for (;;) {
		if (cpu1_job) {
			cpu1_job();
			cpu1_job = NULL;
		}
		read32(APIC + APIC_ID);
		asm volatile("pause");
	}
}

void start_cpu1(void)
{
	memcpy((void *)(uintptr_t)TRAMPOLINE, trampoline, trampoline_end - trampoline);
	send(0, 0xc4500);		/* INIT, to all others */
	delay_us(10000);
	for (int i = 0; i < 2; i++) {
		send(0, 0xc4600 | TRAMPOLINE >> 12);
		delay_us(300);
	}
	for (int i = 0; i < 100 && !aps; i++)
		delay_us(1000);
	for (int i = 0; i < 1000 && aps && !cpu1_up; i++)
		delay_us(1000);
	if (cpu1_up)
		nr_cpus = 2;
}

void run_on_cpu1(job_fn *job)
{
	cpus[1].nr = 0;
	cpus[1].nmis = 0;
	cpus[1].depth = 0;
	cpu1_job = job;
}

int cpu1_done(void)
{
	for (int i = 0; i < 60000 && cpu1_job; i++)
		for (int j = 0; j < 10 && cpu1_job; j++)
			delay_us(100);
	return !cpu1_job;
}

void reset_machine(void)
{
	unsigned int me = this_cpu();

	asm volatile("cli");
	asm volatile("mov %0, %%dr7" :: "r"(0x400ul));
	asm volatile("mov %0, %%dr6" :: "r"(0xffff0ff0ul));
	if (has_timed_nmi)
		stop_timed_nmi();
	stop_timer();
	use_stack_for_nmi(0);
	memset(hooks[me], 0, sizeof(hooks[me]));
	/* An IRQ that is due or in service has no claim to answer to. */
	asm volatile("sti; nop; nop; cli" ::: "memory");
	end_of_irq();
	open_nmis();
	settle();
	open_nmis();
	clear_events();
}
