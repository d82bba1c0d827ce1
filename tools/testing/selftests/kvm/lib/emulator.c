// SPDX-License-Identifier: GPL-2.0-only
/* What emulates this machine, if anything does. */
#include "nmi_events.h"

static bool bios_version_begins(const char *with)
{
	FILE *f = fopen("/sys/class/dmi/id/bios_version", "r");
	char version[64] = "";
	bool begins;

	begins = f && fgets(version, sizeof(version), f) &&
		 !strncmp(version, with, strlen(with));
	if (f)
		fclose(f);
	return begins;
}

bool tsc_counts_instructions(void)
{
	return bios_version_begins("Bochs");
}

bool on_bochs_2_7(void)
{
	return bios_version_begins("Bochs 2.7");
}

bool on_qemu_tcg(void)
{
	static const char brand[] = "QEMU TCG";
	uint32_t max, text[4];

	cpuid(0x40000000, &max, &text[0], &text[1], &text[2]);
	if (!memcmp(text, "TCGTCGTCGTCG", 12))
		return true;

	/* A host inside such a one runs on KVM, and sees the name of its CPU. */
	cpuid(0x80000002, &text[0], &text[1], &text[2], &text[3]);
	return !memcmp(text, brand, strlen(brand));
}

/*
 * What follows differs between versions of QEMU, and may differ in any other: it
 * is measured, once a process, and nowhere but in QEMU can it excuse anything.
 */
static void guest_at_stop(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void guest_at_breakpoint(void)
{
	asm volatile("mov %0, %%dr0; mov %1, %%dr7"
		     : : "r"(guest_stop_next), "r"(DR7_L0_EXEC) : "memory");
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	disarm_breakpoints();
	guest_stage(STAGE_END);
}

static void set_rf(struct event_regs *regs)
{
	regs->rflags |= RFLAGS_RF;
}

/*
 * The first event of a guest that is entered at guest_stop_next, with an NMI or
 * without. The log of the test's own guest stays as it is.
 */
static struct event_regs first_event(void (*guest)(void), bool nmi)
{
	void (*on_event)(struct event_regs *regs) = guest_on_event;
	struct kvm_vcpu *vcpu = create_vm(guest, set_rf);
	struct event_regs event = {};
	struct event_log *log;

	guest_on_event = on_event;
	do {
		if (__vcpu_run(vcpu) || vcpu->run->exit_reason != KVM_EXIT_IO)
			fail_on_exit(vcpu);
		if (nmi)
			send_nmi(vcpu);
		nmi = false;
	} while (*(uint32_t *)((char *)vcpu->run + vcpu->run->io.data_offset) != STAGE_END);

	log = addr_gva2hva(vcpu->vm, (uint64_t)&guest_log);
	if (log->nr)
		event = log->event[0];
	kvm_vm_free(vcpu->vm);
	return event;
}

bool nmis_push_rf(void)
{
	static int known;

	if (!known)
		known = on_qemu_tcg() &&
			first_event(guest_at_stop, true).rflags & RFLAGS_RF ? 1 : -1;
	return known > 0;
}

uint64_t nmi_flags(uint64_t rflags)
{
	return rflags & RFLAGS_RF && nmis_push_rf() ? rflags & ~RFLAGS_RF : rflags;
}

bool breakpoints_armed_at_entry(void)
{
	static int known;

	if (!known)
		known = !on_qemu_tcg() ||
			first_event(guest_at_breakpoint, false).vector == DB_VECTOR ? 1 : -1;
	return known > 0;
}

#define DEVICE		0xd0000000ul	/* no memory there */

extern char device_read[];

static void guest_device(void)
{
	guest_stage(STAGE_READY);
	asm volatile("device_read: mov (%0), %%eax" : : "b"(DEVICE) : "eax", "memory");
}

/*
 * A vCPU in an STI shadow is about to read from a device. The exit by which that
 * read is noticed comes in front of it: the shadow has not ended.
 */
bool shadow_survives_entry(void)
{
	void (*on_event)(struct event_regs *regs) = guest_on_event;
	struct kvm_vcpu *vcpu = create_vm(guest_device, NULL);
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	guest_on_event = on_event;
	virt_map(vcpu->vm, DEVICE, DEVICE, 1);
	__vcpu_run(vcpu);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
	finish_stage(vcpu);

	vcpu_regs_get(vcpu, &regs);
	regs.rip = (uint64_t)device_read;
	regs.rbx = DEVICE;
	regs.rflags = RFLAGS_FIXED | RFLAGS_IF;
	vcpu_regs_set(vcpu, &regs);
	put_in_shadow(vcpu, KVM_X86_SHADOW_INT_STI);

	__vcpu_run(vcpu);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	vcpu_events_get(vcpu, &events);
	kvm_vm_free(vcpu->vm);
	return events.interrupt.shadow;
}
