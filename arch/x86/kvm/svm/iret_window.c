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
 * There is one such latch a vCPU, and a second one for L2 if L1 uses vNMI and the
 * CPU does not have it (nested_vnmi.c).  That one differs in one transition: by
 * the manual an IRET that faults does not unmask, RETIRING -> BLOCKED.
 *
 * A lone NMI costs the IRET exit; nobody minds that RETIRING is left only at the
 * next exit.  If another NMI waits, the IRET runs under a single step, whose #DB
 * is the window (step.c).  Both exits go straight back into the guest with
 * interrupts off, the second one with the next NMI.
 *
 * The same step carries an NMI over an interrupt shadow.  (The virtual interrupt
 * window will not do: "sti; cli" closes it before it opens.)
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
#include <trace/events/ipi.h>

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

/* The latch that an IRET of what runs now would open. */
static struct iret_window *iret_window_now(struct vcpu_svm *svm)
{
	if (is_guest_mode(&svm->vcpu) && nested_vnmi_emulated(svm))
		return &svm->nmi.l2;

	return &svm->nmi.l1;
}

/* Is the intercepted IRET what the vCPU executes next? */
static bool at_iret(struct vcpu_svm *svm, struct iret_window *window)
{
	struct vmcb_save_area *save = &svm->vmcb->save;

	return save->rip == window->rip && save->rsp == window->rsp &&
	       save->cs.selector == window->cs;
}

/* Not if there is an event to inject, which runs first. */
static bool iret_is_next(struct vcpu_svm *svm, struct iret_window *window)
{
	return !(svm->vmcb->control.event_inj & SVM_EVTINJ_VALID) &&
	       at_iret(svm, window);
}

/**
 * svm_nmi_update() - decide anew whether entries and exits concern NMIs
 * @svm: the vCPU
 *
 * After each change of what the checks before and after VMRUN depend on.
 *
 * Context: vCPU thread, interrupts on or off.
 */
void svm_nmi_update(struct vcpu_svm *svm)
{
	struct svm_nmi *nmi = &svm->nmi;
	enum nmi_state state = nmi->l1.state;
	bool l2 = is_guest_mode(&svm->vcpu) && nested_vnmi_in_play(svm);

	nmi->enter = l2 || state == NMI_RETIRING || nmi->step || nmi->vnmi ||
		     nmi->ready || nmi->known;
	nmi->in_play = nmi->enter || state == NMI_BLOCKED;
}

/* In protected mode without long mode IRET with NT set is a task switch. */
static bool iret_switches_tasks(struct vmcb_save_area *save)
{
	return (save->rflags & X86_EFLAGS_NT) &&
	       !(save->rflags & X86_EFLAGS_VM) &&
	       (save->cr0 & X86_CR0_PE) && !(save->efer & EFER_LMA);
}

/* The intercept for L2's latch is lent by nested_vnmi_enter(). */
static void intercept_iret(struct vcpu_svm *svm, struct iret_window *window,
			   bool intercept)
{
	if (window == &svm->nmi.l2 || is_sev_es_guest(&svm->vcpu))
		return;

	if (intercept)
		svm_set_intercept(svm, INTERCEPT_IRET);
	else
		svm_clr_intercept(svm, INTERCEPT_IRET);
}

/**
 * iret_window_block() - NMIs are blocked from now on
 * @svm: the vCPU
 * @window: the latch
 *
 * Context: vCPU thread, interrupts on or off.
 */
void iret_window_block(struct vcpu_svm *svm, struct iret_window *window)
{
	if (window->state == NMI_OPEN)
		window->since = rdtsc();
	window->state = NMI_BLOCKED;
	intercept_iret(svm, window, true);
	svm->nmi.step = false;
	svm_nmi_update(svm);
}

