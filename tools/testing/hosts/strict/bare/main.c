// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the CPU of "make strict-cpu" does, on that CPU itself: a hypervisor of its own, and
 * guests of a few instructions in the same address space. Sections are those of the AMD64
 * Architecture Programmer's Manual, volume 2.
 *
 * Without arguments all claims are tried. With "violate N" a rule is broken that ends the
 * machine: whoever runs this has to see its line.
 */
#include <stdarg.h>
#include <stdint.h>
#include "../../../../nmi-guest/guest.h"

#define MSR_EFER	0xc0000080u
#define MSR_HSAVE	0xc0010117u
#define EFER_SVME	(1ull << 12)
#define FEATURE_NRIPS	(1u << 3)
#define FEATURE_CLEAN	(1u << 5)
#define FEATURE_VNMI	(1u << 25)

/* Fields of the VMCB by their offset, appendix B. */
#define CR_WRITES	0x002
#define DR_READS	0x004
#define EXCEPTIONS	0x008
#define INTERCEPTS	0x00c
#define IOPM		0x040
#define MSRPM		0x048
#define ASID		0x058
#define INT_CTL		0x060
#define INT_STATE	0x068
#define EXIT_CODE	0x070
#define EXIT_INFO_1	0x078
#define EXIT_INFO_2	0x080
#define EXIT_INT_INFO	0x088
#define EVENT_INJ	0x0a8
#define CLEAN		0x0c0
#define NEXT_RIP	0x0c8
#define SAVE_CPL	0x4cb
#define SAVE_EFER	0x4d0
#define SAVE_CR4	0x548
#define SAVE_CR3	0x550
#define SAVE_CR0	0x558
#define SAVE_DR7	0x560
#define SAVE_DR6	0x568
#define SAVE_RFLAGS	0x570
#define SAVE_RIP	0x578
#define SAVE_RSP	0x5d8
#define SAVE_GDTR	0x460
#define SAVE_IDTR	0x480

#define EXIT_DB		0x41
#define EXIT_BP		0x43
#define EXIT_UD		0x46
#define EXIT_NP		0x4b
#define EXIT_PUSHF	0x70
#define EXIT_CPUID	0x72
#define EXIT_IRET	0x74
#define EXIT_SWINT	0x75
#define EXIT_HLT	0x78
#define EXIT_VMMCALL	0x81
#define EXIT_INVALID	(~0ull)

#define INTERCEPT(code)	(1ull << ((code) - 0x60))
#define V_NMI		(1u << 11)
#define V_NMI_MASK	(1u << 12)
#define V_NMI_ENABLE	(1u << 26)
#define EVENT(type, vector)	(1u << 31 | (type) << 8 | (vector))
#define EVENT_NMI	EVENT(2u, 2u)

struct gate {
	uint16_t low, selector, attributes, middle;
	uint32_t high, zero;
};

static struct gate idt[256] __attribute__((aligned(4096)));
static uint8_t vmcb[4096] __attribute__((aligned(4096)));
static uint8_t hsave[4096] __attribute__((aligned(4096)));
static uint8_t all_ports[3 * 4096] __attribute__((aligned(4096)));
static uint8_t all_msrs[2 * 4096] __attribute__((aligned(4096)));
static uint64_t guest_stack[512] __attribute__((aligned(4096)));
static uint64_t claims, failures;
static uint32_t features;

void vmrun(void *address);
extern uint64_t gdt[];
extern uint32_t boot_info;
extern char at_vmrun[], handlers[], insn_ud2[], guest_nmi[], guest_shadow[], after_shadow[], guest_iret[],
	guest_iret_fault[], guest_store[], after_store[], guest_rf[], guest_push[];
uint32_t watched;

/* The boot code has a second CPU in mind. */
void ap_main(void);
void ap_main(void)
{
}

static uint64_t get(unsigned int offset)
{
	return *(volatile uint64_t *)(vmcb + offset);
}

static uint32_t get32(unsigned int offset)
{
	return *(volatile uint32_t *)(vmcb + offset);
}

