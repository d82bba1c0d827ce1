/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of svm/ that handle NMIs share: which latch is meant, what can be
 * asked of it, and what each file does for those above it (nmi.h).
 */
#ifndef __KVM_X86_SVM_LATCH_H
#define __KVM_X86_SVM_LATCH_H

#include "svm.h"

/* What happens to a latch */
enum latch_event {
	LATCH_NMI,			/* an NMI is injected, or a block restored */
	LATCH_IRET,			/* #VMEXIT(IRET) */
	LATCH_NOT_NEXT,			/* that IRET is not what runs next */
	LATCH_END,			/* the cause says how the blocking ended */
	LATCH_FORGET,			/* it is kept elsewhere, or nothing has begun */
};

/* latch.c */
void latch_move(struct vcpu_svm *svm, struct nmi_latch *latch,
		enum latch_event event, int cause);
void latch_open(struct vcpu_svm *svm, struct nmi_latch *latch, int cause);
void iret_intercepted(struct vcpu_svm *svm, struct nmi_latch *latch);
bool iret_is_next(struct vcpu_svm *svm, struct nmi_latch *latch);
void iret_is_not_next(struct vcpu_svm *svm, struct nmi_latch *latch);
void look_for_iret(struct vcpu_svm *svm, struct nmi_latch *latch, bool stepped);
void nmi_trace_injection(struct vcpu_svm *svm, bool again);

/* loan.c */
#define LOAN_STEPPED	BIT(0)		/* the step's instruction has completed */
#define LOAN_OWNED	BIT(1)		/* nobody but the step asked for this exit */
void loan_make(struct vcpu_svm *svm, enum nmi_loan kind);
unsigned int loan_return(struct vcpu_svm *svm);

/* vnmi.c */
extern bool vnmi;
void vnmi_settle(void);
void vnmi_enable(struct vcpu_svm *svm);
void vnmi_take_handed(struct vcpu_svm *svm);
void vnmi_set_masked(struct vcpu_svm *svm, bool masked);
void vnmi_set_masked_now(struct vcpu_svm *svm, bool masked);

/* nested_vnmi.c */
extern bool vnmi_offered;
void nested_vnmi_settle(void);
void nested_vnmi_enter(struct vcpu_svm *svm, bool l1_first);
bool nested_vnmi_exit(struct vcpu_svm *svm);
int nested_vnmi_stgi(struct kvm_vcpu *vcpu);
void nested_vnmi_unmask(struct vcpu_svm *svm, int cause);

/* Is L2's vNMI up to software?  If so L2 runs, and the CPU has none. */
static inline bool nested_vnmi_emulated(struct vcpu_svm *svm)
{
	return svm->nmi.l2_vnmi && !vnmi;
}

/* Has L1 the CPU's vNMI?  While an L2 without it runs the CPU keeps no latch. */
static inline bool vnmi_on(struct vcpu_svm *svm)
{
	return svm->vmcb01.ptr->control.int_ctl & V_NMI_ENABLE_MASK;
}

/* Does the CPU keep the latch of what runs now?  Not for L2 without vNMI. */
static inline bool vnmi_in_use(struct vcpu_svm *svm)
{
	if (!vnmi || (is_guest_mode(&svm->vcpu) && !svm->nmi.l2_vnmi))
		return false;

	return vnmi_on(svm);
}

/* L1's latch; while L2 uses vNMI it rests in L1's VMCB. */
static inline bool vnmi_masked(struct vcpu_svm *svm)
{
	return svm->vmcb01.ptr->control.int_ctl & V_NMI_BLOCKING_MASK;
}

/* The latch that an IRET of what runs now would open. */
static inline struct nmi_latch *latch_now(struct vcpu_svm *svm)
{
	return nested_vnmi_emulated(svm) ? &svm->nmi.l2 : &svm->nmi.l1;
}

static inline bool l2_pending(struct vcpu_svm *svm)
{
	return svm->nested.ctl.int_ctl & V_NMI_PENDING_MASK;
}

/* An NMI that L1 injects into L2, or that is injected once more. */
static inline bool injects_nmi(struct vcpu_svm *svm)
{
	u32 event = svm->vmcb->control.event_inj;

	return (event & SVM_EVTINJ_VALID) &&
	       (event & SVM_EVTINJ_TYPE_MASK) == SVM_EVTINJ_TYPE_NMI;
}

/*
 * Is there something to do around VMRUN of an L2 with vNMI?  While a V_NMI waits, also
 * with the CPU's vNMI: an NMI of L1 may have to go first.  Without it also while L2's
 * latch asks for it, or L1's latch: the IRET intercept that goes with it is not for L2.
 */
static inline bool nested_vnmi_in_play(struct vcpu_svm *svm)
{
	if (l2_pending(svm))
		return true;

	return !vnmi && (svm->nmi.l2.state != NMI_OPEN ||
			 svm->nmi.l1.state != NMI_OPEN || injects_nmi(svm));
}

/* Decide anew whether entries and exits concern NMIs: after each change of those. */
static inline void nmi_rearm(struct vcpu_svm *svm)
{
	struct svm_nmi *nmi = &svm->nmi;

	nmi->enter = nmi->l1.state == NMI_RETIRING || nmi->want || nmi->known ||
		     nmi->called_off || nmi->handed ||
		     (nmi->l2_vnmi && nested_vnmi_in_play(svm));
	nmi->in_play = nmi->enter || nmi->l1.state == NMI_BLOCKED;
}

static inline void nmi_want(struct vcpu_svm *svm, enum nmi_want want)
{
	svm->nmi.want = want;
	nmi_rearm(svm);
}

/* Have common code look at NMIs that wait. */
static inline void nmi_ask_again(struct vcpu_svm *svm)
{
	if (svm->vcpu.arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, &svm->vcpu);
}

/* The same, and what was wanted of an entry is over, or the entry did not happen. */
static inline void nmi_want_again(struct vcpu_svm *svm)
{
	nmi_want(svm, WANT_NOTHING);
	nmi_ask_again(svm);
}

#endif /* __KVM_X86_SVM_LATCH_H */
