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
 * NMIs were blocked when the bit was looked at last, or one has been injected since.
 * What each exit has to do is in nmi_inline.h.
 */
#include <linux/kvm_host.h>

#include "x86.h"
#include "vmx.h"
#include "nmi.h"
#include "../nmi_trace.h"
#include "nmi_inline.h"

void virtual_nmis_set_blocking(struct vcpu_vmx *vmx, bool blocked)
{
	vmx->loaded_vmcs->nmi_known_unmasked = !blocked;
	if (blocked)
		vmcs_set_bits(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
	else
		vmcs_clear_bits(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
}

void virtual_nmis_block(struct vcpu_vmx *vmx)
{
	virtual_nmis_set_blocking(vmx, true);
	vmx->nmi.since = rdtsc();
}

void virtual_nmis_unblock(struct vcpu_vmx *vmx, enum nmi_unblock cause)
{
	virtual_nmis_set_blocking(vmx, false);
	vmx_nmi_report_unblock(vmx, cause);
}

/* The window may open although STI still blocks injection, see next_boundary.c. */
bool virtual_nmis_wait(struct vcpu_vmx *vmx)
{
	if (vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_STI)
		return false;

	exec_controls_setbit(vmx, CPU_BASED_NMI_WINDOW_EXITING);
	nmi_waits(&vmx->vcpu, &vmx->nmi.record, NMI_WINDOW_EXITING);
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

void virtual_nmis_take_window(struct vcpu_vmx *vmx)
{
	exec_controls_clearbit(vmx, CPU_BASED_NMI_WINDOW_EXITING);
	++vmx->vcpu.stat.nmi_window_exits;
}
