// SPDX-License-Identifier: GPL-2.0-only
/* This machine: descriptor tables, the log of events, the sources of NMIs and IRQs, time. */

#include "guest.h"

#define APIC_ID		0x20
#define APIC_EOI	0xb0
#define APIC_SVR	0xf0
#define APIC_ICR_HIGH	0x310
#define APIC_TIMER	0x320
#define APIC_LINT0	0x350
#define APIC_LINT1	0x360
#define APIC_COUNT	0x380
#define APIC_DIVIDE	0x3e0
#define MASKED		(1 << 16)
#define IOAPIC		0xfec00000
#define IOAPIC_PIT	(0x10 + 2 * 2)	/* its redirection entry: pin 2 */
#define MSR_APIC_BASE	0x1b
#define PIT_HZ		1193182
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
	if (regs->vector == VECTOR_IRQ || regs->vector == VECTOR_TIMER)
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

static void apic_init(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE);

	/* From x2APIC mode the way back leads over a disabled APIC. */
	if (base & 1 << 10)
		wrmsr(MSR_APIC_BASE, base & ~0xc00ull);
	wrmsr(MSR_APIC_BASE, (base & ~0x400ull) | 0x800);
	write32(APIC + APIC_SVR, 0x100 | VECTOR_SPURIOUS);
	write32(APIC + APIC_LINT0, MASKED);
	write32(APIC + APIC_LINT1, MASKED);
	write32(APIC + APIC_TIMER, MASKED);
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

/* By channel 2 of the PIT, which needs no interrupt. */
static void measure_10ms(uint64_t *tsc, uint64_t *timer_ticks)
{
	unsigned int count = PIT_HZ / 100;
	uint64_t start;
	uint32_t timer;

	outb(0x61, (inb(0x61) & ~2) | 1);
	outb(0x43, 0xb0);
	outb(0x42, count);
	write32(APIC + APIC_COUNT, ~0u);
	timer = read32(APIC + 0x390);
	start = rdtsc();
	outb(0x42, count >> 8);
	for (int i = 0; i < 10000000 && !(inb(0x61) & 0x20); i++)
		;
	*tsc = rdtsc() - start;
	*timer_ticks = timer - read32(APIC + 0x390);
	write32(APIC + APIC_COUNT, 0);
}

/* The shortest of five: a hypervisor may have let us wait in the others. */
static void calibrate(void)
{
	for (int i = 0; i < 5; i++) {
		uint64_t tsc, timer;

		measure_10ms(&tsc, &timer);
		if (!i || tsc / 10 < tsc_per_ms) {
			tsc_per_ms = tsc / 10;
			timer_per_ms = timer / 10;
		}
	}
	if (!tsc_per_ms)
		tsc_per_ms = 1000000;
	if (!timer_per_ms)
		timer_per_ms = 1000;
}

static void find_timed_nmi(void)
{
	write32(IOAPIC, 1);
	if (read32(IOAPIC + 0x10) == 0xffffffff)
		return;
	nmi_in(100);
	has_timed_nmi = wait_nmis(0, 1);
	stop_timed_nmi();
}

static void find_vendor(void)
{
	uint32_t a = 0, b, c = 0, d;

	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	is_intel = b == 0x756e6547;			/* "Genu" */
	is_amd = b == 0x68747541 || b == 0x6f677948;	/* "Auth", "Hygo" */
}

void machine_init(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	find_vendor();
	fill_idt();
	load_tables(0);
	apic_init();
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
