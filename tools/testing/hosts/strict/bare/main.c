// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the CPU of "make strict-cpu" does, on that CPU itself: a hypervisor of its own, and
 * guests of a few instructions in the same address space. Sections are those of the AMD64
 * Architecture Programmer's Manual, volume 2.
 *
 * Without arguments all claims are tried. With "violate OFFSET N" a rule is broken that ends
 * the machine: whoever runs this has to see its line.
 */
#include <stdarg.h>
#include <stdint.h>
#include "../../../../nmi-guest/guest.h"

#define MSR_EFER	0xc0000080u
#define MSR_STAR	0xc0000081u
#define MSR_LSTAR	0xc0000082u
#define MSR_SFMASK	0xc0000084u
#define MSR_HSAVE	0xc0010117u
#define EFER_SVME	(1ull << 12)
#define FEATURE_NRIPS	(1u << 3)
#define FEATURE_CLEAN	(1u << 5)
#define FEATURE_FLUSH	(1u << 6)
#define FEATURE_DECODE	(1u << 7)
#define FEATURE_VLS	(1u << 15)
#define FEATURE_VNMI	(1u << 25)

/* Fields of the VMCB by their offset, appendix B. */
#define CR_READS	0x000
#define CR_WRITES	0x002
#define DR_READS	0x004
#define EXCEPTIONS	0x008
#define INTERCEPTS	0x00c
#define IOPM		0x040
#define MSRPM		0x048
#define ASID		0x058
#define TLB_CONTROL	0x05c
#define INT_CTL		0x060
#define INT_STATE	0x068
#define EXIT_CODE	0x070
#define EXIT_INFO_1	0x078
#define EXIT_INFO_2	0x080
#define EXIT_INT_INFO	0x088
#define NP_ENABLE	0x090
#define EVENT_INJ	0x0a8
#define NESTED_CR3	0x0b0
#define VIRT_EXT	0x0b8
#define CLEAN		0x0c0
#define NEXT_RIP	0x0c8
#define INSN_BYTES	0x0d0
#define SAVE_CS		0x410
#define SAVE_TR		0x490
#define SAVE_CPL	0x4cb
#define SAVE_EFER	0x4d0
#define SAVE_CR4	0x548
#define SAVE_CR3	0x550
#define SAVE_CR0	0x558
#define SAVE_DR7	0x560
#define SAVE_DR6	0x568
#define DR7_GD		(1ull << 13)
#define SAVE_RFLAGS	0x570
#define SAVE_RIP	0x578
#define SAVE_RSP	0x5d8
#define SAVE_RAX	0x5f8
#define SAVE_PAT	0x668
#define SAVE_GDTR	0x460
#define SAVE_IDTR	0x480

#define EXIT_READ_CR2	0x02
#define EXIT_DB		0x41
#define EXIT_BP		0x43
#define EXIT_UD		0x46
#define EXIT_NP		0x4b
#define EXIT_SS		0x4c
#define EXIT_GP		0x4d
#define EXIT_PF		0x4e
#define EXIT_VINTR	0x64
#define EXIT_PUSHF	0x70
#define EXIT_CPUID	0x72
#define EXIT_IRET	0x74
#define EXIT_SWINT	0x75
#define EXIT_HLT	0x78
#define EXIT_VMMCALL	0x81
#define EXIT_NPF	0x400
#define EXIT_INVALID	(~0ull)

#define MOV_CR		(1ull << 63)
#define ABSENT		0x7f0000000000ull	/* an address that has no page */
#define NOT_CANONICAL	0x800000000000ull
#define BIG_PAGE	0x200000ull

#define INTERCEPT(code)	(1ull << ((code) - 0x60))
#define V_INTR_MASKING	(1u << 24)
#define V_IRQ		(1u << 8)
#define V_NMI		(1u << 11)
#define V_NMI_MASK	(1u << 12)
#define V_IGN_TPR	(1u << 20)
#define V_INTR_MASKING	(1u << 24)
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
static uint64_t npt[4][512] __attribute__((aligned(4096)));
static uint64_t pages[2][512] __attribute__((aligned(4096)));
static uint64_t claims, failures;
static uint32_t features;

void vmrun(void *address);
extern uint64_t gdt[];
extern uint32_t boot_info;
extern char at_vmrun[], handlers[], insn_ud2[], guest_nmi[], guest_shadow[], after_shadow[], guest_iret[],
	guest_iret_fault[], guest_sti[], guest_syscall[], after_syscall[], guest_store[], after_store[], guest_rf[], guest_push[],
	guest_read_cr2[], after_read_cr2[];
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

