// SPDX-License-Identifier: GPL-2.0-only
/*
 * INIT ends NMI blocking: a vCPU that is reset in the middle of an NMI handler
 * takes the next NMI at once, without any IRET. This is how a crashed kernel is
 * left behind by the one that replaces it.
 *
 * The handler sends INIT to its own APIC. The vCPU is the boot processor, so it
 * goes on at the reset vector, in real mode; there it stops for the host to send
 * an NMI, which comes through entry 2 of the interrupt table at address 0.
 *
 * A wrong implementation keeps the software half of blocking over the reset.
 */
#include "nmi_test.h"

#define STAGE_RESET	STAGE_OWN
#define STAGE_REAL_NMI	(STAGE_OWN + 1)

#define ROM_GPA		0xfffff000
#define ROM_SLOT	10
#define RESET_OFFSET	0xff0
#define HANDLER_GPA	0x1000

extern char rom_code[], rom_nmi[], rom_end[];
asm(".pushsection .rodata\n"
    ".code16\n"
    "rom_code: xor %ax, %ax; mov %ax, %ss; mov $0x2000, %sp\n"
    ASM_STAGE(STAGE_RESET)
    ASM_STAGE(STAGE_END)
    "rom_nmi:" ASM_STAGE(STAGE_REAL_NMI)
    "rom_end:\n"
    ".code64\n"
    ".popsection\n");

static void guest(void)
{
	x2apic_enable();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void on_nmi(struct event_regs *regs)
{
	guest_stage(STAGE_HANDLER);
	x2apic_write_reg(APIC_ICR, APIC_DM_INIT | APIC_INT_ASSERT);
}

/* Code at the reset vector, an NMI vector, and the handler it points to. */
static void add_rom(struct kvm_vm *vm)
{
	const uint8_t jump_to_rom_code[] = { 0xe9, 0x0d, 0xf0 };
	const uint16_t vector[2] = { HANDLER_GPA, 0 };
	char *rom;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, ROM_GPA, ROM_SLOT, 1, 0);
	rom = addr_gpa2hva(vm, ROM_GPA);
	memcpy(rom, rom_code, rom_nmi - rom_code);
	memcpy(rom + RESET_OFFSET, jump_to_rom_code, sizeof(jump_to_rom_code));

	memcpy(addr_gpa2hva(vm, HANDLER_GPA), rom_nmi, rom_end - rom_nmi);
	memcpy(addr_gpa2hva(vm, 4 * NMI_VECTOR), vector, sizeof(vector));
}

static struct kvm_vcpu *run_to_handler(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi);

	add_rom(vcpu->vm);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	return vcpu;
}

static void init_opens(void)
{
	struct kvm_vcpu *vcpu;

	require_blocking_cleared_at_entry();
	vcpu = run_to_handler();
	run_to(vcpu, STAGE_RESET);
	send_nmi(vcpu);
	CHECK_EQ(next_stage(vcpu), STAGE_REAL_NMI);
}

static void init_state(void)
{
	struct kvm_vcpu_events events;
	struct kvm_vcpu *vcpu;

	require_blocking_cleared_at_entry();
	vcpu = run_to_handler();
	run_to(vcpu, STAGE_RESET);
	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.masked, 0);
	CHECK_EQ(events.nmi.pending, 0);
	CHECK_EQ(events.nmi.injected, 0);
}

static void init_drops_pending(void)
{
	struct kvm_vcpu *vcpu = run_to_handler();

	send_nmi(vcpu);
	run_to(vcpu, STAGE_RESET);
	CHECK_EQ(next_stage(vcpu), STAGE_END);
}

static const struct test_case cases[] = {
	{ "after INIT in an NMI handler the next NMI comes at once", init_opens },
	{ "after INIT user space sees no NMI state", init_state },
	{ "an NMI that waits for the handler's end is gone after INIT", init_drops_pending },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
