/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What each injection and each exit while NMIs are not known to be open comes by, inline
 * for its cost: a call from file to file is a tenth of an injection.  For the files of
 * nmi.h, after the tracepoints: nmi.c alone creates these.
 */
#ifndef __KVM_X86_VMX_NMI_INLINE_H
#define __KVM_X86_VMX_NMI_INLINE_H

#include "vmx.h"
#include "nmi.h"

/*
 * Blocking has ended.  That is told once, whoever finds it first, and not of the NMIs
 * that L1 injects into an L2 with virtual NMIs: nothing of the vCPU's own began there.
 */
static __always_inline void vmx_nmi_report_unblock(struct vcpu_vmx *vmx,
						   enum nmi_unblock cause)
{
	if (!vmx->nmi.since)
		return;

	vmx->nmi.record.ended = cause;
	trace_kvm_nmi_unblock(&vmx->vcpu, cause, vmx->nmi.since);
	vmx->nmi.since = 0;
}

/* Not yet, if an NMI is about to be injected. */
static __always_inline bool virtual_nmis_blocked(struct vcpu_vmx *vmx)
{
	return !vmx->loaded_vmcs->nmi_known_unmasked &&
	       (vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI);
}

static __always_inline void virtual_nmis_inject(struct vcpu_vmx *vmx)
{
	/* The frame is pushed by software, so nothing but software can block. */
	if (unlikely(vmx->rmode.vm86_active)) {
		virtual_nmis_block(vmx);
		return;
	}

	/* Injected and blocked, as only user space can ask for, is no valid entry. */
	if (unlikely(!vmx->loaded_vmcs->nmi_known_unmasked))
		virtual_nmis_set_blocking(vmx, false);
	vmx->loaded_vmcs->nmi_known_unmasked = false;
}

/*
 * Did the exit come from an IRET that has dropped the blocking but did not
 * retire?  Bit 12 says so, in the interruption information of an exception or
 * in the exit qualification, unless it is undefined: the exit happened while an
 * event was delivered, or it is a double fault.  Some CPUs never set it for EPT
 * violations (errata AAK134, BY25); nothing can be done there.
 * (SDM, "Information for VM Exits Due to Vectored Events")
 */
static __always_inline bool iret_did_not_retire(struct vcpu_vmx *vmx)
{
	u32 info, fault = 0;

	if (vmx->idt_vectoring_info & VECTORING_INFO_VALID_MASK)
		return false;

	switch (vmx_shared(vmx)->exit_reason.basic) {
	case EXIT_REASON_EXCEPTION_NMI:
		info = vmx_get_intr_info(&vmx->vcpu);
		if (!(info & INTR_INFO_VALID_MASK) ||
		    !(info & INTR_INFO_UNBLOCK_NMI) ||
		    (info & INTR_INFO_VECTOR_MASK) == DF_VECTOR)
			return false;
		fault = (info & INTR_INFO_VECTOR_MASK) |
			INTR_TYPE_HARD_EXCEPTION | INTR_INFO_VALID_MASK;
		break;
	case EXIT_REASON_EPT_VIOLATION:
	case EXIT_REASON_PML_FULL:
	case EXIT_REASON_NOTIFY:
		if (vmx_get_exit_qual(&vmx->vcpu) & INTR_INFO_UNBLOCK_NMI)
			break;
		return false;
	default:
		return false;
	}

	vmx->nmi.iret_exit = vmx->loaded_vmcs;
	vmx->nmi.iret_fault = fault;
	vmx->nmi.enter = true;
	return true;
}

/* While NMIs are not known to be open. */
static __always_inline void virtual_nmis_look_at_blocking(struct vcpu_vmx *vmx)
{
	if (unlikely(iret_did_not_retire(vmx))) {
		virtual_nmis_set_blocking(vmx, true);
		return;
	}
	if (virtual_nmis_blocked(vmx))
		return;

	vmx->loaded_vmcs->nmi_known_unmasked = true;

	/* An NMI on its way into the guest is going to be injected again. */
	if (!is_intr_type(vmx->idt_vectoring_info, INTR_TYPE_NMI_INTR))
		vmx_nmi_report_unblock(vmx, NMI_UNBLOCK_IRET);
}

/* Was the exit for nothing but the window? */
static __always_inline bool virtual_nmis_exit(struct vcpu_vmx *vmx)
{
	if (!vmx->loaded_vmcs->nmi_known_unmasked)
		virtual_nmis_look_at_blocking(vmx);

	if (likely(vmx_shared(vmx)->exit_reason.basic != EXIT_REASON_NMI_WINDOW) ||
	    (vmx->idt_vectoring_info & VECTORING_INFO_VALID_MASK) ||
	    is_guest_mode(&vmx->vcpu))
		return false;

	virtual_nmis_take_window(vmx);
	return true;
}

#endif /* __KVM_X86_VMX_NMI_INLINE_H */
