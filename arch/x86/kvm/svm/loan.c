// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is lent to one VMRUN.
 *
 * loan_make() lends it right before the entry, and loan_return() takes it back right
 * after the exit, so that no other code ever meets it.
 *
 * V_NMI: an NMI that the CPU is to take.  One that it has not taken is taken back.
 * It never leaves nmi_pending meanwhile, so everybody who asks for pending NMIs
 * outside VMRUN (the event ioctls, a vCPU about to halt, nested virtualization) finds
 * it there, and setting events replaces it; from svm_nmi_hand_over() to the entry common
 * code asks svm_nmi_handed_over().  Or the other way round: a V_NMI of L2 is
 * kept from the CPU for one entry, as an NMI for L1 goes first.
 *
 * A single step that the guest cannot see: RFLAGS.TF, a clean DR6 to tell the step's
 * #DB from the guest's own, no branch-only stepping, and guards, intercepts of
 * everything that would store RFLAGS with our TF in it:
 *
 *   exceptions	      handed to the guest by software, without TF
 *   PUSHF, POPF      emulated
 *   INTn, ICEBP      injected by software
 *   SYSCALL, SYSRET  not to be intercepted; with EFER.SCE off they raise #UD, and
 *		      then are stepped for what they are
 *   MOV DR	      emulated, as DR6 is not the guest's
 *
 * An IRET never does any of the last four: they matter in an interrupt shadow only.
 * An instruction that loads RFLAGS whole (IRET, SYSRET in 64-bit mode; POPF is emulated)
 * leaves no trace of our TF: what stands in RFLAGS after it is the guest's.  SYSCALL saves
 * it in R11 and nowhere else, from where it is taken out again.  A virtual interrupt that
 * waits for the end of the shadow is kept from the entry: it comes after the #DB
 * anyway.
 *
 * Exits that only the guards have caused are completed in guards.c.
 * (APM volume 2, "VMRUN and TF/RF Bits in EFLAGS", "#DB (Debug)")
 */
#include <linux/kvm_host.h>
#include <asm/debugreg.h>

#include "x86.h"
#include "latch.h"
#include "../nmi_trace.h"

#define INSN_BYTES	15	/* the longest instruction */

/*
 * Exceptions to intercept while stepping.  Not NMI (2), nor the reserved
 * vectors, whose bits have no defined effect; #CP's has where the CPU has shadow
 * stacks.  #DF cannot be the first fault of an instruction.
 */
#define STEP_EXCEPTIONS							\
	(BIT(DE_VECTOR) | BIT(DB_VECTOR) | BIT(BP_VECTOR) |		\
	 BIT(OF_VECTOR) | BIT(BR_VECTOR) | BIT(UD_VECTOR) |		\
	 BIT(NM_VECTOR) | BIT(TS_VECTOR) | BIT(NP_VECTOR) |		\
	 BIT(SS_VECTOR) | BIT(GP_VECTOR) | BIT(PF_VECTOR) |		\
	 BIT(MF_VECTOR) | BIT(AC_VECTOR) | BIT(MC_VECTOR) |		\
	 BIT(XM_VECTOR) | BIT(CP_VECTOR))

static const u16 shadow_intercepts[] = {
	INTERCEPT_PUSHF, INTERCEPT_POPF, INTERCEPT_INTn, INTERCEPT_IRET,
};

/* The words of the intercept vector that a step adds to. */
#define FIRST_WORD	INTERCEPT_DR
static_assert(INTERCEPT_WORD4 - FIRST_WORD + 1 == NMI_STEP_WORDS);

static bool is_db_exit(struct vcpu_svm *svm)
{
	return svm->vmcb->control.exit_code == SVM_EXIT_EXCP_BASE + DB_VECTOR;
}

/*
 * In virtual-8086 mode with IOPL below 3 PUSHF, POPF and INTn raise #GP, and the
 * intercepts would come before that.  With CR4.VME they need not, and store our TF; nor
 * does an INTn there go by the IDT, also with IOPL 3: a known hole.
 */
