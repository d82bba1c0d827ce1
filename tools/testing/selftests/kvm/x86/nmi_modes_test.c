// SPDX-License-Identifier: GPL-2.0-only
/*
 * NMIs in the modes a machine boots through: real mode and 32-bit protected mode
 * without paging.
 *
 * The guest is a few instructions in bare memory. It stops in an OUT, where the
 * host sends NMIs; the handler writes frame and BX after the interrupt table.
 *
 * A wrong implementation takes the 16-bit IRET for something else than the end
 * of the handler (it is emulated where the CPU cannot run real mode), or looks
 * for the return address without the segment's base. KVM can be told to emulate
 * an instruction, by a prefix and a parameter of kvm.ko: so it is seen everywhere.
 */
#include "nmi_flat32.h"

#define CODE_SEGMENT	0x100	/* not 0, so that IP and linear address differ */
#define CODE		(CODE_SEGMENT * 16)
#define LOG		0x500
#define STACK		0x4000
#define IDT		0x4000
#define GDT		0x5000
#define MEMORY_PAGES	16

struct mode_log {
	uint32_t nr, unused[3];
	struct { uint32_t ip, cs, flags, bx; } nmi[4];
};

struct mode {
	char *code, *end, *next, *after_hlt, *handler;
	void (*enter)(struct kvm_vcpu *vcpu, const struct mode *mode);
};

#define STR(x)	__stringify(x)

extern char real_code[], real_next[], real_after_hlt[], real_handler[], real_end[];
extern char real_prefix[];
extern char flat_code[], flat_next[], flat_after_hlt[], flat_handler[], flat_end[];

/* What comes before READY is for Bochs, see guest_start. */
asm(".pushsection .rodata\n"
    ".code16\n"
    "real_code:\n"
    "	xor %ax, %ax; mov %ax, %ds; mov %ax, %ss\n"
    "	pushf; push %cs; push $(1f - real_code); iret\n"
    "1:	orb $0, 0\n"			/* the vectors */
    "	xor %bx, %bx\n"
    ASM_STAGE(STAGE_READY)
    "real_next:\n"
    "	inc %bx; inc %bx; inc %bx\n"
    ASM_STAGE(STAGE_END)
    "	hlt\n"
    "real_after_hlt:\n"
    "	inc %bx\n"
    ASM_STAGE(STAGE_END)
    "real_handler:\n"
    "	push %bp; mov %sp, %bp; push %eax; push %di\n"
    "	mov " STR(LOG) ", %di\n"
    "	shl $4, %di\n"
    "	mov 2(%bp), %ax; mov %ax, " STR(LOG) "+16(%di)\n"
    "	mov 4(%bp), %ax; mov %ax, " STR(LOG) "+20(%di)\n"
    "	mov 6(%bp), %ax; mov %ax, " STR(LOG) "+24(%di)\n"
    "	mov %bx, " STR(LOG) "+28(%di)\n"
    "	incw " STR(LOG) "\n"
    "	cmpw $1, " STR(LOG) "\n"
    "	jne 1f\n"
    ASM_STAGE(STAGE_HANDLER)
    "1:	pop %di; pop %eax; pop %bp\n"
    "real_prefix: nop; nop; nop; nop; nop\n"
    "	iret\n"
    "real_end:\n"

    ".code32\n"
    "flat_code:\n"
    "	pushf; push %cs; push $(1f - flat_code + " STR(CODE) "); iret\n"
    "1:	orb $0, " STR(IDT) "\n"
    "	xor %ebx, %ebx\n"
    ASM_STAGE(STAGE_READY)
    "flat_next:\n"
    "	inc %ebx; inc %ebx; inc %ebx\n"
    ASM_STAGE(STAGE_END)
    "	hlt\n"
    "flat_after_hlt:\n"
    "	inc %ebx\n"
    ASM_STAGE(STAGE_END)
    "flat_handler:\n"
    "	push %ebp; mov %esp, %ebp; push %eax; push %edi\n"
    "	mov " STR(LOG) ", %edi\n"
    "	shl $4, %edi\n"
    "	mov 4(%ebp), %eax; mov %eax, " STR(LOG) "+16(%edi)\n"
    "	mov 8(%ebp), %eax; mov %eax, " STR(LOG) "+20(%edi)\n"
    "	mov 12(%ebp), %eax; mov %eax, " STR(LOG) "+24(%edi)\n"
    "	mov %ebx, " STR(LOG) "+28(%edi)\n"
    "	incl " STR(LOG) "\n"
    "	cmpl $1, " STR(LOG) "\n"
    "	jne 1f\n"
    ASM_STAGE(STAGE_HANDLER)
    "1:	pop %edi; pop %eax; pop %ebp\n"
    "	iret\n"
    "flat_end:\n"
    ".code64\n"
    ".popsection\n");