static void set(unsigned int offset, uint64_t value)
{
	*(volatile uint64_t *)(vmcb + offset) = value;
}

static void set32(unsigned int offset, uint32_t value)
{
	*(volatile uint32_t *)(vmcb + offset) = value;
}

static void segment(unsigned int offset, uint16_t selector, uint16_t attributes)
{
	set(offset, selector | (uint64_t)attributes << 16 | 0xffffffffull << 32);
	set(offset + 8, 0);
}

static void table(unsigned int offset, void *base, uint32_t limit)
{
	set(offset, (uint64_t)limit << 32);
	set(offset + 8, (uintptr_t)base);
}

static void write_msr(uint32_t msr, uint64_t value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

/* A guest that begins at RIP, in 64-bit mode as the host, IRQs off. */
static void prepare(void *rip)
{
	uint64_t cr0, cr3, cr4;

	asm volatile("mov %%cr0, %0; mov %%cr3, %1; mov %%cr4, %2" : "=r"(cr0), "=r"(cr3), "=r"(cr4));
	for (unsigned int i = 0; i < sizeof(vmcb); i += 8)
		set(i, 0);
	/* VMRUN, VMMCALL and what stops a guest that has gone astray. */
	set(INTERCEPTS, INTERCEPT(0x7f) | INTERCEPT(0x61) | 3ull << 32);
	set(IOPM, (uintptr_t)all_ports);
	set(MSRPM, (uintptr_t)all_msrs);
	set32(ASID, 1);
	segment(0x400, 0x10, 0xc93);
	segment(0x410, 0x08, 0xa9b);
	segment(0x420, 0x10, 0xc93);
	segment(0x430, 0x10, 0xc93);
	table(SAVE_GDTR, gdt, 0xffff);
	table(SAVE_IDTR, idt, sizeof(idt) - 1);
	set(SAVE_EFER, EFER_SVME | 0x501);
	set(SAVE_CR0, cr0);
	set(SAVE_CR3, cr3);
	set(SAVE_CR4, cr4);
	set(SAVE_DR6, 0xffff0ff0);
	set(SAVE_DR7, 0x400);
	set(SAVE_RFLAGS, 2);
	set(SAVE_RIP, (uintptr_t)rip);
	set(SAVE_RSP, (uintptr_t)&guest_stack[512 - 8]);
}

static void print_value(const char *name, uint64_t value)
{
	print("# %s is %lx\n", name, value);
}

static void claim(int holds, const char *text)
{
	print("%s %lu %s\n", holds ? "ok" : "not ok", ++claims, text);
	if (holds)
		return;
	failures++;
	print_value("exit_code", get(EXIT_CODE));
	print_value("rip", get(SAVE_RIP));
	print_value("next_rip", get(NEXT_RIP));
	print_value("int_ctl", get32(INT_CTL));
	print_value("exit_int_info", get32(EXIT_INT_INFO));
}

static int stopped_in_handler(unsigned int vector)
{
	return get(EXIT_CODE) == EXIT_VMMCALL && get(SAVE_RIP) == (uintptr_t)handlers + 16 * vector;
}

static int stopped_at(char *label)
{
	return get(EXIT_CODE) == EXIT_VMMCALL && get(SAVE_RIP) == (uintptr_t)label;
}

static uint64_t on_stack(unsigned int word)
{
	return ((volatile uint64_t *)get(SAVE_RSP))[word];
}

static void set_present(unsigned int vector, int present)
{
	idt[vector].attributes = present ? 0x8e00 : 0x0e00;
}

#define INSN(name, code, intercepts, cr, dr, exceptions) { \
	#name, insn_ ## name, next_ ## name, code, intercepts, cr, dr, exceptions }
#define DECLARE(name) extern char insn_ ## name[], next_ ## name[]

DECLARE(cpuid);
DECLARE(cpuid_prefix);
DECLARE(rdtsc);
DECLARE(mov_cr0);
DECLARE(mov_cr8);
DECLARE(mov_dr7);
DECLARE(lgdt);
DECLARE(invlpg);
DECLARE(invlpg_rip);
DECLARE(rdmsr);
DECLARE(in_number);
DECLARE(outsb);
DECLARE(pushf);
DECLARE(iret);
DECLARE(hlt);
DECLARE(int);
DECLARE(int3);
DECLARE(int_3);

static const struct insn {
	const char *name;
	char *at, *next;
	uint64_t code, intercepts;
	uint16_t cr, dr;
	uint32_t exceptions;
} insns[] = {
	INSN(cpuid, EXIT_CPUID, INTERCEPT(EXIT_CPUID), 0, 0, 0),
	INSN(cpuid_prefix, EXIT_CPUID, INTERCEPT(EXIT_CPUID), 0, 0, 0),
	INSN(rdtsc, 0x6e, INTERCEPT(0x6e), 0, 0, 0),
	INSN(mov_cr0, 0x10, 0, 1, 0, 0),
	INSN(mov_cr8, 0x18, 0, 1 << 8, 0, 0),
	INSN(mov_dr7, 0x27, 0, 0, 1 << 7, 0),
	INSN(lgdt, 0x6b, INTERCEPT(0x6b), 0, 0, 0),
	INSN(invlpg, 0x79, INTERCEPT(0x79), 0, 0, 0),
	INSN(invlpg_rip, 0x79, INTERCEPT(0x79), 0, 0, 0),
	INSN(rdmsr, 0x7c, INTERCEPT(0x7c), 0, 0, 0),
	INSN(in_number, 0x7b, INTERCEPT(0x7b), 0, 0, 0),
	INSN(outsb, 0x7b, INTERCEPT(0x7b), 0, 0, 0),
	INSN(pushf, EXIT_PUSHF, INTERCEPT(EXIT_PUSHF), 0, 0, 0),
	INSN(iret, EXIT_IRET, INTERCEPT(EXIT_IRET), 0, 0, 0),
	INSN(hlt, EXIT_HLT, INTERCEPT(EXIT_HLT), 0, 0, 0),
	INSN(int, EXIT_SWINT, INTERCEPT(EXIT_SWINT), 0, 0, 0),
	INSN(int_3, EXIT_SWINT, INTERCEPT(EXIT_SWINT), 0, 0, 1 << 3),
	INSN(int3, EXIT_BP, INTERCEPT(EXIT_SWINT), 0, 0, 1 << 3),
};

static void try_insns(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(insns); i++) {
		const struct insn *insn = &insns[i];

		prepare(insn->at);
		set(INTERCEPTS, get(INTERCEPTS) | insn->intercepts);
		*(volatile uint16_t *)(vmcb + CR_WRITES) = insn->cr;
		*(volatile uint16_t *)(vmcb + DR_READS) = insn->dr;
		set32(EXCEPTIONS, insn->exceptions);
		vmrun(vmcb);
		print("# %s\n", insn->name);
		claim(get(EXIT_CODE) == insn->code && get(SAVE_RIP) == (uintptr_t)insn->at &&
		      get(NEXT_RIP) == (uintptr_t)insn->next,
		      "15.7.1: NextRIP is after the instruction that is intercepted, RIP before it");
	}
	prepare(insn_ud2);
	set32(EXCEPTIONS, 1 << 6);
	set(NEXT_RIP, 0x1234);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_UD && get(NEXT_RIP) == 0, "15.7.1: NextRIP is 0 where no instruction is intercepted");
}

