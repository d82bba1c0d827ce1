// SPDX-License-Identifier: GPL-2.0-only
/*
 * NMI blocking for a VMCS with virtual NMIs: the CPU tracks it in bit 3 of the
 * interruptibility state, and makes an exit when a window opens.  Two things are left to
 * software, both around events that did not complete:
 *
 *   an IRET that exits      has dropped the blocking although it is going to run again
 *   an injection that exits leaves blocking although the NMI is going to be injected
 *			     again
 *
 * nmi_known_unmasked says that the bit is clear without reading it.  If it does not,
 * NMIs were blocked when the bit was looked at last.
 */
#include <linux/kvm_host.h>

#include "x86.h"
#include "vmx.h"
#include "nmi.h"
#include "../nmi_trace.h"

static void set_blocking_bit(struct vcpu_vmx *vmx, bool blocked)
{
	vmx->loaded_vmcs->nmi_known_unmasked = !blocked;
	if (blocked)
		vmcs_set_bits(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
	else
		vmcs_clear_bits(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
}

void virtual_nmis_block(struct vcpu_vmx *vmx)
{
	set_blocking_bit(vmx, true);
	vmx->nmi.since = rdtsc();
}

void virtual_nmis_unblock(struct vcpu_vmx *vmx, enum nmi_unblock cause)
{
	set_blocking_bit(vmx, false);
	vmx_nmi_report_unblock(vmx, cause);
}

/* Not yet, if an NMI is about to be injected. */
bool virtual_nmis_blocked(struct vcpu_vmx *vmx)
{
	return !vmx->loaded_vmcs->nmi_known_unmasked &&
	       (vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI);
}

void virtual_nmis_inject(struct vcpu_vmx *vmx)
{
	/* The frame is pushed by software, so nothing but software can block. */
	if (vmx->rmode.vm86_active) {
		virtual_nmis_block(vmx);
		return;
	}

	/* Injected and blocked, as only user space can ask for, is no valid entry. */
	if (!vmx->loaded_vmcs->nmi_known_unmasked)
		set_blocking_bit(vmx, false);
	vmx->loaded_vmcs->nmi_known_unmasked = false;
}

/* The window may open although STI still blocks injection, see next_boundary.c. */
bool virtual_nmis_wait(struct vcpu_vmx *vmx)
{
	if (vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_STI)
		return false;

	exec_controls_setbit(vmx, CPU_BASED_NMI_WINDOW_EXITING);
	trace_kvm_nmi_window(&vmx->vcpu, NMI_WINDOW_EXITING);
	return true;
}

/*
 * An IRET that faulted has unblocked NMIs for good if its fault goes to the
 * guest; the blocking that was put back at the exit is right only for an IRET
 * that runs again.
 */
void virtual_nmis_enter(struct vcpu_vmx *vmx)
{
	u32 event = vmcs_read32(VM_ENTRY_INTR_INFO_FIELD);

	if (vmx->nmi.iret_exit == vmx->loaded_vmcs && vmx->nmi.iret_fault &&
	    (event & ~INTR_INFO_DELIVER_CODE_MASK) == vmx->nmi.iret_fault)
		virtual_nmis_unblock(vmx, NMI_UNBLOCK_FAULT);
	vmx->nmi.iret_exit = NULL;
}

/*
 * Did the exit come from an IRET that has dropped the blocking but did not
 * retire?  Bit 12 says so, in the interruption information of an exception or
 * in the exit qualification, unless it is undefined: the exit happened while an
 * event was delivered, or it is a double fault.  Some CPUs never set it for EPT
 * violations (errata AAK134, BY25); nothing can be done there.
 * (SDM, "Information for VM Exits Due to Vectored Events")
 */
static bool iret_did_not_retire(struct vcpu_vmx *vmx)
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

void virtual_nmis_take_window(struct vcpu_vmx *vmx)
{
	exec_controls_clearbit(vmx, CPU_BASED_NMI_WINDOW_EXITING);
	++vmx->vcpu.stat.nmi_window_exits;
}

static void look_at_blocking(struct vcpu_vmx *vmx)
{
	if (vmx->loaded_vmcs->nmi_known_unmasked)
		return;

	if (unlikely(iret_did_not_retire(vmx))) {
		set_blocking_bit(vmx, true);
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
bool virtual_nmis_exit(struct vcpu_vmx *vmx)
{
	look_at_blocking(vmx);

	if (vmx_shared(vmx)->exit_reason.basic != EXIT_REASON_NMI_WINDOW ||
	    (vmx->idt_vectoring_info & VECTORING_INFO_VALID_MASK) ||
	    is_guest_mode(&vmx->vcpu))
		return false;

	virtual_nmis_take_window(vmx);
	return true;
}

/* VM entry refuses to inject an NMI while NMIs are blocked. */
void virtual_nmis_aborted(struct vcpu_vmx *vmx)
{
	set_blocking_bit(vmx, false);
}
