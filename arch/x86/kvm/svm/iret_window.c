// SPDX-License-Identifier: GPL-2.0-only
/*
 * The IRET window: when may the next NMI be injected, on a CPU that does not
 * track NMI blocking?
 *
 *   OPEN      No NMI handler runs.
 *   BLOCKED   A handler runs.  IRET is intercepted.
 *   RETIRING  Its IRET was intercepted and is the next instruction of the guest.
 *	       It is no longer intercepted.
 *
 *   OPEN -> BLOCKED       An NMI is injected, or the blocking is restored.
 *   BLOCKED -> RETIRING   #VMEXIT(IRET).  The IRET has not begun.
 *   RETIRING -> OPEN      The IRET has retired: the vCPU is found elsewhere at
 *			   an exit, or the step below has ended.  Or it faulted,
 *			   and the fault is on its way into the guest: an IRET
 *			   unblocks NMIs even if it does not complete.  Or it was
 *			   a task switch that has succeeded.
 *   RETIRING -> BLOCKED   The IRET turns out not to be next: an event is
 *			   injected in front of it, or something moved the vCPU
 *			   (SMI, nested #VMEXIT, user space).  Whatever IRET comes
 *			   first, that event's handler's or this one, ends the
 *			   blocking, as on a CPU.
 *
 * A lone NMI costs the IRET exit, handled with interrupts off and without
 * looking at events; nobody minds that RETIRING is left only at the next exit.
 * If another NMI waits, the IRET runs under a single step, whose #DB is the
 * window (step.c).  The same step carries an NMI over an interrupt shadow.  (The
 * virtual interrupt window will not do: "sti; cli" closes it before it opens.)
 *
 * Known hole: a virtual interrupt that AVIC delivers in front of an IRET in
 * RETIRING cannot be told from the IRET's retirement.  It takes a handler that
 * enables IRQs before its IRET.
 *
 * (APM volume 2, "EVENTINJ", "IRET Intercept", "VMRUN and TF/RF Bits in EFLAGS",
 * "#DB (Debug)")
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>

#include "x86.h"
#include "svm.h"
#include "nmi.h"
#include "../nmi_trace.h"

/* An exception of the instruction itself: not #DB, not #MC. */
static bool is_fault_exit(u32 exit_code)
{
	return exit_code >= SVM_EXIT_EXCP_BASE &&
	       exit_code < SVM_EXIT_EXCP_BASE + 32 &&
	       exit_code != SVM_EXIT_EXCP_BASE + DB_VECTOR &&
	       exit_code != SVM_EXIT_EXCP_BASE + MC_VECTOR;
}

/* Is the intercepted IRET what the vCPU executes next? */
bool iret_window_at_iret(struct vcpu_svm *svm)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;

	return kvm_rip_read(vcpu) == svm->nmi.iret_rip &&
	       kvm_rsp_read(vcpu) == svm->nmi.iret_rsp &&
	       svm->vmcb->save.cs.selector == svm->nmi.iret_cs &&
	       is_guest_mode(vcpu) == svm->nmi.iret_l2;
}

/* In protected mode without long mode IRET with NT set is a task switch. */
static bool iret_switches_tasks(struct vmcb_save_area *save)
{
	return (save->rflags & X86_EFLAGS_NT) &&
	       !(save->rflags & X86_EFLAGS_VM) &&
	       (save->cr0 & X86_CR0_PE) && !(save->efer & EFER_LMA);
}

void iret_window_block(struct vcpu_svm *svm)
{
	if (svm->nmi.state == NMI_OPEN)
		svm->nmi.since = rdtsc();
	svm->nmi.state = NMI_BLOCKED;
	svm->nmi.step = false;
	svm->nmi.active = false;
	if (!sev_es_guest(svm->vcpu.kvm))
		svm_set_intercept(svm, INTERCEPT_IRET);
}

/* NMIs may be taken again.  @cause: enum nmi_unblock. */
void iret_window_open(struct vcpu_svm *svm, int cause)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;

	svm->nmi.step = false;
	svm->nmi.active = false;
	if (svm->nmi.state == NMI_OPEN)
		return;

	if (svm->nmi.state == NMI_BLOCKED && !sev_es_guest(vcpu->kvm))
		svm_clr_intercept(svm, INTERCEPT_IRET);

	svm->nmi.state = NMI_OPEN;
	if (vcpu->arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, vcpu);
	trace_kvm_nmi_unblock(vcpu->vcpu_id, cause, svm->nmi.since);
}

/*
 * An NMI waits for the instruction that is next: the IRET, or what stands in an
 * interrupt shadow.  The request is good for one entry.
 */
void iret_window_wait(struct vcpu_svm *svm)
{
	svm->nmi.step = true;
	svm->nmi.active = true;
	trace_kvm_nmi_window(svm->vcpu.vcpu_id, NMI_WINDOW_STEP);
}

/* An entry that asked for a step is over, or did not happen. */
static void ask_again(struct vcpu_svm *svm)
{
	svm->nmi.step = false;
	if (svm->vcpu.arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, &svm->vcpu);
}

/* The entry was called off.  RETIRING stays, the IRET has not run. */
void svm_nmi_cancel(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (svm->nmi.step)
		ask_again(svm);
}

