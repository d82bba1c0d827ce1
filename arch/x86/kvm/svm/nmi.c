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
 * EVENTINJ is unconditional, so whether NMIs are blocked has to be known before.
 * Who knows depends on the CPU and on what runs:
 *
 *   CPU with vNMI     V_NMI_MASK in the VMCB (vnmi.c).  The CPU takes a waiting
 *		       NMI by itself.
 *   CPU without       An IRET window (iret_window.c) finds the end of the handler.
 *   SEV-ES guests     report the end of their handler themselves.
 *   L2, L1 uses vNMI  has a latch of its own (nested_vnmi.c); NMIs for L1 make it
 *		       exit.
 *   L2, L1 does not   There is one latch, as on a CPU: it stays as it is across
 *		       VMRUN and #VMEXIT, an IRET of L2 ends the blocking that
 *		       began in L1, and an NMI that L1 injects is L1's to track.
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

/**
 * svm_nmi_blocked() - is something in the way of an NMI?
 * @vcpu: the vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: true if an NMI cannot be taken at the current boundary.
 */
bool svm_nmi_blocked(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/* A masked NMI is not recognized, so L1's intercept does not see it. */
	if (!gif_set(svm) || svm_get_nmi_mask(vcpu))
		return true;

	/* The exit to L1 does not wait for a shadow to end. */
	if (is_guest_mode(vcpu) && nested_exit_on_nmi(svm))
		return false;

	return svm->vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK;
}

/**
 * svm_nmi_allowed() - may an NMI be injected now?
 * @vcpu: the vCPU
 * @for_injection: about to inject, not only asking for a halted vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: 1: inject, 0: blocked, wait for a window, -EBUSY: exit at once and
 * ask again.
 */
int svm_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	bool to_l1 = is_guest_mode(vcpu) && nested_exit_on_nmi(svm);

	if (nested_run_pending(svm))
		return -EBUSY;

	/*
	 * Stepping over INT3 or INTO to inject its exception again has cleared
	 * common code's queue of exceptions; the NMI must not take its place.
	 */
	if (for_injection && !vcpu->arch.nmi_injected &&
	    (svm->vmcb->control.event_inj & SVM_EVTINJ_VALID))
		return -EBUSY;

	/* What makes L2 exit is not injected; the exit is common code's to make. */
	if (!svm_nmi_blocked(vcpu))
		return for_injection && to_l1 ? -EBUSY : 1;

	return 0;
}

/**
 * svm_get_nmi_mask() - are NMIs blocked by an NMI handler of L1?
 * @vcpu: the vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: true from an injection to the end of its handler, also while L2
 * runs.
 */
bool svm_get_nmi_mask(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (vnmi_in_use(svm))
		return vnmi_masked(svm);

	return svm->nmi.l1.state != NMI_OPEN;
}

/**
 * svm_set_nmi_mask() - overrule what is known of NMI blocking
 * @vcpu: the vCPU
 * @masked: the new state
 *
 * Software knows better: user space restored a state, SMM was entered or left,
 * the emulator ran an IRET.  Writing back what was read changes nothing.  It is always
 * L1's latch; where L2 has one of its own, the emulator calls nested_vnmi.c.
 *
 * Context: vCPU thread, preemption enabled.
 */
void svm_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/* User space may have taken away the NMI that was to be injected again. */
	if (!vcpu->arch.nmi_injected)
		svm->nmi.redelivery = false;

	if (masked == svm_get_nmi_mask(vcpu))
		return;

	if (vnmi_in_use(svm)) {
		vnmi_set_masked(svm, masked);
		if (vcpu->arch.nmi_pending)
			kvm_make_request(KVM_REQ_EVENT, vcpu);
	} else if (masked) {
		iret_window_block(svm, &svm->nmi.l1);
	} else {
		iret_window_open(svm, &svm->nmi.l1, NMI_UNBLOCK_RESTORED);
	}
}

/**
 * svm_nmi_trace_injection() - record an injection and the interrupted context
 * @vcpu: the vCPU
 * @again: the first attempt was interrupted
 *
 * Out of line: reading the registers would cost the usual injection as well.
 *
 * Context: vCPU thread, interrupts on or off.
 */
noinline void svm_nmi_trace_injection(struct kvm_vcpu *vcpu, bool again)
{
	trace_kvm_nmi_inject(vcpu, kvm_rip_read(vcpu), kvm_rsp_read(vcpu),
			     kvm_get_rflags(vcpu), to_svm(vcpu)->vmcb->save.cpl,
			     again);
}

/**
 * svm_inject_nmi() - inject an NMI at the next VMRUN
 * @vcpu: the vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 */
