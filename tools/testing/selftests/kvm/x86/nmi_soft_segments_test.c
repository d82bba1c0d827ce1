// SPDX-License-Identifier: GPL-2.0-only
/*
 * Soft vNMI's return breakpoint where addresses are not linear: code and stack
 * segments with a base of their own, a 16-bit stack, an NMI handler that is a
 * task. The guest is in 32-bit protected mode without paging, in bare memory.
 *
 * It stops in an OUT with IRQs off, where the host sends NMIs; the handler logs
 * EIP and EBX. On the way home EBX is counted up, and IRQs are let in at last.
 *
 * A wrong implementation sets the breakpoint at an offset, compares the upper half
 * of ESP, which IRET to a 16-bit stack leaves to the handler, or loses track of an
 * NMI whose handler starts and ends with a task switch.
 */
#include "nmi_flat32.h"
#include "nmi_soft.h"

#define LOG		0x500
#define TSS		0x3000
#define TASK_TSS	0x3800	/* of the NMI handler */
#define TSS_LIMIT	0x67
#define STACK_BASE	0x4000
#define STACK		0x4000	/* in its segment */
#define NMI_STACK	0xc000
#define CODE		0x10000
#define MEMORY_PAGES	32
#define GARBAGE		0xabcd0000

enum { SEL_CODE = 8, SEL_DATA = 16, SEL_STACK = 24, SEL_STACK16 = 32, SEL_TSS = 40,
       SEL_TASK = 48 };

struct segment_log {
	uint32_t nr, esp_plus, unused[2];
	struct { uint32_t ip, cs, flags, bx; } nmi[4];
};

#define STR(x)	__stringify(x)

extern char code[], code_next[], code_open[], code_handler[], code_task[], code_end[];

/*
 * The handler's EBP is SP with zeroes above. What it adds to ESP changes the upper
 * half only. The task finds its interrupted context in the TSS of the other one.
 */
asm(".pushsection .rodata\n"
    ".code32\n"
    "code:	pushf; push %cs; push $(1f - code); iret\n"
    "1:	orb $0, " STR(LOW_IDT) "\n"	/* see guest_start */
    "	orb $0, " STR(TSS) "\n"
    "	xor %ebx, %ebx\n"
    ASM_STAGE(STAGE_READY)
    "code_next:\n"
    "	inc %ebx; inc %ebx; inc %ebx\n"
    "	sti; nop\n"
    "code_open:\n"
    "	nop; cli\n"
    ASM_STAGE(STAGE_END)
    "code_handler:\n"
    "	push %ebp; push %eax; push %edi\n"
    "	movzwl %sp, %ebp\n"
    "	mov " STR(LOG) ", %edi; shl $4, %edi\n"
    "	mov %ss:12(%ebp), %eax; mov %eax, " STR(LOG) "+16(%edi)\n"
    "	mov %ss:16(%ebp), %eax; mov %eax, " STR(LOG) "+20(%edi)\n"
    "	mov %ss:20(%ebp), %eax; mov %eax, " STR(LOG) "+24(%edi)\n"
    "	mov %ebx, " STR(LOG) "+28(%edi)\n"
    "	incl " STR(LOG) "\n"
    "	cmpl $1, " STR(LOG) "\n"
    "	jne 1f\n"
    ASM_STAGE(STAGE_HANDLER)
    "1:	pop %edi; pop %eax; pop %ebp\n"
    "	add " STR(LOG) "+4, %esp\n"
    "	iret\n"
    "code_task:\n"
    "	mov " STR(LOG) ", %edi; shl $4, %edi\n"
    "	mov " STR(TSS) "+32, %eax; mov %eax, " STR(LOG) "+16(%edi)\n"
    "	mov " STR(TSS) "+36, %eax; mov %eax, " STR(LOG) "+24(%edi)\n"
    "	mov " STR(TSS) "+52, %eax; mov %eax, " STR(LOG) "+28(%edi)\n"
    "	incl " STR(LOG) "\n"
    "	cmpl $1, " STR(LOG) "\n"
    "	jne 1f\n"
    ASM_STAGE(STAGE_HANDLER)
    "1:	iret\n"
    "	jmp code_task\n"
    "code_end:\n"
    ".code64\n"
    ".popsection\n");

