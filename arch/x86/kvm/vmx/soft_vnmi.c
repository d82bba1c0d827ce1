// SPDX-License-Identifier: GPL-2.0-only
/*
 * Soft vNMI: NMI blocking for a VMCS without virtual NMIs.
 *
 * On such a CPU nothing tells software that the guest's NMI handler has
 * returned.  Blocking is therefore a flag, set at injection and cleared at the
 * first of
 *
 *   the IRQ window  The guest can take an interrupt.  A handler keeps IRQs off
 *		     until its IRET, so this is the end of the handler or later.
 *   the return      The vCPU is back where the NMI interrupted code with IRQs
 *		     off (return_breakpoint.c).
 *   the IRET        Where neither can tell, and an NMI waits, the handler is stepped
 *		     through, as far as that goes (iret_search.c).
 *   the timeout     An NMI has waited for soft_vnmi_timeout_ms of the guest's
 *		     own time.  Taken in a handler that did not return, it
 *		     nests; the alternative is a guest that cannot be debugged.
 *
 * What remains a guess: a handler that enables IRQs before its IRET looks
 * finished (nmi_soft_exact_test shows it).
 *
 * The VMCS's blocking bit means *physical* NMIs here.  A CPU may set it while it
 * injects an NMI, and would keep the host from its own NMIs until the next exit,
 * or load the bit at each later entry.  So the NMI goes in as a hardware
 * exception of vector 2 (nmi.c), which is delivered just like an NMI and blocks
 * nothing; and should the bit be set nevertheless, it is cleared at every exit that
 * soft_vnmi_exit() sees, and never taken for guest state.
 *
 * Time is counted from the moment an NMI has to wait, while the guest runs or
 * halts; a VM that is stopped does not come closer to the timeout.  A handler
 * without a breakpoint is another matter.  As a rule it has interrupted code with
 * IRQs on: that code may have turned them off since, and who is seen with IRQs off
 * then may be the handler or not.  There the time of the handler counts, so that an
 * NMI that comes a timeout later, such as a watchdog's into a guest that hangs, does
 * not wait.  The timer only makes sure that somebody looks: a guest that spins with
 * IRQs off on a tickless host CPU causes no exits, and a halted one none at all.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/ktime.h>
#include <linux/moduleparam.h>

#include "irq.h"
#include "x86.h"
#include "vmx.h"
#include "nmi.h"
#include "../nmi_trace.h"
#include "nmi_inline.h"

static int set_param(const char *val, const struct kernel_param *kp)
{
	const struct soft_vnmi_param *param = kp->arg;
	int r = param_set_uint_minmax(val, kp, param->min, param->max);

	if (r)
		pr_err("%s: \"%.*s\" is not a number of %s from %u to %u\n", kp->name,
		       (int)strcspn(val, "\n"), val, param->unit, param->min, param->max);
	return r;
}

const struct kernel_param_ops soft_vnmi_param_ops = {
	.set = set_param,
	.get = param_get_uint,
};

static struct soft_vnmi_param timeout_ms __read_mostly = {
	.value = 1000, .min = 1, .max = 60000, .unit = "milliseconds",
};

module_param_cb(soft_vnmi_timeout_ms, &soft_vnmi_param_ops, &timeout_ms, 0644);
__MODULE_PARM_TYPE(soft_vnmi_timeout_ms, "uint");
MODULE_PARM_DESC(soft_vnmi_timeout_ms,
		 "CPUs without virtual NMIs: how long an NMI waits for a handler that does not return, in ms of guest time (1 to 60000, default 1000; may be changed while loaded)");

/* The time since the last mark, if there is one, was the vCPU's own. */
void soft_vnmi_count_time(struct vcpu_vmx *vmx)
{
	struct vmx_nmi *nmi = &vmx->nmi;
	ktime_t now = ktime_get();

	if (nmi->mark)
		nmi->waited_ns += ktime_to_ns(ktime_sub(now, nmi->mark));
	nmi->mark = now;
}

/* While the breakpoint is there only the time for which an NMI waits is of interest. */
static bool time_counts(struct vmx_nmi *nmi)
{
	return nmi->waiting || !nmi->ret.armed;
}

static s64 time_left(struct vmx_nmi *nmi)
{
	return READ_ONCE(timeout_ms.value) * (s64)NSEC_PER_MSEC - nmi->waited_ns;
}