static void enter_real(struct kvm_vcpu *vcpu, const struct mode *mode)
{
	uint16_t vector[2] = { mode->handler - mode->code, CODE_SEGMENT };
	struct kvm_regs regs = { .rflags = RFLAGS_FIXED, .rsp = STACK };
	struct kvm_sregs sregs;

	memcpy(memory32(vcpu, 4 * NMI_VECTOR), vector, sizeof(vector));

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cs = segment32(CODE_SEGMENT, CODE, 11, false);
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
}

/* A segment whose limit no CPU loads there: emulated if real mode is not the CPU's. */
static void enter_big_real(struct kvm_vcpu *vcpu, const struct mode *mode)
{
	struct kvm_sregs sregs;

	enter_real(vcpu, mode);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.fs.limit = -1;
	sregs.fs.g = 1;
	vcpu_sregs_set(vcpu, &sregs);
}

static void enter_flat(struct kvm_vcpu *vcpu, const struct mode *mode)
{
	const uint64_t gdt[] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };
	uint64_t gate = 0x00008e0000080000 | (mode->handler - mode->code + CODE);
	struct kvm_regs regs = {
		.rflags = RFLAGS_FIXED, .rsp = STACK, .rip = CODE,
	};
	struct kvm_sregs sregs;

	memcpy(memory32(vcpu, GDT), gdt, sizeof(gdt));
	memcpy(memory32(vcpu, IDT + 8 * NMI_VECTOR), &gate, sizeof(gate));

	vcpu_sregs_get(vcpu, &sregs);
	sregs.gdt = (struct kvm_dtable) { .base = GDT, .limit = sizeof(gdt) - 1 };
	sregs.idt = (struct kvm_dtable) { .base = IDT, .limit = 256 * 8 - 1 };
	sregs.cr0 |= X86_CR0_PE;
	sregs.cs = segment32(8, 0, 11, true);
	sregs.ds = sregs.es = sregs.ss = segment32(16, 0, 3, true);
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
}

static const struct mode real = {
	real_code, real_end, real_next, real_after_hlt, real_handler, enter_real,
};

static const struct mode big_real = {
	real_code, real_end, real_next, real_after_hlt, real_handler, enter_big_real,
};

static const struct mode flat = {
	flat_code, flat_end, flat_next, flat_after_hlt, flat_handler, enter_flat,
};

static struct kvm_vcpu *run_to_ready(const struct mode *mode)
{
	struct kvm_vcpu *vcpu = create_bare_vm(MEMORY_PAGES);

	memcpy(memory32(vcpu, CODE), mode->code, mode->end - mode->code);
	mode->enter(vcpu, mode);
	run_to(vcpu, STAGE_READY);
	return vcpu;
}

