// SPDX-License-Identifier: GPL-2.0-only
/*
 * vNMI for nested hypervisors: V_NMI, V_NMI_MASK and V_NMI_ENABLE of the VMCB
 * that L1 has written for L2 (vmcb12) work as the manual says.
 *
 * When L1 uses vNMI there are two latches.  L1's own stays where it is while L2
 * runs: L1 that runs L2 from inside its NMI handler is still blocked after the
 * exit, and an NMI handler of L2 does not block L1.  NMIs for L1 make L2 exit,
 * which the manual guarantees: vNMI without the NMI intercept is not valid.
 *
 * On a CPU with vNMI the three bits go to the VMCB that runs L2 and come back.
 * On others L2's latch is an IRET window of its own (svm_nmi.l2), and a pending
 * V_NMI is injected here, right before VMRUN.  The truth is in nested.ctl at any
 * time that user space or L1 could look at it:
 *
 *   V_NMI       in nested.ctl.int_ctl until it is injected
 *   V_NMI_MASK  there too, brought up to date at each exit from L2
 *
 * Unlike L1's latch on such a CPU, L2's stays masked when an IRET faults, as the
 * manual has it for vNMI; so each IRET that would unmask is stepped over.
 * (APM volume 2, "NMI Virtualization")
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <trace/events/ipi.h>

#include "x86.h"
#include "cpuid.h"
#include "svm.h"
#include "nmi.h"
#include "../nmi_trace.h"

static bool __read_mostly nested_vnmi = true;
module_param(nested_vnmi, bool, 0444);
MODULE_PARM_DESC(nested_vnmi,
		 "Offer vNMI to nested hypervisors, in software if the CPU lacks it; needs vgif (default Y)");

/**
 * nested_vnmi_setup() - announce vNMI for nested hypervisors
 *
 * Context: module initialization, KVM's CPU capabilities are being collected.
 */
void nested_vnmi_setup(void)
{
	if (nested_vnmi && vgif)
		kvm_cpu_cap_set(FEATURE_VNMI);
}

/*
 * The emulator has run an IRET, or RSM.  It is L2's latch that an IRET of L2 opens;
 * RSM never runs in L2.
 */
static void emulator_set_nmi_mask(struct x86_emulate_ctxt *ctxt, bool masked)
{
	struct kvm_vcpu *vcpu = ctxt->vcpu;

	if (!masked && is_guest_mode(vcpu) && nested_vnmi_used(to_svm(vcpu)))
		nested_vnmi_unmask(to_svm(vcpu), NMI_UNBLOCK_RESTORED);
	else
		svm_set_nmi_mask(vcpu, masked);
}

/*
 * The emulator and user space that restores L1's latch both call set_nmi_mask() of
 * kvm_x86_ops, which cannot tell them apart.  Give the emulator one of its own.
 */
static void tell_emulator_apart(struct kvm_vcpu *vcpu)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	static struct x86_emulate_ops ops;
	static DEFINE_MUTEX(lock);

	mutex_lock(&lock);
	if (!ops.set_nmi_mask) {
		ops = *ctxt->ops;
		ops.set_nmi_mask = emulator_set_nmi_mask;
	}
	mutex_unlock(&lock);
	ctxt->ops = &ops;
}

/**
 * nested_vnmi_settle() - show in the parameter what has been announced
 *
 * Context: module initialization, KVM's CPU capabilities are settled.
 */
void nested_vnmi_settle(void)
{
	nested_vnmi = nested_vnmi && vgif && kvm_cpu_cap_has(X86_FEATURE_SVM);
}

/**
 * svm_nmi_after_set_cpuid() - user space has set the guest's CPUID
 * @vcpu: the vCPU
 *
 * Context: vCPU thread, preemption enabled.
 */
void svm_nmi_after_set_cpuid(struct kvm_vcpu *vcpu)
{
	to_svm(vcpu)->nmi.vnmi_for_l1 = nested_vnmi &&
					guest_has_vnmi(vcpu);
	if (to_svm(vcpu)->nmi.vnmi_for_l1)
		tell_emulator_apart(vcpu);
}

/**
 * nested_vnmi_used() - does L1 use vNMI for the L2 that runs, or is about to?
 * @svm: the vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: true if so.
 */
bool nested_vnmi_used(struct vcpu_svm *svm)
{
	return svm->nmi.vnmi_for_l1 &&
	       (svm->nested.ctl.int_ctl & V_NMI_ENABLE_MASK);
}

/**
 * nested_vnmi_emulated() - is L2's vNMI up to software?
 * @svm: the vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: true if L2 runs, uses vNMI, and the CPU has none.
 */
