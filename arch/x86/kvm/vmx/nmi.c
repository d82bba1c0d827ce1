// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest NMIs on Intel CPUs.
 *
 * An NMI that common code has made pending (vcpu->arch.nmi_pending) is injected
 * at VM entry as soon as vmx_nmi_allowed() says so.  From then on NMIs are
 * blocked until the guest's IRET.  An NMI that arrives meanwhile stays pending
 * and asks for a window: an exit at the first instruction boundary at which it
 * can be taken.
 *
 * With virtual NMIs the CPU tracks blocking in the VMCS's interruptibility
 * state.  Two things are left to software, both around events that did not
 * complete: an IRET that exits has already dropped the blocking although it is
 * going to run again, and an injection that exits leaves blocking behind
 * although the NMI is going to be injected again.
 *
 * Without virtual NMIs that bit is about the host's own NMIs, see soft_vnmi.c.
 * Which of the two holds is a property of the VMCS: with vnmi=0 an L1
 * hypervisor may still run its L2 with virtual NMIs.
 *
 * All functions that name a VMCS run in the vCPU's thread, those called around VM
 * entry with interrupts off.  Host NMIs are vmx.c's business, NMIs that cross from
 * L1 to L2 or back are nested_nmi.c's.  The counterpart for AMD is
 * svm/nmi.c, where the CPU knows nothing of NMI blocking.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <trace/events/ipi.h>

#include "x86.h"
#include "nested.h"
#include "vmx.h"
#include "nmi.h"
#include "nmi_exit.h"

#define CREATE_TRACE_POINTS
#include "../nmi_trace.h"

/*
 * How long a wait for the next instruction boundary may last, how often it may be in
 * vain, and how often it is doubled then: up to 82 ms.
 */
#define SHADOW_POLL_NS		(20 * NSEC_PER_USEC)
#define SHADOW_POLL_TRIES	8
#define SHADOW_POLL_DOUBLINGS	12

/**
 * vmx_nmi_unblocked() - tell that blocking has ended
 * @vmx: the vCPU, its VMCS loaded
 * @cause: enum nmi_unblock
 *
 * Every end of blocking comes through here.
 *
 * Context: vCPU thread, interrupts on or off.
 */
void vmx_nmi_unblocked(struct vcpu_vmx *vmx, int cause)
{
	if (!vmx->nmi.since)
		return;

	trace_kvm_nmi_unblock(&vmx->vcpu, cause, vmx->nmi.since);
	vmx->nmi.since = 0;
}

/**
 * vmx_set_blocking_bit() - block NMIs, or not, where the CPU tracks blocking
 * @vmx: the vCPU, its VMCS loaded, which has virtual NMIs
 * @blocked: the new state
 */