/* Without looking whether an NMI waits. */
static void set_open(struct vcpu_svm *svm, struct iret_window *window, int cause)
{
	if (window->state == NMI_BLOCKED)
		intercept_iret(svm, window, false);
	if (window->state != NMI_OPEN)
		trace_kvm_nmi_unblock(&svm->vcpu, cause, window->since);

	window->state = NMI_OPEN;
	svm->nmi.step = false;
	svm_nmi_update(svm);
}

/**
 * iret_window_open() - NMIs may be taken again
 * @svm: the vCPU
 * @window: the latch
 * @cause: enum nmi_unblock
 *
 * Context: vCPU thread, interrupts on or off.
 */
void iret_window_open(struct vcpu_svm *svm, struct iret_window *window, int cause)
{
	set_open(svm, window, cause);
	if (svm->vcpu.arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, &svm->vcpu);
}

/**
 * iret_window_wait() - ask for a step over the next instruction
 * @svm: the vCPU
 *
 * An NMI waits for the instruction that is next: the IRET, or what stands in an
 * interrupt shadow.  The request is good for one entry.
 *
 * Context: vCPU thread, interrupts on or off.
 */
void iret_window_wait(struct vcpu_svm *svm)
{
	svm->nmi.step = true;
	svm_nmi_update(svm);
	trace_kvm_nmi_window(&svm->vcpu, NMI_WINDOW_STEP);
}

/* An entry that asked for a step or a V_NMI is over, or did not happen. */
static void ask_again(struct vcpu_svm *svm)
{
	svm->nmi.step = false;
	svm->nmi.vnmi = false;
	svm->nmi.ready = false;
	if (svm->vcpu.arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, &svm->vcpu);
}

/**
 * svm_nmi_cancel() - the entry was called off
 * @vcpu: the vCPU
 *
 * RETIRING stays, the IRET has not run.
 *
 * Context: vCPU thread, preemption enabled.
 */
void svm_nmi_cancel(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (svm->nmi.step || svm->nmi.vnmi || svm->nmi.ready)
		ask_again(svm);
}

static void iret_intercepted(struct vcpu_svm *svm, struct iret_window *window)
{
	struct vmcb_save_area *save = &svm->vmcb->save;

	++svm->vcpu.stat.nmi_window_exits;
	window->state = NMI_RETIRING;
	window->rip = save->rip;
	window->rsp = save->rsp;
	window->cs = save->cs.selector;
	window->tried = false;
	svm->nmi.enter = true;
}

/**
 * iret_interception() - exit handler for IRET
 * @vcpu: the vCPU
 *
 * For what svm_nmi_exit() leaves: L2, and user space that debugs the guest.  On
 * 6.1 also the NMI_COMPLETE of SEV-ES guests.
 *
 * Context: vCPU thread, preemption enabled.
 * Return: 1, stay in the kernel.
 */
int iret_interception(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct iret_window *window = iret_window_now(svm);

	if (is_sev_es_guest(vcpu)) {
		++vcpu->stat.nmi_window_exits;
		iret_window_open(svm, window, NMI_UNBLOCK_IRET);
		return 1;
	}

	intercept_iret(svm, window, false);
	iret_intercepted(svm, window);
	if (vcpu->arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, vcpu);
	return 1;
}

static enum nmi_step step_kind(struct vcpu_svm *svm, struct iret_window *window)
{
	if (window->state == NMI_RETIRING)
		return iret_switches_tasks(&svm->vmcb->save) ?
		       STEP_TASK_SWITCH : STEP_IRET;

	return svm->nmi.known && svm->vmcb->save.rip == svm->nmi.known_rip ?
	       svm->nmi.known : STEP_SHADOW;
}

/* The IRET faulted, and its fault goes to the guest. */
static void iret_faulted(struct vcpu_svm *svm, struct iret_window *window)
{
	if (window == &svm->nmi.l2)
		iret_window_block(svm, window);
	else
		iret_window_open(svm, window, NMI_UNBLOCK_FAULT);
}