static bool rflags_accesses_fault(struct vmcb_save_area *save)
{
	return (save->rflags & X86_EFLAGS_VM) &&
	       (save->rflags & X86_EFLAGS_IOPL) != X86_EFLAGS_IOPL;
}

/*
 * What the step adds to RFLAGS.  RF is never planted, nor needed before an IRET: a
 * breakpoint on it has been reported before the intercept, and its handler has returned
 * with RF, which the intercept has saved.
 */
static u64 planted_flags(enum nmi_loan kind)
{
	return kind == STEP_TASK_SWITCH ? 0 : X86_EFLAGS_TF;
}

static void step_lend(struct vcpu_svm *svm, enum nmi_loan kind)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct vmcb_save_area *save = &svm->vmcb->save;
	struct nmi_lent *lent = &svm->nmi.lent;
	int i;

	memcpy(lent->intercepts, &control->intercepts[FIRST_WORD],
	       sizeof(lent->intercepts));
	lent->rip = save->rip;
	lent->rsp = save->rsp;
	lent->shadow = control->int_state & SVM_INTERRUPT_SHADOW_MASK;
	lent->rflags = save->rflags;
	lent->efer = save->efer;
	lent->dr6 = save->dr6;
	lent->dr7 = save->dr7;
	lent->dbgctl = save->dbgctl;

	control->intercepts[INTERCEPT_EXCEPTION] |= STEP_EXCEPTIONS;
	save->dr6 = DR6_ACTIVE_LOW;
	save->dbgctl &= ~DEBUGCTLMSR_BTF;
	save->rflags |= planted_flags(kind);

	/*
	 * QEMU TCG does not load the shadow and exits for the interrupt instead of
	 * stepping: entry after entry, as take-back restores the shadow.
	 */
	lent->virq = 0;
	if (kind >= STEP_SHADOW) {
		lent->virq = control->int_ctl & V_IRQ_MASK;
		control->int_ctl &= ~V_IRQ_MASK;
		vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
	}

	/* The memory of a SEV guest cannot be read: nothing can be emulated. */
	if (kind == STEP_SHADOW && !is_sev_guest(&svm->vcpu)) {
		control->intercepts[INTERCEPT_DR] = ~0u;
		vmcb_set_intercept(control, INTERCEPT_ICEBP);
		for (i = 0; i < ARRAY_SIZE(shadow_intercepts); i++)
			if (!rflags_accesses_fault(save))
				vmcb_set_intercept(control, shadow_intercepts[i]);
		save->efer &= ~EFER_SCE;
		vmcb_mark_dirty(svm->vmcb, VMCB_CR);
	}

	/* Masked, our TF would not trap.  VMLOAD is from L1's VMCB, for L2 as well. */
	if (kind == STEP_SHADOW_SYSCALL) {
		lent->sfmask = svm->vmcb01.ptr->save.sfmask;
		svm->vmcb01.ptr->save.sfmask &= ~(u64)X86_EFLAGS_TF;
	}

	vmcb_mark_dirty(svm->vmcb, VMCB_INTERCEPTS);
	vmcb_mark_dirty(svm->vmcb, VMCB_DR);
	vmcb_mark_dirty(svm->vmcb, VMCB_LBR);
}

/*
 * The TF that the guest has after a SYSCALL: what was its own, masked as it wants.
 * Outside of long mode SYSCALL neither saves nor masks TF.
 */
static void end_syscall(struct vcpu_svm *svm, bool completed)
{
	unsigned long *r11 = &svm->vcpu.arch.regs[VCPU_REGS_R11];
	struct nmi_lent *lent = &svm->nmi.lent;
	u64 tf = lent->rflags & X86_EFLAGS_TF;

	svm->vmcb01.ptr->save.sfmask = lent->sfmask;
	if (!completed || !(lent->efer & EFER_LMA))
		return;

	*r11 = (*r11 & ~(u64)X86_EFLAGS_TF) | tf;
	lent->rflags &= ~(tf & lent->sfmask);
}