void svm_inject_nmi(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	bool redelivery = svm->nmi.redelivery;

	svm->nmi.redelivery = false;
	svm->vmcb->control.event_inj = SVM_EVTINJ_TYPE_NMI | SVM_EVTINJ_VALID;

	/* L1's business: once more what L1 or its vNMI has injected into L2. */
	if (svm->nmi_l1_to_l2 ||
	    (is_guest_mode(vcpu) && nested_vnmi_used(svm))) {
		svm_nmi_update(svm);
		return;
	}

	if (trace_kvm_nmi_inject_enabled())
		svm_nmi_trace_injection(vcpu, redelivery);

	if (!redelivery)
		++vcpu->stat.nmi_injections;

	/* With vNMI the CPU masks NMIs when it injects. */
	if (!vnmi_in_use(svm))
		iret_window_block(svm, &svm->nmi.l1);
}

/**
 * svm_nmi_delivery_aborted() - an NMI did not arrive
 * @vcpu: the vCPU
 *
 * An exit interrupted the delivery, or the entry that was to deliver it was
 * called off.  NMIs count as masked: the NMI is injected again, or, if an
 * exception that it caused takes its place or it goes through a task gate, is
 * delivered without the CPU.
 *
 * Context: vCPU thread, interrupts on or off.
 */
void svm_nmi_delivery_aborted(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	vcpu->arch.nmi_injected = true;
	svm->nmi.redelivery = true;
	vnmi_set_masked_now(svm, true);
}

/**
 * svm_nmi_task_switch() - emulate a task switch
 * @vcpu: the vCPU
 * @tss_selector: the new task
 * @idt_index: the vector whose gate it is, or -1
 * @reason: TASK_SWITCH_*
 * @has_error_code: whether the event has one
 * @error_code: the error code
 *
 * Context: vCPU thread, preemption enabled.
 * Return: what kvm_task_switch() returns.
 */
int svm_nmi_task_switch(struct kvm_vcpu *vcpu, u16 tss_selector, int idt_index,
			int reason, bool has_error_code, u32 error_code)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	int ret;

	ret = kvm_task_switch(vcpu, tss_selector, idt_index, reason,
			      has_error_code, error_code);
	if (ret <= 0 || reason != TASK_SWITCH_IRET)
		return ret;

	/*
	 * Not before the switch: an NMI handler that is a task would be entered
	 * through its own, still busy TSS.
	 */
	if (is_guest_mode(vcpu) && nested_vnmi_used(svm))
		nested_vnmi_unmask(svm, NMI_UNBLOCK_TASK_SWITCH);
	else if (svm->nmi.l1.state == NMI_RETIRING)
		iret_window_open(svm, &svm->nmi.l1, NMI_UNBLOCK_TASK_SWITCH);
	else
		vnmi_set_masked_now(svm, false);

	if (vcpu->arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, vcpu);
	return ret;
}

/**
 * svm_enable_nmi_window() - make an exit when a pending NMI can be taken
 * @vcpu: the vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 */
void svm_enable_nmi_window(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/* NMI_COMPLETE opens the window; such a guest cannot be stepped. */
	if (is_sev_es_guest(vcpu))
		return;

	if (is_guest_mode(vcpu) && nested_vnmi_used(svm)) {
		/* Only L1 itself can open its own latch, behind an exit of L2. */
		if (svm_get_nmi_mask(vcpu))
			return;
	} else if (vnmi_in_use(svm)) {
		vnmi_wait(svm);
		return;
	} else if (svm->nmi.l1.state == NMI_BLOCKED) {
		trace_kvm_nmi_window(vcpu, NMI_WINDOW_IRET);
		return;
	}

	/*
	 * With GIF clear no NMI can be taken before STGI, which L2 may execute if it
	 * shares GIF with L1.  Without virtual GIF STGI exits anyway.
	 */
	if (!gif_set(svm)) {
		if (vgif)
			svm_set_intercept(svm, INTERCEPT_STGI);
		trace_kvm_nmi_window(vcpu, NMI_WINDOW_STGI);
		return;
	}

	iret_window_wait(svm);
}

/**
 * svm_nmi_reset() - INIT or RESET of a vCPU
 * @vcpu: the vCPU
 *
 * svm.c has rebuilt the VMCB, and no L2 runs.
 *
 * Context: vCPU thread, preemption enabled.
 */
void svm_nmi_reset(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	iret_window_open(svm, &svm->nmi.l1, NMI_UNBLOCK_RESET);
	svm->nmi.redelivery = false;
	vnmi_enable(svm);
}
