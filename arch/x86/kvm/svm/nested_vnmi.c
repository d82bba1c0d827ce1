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
 * On others L2's latch is one that software keeps (svm_nmi.l2), and a pending
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
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <trace/events/ipi.h>

#include "x86.h"
#include "cpuid.h"
#include "latch.h"
#include "../nmi_trace.h"

/*
 * What guests are told of the CPU is not to depend on whose module runs here, so only
 * vNMI that the CPU has is offered unasked.
 */
static bool __read_mostly nested_vnmi;
module_param(nested_vnmi, bool, 0444);
MODULE_PARM_DESC(nested_vnmi,
		 "Offer vNMI to nested hypervisors also if the CPU lacks it; needs vgif (default N)");

bool __ro_after_init vnmi_offered;

/* KVM's CPU capabilities are being collected; vgif is settled. */
void nested_vnmi_setup(void)
{
	vnmi_settle();
	vnmi_offered = vgif && (nested_vnmi || vnmi);
	if (vnmi_offered)
		kvm_cpu_cap_set(FEATURE_VNMI);
}

/* Show in the parameter what has been announced. */
void nested_vnmi_settle(void)
{
	nested_vnmi = nested_vnmi && vgif && kvm_cpu_cap_has(X86_FEATURE_SVM);
}

/* Consistency check of VMRUN and KVM_SET_NESTED_STATE. */
bool nested_vnmi_valid(struct kvm_vcpu *vcpu, struct vmcb_ctrl_area_cached *control)
{
	return !to_svm(vcpu)->nmi.vnmi_for_l1 ||
	       !(control->int_ctl & V_NMI_ENABLE_MASK) ||
	       vmcb12_is_intercept(control, INTERCEPT_NMI);
}

/* Bits of int_ctl that the CPU keeps for L2. */
u32 nested_vnmi_vmcb02_bits(struct vcpu_svm *svm)
{
	return vnmi && svm->nmi.l2_vnmi ? V_NMI_PENDING_MASK | V_NMI_BLOCKING_MASK : 0;
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

/* Does L2 have a reason to leave HLT, other than events for injection? */
bool nested_vnmi_has_events(struct kvm_vcpu *vcpu, bool for_injection)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/*
	 * A V_NMI that met the shadow before HLT, with the CPU's vNMI as
	 * well.  For injection there is nothing to do: the next entry does it.
	 */
	return !for_injection && svm->nmi.l2_vnmi && l2_pending(svm) &&
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
		nmi_trace_injection(svm, false);

	svm->vmcb->control.event_inj = SVM_EVTINJ_TYPE_NMI | SVM_EVTINJ_VALID;
	svm->nested.ctl.int_ctl &= ~V_NMI_PENDING_MASK;
	latch_move(svm, &svm->nmi.l2, LATCH_NMI, 0);
}

/*
 * Do what the CPU would do at the first boundary, or see to it that there is an
 * exit at the boundary at which it can be done.
 */
static void emulate_vnmi(struct vcpu_svm *svm, bool l1_first)
{
	bool boundary = !(svm->vmcb->control.event_inj & SVM_EVTINJ_VALID);
	struct nmi_latch *latch = &svm->nmi.l2;

	/* An injected NMI masks NMIs like one that is taken. */
	if (injects_nmi(svm))
		latch_move(svm, latch, LATCH_NMI, 0);

	if (latch->state == NMI_RETIRING) {
		svm->nmi.want = WANT_STEP;
	} else if (l2_pending(svm) && latch->state == NMI_OPEN && l2_gif(svm) &&
		   !l1_first) {
		if (!boundary)
			smp_send_reschedule(svm->vcpu.cpu);
		else if (l2_shadow(svm))
			svm->nmi.want = WANT_STEP;
		else
			inject_into_l2(svm);
	}

	set_l2_intercept(svm, INTERCEPT_IRET, latch->state == NMI_BLOCKED);
	set_l2_intercept(svm, INTERCEPT_STGI, l2_pending(svm) && !l2_gif(svm));
	/* Something for L1 may wait for the GIF that it shares with L2. */
	if (vmcb_is_intercept(&svm->vmcb01.ptr->control, INTERCEPT_STGI))
		vmcb_set_intercept(&svm->vmcb->control, INTERCEPT_STGI);
	vmcb_mark_dirty(svm->vmcb, VMCB_INTERCEPTS);
}