#define GUEST_RAX	0x1000

/* What EXITINFO1 has besides. */
#define NOTHING		0x5a5a5a5a5a5a5a5aull

#define INSN(name, code, intercepts, cr, dr, exceptions, info) { \
	#name, insn_ ## name, next_ ## name, code, intercepts, cr, dr, exceptions, info }
#define DECLARE(name) extern char insn_ ## name[], next_ ## name[]

DECLARE(cpuid);
DECLARE(cpuid_prefix);
DECLARE(rdtsc);
DECLARE(mov_cr0);
DECLARE(mov_cr8);
DECLARE(mov_dr7);
DECLARE(clts);
DECLARE(lmsw);
DECLARE(lgdt);
DECLARE(invlpg);
DECLARE(invlpg_rip);
DECLARE(invlpg_sib);
DECLARE(read);
DECLARE(read_eax);
DECLARE(vmsave);
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
	uint64_t info;
} insns[] = {
	INSN(cpuid, EXIT_CPUID, INTERCEPT(EXIT_CPUID), 0, 0, 0, NOTHING),
	INSN(cpuid_prefix, EXIT_CPUID, INTERCEPT(EXIT_CPUID), 0, 0, 0, NOTHING),
	INSN(rdtsc, 0x6e, INTERCEPT(0x6e), 0, 0, 0, NOTHING),
	INSN(mov_cr0, 0x10, 0, 1, 0, 0, MOV_CR | 0),
	INSN(mov_cr8, 0x18, 0, 1 << 8, 0, 0, MOV_CR | 0),
	INSN(mov_dr7, 0x27, 0, 0, 1 << 7, 0, 9),
	INSN(clts, 0x10, 0, 1, 0, 0, 0),
	INSN(lmsw, 0x10, 0, 1, 0, 0, 0),
	INSN(lgdt, 0x6b, INTERCEPT(0x6b), 0, 0, 0, NOTHING),
	INSN(invlpg, 0x79, INTERCEPT(0x79), 0, 0, 0, NOTHING),
	INSN(invlpg_rip, 0x79, INTERCEPT(0x79), 0, 0, 0, (uintptr_t)handlers),
	INSN(invlpg_sib, 0x79, INTERCEPT(0x79), 0, 0, 0,
	     (uintptr_t)&guest_stack[512 - 8] + 0x12345678 + 4 * GUEST_RAX),
	INSN(rdmsr, 0x7c, INTERCEPT(0x7c), 0, 0, 0, NOTHING),
	INSN(in_number, 0x7b, INTERCEPT(0x7b), 0, 0, 0, NOTHING),
	INSN(outsb, 0x7b, INTERCEPT(0x7b), 0, 0, 0, NOTHING),
	INSN(pushf, EXIT_PUSHF, INTERCEPT(EXIT_PUSHF), 0, 0, 0, NOTHING),
	INSN(iret, EXIT_IRET, INTERCEPT(EXIT_IRET), 0, 0, 0, NOTHING),
	INSN(hlt, EXIT_HLT, INTERCEPT(EXIT_HLT), 0, 0, 0, NOTHING),
	INSN(int, EXIT_SWINT, INTERCEPT(EXIT_SWINT), 0, 0, 0, 0x40),
	INSN(int_3, EXIT_SWINT, INTERCEPT(EXIT_SWINT), 0, 0, 1 << 3, 3),
	INSN(int3, EXIT_BP, INTERCEPT(EXIT_SWINT), 0, 0, 1 << 3, NOTHING),
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
		set(SAVE_RAX, GUEST_RAX);
		vmrun(vmcb);
		print("# %s\n", insn->name);
		claim(get(EXIT_CODE) == insn->code && get(SAVE_RIP) == (uintptr_t)insn->at &&
		      get(NEXT_RIP) == (uintptr_t)insn->next,
		      "15.7.1: NextRIP is after the instruction that is intercepted, RIP before it");
		if (insn->info != NOTHING)
			claim(get(EXIT_INFO_1) == insn->info,
			      "15.8: EXITINFO1 has its register, number or address");
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
	claim(on_stack(2) == (2 | FLAG_RF), "8.9: a fault that is injected pushes RF, as others do");
	prepare(guest_nmi);
	set32(EVENT_INJ, EVENT(0u, 0x40u));
	vmrun(vmcb);
	claim(stopped_in_handler(0x40) && on_stack(2) == 2, "8.9: an interrupt pushes no RF");

	prepare(guest_nmi);
	set32(EVENT_INJ, EVENT_NMI);
	vmrun(vmcb);
	claim(stopped_in_handler(2) && on_stack(0) == (uintptr_t)guest_nmi && get32(EVENT_INJ) == 0,
	      "15.20: an NMI that is injected comes before the first instruction");
	claim(on_stack(2) == 2, "8.9: nor does an NMI");

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

	prepare(guest_store);
	watch(&watched);
	set(SAVE_DR7, get(SAVE_DR7) | DR7_GD);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_DB && get(SAVE_DR7) == (0x400 | 2 | 0xdull << 16),
	      "15.12.2: a #DB that is intercepted has cleared GD in DR7");

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

