// SPDX-License-Identifier: GPL-2.0-only
/*
 * The NMI latch that software keeps where the CPU does not track NMI blocking, and
 * the IRET that opens it.
 *
 *   OPEN      No NMI handler runs.
 *   BLOCKED   A handler runs.  IRET is intercepted.
 *   RETIRING  Its IRET was intercepted and is the next instruction of the guest.
 *	       It is no longer intercepted.
 *
 * latch_move() is the only one who moves a latch from one to another; what IRET is
 * intercepted for, since when NMIs are blocked, the event in the trace and what was
 * wanted of the next entry all go with that.
 *
 * There is one such latch a vCPU, and a second one for L2 if L1 uses vNMI and the
 * CPU does not have it (nested_vnmi.c).  That one differs in one transition: by
 * the manual an IRET that faults does not unmask.
 *
 * For L1's latch an exit of its own finds the IRET's end only if another NMI waits
 * (loan.c); each IRET of L2 is stepped over (nested_vnmi.c).  For a lone one nobody
 * minds that RETIRING is left at the next exit, whatever makes it.
 *
 * Known hole: a virtual interrupt that AVIC delivers before an IRET in
 * RETIRING cannot be told from the IRET's retirement.  It takes a handler that
 * enables IRQs before its IRET.
 *
 * (APM volume 2, "EVENTINJ", "IRET Intercept")
 */
#include <linux/kvm_host.h>

#include "x86.h"
#include "latch.h"

#define CREATE_TRACE_POINTS
#include "../nmi_trace.h"

/*
 * LATCH_NMI       An NMI is injected, or the blocking is restored.
 * LATCH_IRET      #VMEXIT(IRET).  The IRET has not begun.
 * LATCH_NOT_NEXT  It turns out not to be next: an event is injected before it, or
 *		   something moved the vCPU (SMI, nested #VMEXIT, user space).
 *		   Whatever IRET comes first, that event's handler's or this one, ends
 *		   the blocking, as on a CPU.
 * LATCH_END       The IRET has retired: the vCPU is found elsewhere at an exit, or a
 *		   step over it has ended.  Or it faulted, and the fault is on its way
 *		   into the guest: an IRET unblocks NMIs even if it does not complete.
 *		   Or it was a task switch that has succeeded.  Or software opens it.
 * LATCH_FORGET    No blocking has ended: somebody else keeps the latch from here on, or
 *		   the entry that was to begin it did not happen.
 */
static const u8 transitions[][3] = {
	/* from			   OPEN		 BLOCKED       RETIRING */
	[LATCH_NMI] =		{ NMI_BLOCKED,	NMI_BLOCKED,  NMI_BLOCKED },
	[LATCH_IRET] =		{ NMI_RETIRING,	NMI_RETIRING, NMI_RETIRING },
	[LATCH_NOT_NEXT] =	{ NMI_OPEN,	NMI_BLOCKED,  NMI_BLOCKED },
	[LATCH_END] =		{ NMI_OPEN,	NMI_OPEN,     NMI_OPEN },
	[LATCH_FORGET] =	{ NMI_OPEN,	NMI_OPEN,     NMI_OPEN },
};

/*
 * For L1's latch.  L2's VMCB has the intercept as well, or instead if L1 wants it:
 * that one may be done with, or not yet set up, but then nobody runs it before its
 * intercepts are merged again.  For L2's latch nested_vnmi_enter() sees to that.
 */
static void intercept_iret(struct vcpu_svm *svm, bool wanted)
{
	struct vmcb *vmcb01 = svm->vmcb01.ptr;

	if (wanted)
		vmcb_set_intercept(&vmcb01->control, INTERCEPT_IRET);
	else
		vmcb_clr_intercept(&vmcb01->control, INTERCEPT_IRET);
	vmcb_mark_dirty(vmcb01, VMCB_INTERCEPTS);

	if (!is_guest_mode(&svm->vcpu))
		return;

	if (wanted || vmcb12_is_intercept(&svm->nested.ctl, INTERCEPT_IRET))
		vmcb_set_intercept(&svm->nested.vmcb02.ptr->control, INTERCEPT_IRET);
	else
		vmcb_clr_intercept(&svm->nested.vmcb02.ptr->control, INTERCEPT_IRET);
	vmcb_mark_dirty(svm->nested.vmcb02.ptr, VMCB_INTERCEPTS);
}

/* @cause: of LATCH_END, enum nmi_unblock; nobody is told of a waiting NMI. */
void latch_move(struct vcpu_svm *svm, struct nmi_latch *latch,
		enum latch_event event, int cause)
{
	enum nmi_state from = latch->state, to = transitions[event][from];

