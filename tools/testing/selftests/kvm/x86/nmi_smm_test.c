// SPDX-License-Identifier: GPL-2.0-only
/*
 * System management mode blocks NMIs, and RSM puts back what was before: open
 * when the SMI hit ordinary code, blocked when it hit an NMI handler.
 *
 * The SMI handler only reports a stage, where the host sends an NMI. In one case it
 * executes an IRET, which opens the window inside SMM, too, and has an IDT.
 *
 * A wrong implementation delivers inside SMM (the NMI would go through whatever
 * IDT register SMM has), opens the window at RSM in the middle of an NMI
 * handler, does not see an IRET in SMM, or leaves NMIs blocked for good.
 */
#include "nmi_smm.h"

#define STAGE_SMM_NMI	(STAGE_SMM + 1)
#define STAGE_SMM_END	(STAGE_SMM + 2)
#define STAGE_LATER	(STAGE_SMM + 3)

/* SMRAM is too far up for an IRET of real mode; the offset is from its entry. */
#define SMM_32		0x1008000
_Static_assert(SMM_32 == SMRAM_GPA + SMM_ENTRY, "as below");

extern char smm_iret_code[], smm_iret_code_end[];
asm(".pushsection .rodata\n"
    ".macro smm_address name, label\n"
    ".set \\name, 0x1008000 + \\label - smm_iret_code\n"
    ".endm\n"
    "smm_address smm_gdt_address, smm_gdt\n"
    "smm_address smm_idt_address, smm_idt\n"
    "smm_address smm_stack_address, smm_stack\n"
    "smm_address smm_32_address, smm_32\n"
    "smm_address smm_target_address, smm_target\n"
    "smm_address smm_nmi_address, smm_nmi\n"
    ".code16\n"
    "smm_iret_code:\n"
    "cs; lgdtl 0x8000 + smm_gdtr - smm_iret_code\n"
    "cs; lidtl 0x8000 + smm_idtr - smm_iret_code\n"
    "mov $smm_stack_address, %esp\n"
    "mov %cr0, %eax; or $1, %eax; mov %eax, %cr0\n"
    "ljmpl $8, $smm_32_address\n"
    ".code32\n"
    "smm_32:\n"
    "mov $16, %eax; mov %eax, %ss; mov %eax, %ds; mov %eax, %es\n"
    ASM_STAGE(STAGE_SMM)
    "pushfl; pushl $8; pushl $smm_target_address; iretl\n"
    "smm_target:\n"
    ASM_STAGE(STAGE_SMM_END)
    "rsm\n"
    "smm_nmi:\n"
    ASM_STAGE(STAGE_SMM_NMI)
    "iretl\n"
    ".balign 8\n"
    "smm_gdt: .quad 0, 0xcf9b000000ffff, 0xcf93000000ffff\n"
    "smm_idt: .quad 0, 0\n"
    ".word smm_nmi_address & 0xffff, 8, 0x8e00, smm_nmi_address >> 16\n"
    "smm_gdtr: .word 23; .long smm_gdt_address\n"
    "smm_idtr: .word 23; .long smm_idt_address\n"
    ".balign 8; .fill 64, 1, 0\n"
    "smm_stack:\n"
    "smm_iret_code_end:\n"
    ".code64\n"
    ".popsection\n");

static void guest(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED | RFLAGS_IF);
	guest_stop(STAGE_LATER, RFLAGS_FIXED | RFLAGS_IF);
	guest_irqs_on();
	guest_irqs_off();
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *run_to_ready(void (*handler)(struct event_regs *))
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	set_stop_in_smm(vcpu);
	run_to(vcpu, STAGE_READY);
	return vcpu;
}

static void nmi_in_smm(void)
{
	struct kvm_vcpu *vcpu;

	require_blocking_cleared_at_entry();
	vcpu = run_to_ready(NULL);
	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_LATER);
	check_nmis_at_stop(vcpu, 1);
}

static void nmi_after_smm(void)
{
	struct kvm_vcpu *vcpu;

	require_blocking_cleared_at_entry();
	vcpu = run_to_ready(NULL);
	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	run_to(vcpu, STAGE_LATER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

/* The SMI comes first, the NMI right after RSM: at the same boundary. */
static void smi_and_nmi(void)
{
	struct kvm_vcpu *vcpu;

	require_blocking_cleared_at_entry();
	vcpu = run_to_ready(NULL);
	send_nmi(vcpu);
	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 0);
	run_to(vcpu, STAGE_LATER);
	check_nmis_at_stop(vcpu, 1);
}

static void smi_in_handler(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(stop_in_first_handler);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_to(vcpu, STAGE_LATER);
	check_nmis_at_stop(vcpu, 2);
}

static void smi_with_nmi_waiting(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(stop_in_first_handler);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	run_to(vcpu, STAGE_HANDLER_END);
	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	run_to(vcpu, STAGE_LATER);
	check_nmis_at_stop(vcpu, 2);
}

static void iret_in_smm(void)
{
	struct kvm_vcpu *vcpu;

	require_iret_tracked();
	vcpu = create_vm(guest, NULL);
	set_smi_handler(vcpu, smm_iret_code, smm_iret_code_end);
	run_to(vcpu, STAGE_READY);
	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_SMM_NMI);
	run_to(vcpu, STAGE_SMM_END);
	run_to(vcpu, STAGE_LATER);
	check_nmis_at_stop(vcpu, 0);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

static const struct test_case cases[] = {
	{ "an NMI sent in SMM comes right after RSM", nmi_in_smm },
	{ "after SMM NMIs are as open as before", nmi_after_smm },
	{ "of an NMI and an SMI together, the SMI comes first", smi_and_nmi },
	{ "RSM into an NMI handler leaves NMIs blocked until its IRET", smi_in_handler },
	{ "an NMI sent in SMM comes there after an IRET", iret_in_smm },
	{ "SMIs in the handler do not lose the NMI that waits", smi_with_nmi_waiting },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
