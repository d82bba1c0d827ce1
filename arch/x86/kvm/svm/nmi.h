/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest NMIs on AMD CPUs: what kvm_x86_ops, the exit handlers and nested
 * virtualization call.
 *
 *   nmi.c          injection, blocking, windows; who tracks which latch
 *   vnmi.c         CPUs with vNMI
 *   iret_window.c  CPUs that do not track NMI blocking: IRET intercept, one step
 *   step.c         the one invisible step
 *   nested_vnmi.c  vNMI offered to L1 hypervisors
 *   nmi_stats.c    what debugfs shows of all this
 */
#ifndef __KVM_X86_SVM_NMI_H
#define __KVM_X86_SVM_NMI_H

#include <linux/kvm_types.h>

#include "../nmi_compat.h"
#include "../nmi_stats.h"

struct vcpu_svm;
struct vmcb_ctrl_area_cached;

/* Where a latch stands with its last NMI; iret_window.c has the transitions. */
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
	STEP_SHADOW_SYSCALL,		/* the same, known to be a SYSCALL */
};

/* An NMI latch that software keeps because the CPU does not. */
struct iret_window {
	enum nmi_state state;
	u64 since;			/* TSC of the injection */

	/* The IRET that was intercepted, and whether it was tried since. */
	unsigned long rip;
	unsigned long rsp;
	u16 cs;
	bool tried;
};

/* Words of the intercept vector that a step adds to. */
#define NMI_STEP_WORDS	4

struct svm_nmi {
	bool enter;			/* svm_nmi_enter() has work */
	bool in_play;			/* svm_nmi_exit() has work */
	bool owned;			/* svm_nmi_handle_exit() has this exit */
	bool redelivery;		/* the NMI to be injected is not a new one */
	bool vnmi_for_l1;		/* the guest's CPUID announces vNMI */

	/* L1's latch, also L2's if L1 does not use vNMI: there is one then. */
	struct iret_window l1;
	/* L2's own latch, if L1 uses vNMI and the CPU does not have it. */
	struct iret_window l2;

	/* Wanted for the next entry: an injection, a V_NMI, a step */
	bool ready;
	bool vnmi;
	bool step;

	/* Lent to this entry, and kept from it */
	bool vnmi_lent;
	bool vnmi_held;
	enum nmi_step step_lent;

	/* In an interrupt shadow: what the next instruction is, if that is known */
	enum nmi_step known;
	unsigned long known_rip;

	/* What was the guest's before the step was lent */
	u32 lent_intercepts[NMI_STEP_WORDS];
	u64 lent_rip;
	u64 lent_rsp;
	u32 lent_shadow;
	u32 lent_virq;
	u32 lent_l1_virq;
	u64 lent_rflags;
	u64 lent_sfmask;
	u64 lent_efer;
	u64 lent_dr6;
	u64 lent_dbgctl;

	struct nmi_stats *stats;	/* for debugfs; NULL: not counted */
};

/* kvm_x86_ops */
void svm_inject_nmi(struct kvm_vcpu *vcpu);
int svm_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection);
bool svm_get_nmi_mask(struct kvm_vcpu *vcpu);
void svm_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked);
void svm_enable_nmi_window(struct kvm_vcpu *vcpu);

/* svm.c */
void svm_nmi_hardware_setup(void);
void svm_nmi_after_set_cpuid(struct kvm_vcpu *vcpu);
void svm_nmi_reset(struct kvm_vcpu *vcpu);
void svm_nmi_cancel(struct kvm_vcpu *vcpu);
void svm_nmi_delivery_aborted(struct kvm_vcpu *vcpu);
void svm_nmi_enter(struct kvm_vcpu *vcpu);
bool svm_nmi_exit(struct kvm_vcpu *vcpu);
int svm_nmi_handle_exit(struct kvm_vcpu *vcpu);
int iret_interception(struct kvm_vcpu *vcpu);
int svm_nmi_task_switch(struct kvm_vcpu *vcpu, u16 tss_selector, int idt_index,
			int reason, bool has_error_code, u32 error_code);

/* nested.c */
bool svm_nmi_blocked(struct kvm_vcpu *vcpu);
void svm_nmi_enter_l2(struct vcpu_svm *svm);
void svm_nmi_leave_l2(struct vcpu_svm *svm);
u32 nested_vnmi_vmcb02_bits(struct vcpu_svm *svm);
bool nested_vnmi_valid(struct kvm_vcpu *vcpu,
		       struct vmcb_ctrl_area_cached *control);
bool nested_vnmi_has_events(struct kvm_vcpu *vcpu, bool for_injection);

/* nmi.c */
void svm_nmi_trace_injection(struct kvm_vcpu *vcpu, bool again);

/* vnmi.c */
bool vnmi_supported(void);
bool vnmi_in_use(struct vcpu_svm *svm);
void vnmi_enable(struct vcpu_svm *svm);
bool vnmi_masked(struct vcpu_svm *svm);
void vnmi_set_masked(struct vcpu_svm *svm, bool masked);
void vnmi_set_masked_now(struct vcpu_svm *svm, bool masked);
void vnmi_wait(struct vcpu_svm *svm);
void vnmi_lend(struct vcpu_svm *svm);
void vnmi_take_back(struct vcpu_svm *svm);

/* iret_window.c */
void iret_window_block(struct vcpu_svm *svm, struct iret_window *window);
void iret_window_open(struct vcpu_svm *svm, struct iret_window *window, int cause);
void iret_window_wait(struct vcpu_svm *svm);
void svm_nmi_update(struct vcpu_svm *svm);

/* step.c */
void step_lend(struct vcpu_svm *svm, enum nmi_step kind);
bool step_take_back(struct vcpu_svm *svm);
void step_known(struct vcpu_svm *svm, enum nmi_step kind);

/* nested_vnmi.c */
void nested_vnmi_setup(void);
void nested_vnmi_settle(void);
bool nested_vnmi_used(struct vcpu_svm *svm);
bool nested_vnmi_emulated(struct vcpu_svm *svm);
bool nested_vnmi_in_play(struct vcpu_svm *svm);
void nested_vnmi_enter(struct vcpu_svm *svm);
void nested_vnmi_exit(struct vcpu_svm *svm);
int nested_vnmi_stgi(struct kvm_vcpu *vcpu);
void nested_vnmi_unmask(struct vcpu_svm *svm, int cause);

#endif /* __KVM_X86_SVM_NMI_H */