void vmx_set_blocking_bit(struct vcpu_vmx *vmx, bool blocked)
{
	vmx->loaded_vmcs->nmi_known_unmasked = !blocked;
	if (blocked)
		vmcs_set_bits(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
	else
		vmcs_clear_bits(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
}

/*
 * STI blocking may or may not keep the CPU from accepting an NMI at VM entry,
 * depending on the model, so it holds NMIs back like MOV SS blocking does.
 */
static __always_inline bool blocked_here(struct vcpu_vmx *vmx)
{
	u32 blocking = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS;

	if (!has_virtual_nmis(vmx)) {
		if (soft_vnmi_blocked(&vmx->vcpu))
			return true;
	} else if (!vmx->loaded_vmcs->nmi_known_unmasked) {
		blocking |= GUEST_INTR_STATE_NMI;
	}

	return vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & blocking;
}

/**
 * vmx_nmi_blocked() - is something in the way of an NMI?
 * @vcpu: the vCPU, its VMCS loaded
 *
 * The exit to L1 is not held back by what blocks NMIs within L2, only by what
 * blocks them for L1.
 *
 * Context: vCPU thread, preemption enabled.
 * Return: true if an NMI cannot be taken at the current boundary.
 */
bool vmx_nmi_blocked(struct kvm_vcpu *vcpu)
{
	if (is_guest_mode(vcpu) && nested_exit_on_nmi(vcpu))
		return vmx_nmi_held_in_l2(vcpu);

	return blocked_here(to_vmx(vcpu));
}

/**
 * vmx_nmi_allowed() - may an NMI be injected now?
 * @vcpu: the vCPU, its VMCS loaded
 * @for_injection: about to inject, not only asking for a halted vCPU
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: 1: inject, 0: blocked, wait for a window, -EBUSY: exit at once and
 * ask again.
 */
int vmx_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection)
{
	if (nested_run_pending(to_vmx(vcpu)))
		return -EBUSY;

	if (is_guest_mode(vcpu) && nested_exit_on_nmi(vcpu)) {
		if (vmx_nmi_held_in_l2(vcpu))
			return 0;
		return for_injection ? -EBUSY : 1;
	}

	return !blocked_here(to_vmx(vcpu));
}

/**
 * vmx_get_nmi_mask() - are NMIs blocked by an NMI handler?
 * @vcpu: the vCPU, its VMCS loaded
 *
 * Context: vCPU thread, interrupts on or off.
 * Return: true from an injection to the end of its handler.
 */
bool vmx_get_nmi_mask(struct kvm_vcpu *vcpu)
{
	struct loaded_vmcs *vmcs = to_vmx(vcpu)->loaded_vmcs;
	u32 state;

	if (vmx_nmi_exiting_alone(vcpu))
		return vmx_nmi_held_in_l2(vcpu);

	if (!has_virtual_nmis(to_vmx(vcpu)))
		return vmcs->soft_nmi_blocked;

	if (vmcs->nmi_known_unmasked)
		return false;

	state = vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI;
	vmcs->nmi_known_unmasked = !state;
	return state;
}

/**
 * vmx_set_nmi_mask() - overrule what is known of NMI blocking
 * @vcpu: the vCPU, its VMCS loaded
 * @masked: the new state
 *
 * Software knows better than the CPU: user space restored a state, SMM was
 * entered or left, the emulator ran an IRET or switched tasks.
 *
 * Context: vCPU thread, preemption enabled.
 */
void vmx_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	/* Writing back what was read changes nothing, the clocks included. */
	if (masked == vmx_get_nmi_mask(vcpu))
		return;

	/* No window opens where the CPU does not run: emulated real mode. */
	if (!masked && vcpu->arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, vcpu);

	if (vmx_nmi_exiting_alone(vcpu))
		vmx_nmi_hold_in_l2(vcpu, masked);
	else
		vmx_nmi_block(vmx, masked);
}

/**
 * vmx_nmi_block() - block NMIs, or not, on the loaded VMCS
 * @vmx: the vCPU, its VMCS loaded
 * @blocked: the new state, which differs from the present one
 */
void vmx_nmi_block(struct vcpu_vmx *vmx, bool blocked)
{
	if (has_virtual_nmis(vmx)) {
		vmx_set_blocking_bit(vmx, blocked);
		if (blocked)
			vmx->nmi.since = rdtsc();
		else
			vmx_nmi_unblocked(vmx, NMI_UNBLOCK_RESTORED);
	} else if (blocked) {
		soft_vnmi_block(vmx);
	} else {
		soft_vnmi_unblock(vmx, NMI_UNBLOCK_RESTORED);
	}
}

/* Out of line: reading the registers would cost the usual injection as well. */
static noinline void trace_injection(struct kvm_vcpu *vcpu)
{
	trace_kvm_nmi_inject(vcpu, kvm_rip_read(vcpu), kvm_rsp_read(vcpu),
			     kvm_get_rflags(vcpu), vmx_get_cpl(vcpu),
			     to_vmx(vcpu)->nmi.redelivery);
}

/**
 * vmx_inject_nmi() - inject an NMI at the next VM entry
 * @vcpu: the vCPU, its VMCS loaded
 *
 * Context: vCPU thread, interrupts on or off; on where real mode runs as
 * virtual-8086, whose frame is written to guest memory.
 */