static void iret_intercepted(struct vcpu_svm *svm)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;

	++vcpu->stat.nmi_window_exits;
	svm_clr_intercept(svm, INTERCEPT_IRET);
	svm->nmi.state = NMI_RETIRING;
	svm->nmi.active = true;
	svm->nmi.iret_rip = kvm_rip_read(vcpu);
	svm->nmi.iret_rsp = kvm_rsp_read(vcpu);
	svm->nmi.iret_cs = svm->vmcb->save.cs.selector;
	svm->nmi.iret_l2 = is_guest_mode(vcpu);
	svm->nmi.iret_tried = false;
}

/*
 * The exit handler of IRET, for what svm_nmi_fastpath() leaves: L2, and user
 * space that debugs the guest.  On 6.1 also the NMI_COMPLETE of SEV-ES guests.
 */
int iret_interception(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (sev_es_guest(vcpu->kvm)) {
		++vcpu->stat.nmi_window_exits;
		iret_window_open(svm, NMI_UNBLOCK_IRET);
		return 1;
	}

	iret_intercepted(svm);
	if (vcpu->arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, vcpu);
	return 1;
}

/*
 * #VMEXIT(IRET), interrupts off.  Nothing can be injected in front of the IRET,
 * so go straight back; an NMI that arrives now is a request, which the caller's
 * loop looks at before it enters.
 */
fastpath_t svm_nmi_fastpath(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (svm->nmi.state != NMI_BLOCKED || is_guest_mode(vcpu) ||
	    vcpu->guest_debug || sev_es_guest(vcpu->kvm) ||
	    (svm->vmcb->control.exit_int_info & SVM_EXITINTINFO_VALID))
		return EXIT_FASTPATH_NONE;

	iret_intercepted(svm);
	if (vcpu->arch.nmi_pending)
		iret_window_wait(svm);
	return EXIT_FASTPATH_REENTER_GUEST;
}

/* kvm_task_switch() returned @ret for a switch of @reason. */
int svm_nmi_task_switched(struct kvm_vcpu *vcpu, int reason, int ret)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/*
	 * Not before the switch: an NMI handler that is a task would be entered
	 * through its own, still busy TSS.
	 */
	if (ret > 0 && reason == TASK_SWITCH_IRET &&
	    svm->nmi.state == NMI_RETIRING)
		iret_window_open(svm, NMI_UNBLOCK_TASK_SWITCH);

	return ret;
}

static enum nmi_step step_kind(struct vcpu_svm *svm)
{
	if (svm->nmi.state == NMI_RETIRING)
		return iret_switches_tasks(&svm->vmcb->save) ?
		       STEP_TASK_SWITCH : STEP_IRET;

	return kvm_rip_read(&svm->vcpu) == svm->nmi.pops_rip ?
	       STEP_SHADOW_POPS : STEP_SHADOW;
}

/*
 * Before VMRUN if there is something to decide; interrupts are off, and what is
 * going to be injected is known.
 */
void svm_nmi_enter(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	u32 event = svm->vmcb->control.event_inj;
	struct svm_nmi *nmi = &svm->nmi;

	if (nmi->state == NMI_RETIRING) {
		if ((event & SVM_EVTINJ_VALID) && nmi->iret_tried &&
		    (event & SVM_EVTINJ_TYPE_MASK) == SVM_EVTINJ_TYPE_EXEPT)
			iret_window_open(svm, NMI_UNBLOCK_FAULT);
		else if ((event & SVM_EVTINJ_VALID) || !iret_window_at_iret(svm))
			iret_window_block(svm);
		nmi->iret_tried = false;
	}

	if (!nmi->step)
		return;

	/*
	 * An event would push our TF.  Nothing of the guest but the delivery is
	 * going to run; the window is asked for again behind it.
	 */
	if (event & SVM_EVTINJ_VALID) {
		ask_again(svm);
		smp_send_reschedule(vcpu->cpu);
		return;
	}

	step_lend(svm, step_kind(svm));
}

/*
 * After #VMEXIT if svm_nmi_enter() ran, before anything looks at the VMCB's
 * RFLAGS, DR6 or intercepts.
 */
void svm_nmi_exit(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	u32 vectoring = svm->vmcb->control.exit_int_info;
	u32 code = svm->vmcb->control.exit_code;
	struct svm_nmi *nmi = &svm->nmi;
	bool stepped = false;

	nmi->owned = false;
	if (nmi->lent)
		stepped = step_take_back(svm);

	if (nmi->step)
		ask_again(svm);

	if (nmi->state == NMI_RETIRING && code != SVM_EXIT_ERR) {
		if (stepped || !iret_window_at_iret(svm))
			iret_window_open(svm, NMI_UNBLOCK_IRET);
		else if ((vectoring & SVM_EXITINTINFO_VALID) &&
			 (vectoring & SVM_EXITINTINFO_TYPE_MASK) ==
			  SVM_EXITINTINFO_TYPE_EXEPT)
			iret_window_open(svm, NMI_UNBLOCK_FAULT);
		else
			nmi->iret_tried = code == SVM_EXIT_TASK_SWITCH ||
					  is_fault_exit(code);
	}

	nmi->active = nmi->state == NMI_RETIRING || nmi->owned;
}
