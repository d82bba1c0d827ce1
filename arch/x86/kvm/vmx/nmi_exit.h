/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What vmx.c asks about NMIs behind each exit.  Inline, because nearly every exit
 * has nothing to say about them.
 */
#ifndef __KVM_X86_VMX_NMI_EXIT_H
#define __KVM_X86_VMX_NMI_EXIT_H

#include <linux/tracepoint-defs.h>

#include "vmx.h"

DECLARE_TRACEPOINT(kvm_nmi_unblock);

/* A property of the VMCS, whatever the module parameter says. */
static __always_inline bool has_virtual_nmis(struct vcpu_vmx *vmx)
{
	return pin_controls_get(vmx) & PIN_BASED_VIRTUAL_NMIS;
}

/*
 * Exits that an IRET may cause before it retires, at which vmx_nmi_exit() looks
 * closer, and the one for a window.  Of those from 64 on, few and far between,
 * only notify exits are meant.
 */
#define NMI_EXITS	(BIT_ULL(EXIT_REASON_EXCEPTION_NMI) |	\
			 BIT_ULL(EXIT_REASON_NMI_WINDOW) |	\
			 BIT_ULL(EXIT_REASON_EPT_VIOLATION) |	\
			 BIT_ULL(EXIT_REASON_PML_FULL))

static_assert(EXIT_REASON_NOTIFY >= 64);

static __always_inline bool vmx_exit_concerns_nmi(struct vcpu_vmx *vmx)
{
	unsigned int reason = vmx_shared(vmx)->exit_reason.basic;

	return reason >= 64 || NMI_EXITS & BIT_ULL(reason);
}

/*
 * Of other exits under virtual NMIs it is enough to know whether the guest has
 * opened NMIs meanwhile.
 */
static __always_inline void vmx_nmi_after_exit(struct vcpu_vmx *vmx)
{
	struct loaded_vmcs *vmcs = vmx->loaded_vmcs;

	if (likely(vmcs->nmi_known_unmasked))
		return;

	if (vmx_exit_concerns_nmi(vmx) || tracepoint_enabled(kvm_nmi_unblock) ||
	    !has_virtual_nmis(vmx))
		vmx_nmi_exit(vmx);
	else if (!(vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) &
		   GUEST_INTR_STATE_NMI))
		vmcs->nmi_known_unmasked = true;
}

#endif /* __KVM_X86_VMX_NMI_EXIT_H */
