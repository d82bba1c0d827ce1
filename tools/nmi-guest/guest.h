/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of nmi-guest have of each other. Compiled for 64 and for 32 bits. */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>
#include "layout.h"

#define FLAG_FIXED	(1 << 1)
#define FLAG_TF		(1 << 8)
#define FLAG_IF		(1 << 9)
#define FLAG_NT		(1 << 14)
#define FLAG_RF		(1 << 16)
#define FLAG_VM		(1 << 17)

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

#define MAX_EVENTS	1024
#define MAX_CPUS	2

/* An interrupt or exception as its handler finds it. */
struct event {
	uint64_t vector, error, rip, cs, rflags, rsp, ss, cr2, dr6, tsc;
	uint64_t flags, frame;		/* the handler's own: RFLAGS, where its frame is */
	uint64_t depth;			/* handlers that it interrupts */
	uint64_t tr, handler_ss;
} __attribute__((aligned(8)));		/* 32-bit code would have it at 4 */

/* What event64 saves. EXIT is the error code first, then where to go: exit_iret &c. */
struct regs {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	uint64_t vector, exit;
	uint64_t rip, cs, rflags, rsp, ss;
};

struct cpu {
	volatile unsigned int nr;	/* of events; those that found no room count, too */
	volatile unsigned int nmis;
	volatile unsigned int depth;
	struct event events[MAX_EVENTS];
};

extern struct cpu cpus[MAX_CPUS];

/* machine.c */
extern unsigned int nr_cpus;
extern uint64_t tsc_per_ms;
extern const char *clock;		/* what time is measured by; NULL: nothing */
extern int is_intel, is_amd;
extern int has_timed_nmi;		/* the PIT reaches us as an NMI */
void catch_exceptions(void);
void machine_init(void);
unsigned int this_cpu(void);
struct event *event(unsigned int n);	/* of this CPU */
typedef void (*hook_fn)(struct regs *regs);
extern hook_fn hooks[MAX_CPUS][256];
void set_hook(unsigned int vector, hook_fn hook);
void clear_events(void);
void reset_machine(void);		/* NMIs open, no hooks, no sources, an empty log */
void use_stack_for_nmi(int ist);
uint64_t stack_of_ist(int ist);
void send_nmi(void);
void send_nmi_to(unsigned int cpu);
void send_irq(void);
void settle(void);
void nmi_in(unsigned int us);
void stop_timed_nmi(void);
void irq_in(unsigned int us);		/* VECTOR_TIMER */
void stop_timer(void);
void end_of_irq(void);
void delay_us(unsigned int us);
int wait_nmis(unsigned int cpu, unsigned int nmis);	/* whether so many came within three seconds */
typedef void job_fn(void);
void run_on_cpu1(job_fn *job);
int cpu1_done(void);			/* within a minute */
void start_cpu1(void);

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) :: "memory");
	return (uint64_t)high << 32 | low;
}

static inline void cpuid(uint32_t leaf, uint32_t *regs)
{
	asm volatile("cpuid" : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3]) : "a"(leaf), "c"(0));
}