void vmx_inject_nmi(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (trace_kvm_nmi_inject_enabled())
		trace_injection(vcpu);

	/* An attempt that was interrupted has been counted. */
	if (unlikely(vmx->nmi.redelivery))
		vmx->nmi.redelivery = false;
	else
		++vcpu->stat.nmi_injections;

	if (unlikely(vmx->nmi.from_l1)) {
		/* It blocks nothing; vmx_nmi_enter() sees to that. */
		vmx->nmi.enter = true;
	} else {
		vmx->nmi.since = rdtsc();
		if (!has_virtual_nmis(vmx))
			soft_vnmi_inject(vmx);
		else if (!vmx->loaded_vmcs->nmi_known_unmasked)
			/* Injected and blocked, as only user space can ask for: no entry. */
			vmx_set_blocking_bit(vmx, false);
	}
	vmx->loaded_vmcs->nmi_known_unmasked = false;

	if (vmx->rmode.vm86_active) {
		/*
		 * Real mode run as virtual-8086: the frame is pushed by
		 * software, so nothing but software can block NMIs.
		 */
		kvm_inject_realmode_interrupt(vcpu, NMI_VECTOR, 0);
		if (has_virtual_nmis(vmx) && !vmx->nmi.from_l1)
			vmx_set_blocking_bit(vmx, true);
		vmx->nmi.from_l1 = false;
		return;
	}

	vmcs_write32(VM_ENTRY_INTR_INFO_FIELD, NMI_EVENT);

	/*
	 * An NMI ends a HLT that did not exit. vmx.c has vmx_clear_hlt() for
	 * this, but static in some point releases of a series only.
	 */
	if (kvm_hlt_in_guest(vcpu->kvm) &&
	    vmcs_read32(GUEST_ACTIVITY_STATE) == GUEST_ACTIVITY_HLT)
		vmcs_write32(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
}

/*
 * The CPU may open an NMI window right after VM entry although STI still blocks
 * injection, over and over without an instruction in between.  The interrupt
 * window has no such freedom, but "sti; cli" closes it before it opens: hence
 * the timer, which makes an exit behind the shadow in any case.  An entry may
 * take longer than the timer, in a guest hypervisor or with KASAN: if the vCPU
 * is found where it was time and again, it gets twice the time.
 */
static void wait_for_end_of_sti(struct vcpu_vmx *vmx)
{
	struct vmx_nmi *nmi = &vmx->nmi;
	unsigned long rip = kvm_rip_read(&vmx->vcpu);
	u64 injections = vmx->vcpu.stat.nmi_injections;
	int doublings;

	if (nmi->sti_rip != rip || nmi->sti_injections != injections)
		nmi->sti_tries = 0;
	else if (nmi->sti_tries < SHADOW_POLL_TRIES + SHADOW_POLL_DOUBLINGS)
		nmi->sti_tries++;
	nmi->sti_rip = rip;
	nmi->sti_injections = injections;
	doublings = max(nmi->sti_tries - SHADOW_POLL_TRIES, 0);

	exec_controls_setbit(vmx, CPU_BASED_INTR_WINDOW_EXITING);
	hrtimer_start(&nmi->timer, ns_to_ktime(SHADOW_POLL_NS << doublings),
		      HRTIMER_MODE_REL);
	trace_kvm_nmi_window(&vmx->vcpu, NMI_WINDOW_IRQ);
}

/**
 * vmx_enable_nmi_window() - make an exit when a pending NMI can be taken
 * @vcpu: the vCPU, its VMCS loaded
 *
 * Context: vCPU thread, interrupts on or off.
 */
void vmx_enable_nmi_window(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	/* Held until L2 exits, and nothing in L2 changes that. */
	if (vmx_nmi_exiting_alone(vcpu))
		return;

	if (!has_virtual_nmis(vmx)) {
		if (vmx->loaded_vmcs->soft_nmi_blocked) {
			soft_vnmi_wait(vmx);
			trace_kvm_nmi_window(vcpu, NMI_WINDOW_IRQ);
			return;
		}
	} else if (!(vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) &
		     GUEST_INTR_STATE_STI)) {
		exec_controls_setbit(vmx, CPU_BASED_NMI_WINDOW_EXITING);
		trace_kvm_nmi_window(vcpu, NMI_WINDOW_EXITING);
		return;
	}

	wait_for_end_of_sti(vmx);
}

/**
 * handle_nmi_window() - exit handler for the NMI window
 * @vcpu: the vCPU, its VMCS loaded
 *
 * For what vmx_nmi_exit() has not handled: L2, a guest being debugged, an SMI.
 *
 * Context: vCPU thread, preemption enabled.
 * Return: 1, stay in the kernel.
 */
int handle_nmi_window(struct kvm_vcpu *vcpu)
{
	exec_controls_clearbit(to_vmx(vcpu), CPU_BASED_NMI_WINDOW_EXITING);
	++vcpu->stat.nmi_window_exits;
	kvm_make_request(KVM_REQ_EVENT, vcpu);
	return 1;
}