/* Right before VMRUN of L2.  @l1_first: an NMI for L1 makes L2 exit before that. */
void nested_vnmi_enter(struct vcpu_svm *svm, bool l1_first)
{
	if (!vnmi)
		emulate_vnmi(svm, l1_first);
	else if (l1_first && (svm->vmcb->control.int_ctl & V_NMI_PENDING_MASK))
		/* The CPU does not know of that NMI. */
		loan_make(svm, LOAN_HELD_VNMI);
}

/* STGI of an L2 with a GIF of its own, intercepted only for a pending V_NMI. */
static bool is_own_stgi(struct vcpu_svm *svm)
{
	return nested_vgif_enabled(svm) &&
	       svm->vmcb->control.exit_code == SVM_EXIT_STGI &&
	       !vmcb12_is_intercept(&svm->nested.ctl, INTERCEPT_STGI);
}

/* Complete such an STGI. */
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

/*
 * Bring L2's vNMI bits up to date, before L1 or user space looks; true if nobody but
 * this file asked for the exit.
 */
bool nested_vnmi_exit(struct vcpu_svm *svm)
{
	if (vnmi)
		return false;

	sync_masked(svm);
	return is_own_stgi(svm);
}

/*
 * KVM has done an IRET of L2.  The last exit has brought nested.ctl up to date, and L1
 * or user space may see it before the next one.
 */
void nested_vnmi_unmask(struct vcpu_svm *svm, int cause)
{
	if (vnmi) {
		vnmi_set_masked_now(svm, false);
	} else {
		latch_open(svm, &svm->nmi.l2, cause);
		/* The next entry may have no reason to look at it. */
		set_l2_intercept(svm, INTERCEPT_IRET, false);
		vmcb_mark_dirty(svm->vmcb, VMCB_INTERCEPTS);
	}
	svm->nested.ctl.int_ctl &= ~V_NMI_BLOCKING_MASK;
}

/*
 * L2 is about to run: by VMRUN, by RSM, or because user space restores it.  The control
 * area of vmcb02 is set up.
 */
void svm_nmi_enter_l2(struct vcpu_svm *svm)
{
	u32 int_ctl = svm->nested.ctl.int_ctl;

	svm->nmi.l2_vnmi = svm->nmi.vnmi_for_l1 && (int_ctl & V_NMI_ENABLE_MASK);
	if (likely(!svm->nmi.in_play && !svm->nmi.l2_vnmi && !vnmi_masked(svm)))
		return;

	nmi_want_again(svm);
	if (svm->nmi.l1.state == NMI_RETIRING)
		latch_move(svm, &svm->nmi.l1, LATCH_NOT_NEXT, 0);

	if (nested_vnmi_emulated(svm)) {
		if (int_ctl & V_NMI_BLOCKING_MASK)
			latch_move(svm, &svm->nmi.l2, LATCH_NMI, 0);
	} else if (svm->nmi.l2_vnmi) {
		svm->nested.vmcb02.ptr->control.int_ctl |=
			int_ctl & (V_NMI_PENDING_MASK | V_NMI_BLOCKING_MASK |
				   V_NMI_ENABLE_MASK);
	} else if (vnmi_masked(svm)) {
		/* One latch, which the CPU does not keep while L2 runs. */
		latch_move(svm, &svm->nmi.l1, LATCH_NMI, 0);
		vnmi_set_masked(svm, false);
	}
	nmi_rearm(svm);
}

/* L2 exits to L1, or is left for good; still in guest mode. */
void svm_nmi_leave_l2(struct vcpu_svm *svm)
{
	struct svm_nmi *nmi = &svm->nmi;

	/* What was being delivered is L1's to deliver again; its own is a new one. */
	svm->nmi_l1_to_l2 = false;
	nmi->redelivery = false;
	/* L1's latch in the VMCB, if the CPU keeps that, has been open since VMRUN. */
	if (likely(!nmi->in_play && !nmi->l2_vnmi))
		return;

	latch_move(svm, &nmi->l1, LATCH_NOT_NEXT, 0);
	if (nmi->l2_vnmi) {
		latch_move(svm, &nmi->l2, LATCH_FORGET, 0);
		/* A delivery that was interrupted has not masked NMIs. */
		if (svm->vcpu.arch.nmi_injected)
			svm->nested.ctl.int_ctl &= ~V_NMI_BLOCKING_MASK;
	} else if (vnmi_on(svm)) {
		vnmi_set_masked(svm, nmi->l1.state != NMI_OPEN);
		latch_move(svm, &nmi->l1, LATCH_FORGET, 0);
	}
	nmi->l2_vnmi = false;
	nmi->known = LOAN_NONE;
	nmi_rearm(svm);
}