static void begin_blocking(struct vcpu_vmx *vmx, bool irqs_on)
{
	iret_search_begin(vmx, irqs_on);
	vmx->loaded_vmcs->soft_nmi_blocked = true;
	vmx->loaded_vmcs->nmi_known_unmasked = false;
	vmx->nmi.enter = true;
	vmx->nmi.waiting = false;
	vmx->nmi.waited_ns = 0;
	vmx->nmi.mark = 0;
	vmx->nmi.since = rdtsc();
}

/* By whom and where is not known. */
void soft_vnmi_block(struct vcpu_vmx *vmx)
{
	begin_blocking(vmx, false);
}

/* To be called while the vCPU still is where the NMI interrupts it. */
void soft_vnmi_inject(struct vcpu_vmx *vmx)
{
	unsigned long rflags = vmx_get_rflags(&vmx->vcpu);

	return_breakpoint_arm(vmx, rflags);
	begin_blocking(vmx, rflags & X86_EFLAGS_IF);
}

static void end_blocking(struct vcpu_vmx *vmx, enum nmi_unblock cause)
{
	vmx->loaded_vmcs->soft_nmi_blocked = false;
	vmx->nmi.ret.armed = false;
	vmx->nmi.waiting = false;
	vmx_nmi_report_unblock(vmx, cause);
}

void soft_vnmi_unblock(struct vcpu_vmx *vmx, enum nmi_unblock cause)
{
	if (vmx->vcpu.arch.nmi_pending)
		kvm_make_request(KVM_REQ_EVENT, &vmx->vcpu);
	end_blocking(vmx, cause);
}

/* The NMI is injected again. */
void soft_vnmi_aborted(struct vcpu_vmx *vmx)
{
	vmx->loaded_vmcs->soft_nmi_blocked = false;
	vmx->nmi.ret.armed = false;
}

/*
 * The timer runs on wall time.  It is early if the VM was stopped in between, or if it
 * was started for an NMI before: taking it back at each end would cost all of those, and
 * it finds nothing to do but once.  It is started again for what is left, and never for
 * long: a timeout that is lowered meanwhile holds for the NMI that waits.
 */
#define MAX_TIMER_NS	(100 * NSEC_PER_MSEC)

static void start_timer(struct vmx_nmi *nmi)
{
	s64 ns = clamp_t(s64, time_left(nmi), NSEC_PER_MSEC, MAX_TIMER_NS);

	if (!hrtimer_is_queued(&nmi->timer))
		hrtimer_start(&nmi->timer, ns_to_ktime(ns), HRTIMER_MODE_REL_HARD);
}

/* An interrupt could be taken here, so no NMI handler is left. */
static bool irq_window_open(struct vcpu_vmx *vmx)
{
	return (vmx_get_rflags(&vmx->vcpu) & X86_EFLAGS_IF) &&
	       !(vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) &
		 (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS));
}

/*
 * Are NMIs blocked, and not for too long?  Ends the blocking if the timeout is over.
 * Also asked about a halted vCPU that might have to run, which is the only
 * place to notice that its time is up, or that the timer was early.
 */