/*
 * Did the exit come from an IRET that has dropped the blocking but did not
 * retire?  Bit 12 says so, in the interruption information of an exception or
 * in the exit qualification, unless it is undefined: the exit happened while an
 * event was delivered, or it is a double fault.  Some CPUs never set it for EPT
 * violations (errata AAK134, BY25); nothing can be done there.
 * (SDM, "Information for VM Exits Due to Vectored Events")
 */
static bool iret_did_not_retire(struct vcpu_vmx *vmx)
{
	u32 info, fault = 0;

	if (vmx->idt_vectoring_info & VECTORING_INFO_VALID_MASK)
		return false;

	switch (vmx_shared(vmx)->exit_reason.basic) {
	case EXIT_REASON_EXCEPTION_NMI:
		info = vmx_get_intr_info(&vmx->vcpu);
		if (!(info & INTR_INFO_VALID_MASK) ||
		    !(info & INTR_INFO_UNBLOCK_NMI) ||
		    (info & INTR_INFO_VECTOR_MASK) == DF_VECTOR)
			return false;
		fault = (info & INTR_INFO_VECTOR_MASK) |
			INTR_TYPE_HARD_EXCEPTION | INTR_INFO_VALID_MASK;
		break;
	case EXIT_REASON_EPT_VIOLATION:
	case EXIT_REASON_PML_FULL:
	case EXIT_REASON_NOTIFY:
		if (vmx_get_exit_qual(&vmx->vcpu) & INTR_INFO_UNBLOCK_NMI)
			break;
		return false;
	default:
		return false;
	}

	vmx->nmi.iret_exit = vmx->loaded_vmcs;
	vmx->nmi.iret_fault = fault;
	vmx->nmi.enter = true;
	return true;
}

/*
 * May an exit go straight back into the guest with the NMI that waits?  Not with
 * L1 or user space looking on, nor behind an SMI; and a frame in memory is not to
 * be written with interrupts off.
 */
static bool can_deliver(struct vcpu_vmx *vmx)
{
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	return !is_guest_mode(vcpu) && !vcpu->guest_debug &&
	       !vcpu->arch.smi_pending && !vmx->rmode.vm86_active &&
	       !vmx_shared(vmx)->emulation_required;
}

/**
 * vmx_nmi_reenter() - let the exit under way go straight back into the guest
 * @vmx: the vCPU, its VMCS loaded
 *
 * It has nothing to do but to look at an NMI that may wait.  The next entry calls
 * deliver(); where that is not possible common code injects the NMI.
 *
 * Context: vCPU thread, interrupts off.
 */
void vmx_nmi_reenter(struct vcpu_vmx *vmx)
{
	vmx->nmi.reenter = true;
	vmx->nmi.enter = true;
	if (vmx->vcpu.arch.nmi_pending && !can_deliver(vmx))
		kvm_make_request(KVM_REQ_EVENT, &vmx->vcpu);
}

/*
 * Where a physical NMI would be blocked by what is injected (soft_vnmi.c), or where
 * an NMI that is injected blocks nothing (L1 injects it, and has no virtual NMIs for
 * its L2), the NMI goes in as a hardware exception of vector 2: delivered just like
 * an NMI, it touches no blocking. vmx.c and user space only ever see the NMI.
 */
