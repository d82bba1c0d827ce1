// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest NMIs between a guest hypervisor (L1) and its guest (L2).
 *
 * L1's CPU has one blocking of NMIs.  With virtual NMIs L2 gets another, which is
 * bit 3 of the interruptibility state then.  By the controls of L1's VMCS:
 *
 *   neither	    Entry sets blocking to bit 3, L2's IRET ends it.  An NMI goes to
 *		    L2's handler.
 *   NMI exiting    Entry sets blocking to bit 3, and nothing in L2 changes it.  An
 *		    NMI makes L2 exit, unless it is blocked.
 *   both	    Entry ends blocking.  An NMI makes L2 exit.  Bit 3 is about NMIs
 *		    that L1 injects, and about the NMI window, whose exit comes
 *		    before that of an NMI.
 *
 * An exit leaves blocking as it is and shows it in bit 3, of the first two kinds;
 * one by an NMI blocks after that.  An NMI that L1 injects blocks nothing, except
 * with virtual NMIs.  (Measured on CPUs; the manual tells the most part of it in "VM
 * Entries", "Changes to Instruction Behavior in VMX Non-Root Operation" and "Event
 * Blocking".)
 *
 * Where blocking is while L2 runs: for the first kind in the VMCS of L2, as for any
 * guest that takes NMIs; for the second in L1's VMCS, that is in vmcs12, for L2
 * cannot change it; for the third it is not.  The VMCS of L1 gets it when L2 exits,
 * so that an entry that fails leaves it as it was.
 */
#include <linux/kvm_host.h>

#include "x86.h"
#include "vmx.h"
#include "nmi.h"
#include "nested_nmi.h"
#include "../nmi_trace.h"

/* Every exit shows whether NMIs are blocked, and the last one was L1's. */
static bool l1_was_blocked(struct vcpu_vmx *vmx)
{
	if (has_virtual_nmis(&vmx->vmcs01))
		return !vmx->vmcs01.nmi_known_unmasked;

	return vmx->vmcs01.soft_nmi_blocked;
}

/* Blocking for L2's handlers, by the CPU or in software; what is held is not. */
static __always_inline u32 load_blocking(struct vcpu_vmx *vmx)
{
	struct vmcs12 *vmcs12 = get_vmcs12(&vmx->vcpu);
	bool blocked = says_blocked(vmcs12) && !nmi_exiting_alone(vmcs12);
	bool soft = !has_virtual_nmis(vmx->loaded_vmcs);

	vmx->loaded_vmcs->soft_nmi_blocked = soft && blocked;
	vmx->loaded_vmcs->nmi_known_unmasked = !blocked;
	if (soft)
		vmx->nmi.enter = true;
	return !soft && blocked ? GUEST_INTR_STATE_NMI : 0;
}

/* L1 enters L2; the VMCS of L2 is loaded, its event to be injected written. */
void vmx_nmi_load_vmcs12(struct vcpu_vmx *vmx)
{
	struct vmcs12 *vmcs12 = get_vmcs12(&vmx->vcpu);
	bool stays = says_blocked(vmcs12) && !nested_cpu_has_virtual_nmis(vmcs12);
	u32 interruptibility = vmcs12->guest_interruptibility_info;
	bool was_blocked = l1_was_blocked(vmx);

	vmcs_write32(GUEST_INTERRUPTIBILITY_INFO,
		     (interruptibility & ~GUEST_INTR_STATE_NMI) | load_blocking(vmx));

	vmx->nmi.iret_exit = NULL;
	vmx->nmi.redelivery = false;
	vmx->nmi.from_l1 = false;
	if (is_nmi(vmcs12->vm_entry_intr_info_field)) {
		vmx->nmi.from_l1 = !nested_cpu_has_virtual_nmis(vmcs12);
		if (vmx->nmi.from_l1)
			vmx->nmi.enter = true;
		else
			vmx->loaded_vmcs->nmi_known_unmasked = false;
	}

	/* If the CPU enters L2, that is. */
	vmx->nmi.entry_opens = was_blocked && !stays;
	if (vmx->nmi.entry_opens)
		vmx->nmi.exit = true;
	else if (!was_blocked)
		vmx->nmi.since = stays ? rdtsc() : 0;

	/* What was blocked may not be any more. */
	if (vmx->vcpu.arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, &vmx->vcpu);
}

/* L2 goes on, by user space or by RSM. */
void vmx_nmi_restore_vmcs12(struct vcpu_vmx *vmx)
{
	u32 interruptibility = vmcs_read32(GUEST_INTERRUPTIBILITY_INFO);

	vmcs_write32(GUEST_INTERRUPTIBILITY_INFO,
		     (interruptibility & ~GUEST_INTR_STATE_NMI) | load_blocking(vmx));
}

/* The interruptibility state of L2 as L1 is to see it. */
u32 vmx_nmi_save_vmcs12(struct vcpu_vmx *vmx)
{
	u32 interruptibility = vmcs_read32(GUEST_INTERRUPTIBILITY_INFO);
	struct vmcs12 *vmcs12 = get_vmcs12(&vmx->vcpu);
	bool blocked;

	if (nmi_exiting_alone(vmcs12))
		blocked = says_blocked(vmcs12);
	else if (has_virtual_nmis(vmx->loaded_vmcs))
		blocked = !vmx->loaded_vmcs->nmi_known_unmasked &&
			  (interruptibility & GUEST_INTR_STATE_NMI);
	else
		blocked = vmx->loaded_vmcs->soft_nmi_blocked;

	/* An exit that interrupts a delivery comes when the delivery has blocked. */
	if (!is_guest_mode(&vmx->vcpu) && vmx->vcpu.arch.nmi_injected &&
	    !vmx->nmi.from_l1)
		blocked = true;

	interruptibility &= ~GUEST_INTR_STATE_NMI;
	return blocked ? interruptibility | GUEST_INTR_STATE_NMI : interruptibility;
}

/* Is it an IRET's fault that makes L2 exit? */
bool vmx_nmi_iret_faulted(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	return vmx->nmi.iret_exit && vmx->nmi.iret_exit == vmx->loaded_vmcs;
}

/*
 * An IRET has ended blocking although its fault made L2 exit. Blocking has been put
 * back for an IRET that runs again, but with such an exit that is L1's to decide, who is
 * told so by bit 12: nested VMX has it of an exception, but lost it where it made the
 * qualification of L1's EPT violation.  An EPT misconfiguration has no such bit. There
 * blocking stays, for an L1 that repairs its tables could not put it back.
 * (SDM, "Information for VM Exits Due to Vectored Events", "Exit Qualification for EPT
 * Violations")
 */
static void tell_of_iret(struct vcpu_vmx *vmx, u32 exit_reason)
{
	struct vmcs12 *vmcs12 = get_vmcs12(&vmx->vcpu);

	switch ((u16)exit_reason) {
	case EXIT_REASON_EXCEPTION_NMI:
		if (is_nmi(vmcs12->vm_exit_intr_info))
			return;
		break;
	case EXIT_REASON_EPT_VIOLATION:
	case EXIT_REASON_PML_FULL:
		vmcs12->exit_qualification |= INTR_INFO_UNBLOCK_NMI;
		break;
	default:
		return;
	}
	say_blocked(vmcs12, false);
}

/* The CPU has refused to enter L2, not by its controls but by its state. */
static bool refused_state(u32 exit_reason)
{
	return exit_reason != ~0u && (exit_reason & VMX_EXIT_REASONS_FAILED_VMENTRY);
}

/*
 * L1 goes on: its VMCS is loaded, vmcs12 as L1 is to see it.  @exit_reason is the one in
 * vmcs12, or -1 if L1 is not to know.
 */
void vmx_nmi_left_l2(struct kvm_vcpu *vcpu, u32 exit_reason)
{
	struct vmcs12 *vmcs12 = get_vmcs12(vcpu);
	struct vcpu_vmx *vmx = to_vmx(vcpu);
	bool blocked;

	/* Windows were asked for in L2's VMCS, and L1 may be open. */
	if (vcpu->arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, vcpu);

	if (!has_virtual_nmis(&vmx->vmcs01) || unlikely(vmx->nmi.as_exception))
		vmx->nmi.enter = true;
	vmx->nmi.entry_opens = false;
	vmx->nmi.from_l1 = false;
	vmx->nmi.redelivery = false;

	/* An entry that fails changes no blocking. */
	if (unlikely(vmx->fail || refused_state(exit_reason)))
		return;

	if (vmx->nmi.iret_exit == &vmx->nested.vmcs02)
		tell_of_iret(vmx, exit_reason);
	vmx->nmi.iret_exit = NULL;

	blocked = says_blocked(vmcs12) && !nested_cpu_has_virtual_nmis(vmcs12);
	if (!blocked && !l1_was_blocked(vmx))
		return;
	if (blocked != vmx_get_nmi_mask(vcpu))
		vmx_nmi_block(vmx, blocked);
}

/*
 * Is there an NMI that can be taken in L2?  Common code asks this before it ends a HLT of
 * L2, but about a new NMI only when it has ended it; L1 would not see then that an NMI
 * has.
 */
bool vmx_nmi_due(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.mp_state == KVM_MP_STATE_HALTED)
		vmx_nmi_take_requested(vcpu);

	return vcpu->arch.nmi_pending && !vmx_nmi_blocked(vcpu);
}

/*
 * An NMI makes L2 exit, unless the NMI window does first.  L1 gets it as an exit of L2,
 * which counts as taking it: NMIs are blocked in L1 after it, and one that came with it
 * stays pending.
 */
void vmx_nmi_exit_to_l1(struct kvm_vcpu *vcpu)
{
	u32 shadow = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS;

	if (nested_cpu_has(get_vmcs12(vcpu), CPU_BASED_NMI_WINDOW_EXITING) &&
	    !(vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & shadow) &&
	    !vmx_get_nmi_mask(vcpu)) {
		nested_vmx_vmexit(vcpu, EXIT_REASON_NMI_WINDOW, 0, 0);
		return;
	}

	nested_vmx_vmexit(vcpu, EXIT_REASON_EXCEPTION_NMI, NMI_EVENT, 0);
	--vcpu->arch.nmi_pending;
	vmx_set_nmi_mask(vcpu, true);
}
