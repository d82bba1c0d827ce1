// SPDX-License-Identifier: GPL-2.0-only
/*
 * Events due at one instruction boundary come in the order exception, NMI, IRQ.
 *
 * Delivery of an event makes the first instruction of its handler the next
 * boundary, so the order can be read from the frames: who interrupted the guest
 * at its stop, and who interrupted whose handler at its first instruction. Gates
 * for the exception and the NMI leave IRQs on where the IRQ is to follow at once.
 *
 * A wrong implementation lets the NMI overtake the exception, or the IRQ the NMI,
 * or drops one of them because only one can be injected per entry.
 */
#include <sys/mman.h>

#include "nmi_events.h"

#define INC_RBX_SIZE	3	/* the instructions after guest_stop_next */

static void guest(void)
{
	x2apic_enable();
	/* With IRQs off the IRQ stays pending in the APIC. */
	x2apic_write_reg(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT | IRQ_VECTOR);
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_irqs_on();
	guest_irqs_off();
	guest_stage(STAGE_END);
}

static void guest_without_irq(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static uint64_t stack;
extern char after_int3[];

static void guest_int3(void)
{
	x2apic_enable();
	guest_irqs_on();
	guest_stage(STAGE_READY);
	asm volatile("mov %%rsp, %%rbx\n\t"
		     "mov %0, %%rsp\n\t"
		     "int3\n"
		     "after_int3:\n\t"
		     "cli\n\t"
		     "mov %%rbx, %%rsp"
		     : : "r"(stack + PAGE_SIZE) : "rbx", "memory");
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *run_to_ready(void (*guest_code)(void))
{
	struct kvm_vcpu *vcpu = create_vm(guest_code, NULL);

	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	return vcpu;
}

/*
 * An exception whose delivery was begun, as user space restores it: its frame is that of a
 * fault, whether the CPU sets RF itself or leaves that to who injects.
 */
static void inject_ud(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	regs.rflags |= RFLAGS_RF;
	vcpu_regs_set(vcpu, &regs);
	vcpu_events_get(vcpu, &events);
	events.exception.injected = 1;
	events.exception.nr = UD_VECTOR;
	events.exception.has_error_code = 0;
	vcpu_events_set(vcpu, &events);
}

static void exception_then_nmi(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(guest_without_irq);

	inject_ud(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_6 },
		     { UD_VECTOR, guest_stop_next, RFLAGS_RF });
}

static void nmi_then_irq(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(guest);

	set_rflags(vcpu, RFLAGS_FIXED | RFLAGS_IF);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, guest_stop_next },
		     { IRQ_VECTOR, guest_stop_next });
}

/* IRQs stay on in the NMI handler: the IRQ comes at its first instruction. */
static void nmi_then_irq_at_once(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(guest);

	set_gate(vcpu, NMI_VECTOR, event_entry_2, TRAP_GATE, 0);
	set_rflags(vcpu, RFLAGS_FIXED | RFLAGS_IF);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EVENTS(vcpu, { IRQ_VECTOR, event_entry_2 },
		     { NMI_VECTOR, guest_stop_next });
}

static void all_three(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(guest);

	set_gate(vcpu, UD_VECTOR, event_entry_6, TRAP_GATE, 0);
	set_rflags(vcpu, RFLAGS_FIXED | RFLAGS_IF);
	inject_ud(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_6 },
		     { IRQ_VECTOR, event_entry_6 },
		     { UD_VECTOR, guest_stop_next, RFLAGS_RF });
}

/* Two NMIs and an IRQ: the IRQ is last although the second NMI had to wait. */
static void two_nmis_then_irq(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(guest);

	set_rflags(vcpu, RFLAGS_FIXED | RFLAGS_IF);
	send_nmi(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, guest_stop_next },
		     { NMI_VECTOR, guest_stop_next },
		     { IRQ_VECTOR, guest_stop_next });
}

/* In an interrupt shadow both wait, with windows of their own. */
static void nmi_then_irq_behind_shadow(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(guest);
	char *behind = guest_stop_next + INC_RBX_SIZE;

	set_rflags(vcpu, RFLAGS_FIXED | RFLAGS_IF);
	put_in_shadow(vcpu, KVM_X86_SHADOW_INT_MOV_SS);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, behind }, { IRQ_VECTOR, behind });
}

/*
 * An exit interrupts the delivery of the exception, as its frame's page is not the guest's. When it
 * is, KVM injects the exception again, which began before the IRQ came.
 */
static void int3_then_irq(void)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_GPA, .data = IRQ_VECTOR };
	struct kvm_vcpu *vcpu = create_vm(guest_int3, NULL);
	uint64_t rf;
	void *page;

	stack = vm_vaddr_alloc_page(vcpu->vm);
	sync_global_to_guest(vcpu->vm, stack);
	run_to(vcpu, STAGE_READY);
	page = addr_gva2hva(vcpu->vm, stack);
	TEST_ASSERT(!mprotect(page, 4096, PROT_NONE), "mprotect: %s", strerror(errno));
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EFAULT, "no EFAULT");
	TEST_ASSERT(!mprotect(page, 4096, PROT_READ | PROT_WRITE), "mprotect: %s", strerror(errno));
	TEST_ASSERT(__vm_ioctl(vcpu->vm, KVM_SIGNAL_MSI, &msi) == 1, "no MSI");
	run_to(vcpu, STAGE_END);
	/* Bochs pushes RF with what was cut in two. The handler's IRET pops it, the IRQ pushes it. */
	rf = cut_deliveries_push_rf() ? RFLAGS_RF : 0;
	CHECK_EVENTS(vcpu, { BP_VECTOR, after_int3, rf }, { IRQ_VECTOR, after_int3, rf });
}

static const struct test_case cases[] = {
	{ "an NMI comes after an exception, at its handler's first instruction", exception_then_nmi },
	{ "an NMI comes before an IRQ", nmi_then_irq },
	{ "an IRQ comes at the NMI handler's first instruction when IF stays set", nmi_then_irq_at_once },
	{ "exception, NMI and IRQ come in this order", all_three },
	{ "a second NMI still comes before the IRQ", two_nmis_then_irq },
	{ "after an interrupt shadow the NMI comes before the IRQ, too", nmi_then_irq_behind_shadow },
	{ "an IRQ does not take the place of an INT3 that is injected again", int3_then_irq },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
