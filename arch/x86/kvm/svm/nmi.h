/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest NMIs on AMD CPUs: what kvm_x86_ops, svm.c and nested.c call, and what a
 * vCPU has of it.  Who calls whom reads downwards:
 *
 *   nmi.c          what comes in, and who keeps the latch it is about
 *   guards.c       exits that only a step has caused
 *   nested_vnmi.c  vNMI offered to L1 hypervisors
 *   vnmi.c         CPUs with vNMI: the latch in the VMCB
 *   loan.c         what is lent to one VMRUN: a step or a V_NMI
 *   latch.c        the latch that software keeps, and when IRET opens it
 *   nmi_debugfs.c  what debugfs shows of all this
 *
 * latch.h has what they share.
 */
#ifndef __KVM_X86_SVM_NMI_H
#define __KVM_X86_SVM_NMI_H

#include <linux/kvm_types.h>

#include "../nmi_compat.h"
#include "../nmi_debugfs.h"

struct vcpu_svm;
struct vmcb_ctrl_area_cached;

/* Where a latch stands with its last NMI; latch.c has the transitions. */
enum nmi_state {
	NMI_OPEN,			/* no handler runs */
	NMI_BLOCKED,			/* a handler runs, IRET is intercepted */
	NMI_RETIRING,			/* its IRET was seen and runs next */
};

/* An NMI latch that software keeps because the CPU does not. */
struct nmi_latch {
	enum nmi_state state;		/* latch_move() alone writes it */
	u64 since;			/* TSC of the injection */

	/* The IRET that was intercepted, and whether it was tried since. */
	unsigned long rip;
	unsigned long rsp;
	u16 cs;
	bool tried;
};

/* What a waiting NMI wants of the next entry. */
enum nmi_want {
	WANT_NOTHING,
	WANT_VNMI,			/* the CPU shall take it */
	WANT_STEP,			/* an exit after one instruction */
};

/* What is lent to one VMRUN, or kept from it. */
enum nmi_loan {
	LOAN_NONE,
	LOAN_VNMI,			/* V_NMI, for an NMI that has to wait */
	LOAN_FIRST_VNMI,		/* V_NMI that the CPU takes before anything else */
	LOAN_HELD_VNMI,			/* a V_NMI of L2 is kept from it */

	/* A single step; over what, as far as that matters: */
	STEP_IRET,			/* the intercepted IRET */
	STEP_TASK_SWITCH,		/* the same as a task switch: TF is no use */
	STEP_SHADOW,			/* whatever stands in an interrupt shadow */
	STEP_SHADOW_POPS,		/* the same, known to load RFLAGS whole */
	STEP_SHADOW_SYSCALL,		/* the same, known to be a SYSCALL */
	STEP_SHADOW_SYSRET,		/* the same, a SYSRET that sets IF alone */
};

/* Words of the intercept vector that a step adds to. */
#define NMI_STEP_WORDS	4

/* A loan, and what it stands in for until it is returned. */
struct nmi_lent {
	enum nmi_loan kind;

	/* A step's: */
	u32 intercepts[NMI_STEP_WORDS];
	u32 shadow;
	u32 virq;
	u64 rip;
	u64 rsp;
	u64 rflags;
	u64 sfmask;
	u64 efer;
	u64 dr6;
	u64 dr7;
	u64 dbgctl;
};

struct svm_nmi {
	/* What svm.c tests. The first two are derived, by nmi_rearm() and entry_is_over() */
	bool enter;			/* svm_nmi_enter() has work */
	bool in_play;			/* svm_nmi_exit() has work */
	bool owned;			/* svm_nmi_handle_exit() has this exit */

	bool vnmi_for_l1;		/* the guest's CPUID announces vNMI */
	bool l2_vnmi;			/* L2 runs, and L1 uses vNMI for it */
	bool redelivery;		/* the NMI to be injected is not a new one */
	bool called_off;		/* its delivery has not begun: there was no VMRUN */
	bool handed;			/* common code left an NMI to the next entry */
	bool told;			/* of its injection, which did not come about */

	/* L1's latch, also L2's if L1 does not use vNMI: there is one then. */
	struct nmi_latch l1;
	/* L2's own latch, if L1 uses vNMI and the CPU does not have it. */
	struct nmi_latch l2;

	enum nmi_want want;
	struct nmi_lent lent;

	/* In an interrupt shadow: what the next instruction is, if that is known */
	enum nmi_loan known;
	unsigned long known_rip;

	struct nmi_record record;	/* for debugfs */
};

/*
 * Right after VMRUN, so that what is taken back after it stays marked dirty. One that has
 * failed may have loaded nothing. Each exit comes by here: no branch.
 */
static __always_inline void svm_nmi_mark_clean(struct vmcb *vmcb)
{
	u32 loaded = (u32)vmcb->control.exit_code != (u32)SVM_EXIT_ERR;

	vmcb->control.clean = -loaded & VMCB_ALL_CLEAN_MASK & ~VMCB_ALWAYS_DIRTY_MASK;
}

/* kvm_x86_ops */
void svm_inject_nmi(struct kvm_vcpu *vcpu);
int svm_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection);
bool svm_get_nmi_mask(struct kvm_vcpu *vcpu);
void svm_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked);
void svm_enable_nmi_window(struct kvm_vcpu *vcpu);
bool svm_nmi_hand_over(struct kvm_vcpu *vcpu);
bool svm_nmi_handed_over(struct kvm_vcpu *vcpu);

/* svm.c, and sev.c the exit handler */
void svm_nmi_hardware_setup(void);
void nested_vnmi_setup(void);
void svm_nmi_after_set_cpuid(struct kvm_vcpu *vcpu);
void svm_nmi_reset(struct kvm_vcpu *vcpu);
void svm_nmi_vcpu_load(struct kvm_vcpu *vcpu);
bool svm_nmi_goes_first(struct vcpu_svm *svm);
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

#endif /* __KVM_X86_SVM_NMI_H */
