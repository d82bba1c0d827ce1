// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest NMIs on AMD CPUs: where they come in, and who keeps the latch they are about.
 *
 * An NMI that common code has made pending (vcpu->arch.nmi_pending) is injected
 * through EVENTINJ as soon as svm_nmi_allowed() says so, or, on CPUs with vNMI and kernels
 * since 6.4, lent to the next entry as it is (vnmi.c).  From then on NMIs are
 * blocked until the guest's IRET.  An NMI that arrives meanwhile stays pending
 * and asks for a window: an exit at the first instruction boundary at which it
 * can be taken.
 *
 * EVENTINJ is unconditional, so whether NMIs are blocked has to be known before.
 * Who knows depends on the CPU and on what runs:
 *
 *   CPU with vNMI     V_NMI_MASK in the VMCB (vnmi.c).  The CPU takes a waiting
 *		       NMI by itself.
 *   CPU without       A latch in software (latch.c), open when IRET has retired: the
 *		       IRET window.
 *   SEV-ES guests     report the end of their handler themselves.
 *   L2, L1 uses vNMI  has a latch of its own (nested_vnmi.c); NMIs for L1 make it
 *		       exit.
 *   L2, L1 does not   There is one latch, as on a CPU: it stays as it is across
 *		       VMRUN and #VMEXIT, an IRET of L2 ends the blocking that
 *		       began in L1, and an NMI that L1 injects is L1's to track.
 *
 * The IRET window: a lone NMI costs one exit, the IRET's.  If another NMI waits there,
 * the IRET runs under a single step (loan.c), whose #DB is the window.  Both exits go
 * straight back into the guest, the second one with the next NMI.  The same step
 * carries an NMI over an interrupt shadow.  (The virtual interrupt window will not do:
 * "sti; cli" closes it before it opens.)
 *
 * What names a vCPU runs in its thread.  The counterpart for Intel is
 * vmx/nmi.c, where the CPU tracks blocking or at least has an NMI window.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <trace/events/ipi.h>

#include "x86.h"
#include "cpuid.h"
#include "trace.h"
#include "latch.h"
#include "../nmi_request.h"
#include "../nmi_trace.h"

/* Is something in the way of an NMI at the current boundary? */
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

/*
 * May an NMI be injected now?  1: inject, 0: blocked, wait for a window, -EBUSY: exit
 * at once and ask again.
 */
int svm_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	bool to_l1 = is_guest_mode(vcpu) && nested_exit_on_nmi(svm);

	if (nested_run_pending(svm))
		return -EBUSY;

	/* What makes L2 exit is not injected; the exit is common code's to make. */
	if (!svm_nmi_blocked(vcpu))
		return for_injection && to_l1 ? -EBUSY : 1;

	return 0;
}

/* Are NMIs blocked by an NMI handler of L1?  Also while L2 runs. */
bool svm_get_nmi_mask(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (vnmi_in_use(svm))
		return vnmi_masked(svm);

	return svm->nmi.l1.state != NMI_OPEN;
}

/*
 * Software knows better: user space restored a state, SMM was entered or left, the
 * emulator ran an IRET.  Writing back what was read changes nothing.  It is always
 * L1's latch; for an IRET of L2 that has its own see emulator_set_nmi_mask().
 */
void svm_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/* User space may have taken away the NMI that was to be injected again. */
	if (!vcpu->arch.nmi_injected)
		svm->nmi.redelivery = false;
	if (!nmi_is_waiting(vcpu) && !svm->nmi.handed) {
		svm->nmi.record.waiting = 0;
		svm->nmi.told = false;
	}

	if (masked == svm_get_nmi_mask(vcpu))
		return;

	if (vnmi_in_use(svm)) {
		vnmi_set_masked(svm, masked);
		nmi_want_again(svm);
	} else if (masked) {
		latch_move(svm, &svm->nmi.l1, LATCH_NMI, 0);
	} else {
		latch_open(svm, &svm->nmi.l1, NMI_UNBLOCK_RESTORED);
	}
}

/*
 * Is the NMI that is injected into L2 one of L1's, or of L2's vNMI?  Nothing but the NMI exit
 * is left to tell where user space has restored the vCPU: an NMI for L1 makes L2 exit.
 */
static bool is_l1s_nmi(struct vcpu_svm *svm)
{
	return svm->nmi_l1_to_l2 || svm->nmi.l2_vnmi ||
	       (is_guest_mode(&svm->vcpu) && nested_exit_on_nmi(svm));
}

