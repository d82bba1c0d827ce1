// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest NMIs on Intel CPUs: the dispatcher.
 *
 * An NMI that common code has made pending (vcpu->arch.nmi_pending) is injected
 * at VM entry as soon as vmx_nmi_allowed() says so.  From then on NMIs are
 * blocked until the guest's IRET.  An NMI that arrives meanwhile stays pending
 * and asks for a window: an exit at the first instruction boundary at which it
 * can be taken.
 *
 * How the end of blocking is found is a property of the VMCS: virtual_nmis.c where
 * the CPU tracks it, soft_vnmi.c elsewhere.  With vnmi=0 an L1 hypervisor may still run
 * its L2 with virtual NMIs.  What interrupt shadows hold back waits in next_boundary.c,
 * NMIs that cross from L1 to L2 or back are nested_nmi.c's, and host NMIs are vmx.c's
 * business.  The counterpart for AMD is svm/nmi.c.
 *
 * What names a vCPU runs in its thread with its VMCS loaded, except vmx_nmi_create() and
 * vmx_nmi_free(); vmx_nmi_enter() and vmx_nmi_exit() run with interrupts off.
 */
#include <linux/kvm_host.h>
#include <trace/events/ipi.h>

#include "x86.h"
#include "trace.h"
#include "vmx.h"
#include "nmi.h"
#include "nested_nmi.h"
#include "../nmi_request.h"

#define CREATE_TRACE_POINTS
#include "../nmi_trace.h"
#include "nmi_inline.h"

/*
 * STI blocking may or may not keep the CPU from accepting an NMI at VM entry,
 * depending on the model, so it holds NMIs back like MOV SS blocking does.
 */
static __always_inline bool blocked_here(struct vcpu_vmx *vmx)
{
	struct loaded_vmcs *vmcs = vmx->loaded_vmcs;

	if (!vmcs->nmi_known_unmasked &&
	    (has_virtual_nmis(vmcs) ? virtual_nmis_blocked(vmx) : soft_vnmi_blocked(vmx)))
		return true;

	return (vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) &
		(GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)) ||
	       (vmx_shared(vmx)->exit_reason.basic == EXIT_REASON_MONITOR_TRAP_FLAG &&
		next_boundary_has_trap());
}

/*
 * Is something in the way of an NMI?  The exit to L1 is not held back by what blocks
 * NMIs within L2, only by what blocks them for L1.
 */
bool vmx_nmi_blocked(struct kvm_vcpu *vcpu)
{
	if (is_guest_mode(vcpu) && nested_exit_on_nmi(vcpu))
		return nmi_exit_is_blocked(vcpu);

	return blocked_here(to_vmx(vcpu));
}

/* 1: inject, 0: blocked, wait for a window, -EBUSY: exit at once and ask again. */
int vmx_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection)
{
	if (nested_run_pending(to_vmx(vcpu)))
		return -EBUSY;

	if (is_guest_mode(vcpu) && nested_exit_on_nmi(vcpu)) {
		if (nmi_exit_is_blocked(vcpu))
			return 0;
		return for_injection ? -EBUSY : 1;
	}

	return !blocked_here(to_vmx(vcpu));
}

bool vmx_get_nmi_mask(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (l2_has_nmi_exiting_alone(vcpu))
		return nmi_exit_is_blocked(vcpu);

	return has_virtual_nmis(vmx->loaded_vmcs) ? virtual_nmis_blocked(vmx) :
						    vmx->loaded_vmcs->soft_nmi_blocked;
}

/*
 * Software knows better than the CPU: user space restored a state, SMM was
 * entered or left, the emulator ran an IRET or switched tasks.
 */