static inline void outb(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" :: "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline void outw(uint16_t port, uint16_t value)
{
	asm volatile("outw %0, %1" :: "a"(value), "Nd"(port) : "memory");
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t value;

	asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;

	asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline void write32(uintptr_t address, uint32_t value)
{
	asm volatile("movl %0, (%1)" :: "r"(value), "r"(address) : "memory");
}

static inline uint32_t read32(uintptr_t address)
{
	uint32_t value;

	asm volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	asm volatile("wrmsr" :: "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(msr) : "memory");
}

/* main.c */
_Noreturn void bail_out(const char *why);	/* all, not just a claim */

/* console.c */
struct framebuffer {			/* as a multiboot loader tells it */
	uint64_t address;
	uint32_t pitch, width, height;
	uint8_t bits, type;
};

extern const uint8_t font[95][7];	/* font.c */
void console_init(void);
void use_framebuffer(const struct framebuffer *framebuffer);
void clear_screen(void);
void leave_serial(void);		/* what comes is for the screen alone */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));	/* %s %ld %lu %lx %c */
void write_text(const char *text);

/* loader.c */
struct loader {
	char command_line[256];
	uint64_t rsdp;			/* 0: nobody has told */
	struct framebuffer framebuffer;	/* of RGB, if it has an address */
};

extern struct loader loader;
void read_loader(void);
const char *option(const char *word);

/* acpi.c */
#define MAX_IOAPICS	16

struct acpi {
	uint16_t smi_cmd, pm1a_cnt, pm_timer;
	uint8_t acpi_enable, acpi_disable;
	int sleep_type;			/* for S5; -1: unknown */
	const char *problem;		/* why no more is known, NULL if it is */
	uint32_t hpet, ioapics[MAX_IOAPICS];	/* addresses */
	unsigned int nr_ioapics;
};

extern struct acpi acpi;
void acpi_init(uint64_t rsdp);
void power_off(void);

/* claims.c */
struct claim {
	const char *name;
	void (*run)(void);
	const char *manual;		/* titles of sections */
};

extern const struct claim blocking_claims[], order_claims[], shadow_claims[], step_claims[],
	fault_claims[], target_claims[], halt_claims[], smi_claims[], smp_claims[], mode_claims[];

int check(int holds, const char *file, int line, const char *what);
void check_equal(uint64_t got, uint64_t wanted, const char *file, int line, const char *what);
void saw(const char *what);
_Noreturn void give_up(void);	/* the claim has failed */
_Noreturn void skip(const char *why);
_Noreturn void unexpected(const struct regs *regs, uint64_t error);
void run_claims(unsigned int from);
int totals(void);
void sum_up(void);			/* what failed and what was skipped */
void measure_latency(void);
void show_latency(void);

#define CHECK(holds)		check(!!(holds), __FILE__, __LINE__, #holds)
#define CHECK_EQ(got, wanted)	\
	check_equal((uint64_t)(got), (uint64_t)(wanted), __FILE__, __LINE__, #got " is " #wanted)

/* plan.c: a first NMI whose handler returns to where and how the plan says. */
struct plan {
	const void *rip;		/* NULL: to where it came from */
	uint64_t cs, ss, rsp, flags;	/* 0: CODE64, DATA, the interrupted one, FLAG_FIXED */
	const void *exit;		/* NULL: exit_iret */
	int nmis, irq;			/* sent in the handler */
	uint64_t dr0, dr7;		/* set in it */
	int watch_frame;		/* DR1 is where an exit from elsewhere has its frame */
	uint64_t iret_rsp;		/* for exits from elsewhere; 0: a copy of the frame */
	hook_fn repair;			/* of a #PF: goes back otherwise */
};

void run_plan(const struct plan *plan);
extern struct regs interrupted;		/* what the first NMI interrupted */
extern struct regs at_back;		/* what VECTOR_BACK or an exception interrupted */
void check_event(unsigned int n, unsigned int vector, const void *rip);
void check_nr(unsigned int nr);		/* of events */
const void *handler(unsigned int vector);

/* protected.c: what 32-bit mode runs, in the terms of struct plan. */
struct plan32 {
	uint32_t rip, cs, ss, rsp, flags, exit, nmis;
};

extern struct plan32 plan32;
extern uint32_t back32;			/* EIP at VECTOR_BACK */
extern uint64_t idt32[256];
void call32(job_fn *job);

extern const char stubs64[], stubs32[], exit_iret[], exit_step[], exit_sti[], exit_mov_ss[], exit_elsewhere[],
	iret_elsewhere[], exit_iretl[], exit_lret[], opened[], target[], target_end[],
	target_ud[], target_pushf[], target_int3[], target_syscall[], syscall_entry[],
	stepped_end[], mov_ss_pairs[], mov_ss_sled_end[], sti_sled_end[], sti_hlt_at[], sti_hlt_end[],
	cli_hlt_end[], nested_int3_end[], nested_irq_end[], trampoline[], trampoline_end[],
	exit32_iret[], exit32_lret[], exit32_elsewhere[], iret32_elsewhere[], opened32[], nmi_task[],
	real_mode_start[], real_mode_end[], real_frames[], real_nmis[], real_nmis_inside[], real_by_lret[],
	nmi16[], real_target[], opened16[], stack32_top[];
void run_plan32(void);
void run_task32(void);
void real_mode(void);
void stepped(uintptr_t icr);
void mov_ss_sled(void);
void sti_sled(void);
void sti_hlt(void);
void cli_hlt(void);
void open_nmis(void);
void nested_int3(void);
void nested_irq(void);

#endif