/* Inject an NMI at the next VMRUN. */
void svm_inject_nmi(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	bool redelivery = svm->nmi.redelivery;

	svm->nmi.redelivery = false;
	svm->nmi.called_off = false;
	svm->vmcb->control.event_inj = SVM_EVTINJ_TYPE_NMI | SVM_EVTINJ_VALID;

	/*
	 * Injected into L2 once more, after L1 or its vNMI did: not counted, and L1's
	 * latch stays.
	 */
	if (is_l1s_nmi(svm)) {
		nmi_rearm(svm);
		return;
	}

	if (trace_kvm_nmi_inject_enabled())
		nmi_trace_injection(svm, redelivery || svm->nmi.told);
	svm->nmi.told = false;

	if (!redelivery) {
		++vcpu->stat.nmi_injections;
		svm->nmi.record.waiting = 0;
	}

	/* With vNMI the CPU masks NMIs when it injects. */
	if (!vnmi_in_use(svm))
		latch_move(svm, &svm->nmi.l1, LATCH_NMI, 0);
}

/*
 * An NMI did not arrive: an exit interrupted the delivery, or the entry that was to
 * deliver it was called off.  NMIs count as masked: the NMI is injected again, or, if an
 * exception that it caused takes its place or it goes through a task gate, is
 * delivered without the CPU.
 */
void svm_nmi_delivery_aborted(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	vcpu->arch.nmi_injected = true;
	svm->nmi.redelivery = true;
	vnmi_set_masked_now(svm, true);
}

/* The vCPU's thread begins KVM_RUN, is scheduled, or wakes. */
void svm_nmi_vcpu_load(struct kvm_vcpu *vcpu)
{
	bool halted = vcpu->arch.mp_state == KVM_MP_STATE_HALTED &&
		      !nmi_thread_was_preempted(vcpu);
	struct vcpu_svm *svm = to_svm(vcpu);

	/* No entry came to VMRUN since, or KVM_RUN ended with what user space was told. */
	if (unlikely(svm->nmi.handed) &&
	    (halted || (!vcpu_scheduled_out(vcpu) && nmi_user_space_looks(vcpu)))) {
		vnmi_take_handed(svm);
		nmi_want_again(svm);
	}
	if (unlikely(halted) && kvm_check_request(KVM_REQ_NMI, vcpu))
		nmi_take_requested(vcpu, svm_get_nmi_mask(vcpu));
}

/* Make an exit when a pending NMI can be taken. */
void svm_enable_nmi_window(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	/* NMI_COMPLETE opens the window; such a guest cannot be stepped. */
	if (is_sev_es_guest(vcpu) && !vnmi_in_use(svm))
		return;

	if (svm->nmi.l2_vnmi) {
		/* Only L1 itself can open its own latch, after an exit of L2. */
		if (svm_get_nmi_mask(vcpu))
			return;
	} else if (vnmi_in_use(svm)) {
		nmi_want(svm, WANT_VNMI);
		nmi_waits(vcpu, &svm->nmi.record, NMI_WINDOW_VNMI);
		return;
	} else if (svm->nmi.l1.state == NMI_BLOCKED) {
		nmi_waits(vcpu, &svm->nmi.record, NMI_WINDOW_IRET);
		return;
	}

	/*
	 * With GIF clear no NMI can be taken before STGI, which L2 may execute if it
	 * shares GIF with L1.  Without virtual GIF STGI exits anyway.
	 */
	if (!gif_set(svm)) {
		if (vgif)
			svm_set_intercept(svm, INTERCEPT_STGI);
		nmi_waits(vcpu, &svm->nmi.record, NMI_WINDOW_STGI);
		return;
	}

	/* The NMI waits for the next instruction: the IRET, or what is in a shadow. */
	nmi_want(svm, WANT_STEP);
	nmi_waits(vcpu, &svm->nmi.record, NMI_WINDOW_STEP);
}

/* An NMI whose entry was called off has not been injected again: overtaken, or taken away. */
static void put_back(struct vcpu_svm *svm)
{
	svm->nmi.called_off = false;
	if (!svm->vcpu.arch.nmi_injected)
		return;

	nmi_put_back(&svm->vcpu);
	if (vnmi_in_use(svm))
		vnmi_set_masked_now(svm, false);
	else
		latch_move(svm, &svm->nmi.l1, LATCH_FORGET, 0);
	nmi_want(svm, WANT_NOTHING);
}

/*
 * The entry was called off, and what it was to inject stands where an exit would leave it.
 * RETIRING stays, the IRET has not run.
 */