static void try_injection(void)
{
	prepare(guest_nmi);
	set32(EVENT_INJ, EVENT(4u, 0x40u));
	set(NEXT_RIP, 0x123456);
	vmrun(vmcb);
	claim(stopped_in_handler(0x40) && on_stack(0) == 0x123456,
	      "15.20: an INTn that is injected returns to NextRIP");

	prepare(guest_nmi);
	set32(EVENT_INJ, EVENT(3u, 3u));
	set(NEXT_RIP, 0x123456);
	vmrun(vmcb);
	claim(stopped_in_handler(3) && on_stack(0) == 0x123456,
	      "15.20: an INT3 that is injected returns to NextRIP");

	prepare(guest_nmi);
	set32(EVENT_INJ, EVENT(3u, 6u));
	set(NEXT_RIP, 0x123456);
	vmrun(vmcb);
	claim(stopped_in_handler(6) && on_stack(0) == (uintptr_t)guest_nmi,
	      "15.20: another exception that is injected does not");

	prepare(guest_nmi);
	set32(EVENT_INJ, EVENT_NMI);
	vmrun(vmcb);
	claim(stopped_in_handler(2) && on_stack(0) == (uintptr_t)guest_nmi && get32(EVENT_INJ) == 0,
	      "15.20: an NMI that is injected comes before the first instruction");
	claim(on_stack(2) == 2, "13.1.4: it pushes no RF");

	prepare(guest_nmi);
	set32(EVENT_INJ, EVENT(3u, 2u));
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_INVALID, "15.20: VMRUN fails with an exception of vector 2");

	prepare(guest_nmi);
	set32(EVENT_INJ, EVENT(1u, 2u));
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_INVALID, "15.20: VMRUN fails with a reserved type");

	/* The gate is absent: #NP while the event is delivered. */
	set_present(3, 0);
	prepare(insn_int3);
	set32(EXCEPTIONS, 1 << 11);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_NP && get32(EXIT_INT_INFO) == EVENT(3u, 3u) && get(NEXT_RIP) == 0 &&
	      get(SAVE_RIP) == (uintptr_t)insn_int3, "15.20: INT3 is an exception in EXITINTINFO");
	prepare(insn_int_3);
	set32(EXCEPTIONS, 1 << 11);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_NP && get32(EXIT_INT_INFO) == EVENT(4u, 3u) && get(NEXT_RIP) == 0,
	      "15.20: INT 3 is a software interrupt in EXITINTINFO");
	set_present(3, 1);
}