bool nested_vnmi_emulated(struct vcpu_svm *svm)
{
	return is_guest_mode(&svm->vcpu) && !vnmi_supported() &&
	       nested_vnmi_used(svm);
}

static bool l2_pending(struct vcpu_svm *svm)
{
	return svm->nested.ctl.int_ctl & V_NMI_PENDING_MASK;
}

/* An NMI that L1 injects into L2, or that is injected once more. */
static bool injects_nmi(struct vcpu_svm *svm)
{
	u32 event = svm->vmcb->control.event_inj;

	return (event & SVM_EVTINJ_VALID) &&
	       (event & SVM_EVTINJ_TYPE_MASK) == SVM_EVTINJ_TYPE_NMI;
}

/**
 * nested_vnmi_in_play() - is there something to do around VMRUN of L2?
 * @svm: the vCPU
 *
 * While a V_NMI waits, also with the CPU's vNMI: an NMI of L1 may have to go first.
 * Without it also while L2's latch asks for it, or L1's latch: the IRET intercept
 * that goes with it is not for L2.
 *
 * Context: vCPU thread, interrupts on or off; in guest mode.
 * Return: true if nested_vnmi_enter() and _exit() are to be called.
 */
bool nested_vnmi_in_play(struct vcpu_svm *svm)
{
	if (!nested_vnmi_used(svm))
		return false;

	if (l2_pending(svm))
		return true;

	return !vnmi_supported() &&
	       (svm->nmi.l2.state != NMI_OPEN ||
		svm->nmi.l1.state != NMI_OPEN || injects_nmi(svm));
}

/**
 * nested_vnmi_valid() - consistency check of VMRUN and KVM_SET_NESTED_STATE
 * @vcpu: the vCPU
 * @control: the control area that L1 has written
 *
 * Context: vCPU thread, preemption enabled.
 * Return: false if VMRUN has to fail.
 */
bool nested_vnmi_valid(struct kvm_vcpu *vcpu, struct vmcb_ctrl_area_cached *control)
{
	return !to_svm(vcpu)->nmi.vnmi_for_l1 ||
	       !(control->int_ctl & V_NMI_ENABLE_MASK) ||
	       vmcb12_is_intercept(control, INTERCEPT_NMI);
}

/**
 * nested_vnmi_vmcb02_bits() - bits of int_ctl that the CPU keeps for L2
 * @svm: the vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: a mask, 0 without vNMI.
 */
u32 nested_vnmi_vmcb02_bits(struct vcpu_svm *svm)
{
	if (!vnmi_supported() || !nested_vnmi_used(svm))
		return 0;

	return V_NMI_PENDING_MASK | V_NMI_BLOCKING_MASK;
}

/* L2 has a GIF of its own if L1 virtualizes it, otherwise it is L1's. */
static bool l2_gif(struct vcpu_svm *svm)
{
	return nested_vgif_enabled(svm) ?
	       svm->vmcb->control.int_ctl & V_GIF_MASK : gif_set(svm);
}

static bool l2_shadow(struct vcpu_svm *svm)
{
	return svm->vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK;
}

/**
 * nested_vnmi_has_events() - does L2 have a reason to leave HLT?
 * @vcpu: the vCPU
 * @for_injection: an event is about to be injected
 *
 * Context: vCPU thread, preemption enabled.
 * Return: true if a V_NMI can be taken.
 */
bool nested_vnmi_has_events(struct kvm_vcpu *vcpu, bool for_injection)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/*
	 * A V_NMI that met the shadow in front of HLT, with the CPU's vNMI as
	 * well.  For injection there is nothing to do: the next entry does it.
	 */
	return !for_injection && nested_vnmi_used(svm) && l2_pending(svm) &&
	       !(svm->nested.ctl.int_ctl & V_NMI_BLOCKING_MASK) && l2_gif(svm);
}

static void set_l2_intercept(struct vcpu_svm *svm, int bit, bool wanted)
{
	if (wanted || vmcb12_is_intercept(&svm->nested.ctl, bit))
		vmcb_set_intercept(&svm->vmcb->control, bit);
	else
		vmcb_clr_intercept(&svm->vmcb->control, bit);
}

static void inject_into_l2(struct vcpu_svm *svm)
{
	if (trace_kvm_nmi_inject_enabled())
		svm_nmi_trace_injection(&svm->vcpu, false);

	svm->vmcb->control.event_inj = SVM_EVTINJ_TYPE_NMI | SVM_EVTINJ_VALID;
	svm->nested.ctl.int_ctl &= ~V_NMI_PENDING_MASK;
	iret_window_block(svm, &svm->nmi.l2);
}