void svm_nmi_cancel(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	u32 event = svm->vmcb->control.exit_int_info;

	if (svm->nmi.want)
		nmi_want_again(svm);
	if (!(event & SVM_EXITINTINFO_VALID))
		return;

	if ((event & SVM_EXITINTINFO_TYPE_MASK) != SVM_EXITINTINFO_TYPE_NMI) {
		if (svm->nmi.called_off)
			put_back(svm);
	} else if (!is_l1s_nmi(svm)) {
		svm->nmi.called_off = true;
		nmi_rearm(svm);
	}
}

/*
 * On kernels for debugging: between an exit and the next entry nothing is lent, and
 * IRET is intercepted exactly while L1's latch is BLOCKED.
 */
static void assert_at_rest(struct vcpu_svm *svm)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct svm_nmi *nmi = &svm->nmi;

	if (!IS_ENABLED(CONFIG_PROVE_LOCKING))
		return;

	lockdep_assert_irqs_disabled();
	WARN_ON_ONCE(nmi->lent.kind);

	if (is_guest_mode(&svm->vcpu) || is_sev_es_guest(&svm->vcpu))
		return;

	WARN_ON_ONCE(control->int_ctl & V_NMI_PENDING_MASK);
	WARN_ON_ONCE(vmcb_is_intercept(control, INTERCEPT_IRET) !=
		     (nmi->l1.state == NMI_BLOCKED));
}

/* In protected mode without long mode IRET with NT set is a task switch. */
static bool iret_switches_tasks(struct vmcb_save_area *save)
{
	return (save->rflags & X86_EFLAGS_NT) &&
	       !(save->rflags & X86_EFLAGS_VM) &&
	       (save->cr0 & X86_CR0_PE) && !(save->efer & EFER_LMA);
}

static enum nmi_loan step_kind(struct vcpu_svm *svm, struct nmi_latch *latch)
{
	if (latch->state == NMI_RETIRING)
		return iret_switches_tasks(&svm->vmcb->save) ?
		       STEP_TASK_SWITCH : STEP_IRET;

	return svm->nmi.known && svm->vmcb->save.rip == svm->nmi.known_rip ?
	       svm->nmi.known : STEP_SHADOW;
}

/*
 * An NMI for L1 that has waited for VMRUN to set GIF, or for an event to be injected
 * again, makes L2 exit before it takes a V_NMI.  Common code has asked for an
 * immediate exit.
 */
static bool l1_goes_first(struct vcpu_svm *svm)
{
	return svm->vcpu.arch.nmi_pending && !svm_nmi_blocked(&svm->vcpu);
}

/* Before VMRUN, interrupts off, when it is known what is going to be injected. */
void svm_nmi_enter(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	bool event = svm->vmcb->control.event_inj & SVM_EVTINJ_VALID;
	struct nmi_latch *latch = latch_now(svm);

	assert_at_rest(svm);

	if (unlikely(svm->nmi.called_off)) {
		put_back(svm);
		/* Requests have been looked at: make an exit as soon as the event is in. */
		smp_send_reschedule(vcpu->cpu);
	}
	if (latch->state == NMI_RETIRING && !iret_is_next(svm, latch))
		iret_is_not_next(svm, latch);
	if (svm->nmi.l2_vnmi)
		nested_vnmi_enter(svm, l1_goes_first(svm));

	if (svm->nmi.handed && vcpu->arch.smi_pending) {
		/* It came after; what makes the exit that it waits for comes before both. */
		vnmi_take_handed(svm);
		nmi_want_again(svm);
	} else if (svm->nmi.handed) {
		vnmi_take_handed(svm);
		svm->nmi.want = WANT_VNMI;
		if (!event && !svm_nmi_blocked(vcpu)) {
			loan_make(svm, LOAN_FIRST_VNMI);
			return;
		}
		nmi_waits(vcpu, &svm->nmi.record, NMI_WINDOW_VNMI);
	}

	switch (svm->nmi.want) {
	case WANT_NOTHING:
		svm->nmi.known = LOAN_NONE;
		break;
	case WANT_VNMI:
		/* A debugger in user space may have come to hold events back. */
		if (!vcpu->arch.nmi_pending || (vcpu->guest_debug & KVM_GUESTDBG_BLOCKIRQ))
			break;
		/* One latch: two NMIs that meet where none can be taken are one. */
		if (svm_nmi_blocked(vcpu))
			vcpu->arch.nmi_pending = 1;
		loan_make(svm, LOAN_VNMI);
		break;
	case WANT_STEP:
		if (!event) {
			loan_make(svm, step_kind(svm, latch));
			break;
		}
		/*
		 * An event would push our TF.  Nothing of the guest but the delivery
		 * is going to run; the window is asked for again after it.
		 */
		svm->nmi.known = LOAN_NONE;
		nmi_want_again(svm);
		smp_send_reschedule(vcpu->cpu);
		break;
	}
}