/* Did only the step's intercepts, not the guest's or L1's, make this exit? */
static bool exit_is_a_guard(struct vcpu_svm *svm)
{
	u32 code = svm->vmcb->control.exit_code;
	int word = code / 32;

	/*
	 * SYSCALL and SYSRET with EFER.SCE off, or what ends the shadow otherwise.
	 * #UD is always intercepted, except from SEV guests, whose SYSCALL is left
	 * alone.
	 */
	if (code == SVM_EXIT_EXCP_BASE + UD_VECTOR && !is_sev_guest(&svm->vcpu))
		return svm->nmi.lent.kind == STEP_SHADOW &&
		       (svm->nmi.lent.efer & EFER_SCE ||
			!is_guest_mode(&svm->vcpu) ||
			!vmcb12_is_intercept(&svm->nested.ctl,
					     INTERCEPT_EXCEPTION_OFFSET + UD_VECTOR));

	/* Exit codes number the intercepts in the order of their bits. */
	return word >= FIRST_WORD && word <= INTERCEPT_WORD4 &&
	       !(svm->nmi.lent.intercepts[word - FIRST_WORD] & BIT(code % 32));
}

/*
 * Would the guest's own TF have trapped here?  With BTF only after a branch, and
 * BTF was taken away for the step.  A jump that ends where the next instruction may
 * stand passes for none.
 */
static bool guest_steps(struct vcpu_svm *svm)
{
	u64 moved = svm->vmcb->save.rip - svm->nmi.lent.rip;

	if (!(svm->nmi.lent.rflags & X86_EFLAGS_TF))
		return false;

	return !(svm->nmi.lent.dbgctl & DEBUGCTLMSR_BTF) ||
	       !moved || moved > INSN_BYTES;
}

/*
 * Which of the causes in DR6 would the guest have seen without the step?  Next
 * to our BS only breakpoints on data: one on an instruction is reported in front
 * of that instruction, and a CPU may set B0 to B3 for what is not enabled.
 */
static u64 guest_causes(struct vcpu_svm *svm, u64 hits)
{
	u64 dr7 = svm->vmcb->save.dr7;
	int i;

	if (!(hits & DR_STEP) || guest_steps(svm))
		return hits;

	for (i = 0; i < HBP_NUM; i++) {
		u64 enabled = dr7 >> (i * DR_ENABLE_SIZE) & 3;
		u64 type = dr7 >> (DR_CONTROL_SHIFT + i * DR_CONTROL_SIZE) & 3;

		if (!enabled || type == DR_RW_EXECUTE)
			hits &= ~(DR_TRAP0 << i);
	}
	return hits & ~DR_STEP;
}

/*
 * Give the guest its own state back.  What is left in DR6 has the guest's own cause.
 * Tells LOAN_STEPPED if the step's #DB says that the instruction has completed.
 */
static unsigned int step_take_back(struct vcpu_svm *svm)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct vmcb_save_area *save = &svm->vmcb->save;
	struct nmi_lent *lent = &svm->nmi.lent;
	u64 planted = planted_flags(lent->kind);
	u64 hits = is_db_exit(svm) ? save->dr6 ^ DR6_ACTIVE_LOW : 0;
	bool stepped = hits & DR_STEP, owned;
	bool pops = lent->kind == STEP_IRET || lent->kind == STEP_SHADOW_POPS;
	/* An exit before the #DB hides it, but not where the vCPU is. */
	bool completed = stepped || save->rip != lent->rip || save->rsp != lent->rsp;

	if (lent->kind == STEP_SHADOW_SYSCALL)
		end_syscall(svm, completed);
	if (!pops || !completed)
		save->rflags = (save->rflags & ~planted) |
			       (lent->rflags & planted);

	control->int_ctl |= lent->virq;

	/* A CPU keeps the shadow of what has not completed, QEMU TCG forgets. */
	if (!stepped && save->rip == lent->rip)
		control->int_state |= lent->shadow;

	hits = guest_causes(svm, hits);

	/* DR7 is as the handler of the #DB would find it, but the guest gets none. */
	if (is_db_exit(svm) && !hits)
		save->dr7 |= lent->dr7 & DR7_GD;

	memcpy(&control->intercepts[FIRST_WORD], lent->intercepts,
	       sizeof(lent->intercepts));
	save->efer = lent->efer;
	save->dbgctl = lent->dbgctl;
	save->dr6 = ((lent->dr6 ^ DR6_ACTIVE_LOW) | hits) ^ DR6_ACTIVE_LOW;
	/* Were the host's like the guest's, svm_vcpu_run() would not restore it. */
	if ((lent->dbgctl & DEBUGCTLMSR_BTF) && test_thread_flag(TIF_BLOCKSTEP))
		update_debugctlmsr(get_debugctlmsr() | DEBUGCTLMSR_BTF);

	vmcb_mark_dirty(svm->vmcb, VMCB_INTERCEPTS);
	vmcb_mark_dirty(svm->vmcb, VMCB_DR);
	vmcb_mark_dirty(svm->vmcb, VMCB_LBR);
	vmcb_mark_dirty(svm->vmcb, VMCB_CR);
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);

	owned = is_db_exit(svm) ? !hits : exit_is_a_guard(svm);
	svm->nmi.known = LOAN_NONE;
	return (stepped ? LOAN_STEPPED : 0) | (owned ? LOAN_OWNED : 0);
}