/*
 * May an exit go straight back into the guest?  Not with L1 or user space
 * looking on.
 */
static bool nobody_watches(struct kvm_vcpu *vcpu)
{
	return !is_guest_mode(vcpu) && !vcpu->guest_debug;
}

/*
 * The window opened at the last exit, which went straight back here.  Nothing
 * else can have become deliverable: whatever comes up is a request, and common
 * code looks at requests before it enters.  If it had to, the NMI may be gone or
 * something else be in front of it.
 */
static void deliver(struct vcpu_svm *svm)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;

	svm->nmi.ready = false;
	if (!vcpu->arch.nmi_pending)
		return;

	if ((svm->vmcb->control.event_inj & SVM_EVTINJ_VALID) ||
	    vcpu->arch.smi_pending || !nobody_watches(vcpu) ||
	    svm_nmi_allowed(vcpu, true) <= 0) {
		kvm_make_request(KVM_REQ_EVENT, vcpu);
		smp_send_reschedule(vcpu->cpu);
		return;
	}

	--vcpu->arch.nmi_pending;
	vcpu->arch.nmi_injected = true;
	svm_inject_nmi(vcpu);
	if (vcpu->arch.nmi_pending)
		svm_enable_nmi_window(vcpu);
}

/* Whatever is injected now runs first, and so does the code at another RIP. */
static void iret_is_not_next(struct vcpu_svm *svm, struct iret_window *window)
{
	u32 event = svm->vmcb->control.event_inj;

	if ((event & SVM_EVTINJ_VALID) && window->tried &&
	    (event & SVM_EVTINJ_TYPE_MASK) == SVM_EVTINJ_TYPE_EXEPT)
		iret_faulted(svm, window);
	else
		iret_window_block(svm, window);
}

/*
 * On kernels for debugging: between an exit and the next entry nothing is lent, and
 * IRET is intercepted exactly while a handler of L1 runs.
 */
static void assert_at_rest(struct vcpu_svm *svm)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct svm_nmi *nmi = &svm->nmi;

	if (!IS_ENABLED(CONFIG_PROVE_LOCKING))
		return;

	lockdep_assert_irqs_disabled();
	WARN_ON_ONCE(nmi->step_lent || nmi->vnmi_lent || nmi->vnmi_held);

	if (is_guest_mode(&svm->vcpu) || is_sev_es_guest(&svm->vcpu))
		return;

	WARN_ON_ONCE(control->int_ctl & V_NMI_PENDING_MASK);
	WARN_ON_ONCE(vmcb_is_intercept(control, INTERCEPT_IRET) !=
		     (nmi->l1.state == NMI_BLOCKED));
}

/* Out of line: an entry whose IRET is next needs none of this, nor a frame. */
static noinline void prepare_entry(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct iret_window *window = iret_window_now(svm);
	bool event = svm->vmcb->control.event_inj & SVM_EVTINJ_VALID;

	if (window->state == NMI_RETIRING && !iret_is_next(svm, window))
		iret_is_not_next(svm, window);
	else if (svm->nmi.ready)
		deliver(svm);

	if (is_guest_mode(vcpu) && nested_vnmi_used(svm))
		nested_vnmi_enter(svm);

	if (svm->nmi.vnmi && vcpu->arch.nmi_pending)
		vnmi_lend(svm);

	if (!svm->nmi.step) {
		svm->nmi.known = STEP_NONE;
		return;
	}

	/*
	 * An event would push our TF.  Nothing of the guest but the delivery is
	 * going to run; the window is asked for again behind it.
	 */
	if (event) {
		ask_again(svm);
		smp_send_reschedule(vcpu->cpu);
		return;
	}

	step_lend(svm, step_kind(svm, window));
}

/**
 * svm_nmi_enter() - prepare NMI state for VMRUN
 * @vcpu: the vCPU
 *
 * Before VMRUN if there is something to decide; interrupts are off, and what is
 * going to be injected is known.
 *
 * Context: vCPU thread, interrupts off.
 */
