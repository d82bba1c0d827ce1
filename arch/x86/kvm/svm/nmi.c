// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest NMIs on AMD CPUs.
 *
 * An NMI that common code has made pending (vcpu->arch.nmi_pending) is injected
 * through EVENTINJ as soon as svm_nmi_allowed() says so.  From then on NMIs are
 * blocked until the guest's IRET.  An NMI that arrives meanwhile stays pending
 * and asks for a window: an exit at the first instruction boundary at which it
 * can be taken.
 *
 * The CPU takes no part in any of this.  EVENTINJ is unconditional and leaves
 * nothing behind, and no exit says that NMIs are open again: iret_window.c finds
 * that out.  SEV-ES guests report the end of their handler themselves.
 *
 * There is one latch, as on a CPU: it stays as it is across VMRUN and #VMEXIT
 * of a nested hypervisor, and an IRET of L2 ends the blocking that began in L1.
 * An NMI that L1 injects into L2 is L1's to track.
 *
 * All functions run in the vCPU's thread.  The counterpart for Intel is
 * vmx/nmi.c, where the CPU tracks blocking or at least has an NMI window.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>

#include "x86.h"
#include "svm.h"
#include "nmi.h"

#define CREATE_TRACE_POINTS
#include "../nmi_trace.h"

bool svm_nmi_blocked(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/* A masked NMI is not recognized, so L1's intercept does not see it. */
	if (!gif_set(svm) || svm->nmi.state != NMI_OPEN)
		return true;

	/* The exit to L1 does not wait for a shadow to end. */
	if (is_guest_mode(vcpu) && nested_exit_on_nmi(svm))
		return false;

	return svm->vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK;
}

/* Returns 1: inject, 0: blocked, wait for a window, -EBUSY: exit at once. */
int svm_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	bool to_l1 = is_guest_mode(vcpu) && nested_exit_on_nmi(svm);

	if (svm->nested.nested_run_pending)
		return -EBUSY;

	/* What makes L2 exit is not injected; the exit is common code's to make. */
	if (!svm_nmi_blocked(vcpu))
		return for_injection && to_l1 ? -EBUSY : 1;

	return 0;
}

bool svm_get_nmi_mask(struct kvm_vcpu *vcpu)
{
	return to_svm(vcpu)->nmi.state != NMI_OPEN;
}

/*
 * Software knows better: user space restored a state, SMM was entered or left,
 * the emulator ran an IRET.  Writing back what was read changes nothing.
 */
void svm_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked)
{
	if (masked == svm_get_nmi_mask(vcpu))
		return;

	if (masked)
		iret_window_block(to_svm(vcpu));
	else
		iret_window_open(to_svm(vcpu), NMI_UNBLOCK_RESTORED);
}

void svm_inject_nmi(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (trace_kvm_nmi_inject_enabled())
		trace_kvm_nmi_inject(vcpu->vcpu_id, kvm_rip_read(vcpu),
				     kvm_rsp_read(vcpu), kvm_get_rflags(vcpu),
				     svm->vmcb->save.cpl, is_guest_mode(vcpu));

	svm->vmcb->control.event_inj = SVM_EVTINJ_TYPE_NMI | SVM_EVTINJ_VALID;
	if (svm->nmi_l1_to_l2)
		return;

	++vcpu->stat.nmi_injections;
	iret_window_block(svm);
}

void svm_enable_nmi_window(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/* NMI_COMPLETE opens the window; such a guest cannot be stepped. */
	if (sev_es_guest(vcpu->kvm))
		return;

	if (svm->nmi.state == NMI_BLOCKED) {
		trace_kvm_nmi_window(vcpu->vcpu_id, NMI_WINDOW_IRET);
		return;
	}

	/*
	 * With GIF clear no NMI can be taken before STGI.  Without virtual GIF
	 * STGI exits anyway.
	 */
	if (!gif_set(svm)) {
		if (vgif)
			svm_set_intercept(svm, INTERCEPT_STGI);
		trace_kvm_nmi_window(vcpu->vcpu_id, NMI_WINDOW_STGI);
		return;
	}

	iret_window_wait(svm);
}

/* INIT or RESET; svm.c has rebuilt the VMCB. */
void svm_nmi_reset(struct kvm_vcpu *vcpu)
{
	iret_window_open(to_svm(vcpu), NMI_UNBLOCK_RESET);
}