static void try_instructions(void)
{
	prepare(guest_sti);
	set32(INT_CTL, V_INTR_MASKING);
	vmrun(vmcb);
	claim(stopped_at(guest_sti + 1) && get32(INT_STATE) == 1, "volume 3, STI: a shadow where IRQs were off");
	prepare(guest_sti);
	set32(INT_CTL, V_INTR_MASKING);
	set(SAVE_RFLAGS, 2 | FLAG_IF);
	vmrun(vmcb);
	claim(stopped_at(guest_sti + 1) && get32(INT_STATE) == 0, "volume 3, STI: none where they were on");

	write_msr(MSR_STAR, (uint64_t)CODE64 << 32);
	write_msr(MSR_LSTAR, (uintptr_t)after_syscall);
	write_msr(MSR_SFMASK, 1);
	prepare(guest_syscall);
	set(SAVE_RFLAGS, 2 | 1 | 1 << 6 | 1 << 10);
	vmrun(vmcb);
	claim(stopped_at(after_syscall) && get(SAVE_RFLAGS) == (2 | 1 << 6 | 1 << 10),
	      "volume 3, SYSCALL: only the flags in SFMASK are cleared");

	prepare(guest_iret_fault);
	push_frame((void *)NOT_CANONICAL, CODE64);
	set32(EXCEPTIONS, 1 << 13);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_GP && get(EXIT_INFO_1) == 0 && get(SAVE_RIP) == (uintptr_t)guest_iret_fault,
	      "8.2.14: an IRET to an address that is not canonical takes #GP");
	prepare(guest_iret_fault);
	set(SAVE_RSP, NOT_CANONICAL - 8);
	set32(EXCEPTIONS, 1 << 12 | 1 << 14);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_SS && get(EXIT_INFO_1) == 0 && get(SAVE_RIP) == (uintptr_t)guest_iret_fault,
	      "8.2.13: one whose frame ends there takes #SS");

	prepare(guest_read_cr2);
	*(volatile uint16_t *)(vmcb + CR_READS) = 1;
	vmrun(vmcb);
	claim(stopped_at(after_read_cr2), "15.9: an intercept of CR0's reads is none of CR2's");
	prepare(guest_read_cr2);
	*(volatile uint16_t *)(vmcb + CR_READS) = 1 << 2;
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_READ_CR2 && get(SAVE_RIP) == (uintptr_t)guest_read_cr2,
	      "15.9: those have one of their own");
}

static int has_bytes(unsigned int bytes, const char *of)
{
	if ((vmcb[INSN_BYTES] & 0xf) != bytes)
		return 0;
	while (bytes--) {
		if (vmcb[INSN_BYTES + 1 + bytes] != (uint8_t)of[bytes])
			return 0;
	}
	return 1;
}

static void try_insn_bytes(void)
{
	prepare(insn_read_eax);
	set32(EXCEPTIONS, 1u << 14);
	set(SAVE_RAX, ABSENT);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_PF && get(EXIT_INFO_2) == ABSENT && has_bytes(15, insn_read_eax),
	      "15.8.4: a #PF that is intercepted has the instruction's bytes");

	prepare((void *)ABSENT);
	set32(EXCEPTIONS, 1u << 14);
	set(INSN_BYTES, ~0ull);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_PF && has_bytes(0, ""), "15.8.4: none of one that could not be fetched");

	prepare(insn_cpuid);
	set(INTERCEPTS, get(INTERCEPTS) | INTERCEPT(EXIT_CPUID));
	set(INSN_BYTES, ~0ull);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_CPUID && has_bytes(0, ""), "15.8.4: nor are there any at other exits");
}