/*
 * May an exit go straight back into the guest, by svm_vcpu_run() itself?  Not with L1
 * or user space looking on; nor with single steps over branches, as svm_vcpu_run()
 * may have DEBUGCTL to load.
 */
static bool may_reenter(struct vcpu_svm *svm)
{
	return !is_guest_mode(&svm->vcpu) && !svm->vcpu.guest_debug &&
	       !(svm->vmcb->save.dbgctl & DEBUGCTLMSR_BTF);
}

/* Common code's RIP and RSP are those of the entry as yet. */
static void update_registers(struct vcpu_svm *svm)
{
	kvm_rip_write(&svm->vcpu, svm->vmcb->save.rip);
	kvm_rsp_write(&svm->vcpu, svm->vmcb->save.rsp);
}

/* Out of line: nobody looks, as a rule. */
static noinline void trace_reentry(struct vcpu_svm *svm)
{
	update_registers(svm);
	trace_kvm_exit(&svm->vcpu, KVM_ISA_SVM);
	trace_kvm_entry(&svm->vcpu, false);
}

/*
 * Straight back, with interrupts and GIF as they are.  Nothing is missed: whatever
 * comes up for this vCPU is a request and a kick, which like any interrupt of the host
 * stays pending until VMRUN, and makes the very next exit.  What was injected has
 * arrived, as svm_complete_interrupts() would find.
 */
static bool reenter(struct vcpu_svm *svm)
{
	if (trace_kvm_exit_enabled() || trace_kvm_entry_enabled())
		trace_reentry(svm);
	++svm->vcpu.stat.exits;
	svm->soft_int_injected = false;
	return true;
}

/* From #VMEXIT(IRET): nothing can be injected before it. */
static bool reenter_at_iret(struct vcpu_svm *svm)
{
	iret_intercepted(svm, &svm->nmi.l1);
	if (svm->vcpu.arch.nmi_pending) {
		nmi_waits(&svm->vcpu, &svm->nmi.record, NMI_WINDOW_STEP);
		/* Something else may make an exit before the IRET. */
		svm->nmi.want = WANT_STEP;
		loan_make(svm, step_kind(svm, &svm->nmi.l1));
	}
	return reenter(svm);
}

/*
 * The window has opened.  Nothing else can have become deliverable at this boundary
 * without a request, and a request comes after it.
 */
static bool deliver(struct vcpu_svm *svm)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;

	if (!vcpu->arch.nmi_pending || vcpu->arch.smi_pending)
		return false;

	vcpu->arch.nmi_injected = false;
	if (svm_nmi_allowed(vcpu, true) <= 0)
		return false;

	update_registers(svm);
	--vcpu->arch.nmi_pending;
	vcpu->arch.nmi_injected = true;
	svm_inject_nmi(vcpu);
	if (vcpu->arch.nmi_pending)
		svm_enable_nmi_window(vcpu);
	return true;
}

/* From the #DB of a step that nobody else needs to know of, with the next NMI. */
static bool reenter_after_step(struct vcpu_svm *svm)
{
	latch_move(svm, &svm->nmi.l1, LATCH_END, NMI_UNBLOCK_IRET);
	if (!deliver(svm)) {
		nmi_ask_again(svm);
		return false;
	}
	svm->nmi.owned = false;
	return reenter(svm);
}

/* Something was wanted of this entry, or an IRET is on its way. */
static bool entry_is_over(struct vcpu_svm *svm)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;
	struct nmi_latch *latch = latch_now(svm);
	unsigned int verdict = loan_return(svm);
	bool stepped = verdict & LOAN_STEPPED;

	svm->nmi.owned = verdict & LOAN_OWNED;
	if (stepped && svm->nmi.owned && may_reenter(svm) &&
	    reenter_after_step(svm))
		return true;

	/* While a handler runs there is nothing to decide: it is lent to the next entry, too. */
	if (svm->nmi.want &&
	    !(svm->nmi.want == WANT_VNMI && vcpu->arch.nmi_pending && vnmi_masked(svm))) {
		svm->nmi.want = WANT_NOTHING;
		nmi_ask_again(svm);
	}
	if (latch->state == NMI_RETIRING)
		look_for_iret(svm, latch, stepped);
	if (svm->nmi.l2_vnmi && nested_vnmi_exit(svm))
		svm->nmi.owned = true;
	nmi_rearm(svm);
	assert_at_rest(svm);
	return false;
}

