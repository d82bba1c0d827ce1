// SPDX-License-Identifier: GPL-2.0-only
/*
 * 32-bit protected mode without paging. Compiled for 32 bits; modes.S calls it from
 * 64-bit mode, which looks at the log afterwards.
 */

#include "guest.h"

struct regs32 {
	uint32_t edi, esi, ebp, esp_unused, ebx, edx, ecx, eax;
	uint32_t vector, exit;
	uint32_t eip, cs, eflags, esp, ss;	/* the last two: from another privilege only */
};

struct tss32 {
	uint32_t link, esp0, ss0, stacks[4], cr3, eip, eflags;
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
	uint32_t es, cs, ss, ds, fs, gs, ldt, iomap;
};

struct plan32 plan32;
uint32_t back32;
uint64_t idt32[256];

static struct tss32 tss32, nmi_tss32;
static uint8_t stack0[4096], nmi_stack[4096];
static struct regs32 interrupted32;
static uint32_t interrupted_esp;
static int begun;

extern uint64_t gdt[];
extern uint32_t exit32_rsp;
void on_event32(struct regs32 *regs);
void on_nmi_task(void);
void open_nmis32(void);

/* The library is for 64 bits. */
static void clear(void *at, size_t size)
{
	asm volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(0) : "memory");
}

static void send_nmi32(void)
{
	write32(APIC + APIC_ICR, ICR_NMI);
}

static void settle32(void)
{
	for (int i = 0; i < SETTLE; i++)
		asm volatile("pause");
	read32(APIC + 0x20);
}

static struct event *new_event(void)
{
	unsigned int n = cpus[0].nr++;

	return &cpus[0].events[n < MAX_EVENTS ? n : MAX_EVENTS - 1];
}

/* A frame from another privilege lies on a stack of its own; there ESP0 is where it begins. */
static int has_esp(const struct regs32 *regs)
{
	return regs->cs & 3 || regs->eflags & FLAG_VM;
}

static void go_back32(struct regs32 *regs)
{
	uint32_t *to;

	back32 = regs->eip;
	/* A frame without ESP is looked for right below the stack it goes back to. */
	to = (uint32_t *)interrupted_esp - 3;
	to[0] = interrupted32.eip;
	to[1] = interrupted32.cs;
	to[2] = interrupted32.eflags;
	exit32_rsp = (uint32_t)to;
	regs->exit = (uint32_t)exit32_elsewhere;
}

static void first_nmi32(struct regs32 *regs)
{
	static uint32_t frame[9];

	if (begun)
		return;
	begun = 1;
	interrupted32 = *regs;
	interrupted_esp = (uint32_t)&regs->esp;
	for (uint32_t i = 0; i < plan32.nmis; i++)
		send_nmi32();
	settle32();
	clear(frame, sizeof(frame));
	frame[0] = plan32.rip;
	frame[1] = plan32.cs;
	frame[2] = plan32.flags | FLAG_FIXED;
	frame[3] = plan32.rsp;
	frame[4] = plan32.ss;
	if (plan32.cs & 3 || plan32.flags & FLAG_VM) {
		exit32_rsp = (uint32_t)frame;
	} else {
		/* Without a change of privilege the stack is where the frame was. */
		uint32_t *to = (uint32_t *)&regs->esp - 3;

		to[0] = plan32.exit == (uint32_t)exit32_lret ? frame[2] : frame[0];
		to[1] = plan32.exit == (uint32_t)exit32_lret ? frame[0] : frame[1];
		to[2] = plan32.exit == (uint32_t)exit32_lret ? frame[1] : frame[2];
		exit32_rsp = (uint32_t)to;
	}
	regs->exit = plan32.exit ? plan32.exit : (uint32_t)exit32_elsewhere;
}

void on_event32(struct regs32 *regs)
{
	struct event *e = new_event();
	uint32_t flags;

	asm volatile("pushf; pop %0" : "=r"(flags));
	clear(e, sizeof(*e));
	e->vector = regs->vector;
	e->error = regs->exit;
	e->rip = regs->eip;
	e->cs = regs->cs & 0xffff;
	e->rflags = regs->eflags;
	e->flags = flags;
	e->depth = cpus[0].depth;
	if (has_esp(regs)) {
		e->rsp = regs->esp;
		e->ss = regs->ss & 0xffff;
	}
	regs->exit = (uint32_t)exit32_iret;
	cpus[0].depth++;
	if (regs->vector == VECTOR_NMI)
		first_nmi32(regs);
	else if (regs->vector < VECTOR_IRQ || regs->vector == VECTOR_BACK)
		go_back32(regs);
	cpus[0].depth--;
}