static void try_rubbish(void)
{
	uint64_t first[3];

	prepare(insn_cpuid);
	set(INTERCEPTS, get(INTERCEPTS) | INTERCEPT(EXIT_CPUID));
	vmrun(vmcb);
	first[0] = get(EXIT_INFO_1);
	first[1] = get(EXIT_INFO_2);
	first[2] = get32(EXIT_INT_INFO);
	vmrun(vmcb);
	claim(get(EXIT_INFO_1) != first[0] && get(EXIT_INFO_2) != first[1] && get32(EXIT_INT_INFO) != first[2],
	      "appendix C, 15.7.2: what says nothing at an exit is rubbish");
	claim(!(get32(EXIT_INT_INFO) & 1u << 31), "15.7.2: EXITINTINFO.V is clear where nothing was delivered");
	print_value("rubbish", get(EXIT_INFO_1));
}

/* What the IRETs of guests return to. */
static void push_frame(void *rip, uint16_t cs)
{
	uint64_t *frame = &guest_stack[512 - 16];

	frame[0] = (uintptr_t)rip;
	frame[1] = cs;
	frame[2] = 2;
	frame[3] = (uintptr_t)&guest_stack[512 - 8];
	frame[4] = DATA;
	set(SAVE_RSP, (uintptr_t)frame);
}

static void watch(void *address)
{
	asm volatile("mov %0, %%dr0" : : "r"(address));
	set(SAVE_DR7, 0x400 | 2 | 0xdull << 16);
	set32(EXCEPTIONS, 1 << 1);
}

static void try_debug(void)
{
	prepare(guest_store);
	watch(&watched);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_DB && get(SAVE_RIP) == (uintptr_t)after_store && (get(SAVE_DR6) & 0xf) == 1,
	      "15.12.2: a watchpoint that hits is an exit after the store, DR6 in the VMCB says so");

	/* The frame is written above the watched word, too. */
	prepare(guest_push);
	watch(&guest_stack[512 - 8 - 1]);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_DB && get(SAVE_RIP) == (uintptr_t)handlers + 16 * 0x40 &&
	      (get(SAVE_DR6) & 0xf) == 1,
	      "15.12.2: one that the frame of an event hits is an exit at the handler");

	prepare(guest_rf);
	set(SAVE_RFLAGS, 2 | FLAG_RF);
	push_frame(guest_nmi, CODE64);
	guest_stack[512 - 16 + 2] = 2 | FLAG_RF;
	asm volatile("mov %0, %%dr0" : : "r"(guest_nmi));
	set(SAVE_DR7, 0x400 | 2);
	set32(EXCEPTIONS, 1 << 1);
	vmrun(vmcb);
	claim(stopped_at(guest_nmi + 1), "13.1.4: an IRET that runs with RF pops RF all the same");
}