void svm_nmi_enter(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	assert_at_rest(svm);
	if (svm->nmi.l1.state == NMI_RETIRING && iret_is_next(svm, &svm->nmi.l1) &&
	    !(svm->nmi.ready || svm->nmi.vnmi || svm->nmi.step))
		return;

	prepare_entry(vcpu);
}

/* Has the IRET retired, faulted, or is it still ahead? */
static void look_for_iret(struct vcpu_svm *svm, struct iret_window *window,
			  bool stepped)
{
	u32 vectoring = svm->vmcb->control.exit_int_info;
	u32 code = svm->vmcb->control.exit_code;

	if (code == SVM_EXIT_ERR)
		return;

	if (stepped || !at_iret(svm, window))
		iret_window_open(svm, window, NMI_UNBLOCK_IRET);
	else if ((vectoring & SVM_EXITINTINFO_VALID) &&
		 (vectoring & SVM_EXITINTINFO_TYPE_MASK) ==
		  SVM_EXITINTINFO_TYPE_EXEPT)
		iret_faulted(svm, window);
	else
		window->tried = code == SVM_EXIT_TASK_SWITCH ||
				is_fault_exit(code);
}

/* Straight back from #VMEXIT(IRET): nothing can be injected in front of it. */
static void reenter_at_iret(struct vcpu_svm *svm)
{
	struct vmcb *vmcb = svm->vmcb;

	/* There is only one VMCB to change; svm_clr_intercept() allows for two. */
	vmcb_clr_intercept(&vmcb->control, INTERCEPT_IRET);
	vmcb_mark_dirty(vmcb, VMCB_INTERCEPTS);

	iret_intercepted(svm, &svm->nmi.l1);
	if (svm->vcpu.arch.nmi_pending)
		iret_window_wait(svm);
}

/* Straight back from the #DB of a step that nobody else needs to know of. */
static void reenter_after_step(struct vcpu_svm *svm)
{
	svm->nmi.owned = false;
	svm->nmi.ready = svm->vcpu.arch.nmi_pending;
	set_open(svm, &svm->nmi.l1, NMI_UNBLOCK_IRET);
}

/* Out of line: the exit at the end of a lone NMI needs none of this, nor a frame. */
static noinline bool look_behind_exit(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct iret_window *window = iret_window_now(svm);
	bool stepped = false;

	if (svm->nmi.step_lent)
		stepped = step_take_back(svm);
	if (stepped && svm->nmi.owned && nobody_watches(vcpu)) {
		reenter_after_step(svm);
		return true;
	}

	if (svm->nmi.vnmi_lent)
		vnmi_take_back(svm);
	if (svm->nmi.step || svm->nmi.vnmi)
		ask_again(svm);

	if (window->state == NMI_RETIRING)
		look_for_iret(svm, window, stepped);
	if (is_guest_mode(vcpu) && nested_vnmi_used(svm))
		nested_vnmi_exit(svm);
	svm_nmi_update(svm);
	assert_at_rest(svm);
	return false;
}

/**
 * svm_nmi_exit() - look at NMI state behind a #VMEXIT
 * @vcpu: the vCPU
 *
 * After each #VMEXIT with an NMI in play, interrupts off: before anything looks
 * at the VMCB's RFLAGS, DR6, V_NMI or intercepts.  An NMI that arrives while
 * this goes straight back is a request, too.
 *
 * Context: vCPU thread, interrupts off.
 * Return: true when there is nothing to do but to enter the guest again.
 */
bool svm_nmi_exit(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (svm->vmcb->control.exit_code == SVM_EXIT_IRET &&
	    svm->nmi.l1.state == NMI_BLOCKED && nobody_watches(vcpu)) {
		reenter_at_iret(svm);
		return true;
	}

	return look_behind_exit(vcpu);
}