	latch->state = to;
	if (from == NMI_OPEN && to != NMI_OPEN)
		latch->since = rdtsc();
	if ((from == NMI_BLOCKED || to == NMI_BLOCKED) &&
	    latch == &svm->nmi.l1 && !is_sev_es_guest(&svm->vcpu))
		intercept_iret(svm, to == NMI_BLOCKED);
	if (from != NMI_OPEN && event == LATCH_END) {
		if (latch == &svm->nmi.l1)
			svm->nmi.record.ended = cause;
		trace_kvm_nmi_unblock(&svm->vcpu, cause, latch->since);
	}

	nmi_want(svm, WANT_NOTHING);
}

/* NMIs may be taken again, and one may wait. */
void latch_open(struct vcpu_svm *svm, struct nmi_latch *latch, int cause)
{
	latch_move(svm, latch, LATCH_END, cause);
	nmi_ask_again(svm);
}

/* Is the intercepted IRET what the vCPU executes next? */
static bool at_iret(struct vcpu_svm *svm, struct nmi_latch *latch)
{
	struct vmcb_save_area *save = &svm->vmcb->save;

	return save->rip == latch->rip && save->rsp == latch->rsp &&
	       save->cs.selector == latch->cs;
}

/* #VMEXIT(IRET): remember where. */
void iret_intercepted(struct vcpu_svm *svm, struct nmi_latch *latch)
{
	struct vmcb_save_area *save = &svm->vmcb->save;

	++svm->vcpu.stat.nmi_window_exits;
	latch->rip = save->rip;
	latch->rsp = save->rsp;
	latch->cs = save->cs.selector;
	latch->tried = false;
	latch_move(svm, latch, LATCH_IRET, 0);
}

/* The IRET faulted, and its fault goes to the guest. */
static void iret_faulted(struct vcpu_svm *svm, struct nmi_latch *latch)
{
	if (latch == &svm->nmi.l2)
		latch_move(svm, latch, LATCH_NOT_NEXT, 0);
	else
		latch_open(svm, latch, NMI_UNBLOCK_FAULT);
}

/* Whatever is injected now runs first, and so does the code at another RIP. */
bool iret_is_next(struct vcpu_svm *svm, struct nmi_latch *latch)
{
	return !(svm->vmcb->control.event_inj & SVM_EVTINJ_VALID) &&
	       at_iret(svm, latch);
}

void iret_is_not_next(struct vcpu_svm *svm, struct nmi_latch *latch)
{
	u32 event = svm->vmcb->control.event_inj;

	if ((event & SVM_EVTINJ_VALID) && latch->tried &&
	    (event & SVM_EVTINJ_TYPE_MASK) == SVM_EVTINJ_TYPE_EXEPT)
		iret_faulted(svm, latch);
	else
		latch_move(svm, latch, LATCH_NOT_NEXT, 0);
}

/* An exception of the instruction itself: not #DB, not #MC. */
static bool is_fault_exit(u32 exit_code)
{
	return exit_code >= SVM_EXIT_EXCP_BASE &&
	       exit_code < SVM_EXIT_EXCP_BASE + 32 &&
	       exit_code != SVM_EXIT_EXCP_BASE + DB_VECTOR &&
	       exit_code != SVM_EXIT_EXCP_BASE + MC_VECTOR;
}

/* An exit in RETIRING: has the IRET retired, faulted, or is it still ahead? */
void look_for_iret(struct vcpu_svm *svm, struct nmi_latch *latch, bool stepped)
{
	u32 vectoring = svm->vmcb->control.exit_int_info;
	u32 code = svm->vmcb->control.exit_code;

	if (code == (u32)SVM_EXIT_ERR)
		return;

	if (stepped || !at_iret(svm, latch))
		latch_open(svm, latch, NMI_UNBLOCK_IRET);
	else if ((vectoring & SVM_EXITINTINFO_VALID) &&
		 (vectoring & SVM_EXITINTINFO_TYPE_MASK) ==
		  SVM_EXITINTINFO_TYPE_EXEPT)
		iret_faulted(svm, latch);
	else
		latch->tried = code == SVM_EXIT_TASK_SWITCH ||
			       is_fault_exit(code);
}

/*
 * Record an injection and the interrupted context.  Out of line: reading the
 * registers would cost the usual injection as well.
 */
noinline void nmi_trace_injection(struct vcpu_svm *svm, bool again)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;

	trace_kvm_nmi_inject(vcpu, kvm_rip_read(vcpu), kvm_rsp_read(vcpu),
			     kvm_get_rflags(vcpu), svm->vmcb->save.cpl, again);
}
