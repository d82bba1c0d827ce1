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
 * All functions run in the vCPU's thread with its VMCS loaded, those called
 * around VM entry with interrupts off.  Host NMIs are vmx.c's business; which
 * NMI makes L2 exit is decided in nested.c.  The counterpart for AMD is
 * svm/nmi.c, where the CPU knows nothing of NMI blocking.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>

#include "x86.h"
#include "nested.h"
#include "vmx.h"
#include "nmi.h"

#define CREATE_TRACE_POINTS
#include "../nmi_trace.h"

/* How long a wait for the next instruction boundary may last at most. */
#define SHADOW_POLL_NS	(20 * NSEC_PER_USEC)

/*
 * NMI-window exiting is a capability of its own; asking for it on a CPU without
 * it would make VM entry fail.
 */
static bool has_virtual_nmis(struct vcpu_vmx *vmx)
{
	return (pin_controls_get(vmx) & PIN_BASED_VIRTUAL_NMIS) &&
	       cpu_has_virtual_nmis();
}

/* Every end of blocking comes through here.  @cause: enum nmi_unblock. */
void vmx_nmi_unblocked(struct vcpu_vmx *vmx, int cause)
{
	if (!vmx->nmi.since)
		return;

	trace_kvm_nmi_unblock(vmx->vcpu.vcpu_id, cause, vmx->nmi.since);
	vmx->nmi.since = 0;
}

/* Blocking without virtual NMIs or with them: only here is the bit written. */
static void set_blocking_bit(struct vcpu_vmx *vmx, bool blocked)
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
bool vmx_nmi_blocked(struct kvm_vcpu *vcpu)
{
	u32 blocking = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS;

	/* The exit to L1 is not held back by what blocks NMIs within L2. */
	if (is_guest_mode(vcpu) && nested_exit_on_nmi(vcpu))
		return false;

	if (has_virtual_nmis(to_vmx(vcpu)))
		blocking |= GUEST_INTR_STATE_NMI;
	else if (soft_vnmi_blocked(vcpu))
		return true;

	return vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & blocking;
}

/* Returns 1: inject, 0: blocked, wait for a window, -EBUSY: exit at once. */
int vmx_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection)
{
	bool to_l1 = is_guest_mode(vcpu) && nested_exit_on_nmi(vcpu);

	if (to_vmx(vcpu)->nested.nested_run_pending || (for_injection && to_l1))
		return -EBUSY;

	return vmx_nmi_blocked(vcpu) ? 0 : 1;
}

bool vmx_get_nmi_mask(struct kvm_vcpu *vcpu)
{
	struct loaded_vmcs *vmcs = to_vmx(vcpu)->loaded_vmcs;
	u32 state;

	if (!has_virtual_nmis(to_vmx(vcpu)))
		return vmcs->soft_nmi_blocked;

	if (vmcs->nmi_known_unmasked)
		return false;

	state = vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI;
	vmcs->nmi_known_unmasked = !state;
	return state;
}

/*
 * Software knows better than the CPU: user space restored a state, SMM was
 * entered or left, the emulator ran an IRET or switched tasks.
 */
void vmx_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	/* Writing back what was read changes nothing, the clocks included. */
	if (masked == vmx_get_nmi_mask(vcpu))
		return;

	if (has_virtual_nmis(vmx)) {
		set_blocking_bit(vmx, masked);
		if (masked)
			vmx->nmi.since = rdtsc();
		else
			vmx_nmi_unblocked(vmx, NMI_UNBLOCK_RESTORED);
	} else if (masked) {
		soft_vnmi_block(vmx);
	} else {
		soft_vnmi_unblock(vmx, NMI_UNBLOCK_RESTORED);
	}
}