/* @first: the CPU is to take it right away, as if it were injected. */
static void vnmi_lend(struct vcpu_svm *svm, bool first)
{
	if (first) {
		++svm->vcpu.stat.nmi_injections;
		svm->nmi.record.waiting = 0;
		if (trace_kvm_nmi_inject_enabled())
			nmi_trace_injection(svm, svm->nmi.told);
		svm->nmi.told = false;
	}
	svm->vmcb->control.int_ctl |= V_NMI_PENDING_MASK;
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
}

/* Did the CPU take the NMI? */
static void vnmi_take_back(struct vcpu_svm *svm, bool first)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;

	if (svm->vmcb->control.int_ctl & V_NMI_PENDING_MASK) {
		svm->vmcb->control.int_ctl &= ~V_NMI_PENDING_MASK;
		vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
		if (first) {
			--vcpu->stat.nmi_injections;
			svm->nmi.told = true;
		}
		return;
	}

	--vcpu->arch.nmi_pending;
	if (first)
		return;
	++vcpu->stat.nmi_injections;
	svm->nmi.record.waiting = 0;
	trace_kvm_nmi_taken(vcpu);
}

static void hold_vnmi(struct vcpu_svm *svm)
{
	svm->vmcb->control.int_ctl &= ~V_NMI_PENDING_MASK;
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
}

static void release_vnmi(struct vcpu_svm *svm)
{
	svm->nested.ctl.int_ctl |= V_NMI_PENDING_MASK;
	svm->vmcb->control.int_ctl |= V_NMI_PENDING_MASK;
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
}

/* Interrupts are off.  Nothing is injected by an entry that is to make a step. */
void loan_make(struct vcpu_svm *svm, enum nmi_loan kind)
{
	svm->nmi.lent.kind = kind;

	switch (kind) {
	case LOAN_NONE:
		break;
	case LOAN_VNMI:
	case LOAN_FIRST_VNMI:
		vnmi_lend(svm, kind == LOAN_FIRST_VNMI);
		break;
	case LOAN_HELD_VNMI:
		hold_vnmi(svm);
		break;
	default:
		step_lend(svm, kind);
		break;
	}
}

/*
 * Interrupts are off, and nobody has looked at the VMCB after the #VMEXIT.  What the
 * loan says of the exit is LOAN_*.
 */
unsigned int loan_return(struct vcpu_svm *svm)
{
	unsigned int verdict = 0;

	switch (svm->nmi.lent.kind) {
	case LOAN_NONE:
		break;
	case LOAN_VNMI:
	case LOAN_FIRST_VNMI:
		vnmi_take_back(svm, svm->nmi.lent.kind == LOAN_FIRST_VNMI);
		break;
	case LOAN_HELD_VNMI:
		release_vnmi(svm);
		break;
	default:
		verdict = step_take_back(svm);
		break;
	}
	svm->nmi.lent.kind = LOAN_NONE;
	return verdict;
}
