// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest NMIs on CPUs with vNMI, which deliver a second NMI by themselves.
 *
 * V_NMI_MASK of the VMCB is the latch: the CPU sets it when it takes a V_NMI or
 * injects an NMI through EVENTINJ, and clears it when an IRET completes.  What
 * the CPU does not see is left to software: an IRET that was emulated or was a
 * task switch, an NMI that went through a task gate, SMM, user space.
 *
 * An NMI that cannot be injected right now is lent to the CPU as V_NMI (loan.c),
 * and the CPU takes it as soon as NMIs are unmasked, GIF is set and no
 * interrupt shadow is left.  Common code since 6.4 leaves an NMI to the next entry
 * without the way of all events: then it is lent at once, also if nothing is in its way.
 *
 * V_NMI is one latch.  Two NMIs that meet where none can be taken, in a shadow
 * or with GIF clear, are one, as on a CPU.
 *
 * An exit during the delivery of a V_NMI leaves V_NMI_MASK clear and the NMI in
 * EXITINTINFO, to be injected again.  An IRET that faults leaves NMIs masked,
 * by the words of the manual; nothing here depends on it.
 * (APM volume 2, "NMI Virtualization")
 */
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>

#include "x86.h"
#include "latch.h"
#include "../nmi_request.h"

/* Once settled: the CPU delivers NMIs. */
bool __read_mostly vnmi = true;
module_param(vnmi, bool, 0444);
MODULE_PARM_DESC(vnmi, "Let the CPU deliver NMIs (vNMI) if it can; needs vgif");

/* With NMIs virtualized GIF has to be, too: virtual GIF gates V_NMI. */
void vnmi_settle(void)
{
	vnmi = vnmi && vgif && boot_cpu_has(FEATURE_VNMI);
}

/* The VMCB has been initialized, which cleared pending and masked NMIs. */
void vnmi_enable(struct vcpu_svm *svm)
{
	/* What tracks the NMIs of SEV-ES guests is as in the distribution's module. */
	if (!vnmi || (is_sev_es_guest(&svm->vcpu) && !SEV_ES_HAS_VNMI))
		return;

	svm->vmcb01.ptr->control.int_ctl |= V_NMI_ENABLE_MASK;
	vmcb_mark_dirty(svm->vmcb01.ptr, VMCB_INTR);
}

/*
 * Common code has accepted an NMI.  True if it is the next entry's to lend it to the CPU,
 * and common code has it no more.
 *
 * What the entry injects comes first, as an exception has to, and an IRQ that was being
 * delivered.  A new IRQ does not: svm_nmi_goes_first().  An SMI may have to wait for the
 * entry after it, and the NMI with it.  A debugger in user space may hold back events, and
 * steps from one to the next.
 */
bool svm_nmi_hand_over(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (!vnmi || is_guest_mode(vcpu) || !vnmi_on(svm) || svm->nmi.handed ||
	    vcpu->arch.smi_pending || vcpu->guest_debug || nmi_user_space_looks(vcpu))
		return false;

	svm->nmi.handed = true;
	nmi_rearm(svm);
	return true;
}

/* One more than common code has pending. */
bool svm_nmi_handed_over(struct kvm_vcpu *vcpu)
{
	return to_svm(vcpu)->nmi.handed;
}

/* With an NMI handed over: may an IRQ not be injected before it? */
bool svm_nmi_goes_first(struct vcpu_svm *svm)
{
	return !vnmi_masked(svm);
}

/* The NMI that was handed over is pending as others are.  The caller sees to what is wanted. */
void vnmi_take_handed(struct vcpu_svm *svm)
{
	svm->nmi.handed = false;
	++svm->vcpu.arch.nmi_pending;
}

static void set_masked(struct vmcb *vmcb, bool masked)
{
	if (masked)
		vmcb->control.int_ctl |= V_NMI_BLOCKING_MASK;
	else
		vmcb->control.int_ctl &= ~V_NMI_BLOCKING_MASK;
	vmcb_mark_dirty(vmcb, VMCB_INTR);
}

/* Set L1's latch. */
void vnmi_set_masked(struct vcpu_svm *svm, bool masked)
{
	set_masked(svm->vmcb01.ptr, masked);
}

/*
 * Set the latch of what runs now, if the CPU keeps it.  That may be L2's, which L1 and
 * user space see in nested.ctl, as the last exit has left it.
 */
void vnmi_set_masked_now(struct vcpu_svm *svm, bool masked)
{
	u32 *l2_int_ctl = &svm->nested.ctl.int_ctl;

	if (!(svm->vmcb->control.int_ctl & V_NMI_ENABLE_MASK))
		return;

	set_masked(svm->vmcb, masked);
	if (is_guest_mode(&svm->vcpu))
		*l2_int_ctl = masked ? *l2_int_ctl | V_NMI_BLOCKING_MASK :
				       *l2_int_ctl & ~V_NMI_BLOCKING_MASK;
}