void vmx_inject_nmi(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (trace_kvm_nmi_inject_enabled())
		trace_kvm_nmi_inject(vcpu->vcpu_id, kvm_rip_read(vcpu),
				     kvm_rsp_read(vcpu), kvm_get_rflags(vcpu),
				     vmx_get_cpl(vcpu),
				     is_guest_mode(vcpu));

	++vcpu->stat.nmi_injections;
	vmx->nmi.since = rdtsc();
	vmx->loaded_vmcs->nmi_known_unmasked = false;

	if (!has_virtual_nmis(vmx))
		soft_vnmi_inject(vmx);

	if (vmx->rmode.vm86_active) {
		/*
		 * Real mode run as virtual-8086: the frame is pushed by
		 * software, so nothing but software can block NMIs.
		 */
		kvm_inject_realmode_interrupt(vcpu, NMI_VECTOR, 0);
		if (has_virtual_nmis(vmx))
			set_blocking_bit(vmx, true);
		return;
	}

	vmcs_write32(VM_ENTRY_INTR_INFO_FIELD,
		     NMI_VECTOR | INTR_TYPE_NMI_INTR | INTR_INFO_VALID_MASK);
	vmx_clear_hlt(vcpu);
}

/*
 * The CPU may open an NMI window right after VM entry although STI still blocks
 * injection, over and over without an instruction in between.  The interrupt
 * window has no such freedom, but "sti; cli" closes it before it opens: hence
 * the timer, which makes an exit behind the shadow in any case.
 */
static void wait_for_end_of_sti(struct vcpu_vmx *vmx)
{
	exec_controls_setbit(vmx, CPU_BASED_INTR_WINDOW_EXITING);
	hrtimer_start(&vmx->nmi.timer, ns_to_ktime(SHADOW_POLL_NS),
		      HRTIMER_MODE_REL);
	trace_kvm_nmi_window(vmx->vcpu.vcpu_id, NMI_WINDOW_IRQ);
}

void vmx_enable_nmi_window(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (!has_virtual_nmis(vmx)) {
		if (vmx->loaded_vmcs->soft_nmi_blocked) {
			soft_vnmi_wait(vmx);
			trace_kvm_nmi_window(vcpu->vcpu_id, NMI_WINDOW_IRQ);
			return;
		}
	} else if (!(vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) &
		     GUEST_INTR_STATE_STI)) {
		exec_controls_setbit(vmx, CPU_BASED_NMI_WINDOW_EXITING);
		trace_kvm_nmi_window(vcpu->vcpu_id, NMI_WINDOW_EXITING);
		return;
	}

	wait_for_end_of_sti(vmx);
}

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
	u32 info;

	if (vmx->idt_vectoring_info & VECTORING_INFO_VALID_MASK)
		return false;

	switch (vmx->exit_reason.basic) {
	case EXIT_REASON_EXCEPTION_NMI:
		info = vmx_get_intr_info(&vmx->vcpu);
		if (!(info & INTR_INFO_VALID_MASK) ||
		    !(info & INTR_INFO_UNBLOCK_NMI) ||
		    (info & INTR_INFO_VECTOR_MASK) == DF_VECTOR)
			return false;
		vmx->nmi.iret_fault = vmx->loaded_vmcs;
		vmx->nmi.iret_fault_vector = info & INTR_INFO_VECTOR_MASK;
		return true;
	case EXIT_REASON_EPT_VIOLATION:
	case EXIT_REASON_PML_FULL:
	case EXIT_REASON_NOTIFY:
		return vmx_get_exit_qual(&vmx->vcpu) & INTR_INFO_UNBLOCK_NMI;
	default:
		return false;
	}
}

/*
 * After each exit unless NMIs are known to be open, before the exit's vectoring
 * information is turned back into events.
 */
void vmx_nmi_exit(struct vcpu_vmx *vmx)
{
	if (!has_virtual_nmis(vmx)) {
		soft_vnmi_exit(vmx);
		return;
	}

	vmx->nmi.iret_fault = NULL;
	if (iret_did_not_retire(vmx)) {
		set_blocking_bit(vmx, true);
		return;
	}

	if (vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI)
		return;

	vmx->loaded_vmcs->nmi_known_unmasked = true;

	/* An NMI on its way into the guest is going to be injected again. */
	if (is_intr_type(vmx->idt_vectoring_info, INTR_TYPE_NMI_INTR))
		return;

	vmx_nmi_unblocked(vmx, NMI_UNBLOCK_IRET);
}

/*
 * Before each entry unless NMIs are known to be open.  An IRET that faulted has
 * unblocked NMIs for good if its fault goes to the guest; the blocking that
 * vmx_nmi_exit() put back is right only for an IRET that runs again.
 */