/*
 * After each #VMEXIT with an NMI in play, interrupts off and GIF clear: before anything
 * else looks at the VMCB.  Tells if there is nothing to do but to enter the guest again.
 */
bool svm_nmi_exit(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (svm->vmcb->control.exit_code == SVM_EXIT_IRET &&
	    svm->nmi.l1.state == NMI_BLOCKED && may_reenter(svm))
		return reenter_at_iret(svm);

	/* In a handler, and nothing was lent. */
	if (!svm->nmi.enter)
		return false;

	return entry_is_over(svm);
}

/*
 * Exit handler for an IRET that svm_nmi_exit() has left: of L2, of a guest that steps
 * over branches, or with user space that debugs the guest.  Also for the NMI_COMPLETE of
 * SEV-ES guests, on 6.1 by the table of exits.
 */
int iret_interception(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct nmi_latch *latch = latch_now(svm);

	if (is_sev_es_guest(vcpu)) {
		++vcpu->stat.nmi_window_exits;
		if (vnmi_in_use(svm))
			nmi_ask_again(svm);
		else
			latch_open(svm, latch, NMI_UNBLOCK_IRET);
		return 1;
	}

	iret_intercepted(svm, latch);
	nmi_ask_again(svm);
	return 1;
}

/* Emulate a task switch: an NMI handler's end may be one. */
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
	if (svm->nmi.l2_vnmi)
		nested_vnmi_unmask(svm, NMI_UNBLOCK_TASK_SWITCH);
	else if (svm->nmi.l1.state == NMI_RETIRING)
		latch_move(svm, &svm->nmi.l1, LATCH_END, NMI_UNBLOCK_TASK_SWITCH);
	else
		vnmi_set_masked_now(svm, false);

	nmi_want_again(svm);
	return ret;
}

/* INIT or RESET: svm.c has rebuilt the VMCB, and no L2 runs. */
void svm_nmi_reset(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	svm->nmi.redelivery = false;
	svm->nmi.called_off = false;
	svm->nmi.handed = false;
	svm->nmi.told = false;
	svm->nmi.record.waiting = 0;
	latch_open(svm, &svm->nmi.l1, NMI_UNBLOCK_RESET);
	vnmi_enable(svm);
}

/*
 * The emulator has run an IRET, or RSM.  It is L2's latch that an IRET of L2 opens;
 * RSM never runs in L2.
 */
static void emulator_set_nmi_mask(struct x86_emulate_ctxt *ctxt, bool masked)
{
	struct kvm_vcpu *vcpu = ctxt->vcpu;

	if (!masked && to_svm(vcpu)->nmi.l2_vnmi)
		nested_vnmi_unmask(to_svm(vcpu), NMI_UNBLOCK_RESTORED);
	else
		svm_set_nmi_mask(vcpu, masked);
}

/*
 * The emulator and user space that restores L1's latch both call set_nmi_mask() of
 * kvm_x86_ops, which cannot tell them apart.  Give the emulator one of its own.
 */
static void tell_emulator_apart(struct kvm_vcpu *vcpu)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	static struct x86_emulate_ops ops;
	static DEFINE_MUTEX(lock);

	mutex_lock(&lock);
	if (!ops.set_nmi_mask) {
		ops = *ctxt->ops;
		ops.set_nmi_mask = emulator_set_nmi_mask;
	}
	mutex_unlock(&lock);
	ctxt->ops = &ops;
}

/* User space has set the guest's CPUID. */
void svm_nmi_after_set_cpuid(struct kvm_vcpu *vcpu)
{
	struct svm_nmi *nmi = &to_svm(vcpu)->nmi;

	nmi->vnmi_for_l1 = vnmi_offered && guest_has_vnmi(vcpu);
	if (nmi->vnmi_for_l1)
		tell_emulator_apart(vcpu);
}

/* Settle the module's parameters.  vgif and KVM's CPU capabilities are settled. */
void svm_nmi_hardware_setup(void)
{
	vnmi_settle();
	if (vnmi)
		pr_info("Virtual NMI enabled\n");
	nested_vnmi_settle();
}
