// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C half of the guest's event handlers: log the event, tell the host at
 * once if an NMI hit the NMI handler, let the test do its part.
 */
#include "nmi_smm.h"
#include "nmi_user_mode.h"

struct event_log guest_log;
void (*guest_on_event)(struct event_regs *regs);

/* Touched by guest_start. */
uint64_t guest_tss;
char guest_stacks[2][GUEST_STACK_SIZE] __attribute__((aligned(GUEST_STACK_SIZE)));

uint64_t guest_stack_top(int i)
{
	return (uint64_t)guest_stacks[i] + GUEST_STACK_SIZE;
}

void stop_in_first_handler(struct event_regs *regs)
{
	if (regs->vector != NMI_VECTOR || guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	guest_stage(STAGE_HANDLER_END);
}

static bool in_nmi_entry(uint64_t rip)
{
	return rip >= (uint64_t)event_entry_2 && rip < (uint64_t)event_end_2;
}

void guest_event(struct event_regs *regs)
{
	bool is_nmi = regs->vector == NMI_VECTOR;

	if (guest_log.nr < EVENT_LOG_SIZE)
		guest_log.event[guest_log.nr] = *regs;
	guest_log.nr++;

	if (is_nmi) {
		guest_log.nr_nmis++;
		if (guest_log.in_nmi++ || in_nmi_entry(regs->rip))
			guest_stage(STAGE_NESTED);
	}

	if (guest_on_event)
		guest_on_event(regs);

	if (is_nmi)
		guest_log.in_nmi--;
	if (regs->vector == IRQ_VECTOR)
		x2apic_write_reg(APIC_EOI, 0);
}

/* Segments of user mode, and the ways in and out, see nmi_user_mode.h. */

void add_user_segments(struct kvm_vcpu *vcpu)
{
	set_descriptor(vcpu, USER_SS, 0x00cff3000000ffff);
	set_descriptor(vcpu, USER_CS, 0x00affb000000ffff);
}

void enable_syscall(struct kvm_vcpu *vcpu, char *entry, uint64_t clears)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.efer |= EFER_SCE;
	vcpu_sregs_set(vcpu, &sregs);
	/* SYSRET counts from the first one: SS is 8 after it, CS 16. */
	vcpu_set_msr(vcpu, MSR_STAR, (USER_SS - 8ull) << 48 |
		     (uint64_t)sregs.cs.selector << 32);
	vcpu_set_msr(vcpu, MSR_LSTAR, (uint64_t)entry);
	vcpu_set_msr(vcpu, MSR_SYSCALL_MASK, clears);
}

/* SMRAM with an SMI handler, see nmi_smm.h. */

#define SMRAM_SLOT	(1 << 16)	/* in the address space of SMM */
#define SMRAM_PAGES	16

void set_smi_handler(struct kvm_vcpu *vcpu, const char *code, const char *end)
{
	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		skip("this KVM is built without SMM");
	vm_userspace_mem_region_add(vcpu->vm, VM_MEM_SRC_ANONYMOUS, SMRAM_GPA,
				    SMRAM_SLOT, SMRAM_PAGES, 0);
	memcpy(addr_gpa2hva(vcpu->vm, SMRAM_GPA + SMM_ENTRY), code, end - code);
	vcpu_set_msr(vcpu, MSR_IA32_SMBASE, SMRAM_GPA);
}

extern char smm_stop[], smm_stop_end[];
asm(".pushsection .rodata\n"
    ".code16\n"
    "smm_stop:" ASM_STAGE(STAGE_SMM)
    "rsm\n"
    "smm_stop_end:\n"
    ".code64\n"
    ".popsection\n");

void set_stop_in_smm(struct kvm_vcpu *vcpu)
{
	set_smi_handler(vcpu, smm_stop, smm_stop_end);
}

void send_smi(struct kvm_vcpu *vcpu)
{
	vcpu_ioctl(vcpu, KVM_SMI, NULL);
}