void vmx_nmi_enter(struct vcpu_vmx *vmx)
{
	u32 event, fault;

	if (!has_virtual_nmis(vmx)) {
		soft_vnmi_enter(vmx);
		return;
	}

	if (likely(!vmx->nmi.iret_fault))
		return;

	fault = vmx->nmi.iret_fault_vector | INTR_TYPE_HARD_EXCEPTION |
		INTR_INFO_VALID_MASK;
	event = vmcs_read32(VM_ENTRY_INTR_INFO_FIELD);
	if (vmx->nmi.iret_fault == vmx->loaded_vmcs &&
	    (event & ~INTR_INFO_DELIVER_CODE_MASK) == fault) {
		set_blocking_bit(vmx, false);
		vmx_nmi_unblocked(vmx, NMI_UNBLOCK_FAULT);
	}
	vmx->nmi.iret_fault = NULL;
}

/*
 * An exit interrupted the delivery, or the entry that was to deliver it was
 * cancelled.  The NMI is injected again; VM entry refuses to inject an NMI
 * while NMIs are blocked, so blocking must not outlive the failed attempt.
 */
void vmx_nmi_delivery_aborted(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vcpu->arch.nmi_injected = true;
	if (has_virtual_nmis(vmx)) {
		set_blocking_bit(vmx, false);
	} else {
		vmx->loaded_vmcs->soft_nmi_blocked = false;
		vmx->nmi.ret.armed = false;
	}
}

/*
 * The NMI goes through a task gate: software is going to deliver it, and blocks
 * NMIs.  The vCPU still is where the NMI interrupts it.
 */
void vmx_nmi_took_task_gate(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vcpu->arch.nmi_injected = false;
	if (has_virtual_nmis(vmx))
		set_blocking_bit(vmx, true);
	else
		soft_vnmi_inject(vmx);
}

/*
 * L1 got the NMI as an exit of L2, which counts as taking it: NMIs are blocked
 * in L1 now, and one that came with it stays pending.
 */
void vmx_nmi_exited_to_l1(struct kvm_vcpu *vcpu)
{
	--vcpu->arch.nmi_pending;
	vmx_set_nmi_mask(vcpu, true);
}

/*
 * L1 enters L2 with @interruptibility.  The injection of an NMI, if L1 asked
 * for one, is going to block NMIs whatever the bit says, so nothing is known.
 */
void vmx_nmi_load_vmcs12(struct vcpu_vmx *vmx, u32 interruptibility)
{
	if (!has_virtual_nmis(vmx)) {
		vmx->loaded_vmcs->soft_nmi_blocked =
			interruptibility & GUEST_INTR_STATE_NMI;
		interruptibility &= ~GUEST_INTR_STATE_NMI;
	}
	vmcs_write32(GUEST_INTERRUPTIBILITY_INFO, interruptibility);
	vmx->loaded_vmcs->nmi_known_unmasked = false;
}

/* The interruptibility state of L2 as L1 is to see it. */
u32 vmx_nmi_save_vmcs12(struct vcpu_vmx *vmx)
{
	u32 interruptibility = vmcs_read32(GUEST_INTERRUPTIBILITY_INFO);

	if (!has_virtual_nmis(vmx) && vmx->loaded_vmcs->soft_nmi_blocked)
		interruptibility |= GUEST_INTR_STATE_NMI;

	return interruptibility;
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

void vmx_nmi_create(struct kvm_vcpu *vcpu)
{
	struct vmx_nmi *nmi = &to_vmx(vcpu)->nmi;

	hrtimer_init(&nmi->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	nmi->timer.function = look_again;
}

void vmx_nmi_free(struct kvm_vcpu *vcpu)
{
	hrtimer_cancel(&to_vmx(vcpu)->nmi.timer);
}

/* INIT or RESET; vmx.c has cleared the interruptibility state. */
void vmx_nmi_reset(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vmx->nmi.iret_fault = NULL;
	vmx->loaded_vmcs->nmi_known_unmasked = false;
	if (has_virtual_nmis(vmx))
		vmx_nmi_unblocked(vmx, NMI_UNBLOCK_RESET);
	else
		soft_vnmi_unblock(vmx, NMI_UNBLOCK_RESET);
}