/* NMI number nr was taken with IP at a label, before the INC there. */
static void check_nmi(struct kvm_vcpu *vcpu, const struct mode *mode,
		      unsigned int nr, char *label, uint32_t bx)
{
	const struct mode_log *log = memory32(vcpu, LOG);
	uint32_t ip = label - mode->code;

	if (mode == &flat)
		ip += CODE;
	CHECK_EQ(log->nmi[nr].ip, ip);
	CHECK_EQ(log->nmi[nr].cs, mode == &flat ? 8 : CODE_SEGMENT);
	CHECK_EQ(log->nmi[nr].bx, bx);
	CHECK_EQ(log->nmi[nr].flags & (RFLAGS_TF | RFLAGS_IF), 0);
}

static void second_waits(const struct mode *mode)
{
	struct kvm_vcpu *vcpu;
	struct mode_log *log;

	require_window_with_irqs_off();
	vcpu = run_to_ready(mode);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	log = memory32(vcpu, LOG);
	CHECK_EQ(log->nr, 2);
	check_nmi(vcpu, mode, 0, mode->next, 0);
	check_nmi(vcpu, mode, 1, mode->next, 0);
}

static void comes_once(const struct mode *mode)
{
	struct kvm_vcpu *vcpu = run_to_ready(mode);
	struct mode_log *log;

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	run_to(vcpu, STAGE_END);

	log = memory32(vcpu, LOG);
	CHECK_EQ(log->nr, 1);
	check_nmi(vcpu, mode, 0, mode->next, 0);
}

static void ends_hlt(const struct mode *mode)
{
	struct kvm_vcpu *vcpu = run_to_ready(mode);

	run_to(vcpu, STAGE_END);
	/* Without an APIC in the kernel, HLT ends KVM_RUN. */
	TEST_ASSERT(!__vcpu_run(vcpu) && vcpu->run->exit_reason == KVM_EXIT_HLT,
		    "no HLT exit but %s", exit_reason_str(vcpu->run->exit_reason));
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	run_to(vcpu, STAGE_END);
	check_nmi(vcpu, mode, 0, mode->after_hlt, 3);
}

static void real_once(void)
{
	comes_once(&real);
}

static void real_second(void)
{
	second_waits(&real);
}

static void real_emulated(void)
{
	static const char prefix[] = "\x0f\x0bkvm";	/* UD2 and a signature */
	struct kvm_vcpu *vcpu;

	require_window_with_irqs_off();
	require_blocking_cleared_at_entry();
	if (force_emulation(1) < 0)
		skip("kvm.ko does not take force_emulation_prefix");
	vcpu = run_to_ready(&real);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	memcpy(memory32(vcpu, CODE + (real_prefix - real_code)), prefix, strlen(prefix));
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	CHECK_EQ(((struct mode_log *)memory32(vcpu, LOG))->nr, 2);
	check_nmi(vcpu, &real, 0, real_next, 0);
	check_nmi(vcpu, &real, 1, real_next, 0);
}

static void real_hlt(void)
{
	ends_hlt(&real);
}

static void big_real_once(void)
{
	comes_once(&big_real);
}

static void big_real_second(void)
{
	second_waits(&big_real);
}

static void big_real_hlt(void)
{
	ends_hlt(&big_real);
}

static void flat_once(void)
{
	comes_once(&flat);
}

static void flat_second(void)
{
	second_waits(&flat);
}

static void flat_hlt(void)
{
	ends_hlt(&flat);
}

static const struct test_case cases[] = {
	{ "real mode: an NMI comes once, before the next instruction", real_once },
	{ "real mode: a second NMI comes right after the first one's IRET", real_second },
	{ "real mode: so it does after an IRET that KVM emulates", real_emulated },
	{ "real mode: an NMI ends HLT", real_hlt },
	{ "big real mode: an NMI comes once, before the next instruction", big_real_once },
	{ "big real mode: a second NMI comes right after the first one's IRET", big_real_second },
	{ "big real mode: an NMI ends HLT", big_real_hlt },
	{ "32-bit mode: an NMI comes once, before the next instruction", flat_once },
	{ "32-bit mode: a second NMI comes right after the first one's IRET", flat_second },
	{ "32-bit mode: an NMI ends HLT", flat_hlt },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