static void try_clean_bits(void)
{
	prepare(insn_cpuid);
	vmrun(vmcb);
	set(INTERCEPTS, get(INTERCEPTS) | INTERCEPT(EXIT_CPUID));
	set(SAVE_RIP, (uintptr_t)insn_cpuid);
	set32(CLEAN, 0x1ffe);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_CPUID, "15.15: a field whose clean bit is clear comes from memory");
}

static void prepare_vnmi(void *rip, uint32_t int_ctl)
{
	prepare(rip);
	set32(INT_CTL, V_NMI_ENABLE | int_ctl);
}

static void try_vnmi(void)
{
	int kept = 0, cleared = 0;

	prepare_vnmi(guest_nmi, V_NMI);
	vmrun(vmcb);
	claim(stopped_in_handler(2) && on_stack(0) == (uintptr_t)guest_nmi &&
	      get32(INT_CTL) == (V_NMI_ENABLE | V_NMI_MASK),
	      "15.21.10: V_NMI is taken at once, goes away and masks NMIs");

	prepare_vnmi(guest_nmi, V_NMI | V_NMI_MASK);
	vmrun(vmcb);
	claim(stopped_at(guest_nmi + 1) && get32(INT_CTL) == (V_NMI_ENABLE | V_NMI | V_NMI_MASK),
	      "15.21.10: V_NMI waits while NMIs are masked");

	prepare_vnmi(guest_iret, V_NMI | V_NMI_MASK);
	push_frame(guest_nmi, CODE64);
	vmrun(vmcb);
	claim(stopped_in_handler(2) && on_stack(0) == (uintptr_t)guest_nmi,
	      "15.21.10: an IRET unmasks, and V_NMI is taken before the next instruction");

	prepare_vnmi(guest_iret_fault, V_NMI | V_NMI_MASK);
	push_frame(guest_nmi, ABSENT_CODE);
	set32(EXCEPTIONS, 1 << 11);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_NP && get32(INT_CTL) == (V_NMI_ENABLE | V_NMI | V_NMI_MASK),
	      "15.21.10: an IRET that faults does not unmask");

	prepare_vnmi(guest_shadow, V_NMI);
	set32(INT_STATE, 1);
	vmrun(vmcb);
	claim(stopped_in_handler(2) && on_stack(0) == (uintptr_t)after_shadow,
	      "15.21.10: V_NMI waits for the end of the interrupt shadow");

	prepare_vnmi(insn_int, V_NMI);
	set32(INT_STATE, 1);
	vmrun(vmcb);
	claim(stopped_in_handler(2) && on_stack(0) == (uintptr_t)handlers + 16 * 0x40,
	      "15.21.5: INTn in the shadow ends it, and V_NMI is taken before its handler");

	prepare_vnmi(guest_nmi, V_NMI | 1u << 25);
	vmrun(vmcb);
	claim(stopped_at(guest_nmi + 1) && (get32(INT_CTL) & V_NMI), "15.33.2: V_NMI waits for V_GIF");

	prepare_vnmi(guest_nmi, V_NMI | 1u << 25 | 1u << 9);
	vmrun(vmcb);
	claim(stopped_in_handler(2), "15.33.2: V_NMI is taken with V_GIF");

	prepare_vnmi(guest_nmi, 0);
	set32(EVENT_INJ, EVENT_NMI);
	vmrun(vmcb);
	claim(stopped_in_handler(2) && (get32(INT_CTL) & V_NMI_MASK), "15.21.10: an NMI that is injected masks");

	prepare_vnmi(guest_nmi, V_NMI);
	set(INTERCEPTS, get(INTERCEPTS) & ~INTERCEPT(0x61));
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_INVALID, "15.21.10: VMRUN fails with V_NMI_ENABLE without the NMI intercept");

	set_present(2, 0);
	prepare_vnmi(guest_nmi, V_NMI);
	set32(EXCEPTIONS, 1 << 11);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_NP && get32(EXIT_INT_INFO) == EVENT_NMI && get32(INT_CTL) == V_NMI_ENABLE,
	      "15.21.10: an exit while V_NMI is delivered clears the mask, EXITINTINFO has the NMI");
	for (int i = 0; i < 64; i++) {
		prepare_vnmi(guest_nmi, 0);
		set32(EXCEPTIONS, 1 << 11);
		set32(EVENT_INJ, EVENT_NMI);
		vmrun(vmcb);
		*(get32(INT_CTL) & V_NMI_MASK ? &kept : &cleared) += 1;
	}
	claim(kept && cleared, "15.21.10 says nothing of the mask when an injected NMI meets an exit: either");
	set_present(2, 1);

	prepare(guest_nmi);
	set32(INT_CTL, V_NMI);
	vmrun(vmcb);
	claim(stopped_at(guest_nmi + 1), "15.21.10: V_NMI does nothing without V_NMI_ENABLE");
}

