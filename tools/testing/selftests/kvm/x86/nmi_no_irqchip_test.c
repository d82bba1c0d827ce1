// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs without an interrupt controller in the kernel, as gVisor and small hypervisors
 * make them: NMIs come by KVM_NMI alone, and HLT is an exit to user space.
 *
 * gVisor calls for the attention of its guest's kernel so: the guest touches memory that
 * the host cannot give, KVM_RUN returns -EFAULT, and an NMI sent then has to come before
 * that instruction is tried again, or the guest never gets out of it. A wrong
 * implementation enters the guest with a window instead of the NMI.
 */
#include <errno.h>
#include <sys/mman.h>

#include "nmi_pages.h"

enum { STAGE_NMI = STAGE_OWN };

#define VALUE	0x6e6d69

extern char load[], after_hlt[];
static uint64_t loaded;

/* With @split the local APIC is in the kernel, and nothing else. */
static struct kvm_vcpu *create_anew(void (*guest)(void), void (*on_event)(struct event_regs *regs),
				    bool split)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event);
	struct kvm_vm *vm = vcpu->vm;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vcpu_sregs_get(vcpu, &sregs);
	vcpu_regs_get(vcpu, &regs);
	kvm_vm_release(vm);
	/* The library makes anew what the VM had. */
	vm->has_irqchip = false;
	kvm_vm_restart(vm);
	if (split)
		vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, 24);
	vcpu = vm_vcpu_recreate(vm, 0);
	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
	return vcpu;
}

static struct kvm_vcpu *create_without_irqchip(void (*guest)(void),
					       void (*on_event)(struct event_regs *regs))
{
	return create_anew(guest, on_event, false);
}

static void on_nmi(struct event_regs *regs)
{
	if (guest_log.nr_nmis == 1)
		guest_stage(STAGE_NMI);
}

/* --- guests --- */

static void guest_stops(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void guest_stops_irqs_on(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED | RFLAGS_IF);
	guest_stage(STAGE_END);
}

static void guest_loads(void)
{
	uint64_t value;

	guest_stage(STAGE_READY);
	asm volatile("load: mov (%1), %0" : "=r"(value) : "r"(SHARED_GPA) : "memory");
	loaded = value;
	guest_stage(STAGE_END);
}

static void guest_halts(void)
{
	guest_stage(STAGE_READY);
	asm volatile("hlt\n"
		     "after_hlt: nop");
	guest_stage(STAGE_END);
}

/* --- cases --- */

static void second_waits(void)
{
	struct kvm_vcpu *vcpu = create_without_irqchip(guest_stops, on_nmi);

	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_NMI);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
}

/* @times: how often KVM_RUN fails before the NMI is sent */
static void fault_then_nmi(unsigned int times)
{
	struct kvm_vcpu *vcpu = create_without_irqchip(guest_loads, on_nmi);
	uint64_t *page;

	add_shared_memory(vcpu);
	page = addr_gpa2hva(vcpu->vm, SHARED_GPA);
	*page = VALUE;
	run_to(vcpu, STAGE_READY);
	TEST_ASSERT(!mprotect(page, 4096, PROT_NONE), "mprotect: %s", strerror(errno));
	while (times--) {
		CHECK_EQ(__vcpu_run(vcpu), -1);
		CHECK_EQ(errno, EFAULT);
	}

	send_nmi(vcpu);
	run_to(vcpu, STAGE_NMI);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)load);

	/* Out of the handler: the instruction is tried again, and blocks nothing. */
	CHECK_EQ(__vcpu_run(vcpu), -1);
	CHECK_EQ(errno, EFAULT);
	send_nmi(vcpu);
	TEST_ASSERT(!mprotect(page, 4096, PROT_READ | PROT_WRITE), "mprotect: %s", strerror(errno));
	run_to(vcpu, STAGE_END);
	sync_global_from_guest(vcpu->vm, loaded);
	CHECK_EQ(loaded, VALUE);
	CHECK_EQ(read_log(vcpu)->nr, 2);
	CHECK_EQ(nmi_nr(read_log(vcpu), 2)->rip, (uint64_t)load);
}

static void nmi_before_retry(void)
{
	fault_then_nmi(1);
}

static void nmi_before_third_try(void)
{
	fault_then_nmi(2);
}

static void nmi_after_hlt(void)
{
	struct kvm_vcpu *vcpu = create_without_irqchip(guest_halts, NULL);

	run_to(vcpu, STAGE_READY);
	CHECK_EQ(__vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_HLT);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)after_hlt);
}

/*
 * User space that has the PIC asks to be told when the guest can take an interrupt. That
 * may be the very exit that opens the window of an NMI.
 */
static void window_for_pic(void)
{
	struct kvm_vcpu *vcpu = create_anew(guest_stops_irqs_on, stop_in_first_handler, true);

	run_to_handlers_end(vcpu);
	vcpu->run->request_interrupt_window = 1;
	CHECK_EQ(__vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_IRQ_WINDOW_OPEN);
	vcpu->run->request_interrupt_window = 0;
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
}

static const struct test_case cases[] = {
	{ "without an irqchip a second NMI comes after the first one's IRET", second_waits },
	{ "after -EFAULT an NMI comes before the instruction is tried again", nmi_before_retry },
	{ "so it does after the second -EFAULT in a row", nmi_before_third_try },
	{ "after KVM_EXIT_HLT an NMI comes at the next instruction", nmi_after_hlt },
	{ "with the PIC in user space an NMI that waits takes no interrupt window from it",
	  window_for_pic },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
