// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whatever sends an NMI - user space, the vCPU's own APIC, another vCPU's, an
 * MSI, a pin of the IOAPIC, the timer wired to LVT0 - one sent is one delivered,
 * and one sent into a handler waits for its end.
 *
 * The receiver mostly spins without any exit: what is sent has to kick it out of
 * guest mode. A wrong implementation forgets the kick, counts a source twice, or
 * lets a source past the blocking.
 */
#include <pthread.h>
#include <time.h>

#include "nmi_test.h"

enum { STAGE_SENT = STAGE_OWN };

#define IOAPIC_GPA	0xfec00000
#define IOAPIC_PIN	20	/* above 15 there is no PIC to answer too */
#define PIT_HZ		1193182
#define MANY		200

extern char after_send[];
static volatile uint32_t released;	/* written by the handler, ends the spin */
static uint32_t sends;

static void on_nmi_release(struct event_regs *regs)
{
	released = guest_log.nr_nmis;
}

/* Ready, then spin without exits until one NMI has come. */
static void guest_spin(void)
{
	x2apic_enable();
	guest_irqs_on();
	guest_stage(STAGE_READY);
	while (!released)
		;
	guest_stage(STAGE_END);
}

/* --- the vCPU's own APIC --- */

static void send_self_x2apic(void)
{
	x2apic_write_reg(APIC_ICR, APIC_DM_NMI | APIC_INT_ASSERT);
}

static void guest_self_x2apic(void)
{
	x2apic_enable();
	asm volatile("wrmsr\n\t"
		     "after_send: nop"
		     : : "a"(APIC_DM_NMI | APIC_INT_ASSERT), "d"(0),
			 "c"(APIC_BASE_MSR + (APIC_ICR >> 4)) : "memory");
	guest_stage(STAGE_END);
}

static void self_x2apic(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_self_x2apic, NULL);

	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)after_send);
}

static void guest_self_xapic(void)
{
	xapic_enable();
	xapic_write_reg(APIC_ICR2, 0);
	xapic_write_reg(APIC_ICR, APIC_DM_NMI | APIC_INT_ASSERT);
	guest_stage(STAGE_END);
}

static void self_xapic(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_self_xapic, NULL);

	virt_pg_map(vcpu->vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void on_nmi_send_again(struct event_regs *regs)
{
	if (guest_log.nr_nmis == 1) {
		send_self_x2apic();
		guest_stage(STAGE_HANDLER);
	}
}

static void guest_self_twice(void)
{
	x2apic_enable();
	guest_irqs_on();
	send_self_x2apic();
	guest_irqs_off();
	guest_stage(STAGE_END);
}

static void self_from_handler(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_self_twice, on_nmi_send_again);

	run_to(vcpu, STAGE_HANDLER);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
}

/* --- another vCPU --- */

static void guest_sender(void)
{
	uint32_t i;

	x2apic_enable();
	for (i = 1; i <= sends; i++) {
		x2apic_write_reg(APIC_ICR, APIC_DM_NMI | APIC_INT_ASSERT);
		while (released < i)
			guest_spin_irqs_off();
	}
	guest_stage(STAGE_SENT);
}

static void guest_receiver(void)
{
	x2apic_enable();
	guest_irqs_on();
	guest_stage(STAGE_READY);
	while (released < sends)
		;
	guest_stage(STAGE_END);
}

static void *run_sender(void *vcpu)
{
	run_to((struct kvm_vcpu *)vcpu, STAGE_SENT);
	return NULL;
}

static void from_other_vcpu(void)
{
	struct kvm_vcpu *receiver = create_vm(guest_receiver, on_nmi_release);
	struct kvm_vcpu *sender = vm_vcpu_add(receiver->vm, 1, guest_sender);
	pthread_t thread;

	init_events(sender, on_nmi_release);
	sends = MANY;
	sync_global_to_guest(receiver->vm, sends);
	run_to(receiver, STAGE_READY);

	TEST_ASSERT(!pthread_create(&thread, NULL, run_sender, sender), "thread");
	run_to(receiver, STAGE_END);
	pthread_join(thread, NULL);
	CHECK_EQ(read_log(receiver)->nr_nmis, MANY);
}

/* --- messages and pins --- */

static void *send_msi_later(void *vm)
{
	struct timespec t = { .tv_nsec = 20 * 1000000 };

	nanosleep(&t, NULL);
	send_nmi_by_msi(vm, 0);
	return NULL;
}

static void msi(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_spin, on_nmi_release);
	pthread_t thread;

	run_to(vcpu, STAGE_READY);
	TEST_ASSERT(!pthread_create(&thread, NULL, send_msi_later, vcpu->vm), "thread");
	run_to(vcpu, STAGE_END);
	pthread_join(thread, NULL);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void ioapic_write(uint8_t reg, uint32_t value)
{
	volatile uint32_t *ioapic = (uint32_t *)IOAPIC_GPA;

	ioapic[0] = reg;
	ioapic[4] = value;
}

static void guest_ioapic(void)
{
	x2apic_enable();
	ioapic_write(0x10 + 2 * IOAPIC_PIN + 1, 0);
	ioapic_write(0x10 + 2 * IOAPIC_PIN, APIC_DM_NMI);
	guest_spin();
}

static void ioapic(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_ioapic, on_nmi_release);

	virt_pg_map(vcpu->vm, IOAPIC_GPA, IOAPIC_GPA);
	run_to(vcpu, STAGE_READY);
	kvm_irq_line(vcpu->vm, IOAPIC_PIN, 1);
	kvm_irq_line(vcpu->vm, IOAPIC_PIN, 0);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

/* --- the timer, wired to LVT0 in NMI mode --- */

static void outb(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void guest_pit(void)
{
	const uint16_t count = PIT_HZ / 100;

	x2apic_enable();
	x2apic_write_reg(APIC_LVT0, APIC_DM_NMI);
	outb(0x43, 0x30);		/* channel 0, one shot */
	outb(0x40, count & 0xff);
	outb(0x40, count >> 8);
	guest_spin();
}

static void lvt0(void)
{
	struct kvm_pit_config config = { };
	struct kvm_vcpu *vcpu = create_vm(guest_pit, on_nmi_release);

	vm_ioctl(vcpu->vm, KVM_CREATE_PIT2, &config);
	run_to(vcpu, STAGE_READY);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static const struct test_case cases[] = {
	{ "an NMI sent to itself comes after the x2APIC write", self_x2apic },
	{ "an NMI sent to itself through the APIC page comes", self_xapic },
	{ "an NMI sent to itself from the handler waits", self_from_handler },
	{ "each of 200 NMIs from another vCPU comes once", from_other_vcpu },
	{ "an MSI in NMI mode reaches a spinning vCPU", msi },
	{ "an IOAPIC pin in NMI mode reaches the vCPU", ioapic },
	{ "the timer reaches the vCPU through LVT0 in NMI mode", lvt0 },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