/* A field whose clean bit is set is changed: the CPU has to see it, and ends the machine. */
static void violate(unsigned int offset, unsigned int clean)
{
	prepare(insn_cpuid);
	set(INTERCEPTS, get(INTERCEPTS) | INTERCEPT(EXIT_CPUID));
	if (clean == 100) {
		set32(EVENT_INJ, EVENT_NMI | 1u << 12);
	} else if (clean == 101) {
		set32(CLEAN, 1);
	} else {
		vmrun(vmcb);
		vmcb[offset] ^= 1;
		set32(CLEAN, 1u << clean);
	}
	print("# vmrun %lx\n", (uint64_t)at_vmrun);
	vmrun(vmcb);
	print("# nothing has happened\n");
}

static unsigned int number(const char **text)
{
	unsigned int value = 0;

	while (**text == ' ')
		++*text;
	while (**text >= '0' && **text <= '9')
		value = 10 * value + *(*text)++ - '0';
	return value;
}

/* What follows "violate" on the command line of a multiboot loader, or NULL. */
static const char *to_violate(void)
{
	const uint32_t *info = (const uint32_t *)(uintptr_t)boot_info;
	const char *line = (const char *)(uintptr_t)info[4];
	static const char word[] = "violate ";

	for (; *line; line++) {
		unsigned int same = 0;

		while (word[same] && line[same] == word[same])
			same++;
		if (!word[same])
			return line + same;
	}
	return NULL;
}

int main(void)
{
	uint32_t eax = 0x8000000a, ebx, ecx = 0;
	const char *arguments = to_violate();

	console_init();
	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(features));
	write_msr(MSR_EFER, EFER_SVME | 0x501);
	write_msr(MSR_HSAVE, (uintptr_t)hsave);
	for (unsigned int i = 0; i < 256; i++) {
		uintptr_t to = (uintptr_t)handlers + 16 * i;

		idt[i] = (struct gate) { (uint16_t)to, CODE64, 0x8e00, (uint16_t)(to >> 16), 0, 0 };
	}
	for (unsigned int i = 0; i < sizeof(all_ports); i++)
		all_ports[i] = 0xff;
	for (unsigned int i = 0; i < sizeof(all_msrs); i++)
		all_msrs[i] = 0xff;

	if (arguments) {
		unsigned int offset = number(&arguments);

		violate(offset, number(&arguments));
	} else {
		claim(features & FEATURE_NRIPS, "CPUID has NRIPS");
		claim(features & FEATURE_CLEAN, "CPUID has clean bits");
		try_insns();
		try_injection();
		try_rubbish();
		try_clean_bits();
		try_debug();
		if (features & FEATURE_VNMI)
			try_vnmi();
		print("1..%lu\n", claims);
	}
	outb(0xf4, failures ? 1 : 0);
	for (;;)
		asm volatile("hlt");
}
