// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest NMIs on CPUs with vNMI, which deliver a second NMI by themselves.
 *
 * V_NMI_MASK of the VMCB is the latch: the CPU sets it when it takes a V_NMI or
 * injects an NMI through EVENTINJ, and clears it when an IRET completes.  What
 * the CPU does not see is left to software: an IRET that was emulated or was a
 * task switch, an NMI that went through a task gate, SMM, user space.
 *
 * An NMI that cannot be injected right now is lent to the CPU as V_NMI for one
 * VMRUN, and the CPU takes it as soon as NMIs are unmasked, GIF is set and no
 * interrupt shadow is left.  One that it has not taken is taken back behind the
 * #VMEXIT.  It never leaves nmi_pending meanwhile, so everybody who asks for
 * pending NMIs outside VMRUN (the event ioctls, a vCPU about to halt, nested
 * virtualization) finds it there, and setting events replaces it.
 *
 * V_NMI is one latch.  Two NMIs that meet where none can be taken, in a shadow
 * or with GIF clear, are one, as on a CPU.
 *
 * An exit during the delivery of a V_NMI leaves V_NMI_MASK clear and the NMI in
 * EXITINTINFO, to be injected again.  An IRET that faults leaves NMIs masked,
 * by the words of the manual; nothing here depends on it.
 * (APM volume 2, "NMI Virtualization")
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/moduleparam.h>

#include "x86.h"
#include "svm.h"
#include "nmi.h"
#include "../nmi_trace.h"

static bool __read_mostly vnmi = true;
module_param(vnmi, bool, 0444);
MODULE_PARM_DESC(vnmi, "Let the CPU deliver NMIs (vNMI) if it can; needs vgif");

/**
 * vnmi_supported() - does the CPU deliver NMIs, and may it?
 *
 * With NMIs virtualized GIF has to be, too: virtual GIF gates V_NMI.
 *
 * Context: any, once the module is set up.
 * Return: true if so.
 */
bool vnmi_supported(void)
{
	return vnmi;
}

/**
 * svm_nmi_hardware_setup() - settle the module's parameters
 *
 * Context: module initialization, vgif is settled.
 */
void svm_nmi_hardware_setup(void)
{
	vnmi = vnmi && vgif && boot_cpu_has(FEATURE_VNMI);
	if (vnmi)
		pr_info("Virtual NMI enabled\n");
	nested_vnmi_settle();
}

/**
 * vnmi_in_use() - does the CPU keep the latch of what runs now?
 * @svm: the vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: false for L2 whose L1 does not use vNMI.
 */
bool vnmi_in_use(struct vcpu_svm *svm)
{
	if (is_guest_mode(&svm->vcpu) && !nested_vnmi_used(svm))
		return false;

	return svm->vmcb01.ptr->control.int_ctl & V_NMI_ENABLE_MASK;
}

/**
 * vnmi_enable() - turn vNMI on for L1
 * @svm: the vCPU
 *
 * The VMCB has been initialized, which cleared pending and masked NMIs.
 *
 * Context: vCPU thread, preemption enabled.
 */
void vnmi_enable(struct vcpu_svm *svm)
{
	/* SEV-ES guests keep the NMI_COMPLETE protocol. */
	if (!vnmi || is_sev_es_guest(&svm->vcpu))
		return;

	svm->vmcb01.ptr->control.int_ctl |= V_NMI_ENABLE_MASK;
	vmcb_mark_dirty(svm->vmcb01.ptr, VMCB_INTR);
}

/**
 * vnmi_masked() - does L1's latch block NMIs?
 * @svm: the vCPU
 *
 * While L2 uses vNMI the latch rests in L1's VMCB.
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: true if masked.
 */
bool vnmi_masked(struct vcpu_svm *svm)
{
	return svm->vmcb01.ptr->control.int_ctl & V_NMI_BLOCKING_MASK;
}

static void set_masked(struct vmcb *vmcb, bool masked)
{
	if (masked)
		vmcb->control.int_ctl |= V_NMI_BLOCKING_MASK;
	else
		vmcb->control.int_ctl &= ~V_NMI_BLOCKING_MASK;
	vmcb_mark_dirty(vmcb, VMCB_INTR);
}

/**
 * vnmi_set_masked() - set L1's latch
 * @svm: the vCPU
 * @masked: the new state
 *
 * Context: vCPU thread, interrupts on or off.
 */
void vnmi_set_masked(struct vcpu_svm *svm, bool masked)
{
	set_masked(svm->vmcb01.ptr, masked);
}

/**
 * vnmi_set_masked_now() - set the latch of what runs now, if the CPU keeps it
 * @svm: the vCPU
 * @masked: the new state
 *
 * That may be L2's, which L1 and user space see in nested.ctl, as the last exit has
 * left it.
 *
 * Context: vCPU thread, interrupts on or off.
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

/**
 * vnmi_wait() - let the CPU take a pending NMI
 * @svm: the vCPU
 *
 * An NMI is pending and cannot be injected.  Good for one entry.
 *
 * Context: vCPU thread, interrupts on or off.
 */
void vnmi_wait(struct vcpu_svm *svm)
{
	svm->nmi.vnmi = true;
	svm_nmi_update(svm);
	trace_kvm_nmi_window(&svm->vcpu, NMI_WINDOW_VNMI);
}

/**
 * vnmi_lend() - lend a pending NMI to VMRUN
 * @svm: the vCPU
 *
 * Context: vCPU thread, interrupts off.
 */
void vnmi_lend(struct vcpu_svm *svm)
{
	svm->vcpu.arch.nmi_pending = 1;
	svm->nmi.vnmi_lent = true;
	svm->vmcb->control.int_ctl |= V_NMI_PENDING_MASK;
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
}

/**
 * vnmi_take_back() - see whether the CPU took the NMI
 * @svm: the vCPU
 *
 * After #VMEXIT, before anything looks at pending NMIs.
 *
 * Context: vCPU thread, interrupts off.
 */
void vnmi_take_back(struct vcpu_svm *svm)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;

	svm->nmi.vnmi_lent = false;
	if (svm->vmcb->control.int_ctl & V_NMI_PENDING_MASK) {
		svm->vmcb->control.int_ctl &= ~V_NMI_PENDING_MASK;
		vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
		return;
	}

	--vcpu->arch.nmi_pending;
	++vcpu->stat.nmi_injections;
	trace_kvm_nmi_taken(vcpu);
}
