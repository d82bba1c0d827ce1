// SPDX-License-Identifier: GPL-2.0-only
/* The hypervisor of the nested VMX tests, see nmi_nested_vmx.h. */
#include "nmi_nested_vmx.h"

static struct vmx_pages *l1_vmx, *second_vmx;
static uint32_t l2_pin_controls;
static bool l2_launched;
static struct vmx_exit vmx_exits[NR_VMX_EXITS];
static uint32_t nr_vmx_exits;
static char l2_stack[4096] __aligned(16), second_stack[4096] __aligned(16);

/* --- guest side --------------------------------------------------------- */

void set_vmx_pin_controls(uint32_t pin_controls)
{
	uint64_t controls = vmreadz(PIN_BASED_VM_EXEC_CONTROL);

	controls &= ~(PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS);
	vmwrite(PIN_BASED_VM_EXEC_CONTROL, controls | pin_controls);
}

void prepare_vmx_l2(void (*rip)(void))
{
	x2apic_enable();
	GUEST_ASSERT(prepare_for_vmx_operation(l1_vmx));
	GUEST_ASSERT(load_vmcs(l1_vmx));
	compat_prepare_vmcs(l1_vmx, rip, l2_stack + sizeof(l2_stack));
	set_vmx_pin_controls(l2_pin_controls);
}

void prepare_second_vmx_l2(void (*rip)(void))
{
	GUEST_ASSERT(load_vmcs(second_vmx));
	compat_prepare_vmcs(second_vmx, rip, second_stack + sizeof(second_stack));
	set_vmx_pin_controls(l2_pin_controls);
	l2_launched = false;
}

void back_to_first_vmx_l2(void)
{
	GUEST_ASSERT(!vmptrld(l1_vmx->vmcs_gpa));
	l2_launched = true;
}

const struct vmx_exit *run_vmx_l2(void)
{
	struct vmx_exit *exit = &vmx_exits[nr_vmx_exits++ % NR_VMX_EXITS];

	GUEST_ASSERT(!(l2_launched ? vmresume() : vmlaunch()));
	l2_launched = true;
	*exit = (struct vmx_exit) {
		.reason = vmreadz(VM_EXIT_REASON),
		.qualification = vmreadz(EXIT_QUALIFICATION),
		.intr_info = vmreadz(VM_EXIT_INTR_INFO),
		.rip = vmreadz(GUEST_RIP),
		.interruptibility = vmreadz(GUEST_INTERRUPTIBILITY_INFO),
		.activity = vmreadz(GUEST_ACTIVITY_STATE),
		.insn_length = vmreadz(VM_EXIT_INSTRUCTION_LEN),
	};
	if (exit->reason == EXIT_REASON_VMCALL)
		vmwrite(GUEST_RIP, exit->rip + vmreadz(VM_EXIT_INSTRUCTION_LEN));
	return exit;
}

/* --- host side ---------------------------------------------------------- */

struct kvm_vcpu *create_vmx_l1(void (*l1)(void), uint32_t pin_controls,
			       void (*on_event)(struct event_regs *regs))
{
	struct kvm_vcpu *vcpu = create_vm(l1, on_event);
	vm_vaddr_t gva;

	vcpu_alloc_vmx(vcpu->vm, &gva);
	l1_vmx = (struct vmx_pages *)gva;
	l2_pin_controls = pin_controls;
	vcpu_alloc_vmx(vcpu->vm, &gva);
	second_vmx = (struct vmx_pages *)gva;
	sync_global_to_guest(vcpu->vm, l1_vmx);
	sync_global_to_guest(vcpu->vm, second_vmx);
	sync_global_to_guest(vcpu->vm, l2_pin_controls);
	return vcpu;
}

const struct vmx_exit *read_vmx_exits(struct kvm_vcpu *vcpu, unsigned int nr)
{
	sync_global_from_guest(vcpu->vm, vmx_exits);
	sync_global_from_guest(vcpu->vm, nr_vmx_exits);
	if (nr_vmx_exits != nr)
		FAIL("L1 has seen %u exits of L2, expected %u", nr_vmx_exits, nr);
	return vmx_exits;
}