/*
 * An NMI for L1 that has waited for VMRUN to set GIF makes L2 exit before it
 * takes a V_NMI.  Common code has asked for an immediate exit.
 */
static bool l1_goes_first(struct vcpu_svm *svm)
{
	return nested_run_pending(svm) && svm->vcpu.arch.nmi_pending &&
	       !svm_nmi_blocked(&svm->vcpu);
}

/* The CPU does not know of that NMI: keep the V_NMI from it for this VMRUN. */
static void hold_vnmi(struct vcpu_svm *svm)
{
	if (!(svm->vmcb->control.int_ctl & V_NMI_PENDING_MASK) ||
	    !l1_goes_first(svm))
		return;

	svm->nmi.vnmi_held = true;
	svm->vmcb->control.int_ctl &= ~V_NMI_PENDING_MASK;
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
}

static void release_vnmi(struct vcpu_svm *svm)
{
	if (!svm->nmi.vnmi_held)
		return;

	svm->nmi.vnmi_held = false;
	svm->nested.ctl.int_ctl |= V_NMI_PENDING_MASK;
	svm->vmcb->control.int_ctl |= V_NMI_PENDING_MASK;
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
}

/*
 * Do what the CPU would do at the first boundary, or see to it that there is an
 * exit at the boundary at which it can be done.
 */
static void emulate_vnmi(struct vcpu_svm *svm)
{
	bool boundary = !(svm->vmcb->control.event_inj & SVM_EVTINJ_VALID);
	struct iret_window *window = &svm->nmi.l2;

	/* An injected NMI masks NMIs like one that is taken. */
	if (injects_nmi(svm))
		iret_window_block(svm, window);

	if (window->state == NMI_RETIRING) {
		svm->nmi.step = true;
	} else if (l2_pending(svm) && window->state == NMI_OPEN && l2_gif(svm) &&
		   !l1_goes_first(svm)) {
		if (!boundary)
			smp_send_reschedule(svm->vcpu.cpu);
		else if (l2_shadow(svm))
			svm->nmi.step = true;
		else
			inject_into_l2(svm);
	}

	set_l2_intercept(svm, INTERCEPT_IRET, window->state == NMI_BLOCKED);
	set_l2_intercept(svm, INTERCEPT_STGI, l2_pending(svm) && !l2_gif(svm));
	/* Something for L1 may wait for the GIF that it shares with L2. */
	if (vmcb_is_intercept(&svm->vmcb01.ptr->control, INTERCEPT_STGI))
		vmcb_set_intercept(&svm->vmcb->control, INTERCEPT_STGI);
	vmcb_mark_dirty(svm->vmcb, VMCB_INTERCEPTS);
}

/**
 * nested_vnmi_enter() - prepare L2's vNMI for VMRUN
 * @svm: the vCPU
 *
 * Context: vCPU thread, interrupts off, right before VMRUN of L2.
 */
void nested_vnmi_enter(struct vcpu_svm *svm)
{
	if (vnmi_supported())
		hold_vnmi(svm);
	else
		emulate_vnmi(svm);
}

/* STGI of an L2 with a GIF of its own, intercepted only for a pending V_NMI. */
static bool is_own_stgi(struct vcpu_svm *svm)
{
	return nested_vgif_enabled(svm) &&
	       svm->vmcb->control.exit_code == SVM_EXIT_STGI &&
	       !vmcb12_is_intercept(&svm->nested.ctl, INTERCEPT_STGI);
}

/**
 * nested_vnmi_stgi() - complete an STGI of L2
 * @vcpu: the vCPU
 *
 * Context: vCPU thread, preemption enabled.
 * Return: 1, stay in the kernel.
 */
int nested_vnmi_stgi(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	svm->vmcb->control.int_ctl |= V_GIF_MASK;
	svm->nested.ctl.int_ctl |= V_GIF_MASK;
	return kvm_skip_emulated_instruction(vcpu);
}

/* V_NMI_MASK as L1 and user space are to see it. */
static void sync_masked(struct vcpu_svm *svm)
{
	if (svm->nmi.l2.state != NMI_OPEN)
		svm->nested.ctl.int_ctl |= V_NMI_BLOCKING_MASK;
	else
		svm->nested.ctl.int_ctl &= ~V_NMI_BLOCKING_MASK;
}

/**
 * nested_vnmi_exit() - bring L2's vNMI bits up to date
 * @svm: the vCPU
 *
 * Context: vCPU thread, interrupts off, after #VMEXIT from L2 and before L1 or
 * user space looks.
 */