static void nmi_to_exception(struct vcpu_vmx *vmx)
{
	vmcs_write32(VM_ENTRY_INTR_INFO_FIELD, NMI_AS_EXCEPTION);
	vmx->nmi.as_exception = true;
	vmx->nmi.enter = true;
	vmx->loaded_vmcs->nmi_known_unmasked = false;

	/* Unlike an NMI, such an exception cannot be injected into a HLT. */
	if (kvm_hlt_in_guest(vmx->vcpu.kvm))
		vmcs_write32(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
}

/* Bit 12 of the IDT-vectoring information has no meaning. */
#define VECTORING_INFO_UNDEFINED	BIT(12)

/* An exception of vector 2 that L1 has injected as one stays one. */
static void exception_to_nmi(struct vcpu_vmx *vmx)
{
	vmx->nmi.as_exception = false;
	if ((vmx->idt_vectoring_info & ~VECTORING_INFO_UNDEFINED) == NMI_AS_EXCEPTION)
		vmx->idt_vectoring_info = NMI_EVENT;
	else
		vmx->nmi.from_l1 = false;
}

/**
 * vmx_nmi_exit() - look at NMI state behind an exit
 * @vmx: the vCPU, its VMCS loaded
 *
 * For exits of which vmx_nmi_after_exit() cannot tell that they have nothing to do
 * with NMIs.
 *
 * Context: vCPU thread, interrupts off, before the vectoring information is turned
 * back into events.
 */
void vmx_nmi_exit(struct vcpu_vmx *vmx)
{
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	if (vmx->nmi.as_exception)
		exception_to_nmi(vmx);

	if (!has_virtual_nmis(vmx)) {
		soft_vnmi_exit(vmx);
		return;
	}

	if (unlikely(iret_did_not_retire(vmx))) {
		vmx_set_blocking_bit(vmx, true);
		return;
	}

	if (vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI)
		return;

	vmx->loaded_vmcs->nmi_known_unmasked = true;

	/* An NMI on its way into the guest is going to be injected again. */
	if (trace_kvm_nmi_unblock_enabled() &&
	    !is_intr_type(vmx->idt_vectoring_info, INTR_TYPE_NMI_INTR))
		vmx_nmi_unblocked(vmx, NMI_UNBLOCK_IRET);

	if (vmx_shared(vmx)->exit_reason.basic == EXIT_REASON_NMI_WINDOW &&
	    can_deliver(vmx)) {
		exec_controls_clearbit(vmx, CPU_BASED_NMI_WINDOW_EXITING);
		++vcpu->stat.nmi_window_exits;
		vmx_nmi_reenter(vmx);
	}
}

/*
 * The last exit went straight back here, because it had nothing to do but to
 * open the window.  Nothing else can have become deliverable: whatever comes up
 * is a request, and common code looks at requests before it enters.  If it had
 * to, the NMI may be gone or something else be in front of it.
 */
static void deliver(struct vcpu_vmx *vmx)
{
	struct kvm_vcpu *vcpu = &vmx->vcpu;
	int allowed;

	vmx->nmi.reenter = false;
	if (!vcpu->arch.nmi_pending)
		return;

	allowed = !can_deliver(vmx) ||
		  (vmcs_read32(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID_MASK) ?
		  -EBUSY : vmx_nmi_allowed(vcpu, true);
	if (allowed < 0) {
		kvm_make_request(KVM_REQ_EVENT, vcpu);
		smp_send_reschedule(vcpu->cpu);
		return;
	}

	if (allowed) {
		--vcpu->arch.nmi_pending;
		vcpu->arch.nmi_injected = true;
		vmx_inject_nmi(vcpu);
	}
	if (vcpu->arch.nmi_pending)
		vmx_enable_nmi_window(vcpu);
}

/*
 * An IRET that faulted has unblocked NMIs for good if its fault goes to the
 * guest; the blocking that vmx_nmi_exit() put back is right only for an IRET
 * that runs again.
 */
static void look_at_iret_fault(struct vcpu_vmx *vmx)
{
	u32 event = vmcs_read32(VM_ENTRY_INTR_INFO_FIELD);

	if (vmx->nmi.iret_exit == vmx->loaded_vmcs && vmx->nmi.iret_fault &&
	    (event & ~INTR_INFO_DELIVER_CODE_MASK) == vmx->nmi.iret_fault) {
		vmx_set_blocking_bit(vmx, false);
		vmx_nmi_unblocked(vmx, NMI_UNBLOCK_FAULT);
	}
	vmx->nmi.iret_exit = NULL;
}

/*
 * An NMI whose delivery was interrupted has not been injected again. Either it was
 * taken back, or the delivery has raised an exception, which goes in instead: the
 * NMI counts as taken then, its handler does not run, and NMIs are blocked.
 */
static void look_at_aborted_delivery(struct vcpu_vmx *vmx)
{
	u32 event = vmcs_read32(VM_ENTRY_INTR_INFO_FIELD);

	vmx->nmi.redelivery = false;
	if (vmx->vcpu.arch.nmi_injected && !vmx->nmi.from_l1 &&
	    is_intr_type(event, INTR_TYPE_HARD_EXCEPTION)) {
		if (has_virtual_nmis(vmx))
			vmx_set_blocking_bit(vmx, true);
		else
			soft_vnmi_inject(vmx);
	}
	vmx->nmi.from_l1 = false;
}

/*
 * On kernels for debugging: between an exit and the next entry the VMCS's blocking
 * bit is clear without virtual NMIs.  With them what is
 * remembered of that bit should be true, but Bochs keeps it set across an entry
 * that clears it.
 */
static void assert_at_rest(struct vcpu_vmx *vmx)
{
	struct loaded_vmcs *vmcs = vmx->loaded_vmcs;

	if (!IS_ENABLED(CONFIG_PROVE_LOCKING))
		return;

	lockdep_assert_irqs_disabled();

	if (has_virtual_nmis(vmx))
		return;

	WARN_ON_ONCE(vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) &
		     GUEST_INTR_STATE_NMI);
	WARN_ON_ONCE(vmcs->soft_nmi_blocked && vmcs->nmi_known_unmasked);
}

/**
 * vmx_nmi_enter() - prepare NMI state for an entry
 * @vmx: the vCPU, its VMCS loaded
 *
 * Context: vCPU thread, interrupts off, vmx->nmi.enter is set.
 */
void vmx_nmi_enter(struct vcpu_vmx *vmx)
{
	assert_at_rest(vmx);
	vmx->nmi.enter = false;

	/* The last entry failed: nothing has been taken back. */
	return_breakpoint_take_back(vmx);
	if (unlikely(vmx->nmi.as_exception)) {
		vmx->nmi.as_exception = false;
		if (vmcs_read32(VM_ENTRY_INTR_INFO_FIELD) == NMI_AS_EXCEPTION)
			vmcs_write32(VM_ENTRY_INTR_INFO_FIELD, NMI_EVENT);
	}

	if (vmx->nmi.reenter)
		deliver(vmx);
	if (unlikely(vmx->nmi.redelivery))
		look_at_aborted_delivery(vmx);
	if (vmx->nmi.iret_exit)
		look_at_iret_fault(vmx);
	if (!has_virtual_nmis(vmx))
		soft_vnmi_enter(vmx);

	if ((!has_virtual_nmis(vmx) || vmx->nmi.from_l1) && !vmx_shared(vmx)->emulation_required &&
	    vmcs_read32(VM_ENTRY_INTR_INFO_FIELD) == NMI_EVENT)
		nmi_to_exception(vmx);
}

/**
 * vmx_nmi_delivery_aborted() - an NMI did not arrive
 * @vcpu: the vCPU, its VMCS loaded
 *
 * An exit interrupted the delivery, or the entry that was to deliver it was
 * cancelled.  The NMI is injected again; VM entry refuses to inject an NMI
 * while NMIs are blocked, so blocking must not outlive the failed attempt.  An NMI
 * that blocks nothing leaves blocking as it is.
 *
 * Context: vCPU thread, interrupts on or off.
 */
void vmx_nmi_delivery_aborted(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vcpu->arch.nmi_injected = true;
	vmx->nmi.redelivery = true;
	vmx->nmi.enter = true;
	if (vmx->nmi.from_l1)
		return;

	if (has_virtual_nmis(vmx)) {
		vmx_set_blocking_bit(vmx, false);
	} else {
		vmx->loaded_vmcs->soft_nmi_blocked = false;
		vmx->nmi.ret.armed = false;
	}
}

/**
 * vmx_nmi_took_task_gate() - an NMI is delivered as a task switch
 * @vcpu: the vCPU, its VMCS loaded
 *
 * The NMI goes through a task gate: software is going to deliver it, and blocks
 * NMIs.  The vCPU still is where the NMI interrupts it.
 *
 * Context: vCPU thread, preemption enabled.
 */
void vmx_nmi_took_task_gate(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vcpu->arch.nmi_injected = false;
	vmx->nmi.redelivery = false;
	if (vmx->nmi.from_l1)
		vmx->nmi.from_l1 = false;
	else if (has_virtual_nmis(vmx))
		vmx_set_blocking_bit(vmx, true);
	else
		soft_vnmi_inject(vmx);
}

/**
 * vmx_nmi_host_event() - exit handler for what belongs to the host
 * @vcpu: the vCPU, its VMCS loaded
 *
 * That is the host's own NMIs and machine checks, which have been handled.  Some
 * CPUs report the blocking of physical NMIs with such an exit; without virtual NMIs
 * the bit would block them in the guest from now on.
 *
 * Context: vCPU thread, preemption enabled.
 * Return: 1, stay in the kernel.
 */
int vmx_nmi_host_event(struct kvm_vcpu *vcpu)
{
	if (!has_virtual_nmis(to_vmx(vcpu)))
		vmcs_clear_bits(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
	return 1;
}

/*
 * Hard interrupt context.  The thread looks at the pending NMI again and
 * decides; a vCPU that is halted has to be woken for that.
 */
static enum hrtimer_restart look_again(struct hrtimer *timer)
{
	struct vcpu_vmx *vmx = container_of(timer, struct vcpu_vmx, nmi.timer);

	kvm_make_request(KVM_REQ_EVENT, &vmx->vcpu);
	kvm_vcpu_kick(&vmx->vcpu);
	return HRTIMER_NORESTART;
}

/*
 * Common code ends a HLT for the mere request to look at new NMIs, before it knows
 * whether NMIs are blocked; a CPU sleeps on if they are. So look here, where the
 * thread of a halted vCPU comes by: when KVM_RUN begins, and when it wakes. Like
 * common code's: one more NMI than is in service, and one in service at most.
 */
void vmx_nmi_take_requested(struct kvm_vcpu *vcpu)
{
	unsigned int limit = 2;

	if (!kvm_check_request(KVM_REQ_NMI, vcpu))
		return;

	if (vmx_get_nmi_mask(vcpu) || vcpu->arch.nmi_injected)
		limit = 1;
	vcpu->arch.nmi_pending = min(vcpu->arch.nmi_pending +
				     atomic_xchg(&vcpu->arch.nmi_queued, 0), limit);
	kvm_make_request(KVM_REQ_EVENT, vcpu);
}

/**
 * vmx_nmi_vcpu_load() - the vCPU's thread has got the CPU
 * @vcpu: the vCPU, its VMCS loaded
 *
 * Context: vCPU thread, preemption disabled.
 */
void vmx_nmi_vcpu_load(struct kvm_vcpu *vcpu)
{
	if (likely(vcpu->arch.mp_state != KVM_MP_STATE_HALTED))
		return;

	/* Asleep in HLT is the vCPU's own time, what was before KVM_RUN is not. */
	if (!vcpu->stat.generic.blocking)
		to_vmx(vcpu)->nmi.mark = ktime_get();
	vmx_nmi_take_requested(vcpu);
}

/**
 * vmx_nmi_vcpu_put() - the vCPU's thread loses the CPU
 * @vcpu: the vCPU, its VMCS loaded
 *
 * Context: vCPU thread, preemption disabled.
 */
void vmx_nmi_vcpu_put(struct kvm_vcpu *vcpu)
{
	if (unlikely(vcpu->arch.mp_state == KVM_MP_STATE_HALTED) &&
	    to_vmx(vcpu)->nmi.waiting)
		soft_vnmi_count_time(to_vmx(vcpu));
}

/**
 * vmx_nmi_create() - set up a new vCPU
 * @vcpu: the vCPU
 *
 * Context: vCPU thread, may sleep.
 */
void vmx_nmi_create(struct kvm_vcpu *vcpu)
{
	struct vmx_nmi *nmi = &to_vmx(vcpu)->nmi;

	hrtimer_setup(&nmi->timer, look_again, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL);
	return_breakpoint_init(&nmi->ret);
	nmi_stats_create(vcpu);
}

/**
 * vmx_nmi_free() - a vCPU goes away
 * @vcpu: the vCPU
 *
 * Context: vCPU thread, may sleep.
 */
void vmx_nmi_free(struct kvm_vcpu *vcpu)
{
	hrtimer_cancel(&to_vmx(vcpu)->nmi.timer);
	nmi_stats_free(vcpu);
}

/**
 * vmx_nmi_reset() - INIT or RESET of a vCPU
 * @vcpu: the vCPU, its VMCS loaded
 *
 * Context: vCPU thread, preemption enabled, vmx.c is about to clear the
 * interruptibility state.
 */
void vmx_nmi_reset(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vmx->nmi.iret_exit = NULL;
	vmx->nmi.reenter = false;
	vmx->nmi.redelivery = false;
	vmx->nmi.from_l1 = false;
	if (!vmx_get_nmi_mask(vcpu))
		vmx->nmi.since = 0;	/* ended unseen */
	vmx->loaded_vmcs->nmi_known_unmasked = false;
	if (has_virtual_nmis(vmx))
		vmx_nmi_unblocked(vmx, NMI_UNBLOCK_RESET);
	else
		soft_vnmi_unblock(vmx, NMI_UNBLOCK_RESET);
}
