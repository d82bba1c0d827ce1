// SPDX-License-Identifier: GPL-2.0-only
/* The hypervisor of the nested vNMI tests, see nmi_nested_svm.h. */
#include "nmi_nested_svm.h"
#include "nmi_pages.h"

struct l2_start l2_start;
struct svm_test_data *l1_svm;
struct l2_exit l2_exits[NR_EXITS];
uint32_t nr_l2_exits;
uint64_t l2_pushed;

static char l2_stack[4096] __aligned(4096);
static uint32_t l2_in_nmi;
static bool l2_ended;

/* --- guest side --------------------------------------------------------- */

void prepare_l2(void)
{
	struct vmcb_control_area *control = &l1_svm->vmcb->control;

	x2apic_enable();
	compat_svm_setup(l1_svm, l2_start.rip, l2_stack + sizeof(l2_stack) - 8);
	control->intercept |= l2_start.intercepts;
	if (!l2_start.ignore_nmi)
		control->intercept |= 1ull << INTERCEPT_NMI;
	control->intercept_exceptions = l2_start.exceptions;
	control->int_ctl = l2_start.int_ctl;
	control->int_state = l2_start.int_state;
	control->event_inj = l2_start.event_inj;
	l1_svm->vmcb->save.rflags = RFLAGS_FIXED;
}

static void swap_levels(void)
{
	uint32_t other = l2_in_nmi;

	l2_in_nmi = guest_log.in_nmi;
	guest_log.in_nmi = other;
}

const struct l2_exit *run_l2(void)
{
	struct vmcb *vmcb = l1_svm->vmcb;
	struct l2_exit *exit = &l2_exits[nr_l2_exits++ % NR_EXITS];

	swap_levels();
	run_guest(vmcb, l1_svm->vmcb_gpa);
	swap_levels();

	*exit = (struct l2_exit) {
		.code = vmcb->control.exit_code,
		.int_ctl = vmcb->control.int_ctl,
		.int_info = vmcb->control.exit_int_info,
		.nr_nmis = guest_log.nr_nmis,
		.rip = vmcb->save.rip,
	};
	vmcb->control.event_inj = 0;
	if (exit->code == SVM_EXIT_VMMCALL)
		vmcb->save.rip += 3;
	return exit;
}

static void touch(const void *address)
{
	(void)*(const volatile char *)address;
}

/*
 * An exit for a page that L0 has not mapped yet ends an interrupt shadow in QEMU,
 * whose VMRUN does not load one, and is an opportunity that L0 must not depend on:
 * let L1 and L2 touch their pages before it counts.
 */
void warm_l2_up(void)
{
	struct vmcb *vmcb = l1_svm->vmcb;
	struct vmcb before = *vmcb;

	touch((void *)get_idt().address);
	touch(event_entry_2);
	touch(event_entry_6);
	touch(event_entry_0x60);
	touch(l2_stack);
	vmcb->control.int_ctl = 0;
	vmcb->control.int_state = 0;
	vmcb->control.event_inj = 0;
	vmcb->save.rip = (uint64_t)l2_nop;
	run_l2_to_end();
	*vmcb = before;
	nr_l2_exits = 0;
	l2_ended = false;
}

void run_l2_to_end(void)
{
	while (run_l2()->code == SVM_EXIT_VMMCALL && !l2_ended)
		;
}

void l2_end(void)
{
	l2_ended = true;
	vmmcall();
}

/* --- host side ---------------------------------------------------------- */

struct kvm_vcpu *create_l1(void (*l1)(void), const struct l2_start *start,
			   void (*on_event)(struct event_regs *regs))
{
	struct kvm_vcpu *vcpu = create_vm(l1, on_event);
	vm_vaddr_t gva;

	vcpu_alloc_svm(vcpu->vm, &gva);
	l1_svm = (struct svm_test_data *)gva;
	l2_start = *start;
	sync_global_to_guest(vcpu->vm, l1_svm);
	sync_global_to_guest(vcpu->vm, l2_start);
	return vcpu;
}

const struct l2_exit *read_exits(struct kvm_vcpu *vcpu, unsigned int nr)
{
	unsigned int i;

	sync_global_from_guest(vcpu->vm, l2_exits);
	sync_global_from_guest(vcpu->vm, nr_l2_exits);
	if (nr_l2_exits < nr || nr_l2_exits > NR_EXITS)
		FAIL("L1 has seen %u exits of L2, expected %u", nr_l2_exits, nr);
	for (i = 0; i < nr_l2_exits; i++)
		log_line("exit 0x%x rip 0x%lx int_ctl 0x%x int_info 0x%x", l2_exits[i].code,
			 l2_exits[i].rip, l2_exits[i].int_ctl, l2_exits[i].int_info);
	return l2_exits;
}

struct vmcb *saved_vmcb12(struct kvm_vcpu *vcpu, union nested_state *nested)
{
	nested->state = (struct kvm_nested_state){ .size = sizeof(*nested) };
	vcpu_nested_state_get(vcpu, &nested->state);
	if (!(nested->state.flags & KVM_STATE_NESTED_GUEST_MODE))
		FAIL("L2 does not run: nested state has flags 0x%x", nested->state.flags);
	return (struct vmcb *)nested->state.data.svm[0].vmcb12;
}

uint32_t saved_vnmi_bits(struct kvm_vcpu *vcpu)
{
	union nested_state nested;

	return saved_vmcb12(vcpu, &nested)->control.int_ctl & V_NMI_STATE;
}

void take_l2_stack_away(struct kvm_vcpu *vcpu)
{
	take_page_away(vcpu, (uint64_t)l2_stack);
}