bool soft_vnmi_blocked(struct vcpu_vmx *vmx)
{
	struct kvm_vcpu *vcpu = &vmx->vcpu;
	bool halted = vcpu->arch.mp_state == KVM_MP_STATE_HALTED;

	if (!vmx->loaded_vmcs->soft_nmi_blocked)
		return false;

	/* Restored as it is: nobody asks for a window before it runs. */
	if (halted && vcpu->arch.nmi_pending && !vmx->nmi.waiting)
		soft_vnmi_wait(vmx);

	/* SMM blocks NMIs for as long as it takes. */
	if (is_smm(vcpu))
		return true;

	/* RSM, the emulator or user space may have opened it since the exit. */
	if (irq_window_open(vmx) &&
	    !(vmcs_read32(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID_MASK)) {
		soft_vnmi_unblock(vmx, NMI_UNBLOCK_IRQ_WINDOW);
		return false;
	}

	if (!vmx->nmi.waiting && (vmx->nmi.ret.armed || !vcpu->arch.nmi_pending))
		return true;

	if (halted) {
		soft_vnmi_count_time(vmx);
		start_timer(&vmx->nmi);
	}
	if (time_left(&vmx->nmi) > 0)
		return true;

	pr_warn_ratelimited("VM %d, vCPU %d: NMI handler has not returned for %u ms, delivering the next NMI\n",
			    vcpu->kvm->userspace_pid, vcpu->vcpu_id,
			    READ_ONCE(timeout_ms.value));
	soft_vnmi_unblock(vmx, NMI_UNBLOCK_TIMEOUT);
	return false;
}

bool soft_vnmi_wait(struct vcpu_vmx *vmx)
{
	struct vmx_nmi *nmi = &vmx->nmi;

	if (!vmx->loaded_vmcs->soft_nmi_blocked)
		return false;

	/* Whatever was wanted of an entry that was called off. */
	nmi->next.step = false;
	if (is_smm(&vmx->vcpu)) {
		nmi_waits(&vmx->vcpu, &vmx->nmi.record, NMI_WINDOW_IRQ);
		return true;
	}

	if (!nmi->waiting) {
		nmi->waiting = true;
		if (nmi->ret.armed)
			nmi->waited_ns = 0;
		nmi->mark = ktime_get();
		nmi->began = nmi->mark;
	}
	start_timer(nmi);
	exec_controls_setbit(vmx, CPU_BASED_INTR_WINDOW_EXITING);
	if (iret_search_due(vmx))
		iret_search_step(vmx);
	else
		nmi_waits(&vmx->vcpu, &vmx->nmi.record, NMI_WINDOW_IRQ);
	return true;
}

void soft_vnmi_enter(struct vcpu_vmx *vmx)
{
	if (!vmx->loaded_vmcs->soft_nmi_blocked)
		return;

	vmx->nmi.enter = true;

	return_breakpoint_enter(vmx);
	if (vmx->nmi.next.step)
		iret_search_enter(vmx);

	/* Instructions that KVM emulates are guest time, too. */
	if (vmx_shared(vmx)->emulation_required && !is_smm(&vmx->vcpu))
		soft_vnmi_count_time(vmx);
	else
		vmx->nmi.mark = time_counts(&vmx->nmi) ? ktime_get() : 0;
}

/*
 * Was the exit for nothing but the window of the NMI that waits?  Common code may want
 * it as well, for an interrupt, and user space that has the PIC.
 */
static bool took_irq_window(struct vcpu_vmx *vmx)
{
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	if (vmx_shared(vmx)->exit_reason.full != EXIT_REASON_INTERRUPT_WINDOW ||
	    !vcpu->arch.nmi_pending || is_guest_mode(vcpu) || !lapic_in_kernel(vcpu) ||
	    vcpu->run->request_interrupt_window || kvm_cpu_has_injectable_intr(vcpu))
		return false;

	exec_controls_clearbit(vmx, CPU_BASED_INTR_WINDOW_EXITING);
	++vcpu->stat.irq_window_exits;
	return true;
}

/* Was the exit for nothing but NMIs? */
bool soft_vnmi_exit(struct vcpu_vmx *vmx)
{
	u32 state = vmcs_read32(GUEST_INTERRUPTIBILITY_INFO);
	bool owned = false, returned, iret;
	enum nmi_unblock cause;

	if (state & GUEST_INTR_STATE_NMI)
		vmcs_write32(GUEST_INTERRUPTIBILITY_INFO,
			     state & ~GUEST_INTR_STATE_NMI);

	if (!vmx->loaded_vmcs->soft_nmi_blocked) {
		vmx->loaded_vmcs->nmi_known_unmasked = true;
		return false;
	}

	iret = vmx->nmi.search.iret && iret_search_exit(vmx);
	returned = return_breakpoint_exit(vmx, &owned);
	if (is_smm(&vmx->vcpu))
		return false;

	/* Not at an instruction boundary: perhaps this very NMI is underway. */
	if (vmx->idt_vectoring_info & VECTORING_INFO_VALID_MASK) {
		if (time_counts(&vmx->nmi))
			soft_vnmi_count_time(vmx);
		return false;
	}

	if (returned) {
		cause = NMI_UNBLOCK_RETURN;
	} else if (irq_window_open(vmx)) {
		cause = NMI_UNBLOCK_IRQ_WINDOW;
		owned |= took_irq_window(vmx);
	} else if (iret) {
		cause = NMI_UNBLOCK_IRET;
	} else {
		if (time_counts(&vmx->nmi))
			soft_vnmi_count_time(vmx);
		if (vmx->nmi.waiting && iret_search_due(vmx))
			kvm_make_request(KVM_REQ_EVENT, &vmx->vcpu);
		return owned;
	}

	if (owned)
		end_blocking(vmx, cause);
	else
		soft_vnmi_unblock(vmx, cause);
	return owned;
}