/* Nested paging: all of the first GB where it is, but for the two pages, by 4 KB each. */
static void map_nested(void)
{
	uintptr_t base = (uintptr_t)pages & ~(BIG_PAGE - 1);

	npt[0][0] = (uintptr_t)npt[1] | 7;
	npt[1][0] = (uintptr_t)npt[2] | 7;
	for (unsigned int i = 0; i < 512; i++) {
		npt[2][i] = i * BIG_PAGE | 0x87;
		npt[3][i] = (base + i * 4096) | 7;
	}
	npt[2][base / BIG_PAGE] = (uintptr_t)npt[3] | 7;
}

static uint64_t *nested_pte(void *page)
{
	return &npt[3][((uintptr_t)page & (BIG_PAGE - 1)) / 4096];
}

static void prepare_nested(void *rip)
{
	prepare(rip);
	map_nested();
	set(NP_ENABLE, 1);
	set(NESTED_CR3, (uintptr_t)npt[0]);
	set(SAVE_PAT, 0x0007040600070406ull);
	set32(TLB_CONTROL, 1);
	set(SAVE_RAX, (uintptr_t)pages[0]);
}

/* What the guest reads in the first page; it stops after its load. */
static uint64_t read_again(uint32_t tlb_control)
{
	set(SAVE_RIP, (uintptr_t)insn_read_eax);
	set(SAVE_RAX, (uintptr_t)pages[0]);
	set32(TLB_CONTROL, tlb_control);
	vmrun(vmcb);
	return stopped_at(next_read_eax) ? get(SAVE_RAX) : 0;
}

static void try_nested_paging(void)
{
	char *at_end;

	pages[0][0] = 1;
	pages[1][0] = 2;
	prepare_nested(insn_read_eax);
	claim(read_again(1) == 1, "15.25: nested paging leads to the page");
	*nested_pte(pages[0]) = (uintptr_t)pages[1] | 7;
	claim(read_again(0) == 1, "15.16: a translation that is not flushed is kept");
	set32(ASID, 2);
	claim(read_again(0) == 2, "15.16: another ASID has its own");
	*nested_pte(pages[0]) = (uintptr_t)pages[0] | 7;
	set32(ASID, 1);
	claim(read_again(3) == 1, "15.16.1: TLB_CONTROL flushes those of this ASID");
	set32(ASID, 2);
	claim(read_again(0) == 2, "15.16.1: and leaves those of others");
	claim(read_again(1) == 1, "15.16.1: or all");

	prepare_nested(insn_read_eax);
	*nested_pte(pages[0]) = 0;
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_NPF && get(EXIT_INFO_2) == (uintptr_t)pages[0] &&
	      has_bytes(15, insn_read_eax), "15.8.4: a nested page fault has the instruction's bytes");

	/* The load is the last thing in the first of the two pages. */
	at_end = (char *)pages + 4096 - 2;
	at_end[0] = insn_read_eax[0];
	at_end[1] = insn_read_eax[1];
	prepare_nested(at_end);
	set32(EXCEPTIONS, 1u << 14);
	set(SAVE_RAX, ABSENT);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_PF && has_bytes(15, at_end), "15.8.4: also those in the next page");
	prepare_nested(at_end);
	*nested_pte(pages[1]) = 0;
	set32(EXCEPTIONS, 1u << 14);
	set(SAVE_RAX, ABSENT);
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_PF && has_bytes(2, at_end), "15.8.4: but for those that could not be fetched");
}

static void try_vls(void)
{
	prepare_nested(insn_vmsave);
	*nested_pte(pages[0]) = (uintptr_t)pages[1] | 7;
	set(VIRT_EXT, 2);
	pages[0][SAVE_TR / 8] = pages[1][SAVE_TR / 8] = NOTHING;
	vmrun(vmcb);
	claim(stopped_at(next_vmsave) && pages[0][SAVE_TR / 8] == NOTHING && pages[1][SAVE_TR / 8] != NOTHING,
	      "15.33.1: VMSAVE writes where nested paging leads");
}

#define REFUSES "15.5.1: VMRUN refuses, and changes nothing: "