void nested_vnmi_exit(struct vcpu_svm *svm)
{
	if (vnmi_supported()) {
		release_vnmi(svm);
	} else {
		svm->nmi.owned |= is_own_stgi(svm);
		sync_masked(svm);
	}
}

/**
 * nested_vnmi_unmask() - KVM has done an IRET of L2
 * @svm: the vCPU
 * @cause: enum nmi_unblock
 *
 * The last exit has brought nested.ctl up to date, and L1 or user space may see
 * it before the next one.
 *
 * Context: vCPU thread, preemption enabled; in guest mode.
 */
void nested_vnmi_unmask(struct vcpu_svm *svm, int cause)
{
	if (vnmi_supported()) {
		vnmi_set_masked_now(svm, false);
	} else {
		iret_window_open(svm, &svm->nmi.l2, cause);
		/* The next entry may have no reason to look at it. */
		set_l2_intercept(svm, INTERCEPT_IRET, false);
		vmcb_mark_dirty(svm->vmcb, VMCB_INTERCEPTS);
	}
	svm->nested.ctl.int_ctl &= ~V_NMI_BLOCKING_MASK;
}

/**
 * svm_nmi_enter_l2() - L2 is about to run
 * @svm: the vCPU
 *
 * By VMRUN, by RSM, or because user space restores it.  The control area of vmcb02
 * is set up: a change of an intercept merges those of vmcb01 and nested.ctl anew,
 * and that looks at more than the intercepts.
 *
 * Context: vCPU thread, preemption enabled.
 */
void svm_nmi_enter_l2(struct vcpu_svm *svm)
{
	struct vmcb *vmcb02 = svm->nested.vmcb02.ptr;
	u32 int_ctl = svm->nested.ctl.int_ctl;

	if (svm->nmi.l1.state == NMI_RETIRING)
		iret_window_block(svm, &svm->nmi.l1);

	if (nested_vnmi_emulated(svm)) {
		if (int_ctl & V_NMI_BLOCKING_MASK)
			iret_window_block(svm, &svm->nmi.l2);
	} else if (nested_vnmi_used(svm)) {
		vmcb02->control.int_ctl |= int_ctl & (V_NMI_PENDING_MASK |
						      V_NMI_BLOCKING_MASK |
						      V_NMI_ENABLE_MASK);
	} else if (svm->vmcb01.ptr->control.int_ctl & V_NMI_ENABLE_MASK) {
		/* One latch, which the CPU does not keep while L2 runs. */
		if (vnmi_masked(svm))
			iret_window_block(svm, &svm->nmi.l1);
		vnmi_set_masked(svm, false);
	}
	svm_nmi_update(svm);
}

/*
 * Have L1's IRETs intercepted as its latch wants it.  The VMCB of L2 is done with:
 * L2's SHUTDOWN has even emptied it.
 */
static void intercept_iret_in_l1(struct vcpu_svm *svm)
{
	struct vmcb *vmcb01 = svm->vmcb01.ptr;

	if (svm->nmi.l1.state == NMI_BLOCKED)
		vmcb_set_intercept(&vmcb01->control, INTERCEPT_IRET);
	else
		vmcb_clr_intercept(&vmcb01->control, INTERCEPT_IRET);
	vmcb_mark_dirty(vmcb01, VMCB_INTERCEPTS);
}

/**
 * svm_nmi_leave_l2() - L2 exits to L1, or is left for good
 * @svm: the vCPU
 *
 * Context: vCPU thread, preemption enabled; still in guest mode.
 */
void svm_nmi_leave_l2(struct vcpu_svm *svm)
{
	if (svm->nmi.l1.state == NMI_RETIRING)
		svm->nmi.l1.state = NMI_BLOCKED;

	if (nested_vnmi_used(svm)) {
		svm->nmi.l2.state = NMI_OPEN;
		/* A delivery that was interrupted has not masked NMIs. */
		if (svm->vcpu.arch.nmi_injected)
			svm->nested.ctl.int_ctl &= ~V_NMI_BLOCKING_MASK;
	} else if (svm->vmcb01.ptr->control.int_ctl & V_NMI_ENABLE_MASK) {
		vnmi_set_masked(svm, svm->nmi.l1.state != NMI_OPEN);
		svm->nmi.l1.state = NMI_OPEN;
	}
	intercept_iret_in_l1(svm);
	svm->nmi.step = false;
	svm->nmi.ready = false;
	svm->nmi.known = STEP_NONE;
	/* What was being delivered is L1's to deliver again; its own is a new one. */
	svm->nmi_l1_to_l2 = false;
	svm->nmi.redelivery = false;
	svm_nmi_update(svm);
}