void vmx_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	/* Taken away by user space, or by the exit to L1. */
	if (!nmi_is_waiting(vcpu))
		vmx->nmi.record.waiting = 0;

	/* Writing back what was read changes nothing, the clocks included. */
	if (masked == vmx_get_nmi_mask(vcpu))
		return;

	/* That IRET has been emulated to its end. */
	if (!masked)
		vmx->nmi.iret_exit = NULL;

	/* No window opens where the CPU does not run: emulated real mode. */
	if (!masked && vcpu->arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, vcpu);

	if (l2_has_nmi_exiting_alone(vcpu))
		say_blocked(get_vmcs12(vcpu), masked);
	else
		vmx_nmi_block(vmx, masked);
}

/* On the loaded VMCS; @blocked is not what it is now. */
void vmx_nmi_block(struct vcpu_vmx *vmx, bool blocked)
{
	if (has_virtual_nmis(vmx->loaded_vmcs)) {
		if (blocked)
			virtual_nmis_block(vmx);
		else
			virtual_nmis_unblock(vmx, NMI_UNBLOCK_RESTORED);
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

/*
 * Where real mode runs as virtual-8086 the frame is written to guest memory, and so
 * interrupts are on.
 */
static __always_inline void inject(struct vcpu_vmx *vmx)
{
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	if (trace_kvm_nmi_inject_enabled())
		trace_injection(vcpu);

	/* An attempt that was interrupted has been counted. */
	if (unlikely(vmx->nmi.redelivery)) {
		vmx->nmi.redelivery = false;
		vmx->nmi.called_off = false;
	} else {
		++vcpu->stat.nmi_injections;
		vmx->nmi.since = rdtsc();
		vmx->nmi.record.waiting = 0;
	}

	/* Of an entry into L2 that KVM has refused: what is injected now is L1's own. */
	if (unlikely(vmx->nmi.from_l1) && !is_guest_mode(vcpu))
		vmx->nmi.from_l1 = false;

	if (unlikely(vmx->nmi.from_l1))
		vmx->nmi.enter = true;	/* blocks nothing; vmx_nmi_enter() sees to that */
	else if (has_virtual_nmis(vmx->loaded_vmcs))
		virtual_nmis_inject(vmx);
	else
		soft_vnmi_inject(vmx);

	/*
	 * The frame is there, but common code still has the NMI as injected.  Writing
	 * RFLAGS there raises KVM_REQ_EVENT, which calls this entry off, and so it is not
	 * injected a second time.
	 */
	if (vmx->rmode.vm86_active) {
		kvm_inject_realmode_interrupt(vcpu, NMI_VECTOR, 0);
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

void vmx_inject_nmi(struct kvm_vcpu *vcpu)
{
	inject(to_vmx(vcpu));
}

/* Make an exit when a pending NMI can be taken. */
void vmx_enable_nmi_window(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	/* Held until L2 exits, and nothing in L2 changes that. */
	if (l2_has_nmi_exiting_alone(vcpu))
		return;

	if (has_virtual_nmis(vmx->loaded_vmcs) ? virtual_nmis_wait(vmx) : soft_vnmi_wait(vmx))
		return;

	next_boundary_wait(vmx);
}

/*
 * Exit handler: of L2, where nothing but a shadow has held the NMI back, or where an exit
 * before this one has shown that NMIs are open.
 */
int handle_nmi_window(struct kvm_vcpu *vcpu)
{
	virtual_nmis_take_window(to_vmx(vcpu));
	kvm_make_request(KVM_REQ_EVENT, vcpu);
	return 1;
}

/*
 * Where a physical NMI would be blocked by what is injected (soft_vnmi.c), or where
 * an NMI that is injected blocks nothing (L1 injects it, and has no virtual NMIs for
 * its L2), the CPU is given a hardware exception of vector 2: delivered just like
 * an NMI, it touches no blocking.  vmx.c and user space only ever see the NMI.
 */
static void nmi_to_exception(struct vcpu_vmx *vmx)
{
	vmcs_write32(VM_ENTRY_INTR_INFO_FIELD, NMI_AS_EXCEPTION);
	vmx->nmi.as_exception = true;
	vmx->nmi.enter = true;
	vmx->nmi.exit = true;

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

/*
 * An NMI whose delivery was interrupted has not been injected again. Either it was
 * taken back, or the delivery has raised an exception, which goes in instead: the
 * NMI counts as taken then, its handler does not run, and NMIs are blocked. If its
 * delivery had not begun the exception is user space's, and the NMI waits.
 */
static void look_at_aborted_delivery(struct vcpu_vmx *vmx)
{
	u32 event = vmcs_read32(VM_ENTRY_INTR_INFO_FIELD);
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	if (vcpu->arch.nmi_injected && vmx->nmi.called_off) {
		nmi_put_back(vcpu);
	} else if (vcpu->arch.nmi_injected && !vmx->nmi.from_l1 &&
		   is_intr_type(event, INTR_TYPE_HARD_EXCEPTION)) {
		if (has_virtual_nmis(vmx->loaded_vmcs)) {
			virtual_nmis_block(vmx);
		} else {
			soft_vnmi_inject(vmx);
			/* As in the frame of any fault. */
			vmx->nmi.ret.silent = true;
		}
	}
	vmx->nmi.redelivery = false;
	vmx->nmi.called_off = false;
	vmx->nmi.from_l1 = false;
}

/*
 * The entry was called off.  Common code gets back what was to be injected, and only
 * that: it forgets an NMI that the exception has taken the place of.
 */
void vmx_nmi_cancel(struct kvm_vcpu *vcpu)
{
	u32 event = vmcs_read32(VM_ENTRY_INTR_INFO_FIELD);
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (event == NMI_EVENT)
		vmx->nmi.called_off = !vmx->nmi.from_l1;
	else if (unlikely(vmx->nmi.redelivery) && (event & INTR_INFO_VALID_MASK))
		look_at_aborted_delivery(vmx);
}

/*
 * On kernels for debugging: between an exit and the next entry the VMCS's blocking
 * bit is clear without virtual NMIs.  With them what is remembered of that bit should
 * be true, but Bochs keeps it set across an entry that clears it.
 */
static void assert_at_rest(struct vcpu_vmx *vmx)
{
	struct loaded_vmcs *vmcs = vmx->loaded_vmcs;

	if (!IS_ENABLED(CONFIG_PROVE_LOCKING))
		return;

	lockdep_assert_irqs_disabled();

	if (has_virtual_nmis(vmcs))
		return;

	WARN_ON_ONCE(vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) &
		     GUEST_INTR_STATE_NMI);
	WARN_ON_ONCE(vmcs->soft_nmi_blocked && vmcs->nmi_known_unmasked);
}

/* Before an entry, if vmx->nmi.enter is set. */
void vmx_nmi_enter(struct vcpu_vmx *vmx)
{
	bool soft = !has_virtual_nmis(vmx->loaded_vmcs);
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	assert_at_rest(vmx);
	vmx->nmi.enter = false;
	vmx->nmi.owned = false;

	/* The last entry failed: nothing has been taken back. */
	if (unlikely(vmx->nmi.ret.slot != SLOT_NOT_LENT))
		return_breakpoint_take_back(vmx);
	if (unlikely(vmx->nmi.as_exception)) {
		vmx->nmi.as_exception = false;
		if (vmcs_read32(VM_ENTRY_INTR_INFO_FIELD) == NMI_AS_EXCEPTION)
			vmcs_write32(VM_ENTRY_INTR_INFO_FIELD, NMI_EVENT);
	}

	if (unlikely(vmx->nmi.redelivery)) {
		look_at_aborted_delivery(vmx);
		/* Requests have been looked at: make an exit as soon as the event is in. */
		if (kvm_test_request(KVM_REQ_EVENT, vcpu))
			smp_send_reschedule(vcpu->cpu);
	}
	if (soft)
		soft_vnmi_enter(vmx);
	else if (unlikely(vmx->nmi.iret_exit))
		virtual_nmis_enter(vmx);
	if (vmx->nmi.next.step)
		next_boundary_enter(vmx);

	if ((soft || vmx->nmi.from_l1) && !vmx_shared(vmx)->emulation_required &&
	    vmcs_read32(VM_ENTRY_INTR_INFO_FIELD) == NMI_EVENT)
		nmi_to_exception(vmx);
}

/*
 * May an exit that was for nothing but NMIs go straight back into the guest, by
 * vmx_vcpu_run() itself?  Only into L1, with no SMM about, no bus lock that user space is
 * to hear of, and nothing for common code to look at: guest debugging and an SMI have
 * their say before an NMI.  Not where that may sleep: where software writes the frame
 * (virtual-8086), or with two NMIs, the second of which has to wait (soft_vnmi_wait()).
 */
static __always_inline bool may_reenter(struct vcpu_vmx *vmx)
{
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	return !is_guest_mode(vcpu) && !vcpu->guest_debug && !is_smm(vcpu) &&
	       !vcpu->arch.smi_pending && !vmx->rmode.vm86_active &&
	       !vmx_shared(vmx)->exit_reason.bus_lock_detected &&
	       vcpu->arch.nmi_pending < 2 && !kvm_request_pending(vcpu);
}

/*
 * The window has opened, or seemed to.  Nothing else can have become deliverable at this
 * boundary without a request.
 */
static __always_inline void deliver(struct vcpu_vmx *vmx)
{
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	if (blocked_here(vmx)) {
		vmx_enable_nmi_window(vcpu);
		return;
	}

	--vcpu->arch.nmi_pending;
	vcpu->arch.nmi_injected = true;
	inject(vmx);
}

/*
 * Straight back, with interrupts off as they are, to where vmx_vcpu_run() begins to load
 * what each exit takes away: the guest's XSAVE state, PT, the lists of MSRs, the
 * preemption timer.  What it loads before that cannot have changed since.  Nothing is
 * missed: whatever comes up for this vCPU from now on is a request with a kick, which like
 * any interrupt of the host stays pending until the entry, and makes the very next exit; a
 * posted interrupt is the CPU's to find then.  What was injected has arrived, as
 * vmx_complete_interrupts() would see.
 */
static __always_inline bool reenter(struct vcpu_vmx *vmx)
{
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	if (!may_reenter(vmx))
		return false;

	++vcpu->stat.exits;
	vcpu->arch.nmi_injected = false;
	kvm_clear_exception_queue(vcpu);
	kvm_clear_interrupt_queue(vcpu);
	if (vcpu->arch.nmi_pending)
		deliver(vmx);
	if (vmx->nmi.enter)
		vmx_nmi_enter(vmx);
	trace_kvm_entry(vcpu, false);
	return true;
}

/* The exit was for nothing else: its handler has nothing to do. */
static bool own_exit(struct vcpu_vmx *vmx)
{
	if (reenter(vmx))
		return true;

	vmx->nmi.owned = true;
	vmx->nmi.enter = true;
	if (vmx->vcpu.arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, &vmx->vcpu);
	return false;
}

/* What the entry had lent, or was to do. */
static void take_back(struct vcpu_vmx *vmx)
{
	vmx->nmi.exit = false;
	if (unlikely(vmx->nmi.entry_opens)) {
		vmx->nmi.entry_opens = false;
		if (is_guest_mode(&vmx->vcpu))
			vmx_nmi_report_unblock(vmx, NMI_UNBLOCK_RESTORED);
	}
	if (vmx->nmi.as_exception)
		exception_to_nmi(vmx);
	if (vmx->nmi.next.step)
		next_boundary_exit(vmx);
}

/*
 * After an exit, before the vectoring information is turned back into events; called
 * only if vmx_nmi_exit_due().  Tells if there is nothing to do but to enter the guest
 * again.
 */
bool vmx_nmi_exit(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);
	bool again;

	if (vmx->nmi.exit)
		take_back(vmx);

	if (has_virtual_nmis(vmx->loaded_vmcs))
		return virtual_nmis_exit(vmx) && own_exit(vmx);

	again = soft_vnmi_exit(vmx) && own_exit(vmx);
	vmx->nmi.ret.here = false;
	return again;
}

/*
 * An exit interrupted the delivery of an NMI, or the entry that was to deliver it was
 * cancelled.  The NMI is injected again, so blocking must not outlive the failed
 * attempt.  An NMI that blocks nothing leaves blocking as it is.
 */
void vmx_nmi_delivery_aborted(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vcpu->arch.nmi_injected = true;
	vmx->nmi.redelivery = true;
	vmx->nmi.enter = true;
	if (vmx->nmi.from_l1)
		return;

	/* VM entry refuses to inject an NMI while NMIs are blocked. */
	if (has_virtual_nmis(vmx->loaded_vmcs))
		virtual_nmis_set_blocking(vmx, false);
	else
		soft_vnmi_aborted(vmx);
}

/*
 * An NMI goes through a task gate: software is going to deliver it, and blocks
 * NMIs.  The vCPU still is where the NMI interrupts it.
 */
void vmx_nmi_took_task_gate(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vcpu->arch.nmi_injected = false;
	vmx->nmi.redelivery = false;
	if (vmx->nmi.from_l1)
		vmx->nmi.from_l1 = false;
	else if (has_virtual_nmis(vmx->loaded_vmcs))
		virtual_nmis_block(vmx);
	else
		soft_vnmi_inject(vmx);
}

/*
 * Exit handler for the host's own NMIs and machine checks, which have been handled.
 * Some CPUs report the blocking of physical NMIs with such an exit; without virtual
 * NMIs the bit would block them in the guest from now on.
 */
int vmx_nmi_host_event(struct kvm_vcpu *vcpu)
{
	if (!has_virtual_nmis(to_vmx(vcpu)->loaded_vmcs))
		vmcs_clear_bits(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
	return 1;
}

void vmx_nmi_take_requested(struct kvm_vcpu *vcpu)
{
	if (kvm_check_request(KVM_REQ_NMI, vcpu))
		nmi_take_requested(vcpu, vmx_get_nmi_mask(vcpu));
}

void vmx_nmi_vcpu_load(struct kvm_vcpu *vcpu)
{
	if (likely(vcpu->arch.mp_state != KVM_MP_STATE_HALTED))
		return;

	/* Asleep in HLT is the vCPU's own time, what was before KVM_RUN is not. */
	if (!vcpu->stat.generic.blocking)
		to_vmx(vcpu)->nmi.mark = ktime_get();
	if (!nmi_thread_was_preempted(vcpu))
		vmx_nmi_take_requested(vcpu);
}

void vmx_nmi_vcpu_put(struct kvm_vcpu *vcpu)
{
	if (unlikely(vcpu->arch.mp_state == KVM_MP_STATE_HALTED) &&
	    to_vmx(vcpu)->nmi.waiting)
		soft_vnmi_count_time(to_vmx(vcpu));
}

void vmx_nmi_create(struct kvm_vcpu *vcpu)
{
	struct vmx_nmi *nmi = &to_vmx(vcpu)->nmi;

	next_boundary_init(nmi);
	return_breakpoint_init(&nmi->ret);
	nmi_debugfs_create(vcpu);
}

void vmx_nmi_free(struct kvm_vcpu *vcpu)
{
	hrtimer_cancel(&to_vmx(vcpu)->nmi.timer);
}

/* INIT or RESET; vmx.c is about to clear the interruptibility state. */
void vmx_nmi_reset(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vmx->nmi.iret_exit = NULL;
	vmx->nmi.owned = false;
	vmx->nmi.redelivery = false;
	vmx->nmi.called_off = false;
	vmx->nmi.from_l1 = false;
	vmx->nmi.record.waiting = 0;
	if (!vmx_get_nmi_mask(vcpu))
		vmx->loaded_vmcs->nmi_known_unmasked = has_virtual_nmis(vmx->loaded_vmcs);
	else if (has_virtual_nmis(vmx->loaded_vmcs))
		virtual_nmis_unblock(vmx, NMI_UNBLOCK_RESET);
	else
		soft_vnmi_unblock(vmx, NMI_UNBLOCK_RESET);
}