/* And 15.20, 15.25: one at a time. */
static const struct {
	const char *claim;
	uint16_t offset, bits;		/* of a field of 64 bits */
	uint64_t clear, set;
} refused[] = {
	{ REFUSES "EFER.SVME is clear", SAVE_EFER, 64, EFER_SVME, 0 },
	{ REFUSES "a reserved bit of EFER is set", SAVE_EFER, 64, 0, 1ull << 9 },
	{ REFUSES "CR0.NW is set and CR0.CD is not", SAVE_CR0, 64, 1ull << 30, 1ull << 29 },
	{ REFUSES "CR0 has more than 32 bits", SAVE_CR0, 64, 0, 1ull << 32 },
	{ REFUSES "CR3 has more bits than addresses", SAVE_CR3, 64, 0, 1ull << 62 },
	{ REFUSES "a reserved bit of CR4 is set", SAVE_CR4, 64, 0, 1ull << 31 },
	{ REFUSES "paging in long mode has no PAE", SAVE_CR4, 64, 1ull << 5, 0 },
	{ REFUSES "DR6 has more than 32 bits", SAVE_DR6, 64, 0, 1ull << 32 },
	{ REFUSES "DR7 has more than 32 bits", SAVE_DR7, 64, 0, 1ull << 32 },
	{ REFUSES "code is of 64 and of 32 bits", SAVE_CS, 64, 0, 0x400ull << 16 },
	{ REFUSES "VMRUN is not intercepted", INTERCEPTS, 64, 1ull << 32, 0 },
	{ REFUSES "the ASID is that of the host", ASID, 32, ~0ull, 0 },
	{ REFUSES "the map of ports is beyond all memory", IOPM, 64, 0, 1ull << 52 },
	{ REFUSES "the map of MSRs is beyond all memory", MSRPM, 64, 0, 1ull << 52 },
	{ REFUSES "an injected exception has no such vector", EVENT_INJ, 32, 0, EVENT(3u, 32u) },
	{ REFUSES "an injected exception has a vector that is none's", EVENT_INJ, 32, 0, EVENT(3u, 15u) },
	{ REFUSES "an injected event has no such type", EVENT_INJ, 32, 0, EVENT(5u, 32u) },
	{ REFUSES "BOUND is to trap in 64-bit code", EVENT_INJ, 32, 0, EVENT(3u, 5u) },
	{ REFUSES "INTO is to trap in 64-bit code", EVENT_INJ, 32, 0, EVENT(3u, 4u) },
	{ REFUSES "nested paging begins beyond all memory", NESTED_CR3, 64, 0, 1ull << 52 },
	{ REFUSES "the guest's PAT has a reserved type", SAVE_PAT, 64, 0xff, 2 },
};

static void try_refused(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(refused); i++) {
		unsigned int offset = refused[i].offset;

		prepare_nested(guest_nmi);
		set32(INT_CTL, V_NMI);
		if (refused[i].bits == 32)
			set32(offset, (get32(offset) & ~(uint32_t)refused[i].clear) | (uint32_t)refused[i].set);
		else
			set(offset, (get(offset) & ~refused[i].clear) | refused[i].set);
		vmrun(vmcb);
		claim(get(EXIT_CODE) == EXIT_INVALID && get(SAVE_RIP) == (uintptr_t)guest_nmi &&
		      get(SAVE_RFLAGS) == 2 && get32(INT_CTL) == V_NMI, refused[i].claim);
	}
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

	idt[2].attributes = 0x8f00;	/* IF stays set */
	prepare_vnmi(guest_nmi, V_NMI | V_IRQ | V_IGN_TPR | V_INTR_MASKING);
	set(SAVE_RFLAGS, get(SAVE_RFLAGS) | 0x200);
	set(INTERCEPTS, get(INTERCEPTS) | INTERCEPT(EXIT_VINTR));
	vmrun(vmcb);
	claim(get(EXIT_CODE) == EXIT_VINTR && get(SAVE_RIP) == (uintptr_t)handlers + 16 * 2,
	      "15.21.4: where V_NMI leaves IF set an interrupt comes before its handler's first instruction");
	set_present(2, 1);

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
	} else if (clean == 103) {
		set32(TLB_CONTROL, 2);
	} else if (clean == 102) {
		vmrun(vmcb);
		/* Not what the CPU has, and a VMRUN that fails changes nothing about that. */
		vmcb[EXCEPTIONS] ^= 1;
		set32(ASID, 0);
		vmrun(vmcb);
		set32(ASID, 1);
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
		claim((features & (FEATURE_FLUSH | FEATURE_DECODE | FEATURE_VLS)) ==
		      (FEATURE_FLUSH | FEATURE_DECODE | FEATURE_VLS),
		      "CPUID has flushes by ASID, decode assists, virtual VMLOAD and VMSAVE");
		try_insns();
		try_injection();
		try_rubbish();
		try_clean_bits();
		try_debug();
		try_instructions();
		try_insn_bytes();
		try_nested_paging();
		try_vls();
		try_refused();
		if (features & FEATURE_VNMI)
			try_vnmi();
		print("1..%lu\n", claims);
	}
	outb(0xf4, failures ? 1 : 0);
	for (;;)
		asm volatile("hlt");
}