static void write_tables(struct kvm_vcpu *vcpu, bool task)
{
	const uint64_t gdt[] = {
		0,
		[SEL_CODE / 8] = descriptor32(CODE, 0xfffff, 0x9b, 0xc),
		[SEL_DATA / 8] = descriptor32(0, 0xfffff, 0x93, 0xc),
		[SEL_STACK / 8] = descriptor32(STACK_BASE, 0xfffff, 0x93, 0xc),
		[SEL_STACK16 / 8] = descriptor32(STACK_BASE, 0xffff, 0x93, 0),
		[SEL_TSS / 8] = descriptor32(TSS, TSS_LIMIT, 0x8b, 0),
		[SEL_TASK / 8] = descriptor32(TASK_TSS, TSS_LIMIT, 0x89, 0),
	};
	const struct tss32 tss = {
		.eip = code_task - code, .eflags = RFLAGS_FIXED, .esp = NMI_STACK,
		.cs = SEL_CODE, .ss = SEL_DATA, .ds = SEL_DATA, .es = SEL_DATA,
	};

	memcpy(memory32(vcpu, LOW_GDT), gdt, sizeof(gdt));
	memcpy(memory32(vcpu, TASK_TSS), &tss, sizeof(tss));
	if (task)
		set_gate32(vcpu, NMI_VECTOR, TASK_GATE32, 0, SEL_TASK, NULL);
	else
		set_gate32(vcpu, NMI_VECTOR, INTERRUPT_GATE32, 0, SEL_CODE,
			   (void *)(code_handler - code));
	memcpy(memory32(vcpu, CODE), code, code_end - code);
}

static void enter(struct kvm_vcpu *vcpu, bool stack16)
{
	struct kvm_regs regs = {
		.rflags = RFLAGS_FIXED, .rsp = stack16 ? GARBAGE | STACK : STACK,
	};
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.gdt = (struct kvm_dtable) { .base = LOW_GDT, .limit = 7 * 8 - 1 };
	sregs.idt = (struct kvm_dtable) { .base = LOW_IDT, .limit = 256 * 8 - 1 };
	sregs.cr0 |= X86_CR0_PE;
	sregs.cs = segment32(SEL_CODE, CODE, 11, true);
	sregs.ds = sregs.es = segment32(SEL_DATA, 0, 3, true);
	sregs.ss = segment32(stack16 ? SEL_STACK16 : SEL_STACK, STACK_BASE, 3, !stack16);
	sregs.tr = (struct kvm_segment) {
		.selector = SEL_TSS, .base = TSS, .limit = TSS_LIMIT, .type = 11, .present = 1,
	};
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
}

static struct kvm_vcpu *run_to_ready(bool stack16, bool task)
{
	struct kvm_vcpu *vcpu = create_bare_vm(MEMORY_PAGES);

	require_exact();
	write_tables(vcpu, task);
	enter(vcpu, stack16);
	run_to(vcpu, STAGE_READY);
	return vcpu;
}

static struct segment_log *send_two(struct kvm_vcpu *vcpu, uint32_t esp_plus)
{
	struct segment_log *log = memory32(vcpu, LOG);

	log->esp_plus = esp_plus;
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	return log;
}

static void check_at_return(const struct segment_log *log)
{
	CHECK_EQ(log->nr, 2);
	CHECK_EQ(log->nmi[0].ip, code_next - code);
	CHECK_EQ(log->nmi[0].bx, 0);
	CHECK_EQ(log->nmi[1].ip, code_next - code);
	CHECK_EQ(log->nmi[1].bx, 0);
}

static void bases(void)
{
	check_at_return(send_two(run_to_ready(false, false), 0));
}

static void stack_16_bit(void)
{
	check_at_return(send_two(run_to_ready(true, false), 0));
}

static void stack_16_bit_changed(void)
{
	check_at_return(send_two(run_to_ready(true, false), 0x10000));
}

static void task_gate(void)
{
	check_at_return(send_two(run_to_ready(false, true), 0));
}

static const struct test_case cases[] = {
	{ "found: code and stack segments have bases", bases },
	{ "found: the stack is a 16-bit one, with something in the upper half of ESP", stack_16_bit },
	{ "found: the handler changes the upper half of ESP", stack_16_bit_changed },
	{ "found: the NMI handler is a task", task_gate },
};

int main(void)
{
	if (nmi_path() != VMX_SOFT)
		return skip_all("this machine has virtual NMIs, or no need of them");
	return run_cases(cases, ARRAY_SIZE(cases));
}
