/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the fields of an L1's VMCS say of NMIs.  nested_nmi.c tells what that means.
 */
#ifndef __KVM_X86_VMX_NESTED_NMI_H
#define __KVM_X86_VMX_NESTED_NMI_H

#include "nested.h"

/* NMI exiting without virtual NMIs: nothing in L2 changes blocking. */
static inline bool nmi_exiting_alone(struct vmcs12 *vmcs12)
{
	return nested_cpu_has_nmi_exiting(vmcs12) && !nested_cpu_has_virtual_nmis(vmcs12);
}

static inline bool says_blocked(struct vmcs12 *vmcs12)
{
	return vmcs12->guest_interruptibility_info & GUEST_INTR_STATE_NMI;
}

static inline void say_blocked(struct vmcs12 *vmcs12, bool blocked)
{
	vmcs12->guest_interruptibility_info &= ~GUEST_INTR_STATE_NMI;
	if (blocked)
		vmcs12->guest_interruptibility_info |= GUEST_INTR_STATE_NMI;
}

/* Does L2 run with NMI exiting, but no virtual NMIs? */
static inline bool l2_has_nmi_exiting_alone(struct kvm_vcpu *vcpu)
{
	return is_guest_mode(vcpu) && nmi_exiting_alone(get_vmcs12(vcpu));
}

/* Of an L2 that exits for NMIs: is that blocked? */
static inline bool nmi_exit_is_blocked(struct kvm_vcpu *vcpu)
{
	struct vmcs12 *vmcs12 = get_vmcs12(vcpu);

	return nmi_exiting_alone(vmcs12) && says_blocked(vmcs12);
}

#endif /* __KVM_X86_VMX_NESTED_NMI_H */