static void set_gate32(unsigned int vector, uint32_t offset, uint32_t selector, uint32_t type)
{
	idt32[vector] = (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)type << 40 |
			(uint64_t)(offset >> 16) << 48;
}

static void set_tss(unsigned int selector, const struct tss32 *tss)
{
	uint32_t base = (uint32_t)tss;

	gdt[selector / 8] = (sizeof(*tss) - 1) | (uint64_t)(base & 0xffffff) << 16 | 0x89ull << 40 |
			    (uint64_t)(base >> 24) << 56;
}

static void begin(int by_task)
{
	uint32_t cr3;

	for (unsigned int i = 0; i < 256; i++)
		set_gate32(i, (uint32_t)stubs32 + 16 * i, CODE32, i == 3 || i == VECTOR_BACK ? 0xee : 0x8e);
	if (by_task)
		set_gate32(VECTOR_NMI, 0, NMI_TSS32, 0x85);
	clear(&tss32, sizeof(tss32));
	/* Paging is off, and CR3 not to be loaded by a task switch. KVM's does, and it is wanted again. */
	asm volatile("mov %%cr3, %0" : "=r"(cr3));
	tss32.cr3 = cr3;
	tss32.esp0 = (uint32_t)stack0 + sizeof(stack0);
	tss32.ss0 = DATA;
	tss32.iomap = sizeof(tss32) << 16;
	nmi_tss32 = (struct tss32) {
		.cr3 = cr3, .eip = (uint32_t)nmi_task, .eflags = FLAG_FIXED, .esp = (uint32_t)nmi_stack + sizeof(nmi_stack),
		.es = DATA, .cs = CODE32, .ss = DATA, .ds = DATA, .fs = DATA, .gs = DATA,
		.iomap = sizeof(tss32) << 16,
	};
	set_tss(TSS32, &tss32);
	set_tss(NMI_TSS32, &nmi_tss32);
	asm volatile("ltr %w0" :: "r"(TSS32));
	cpus[0].nr = 0;
	cpus[0].depth = 0;
	back32 = 0;
	begun = 0;
}

static void finish(void)
{
	open_nmis32();
	settle32();
	open_nmis32();
}

void run_plan32(void)
{
	begin(0);
	send_nmi32();
	settle32();
	finish();
}

/* As an event: what the interrupted task's TSS says, and the flags of this one. */
void on_nmi_task(void)
{
	struct event *e = new_event();
	uint32_t flags;

	asm volatile("pushf; pop %0" : "=r"(flags));
	clear(e, sizeof(*e));
	e->vector = VECTOR_NMI;
	e->rip = tss32.eip;
	e->cs = tss32.cs;
	e->rflags = tss32.eflags;
	e->rsp = tss32.esp;
	e->ss = tss32.ss;
	e->flags = flags;
	e->depth = cpus[0].depth;
	asm volatile("str %k0" : "=r"(flags));
	e->tr = flags;
	e->error = nmi_tss32.link;
	/* Byte 5 of each descriptor: 0xb where it is busy. */
	e->frame = (gdt[TSS32 / 8] >> 40 & 0xf) | (gdt[NMI_TSS32 / 8] >> 36 & 0xf0);
	cpus[0].depth++;
	if (!begun) {
		begun = 1;
		for (uint32_t i = 0; i < plan32.nmis; i++)
			send_nmi32();
		settle32();
		tss32.eip = plan32.rip;
		tss32.eflags = plan32.flags | FLAG_FIXED;
		interrupted_esp = tss32.esp;
		interrupted32.eip = e->rip;
		interrupted32.cs = e->cs;
		interrupted32.eflags = e->rflags;
	}
	cpus[0].depth--;
}

void run_task32(void)
{
	begin(1);
	send_nmi32();
	settle32();
	finish();
}
