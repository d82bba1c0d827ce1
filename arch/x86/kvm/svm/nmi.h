/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest NMIs on AMD CPUs: what kvm_x86_ops, the exit handlers and nested
 * virtualization call.
 *
 *   nmi.c          injection, blocking, windows
 *   iret_window.c  CPUs that do not track NMI blocking: IRET intercept, one step
 *   step.c         the one invisible step
 */
#ifndef __KVM_X86_SVM_NMI_H
#define __KVM_X86_SVM_NMI_H

#include <linux/kvm_types.h>

struct vcpu_svm;

/* Where the vCPU stands with its last NMI; iret_window.c has the transitions. */
enum nmi_state {
	NMI_OPEN,			/* no handler runs */
	NMI_BLOCKED,			/* a handler runs, IRET is intercepted */
	NMI_RETIRING,			/* its IRET was seen and runs next */
};

/* What the one instruction under a single step is, as far as it matters. */
enum nmi_step {
	STEP_NONE,
	STEP_IRET,			/* the intercepted IRET */
	STEP_TASK_SWITCH,		/* the same as a task switch: TF is no use */
	STEP_SHADOW,			/* whatever stands in an interrupt shadow */
	STEP_SHADOW_POPS,		/* the same, known to load RFLAGS whole */
};

/* Words of the intercept vector that a step adds to. */
#define NMI_STEP_WORDS	4

struct svm_nmi {
	enum nmi_state state;
	bool active;			/* svm_nmi_enter() and _exit() have work */
	bool step;			/* the next entry is to end with a step */
	bool owned;			/* svm_nmi_handle_exit() has this exit */
	u64 since;			/* TSC of the injection */

	/* The IRET that was intercepted, and whether it was tried since. */
	unsigned long iret_rip;
	unsigned long iret_rsp;
	u16 iret_cs;
	bool iret_l2;
	bool iret_tried;

	/* In an interrupt shadow: an instruction known to load RFLAGS whole */
	unsigned long pops_rip;

	/* What was the guest's before a step was lent to this entry */
	enum nmi_step lent;
	u32 lent_intercepts[NMI_STEP_WORDS];
	u64 lent_rflags;
	u64 lent_efer;
	u64 lent_dr6;
	u64 lent_dbgctl;
};

/* kvm_x86_ops */
void svm_inject_nmi(struct kvm_vcpu *vcpu);
int svm_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection);
bool svm_get_nmi_mask(struct kvm_vcpu *vcpu);
void svm_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked);
void svm_enable_nmi_window(struct kvm_vcpu *vcpu);

/* nested.c */
bool svm_nmi_blocked(struct kvm_vcpu *vcpu);

/* svm.c */
void svm_nmi_reset(struct kvm_vcpu *vcpu);
void svm_nmi_cancel(struct kvm_vcpu *vcpu);
void svm_nmi_enter(struct kvm_vcpu *vcpu);
void svm_nmi_exit(struct kvm_vcpu *vcpu);
fastpath_t svm_nmi_fastpath(struct kvm_vcpu *vcpu);
int iret_interception(struct kvm_vcpu *vcpu);
int svm_nmi_task_switched(struct kvm_vcpu *vcpu, int reason, int ret);
int svm_nmi_handle_exit(struct kvm_vcpu *vcpu);

/* step.c, called by iret_window.c */
void step_lend(struct vcpu_svm *svm, enum nmi_step kind);
bool step_take_back(struct vcpu_svm *svm);
bool iret_window_at_iret(struct vcpu_svm *svm);

/* iret_window.c, called by nmi.c */
void iret_window_block(struct vcpu_svm *svm);
void iret_window_open(struct vcpu_svm *svm, int cause);
void iret_window_wait(struct vcpu_svm *svm);

#endif /* __KVM_X86_SVM_NMI_H */
