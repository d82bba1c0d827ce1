// SPDX-License-Identifier: GPL-2.0-only
/*
 * An exit at the guest's next instruction boundary, for an NMI that nothing but an
 * interrupt shadow holds back, or for one step of iret_search.c.
 *
 * The CPU may open an NMI window right after VM entry although STI still blocks
 * injection, over and over without an instruction in between.  The interrupt
 * window has no such freedom, but "sti; cli" closes it before it opens, and so does
 * INT3 through an interrupt gate.
 *
 * The monitor trap flag makes an exit after the one instruction, before the first one
 * of a handler if that raises an exception.  Without it a timer makes an exit
 * after the shadow in any case.  An entry may take longer than the timer, in a guest
 * hypervisor or with KASAN: if the vCPU is found where it was time and again, it
 * gets twice the time.
 */
#include <linux/kvm_host.h>

#include "x86.h"
#include "nested.h"
#include "vmx.h"
#include "nmi.h"
#include "../nmi_trace.h"

/* Interval, intervals before it is doubled, and how often it is: up to 82 ms. */
#define POLL_NS		(20 * NSEC_PER_USEC)
#define POLL_TRIES	8
#define POLL_DOUBLINGS	12

/* Of the pending debug exceptions: at least one breakpoint that is enabled. */
#define PENDING_DBG_ENABLED_BP	BIT(12)

static void wait_by_timer(struct vcpu_vmx *vmx)
{
	struct next_boundary *next = &vmx->nmi.next;
	unsigned long rip = kvm_rip_read(&vmx->vcpu);
	u64 injections = vmx->vcpu.stat.nmi_injections;
	int doublings;

	if (next->rip != rip || next->injections != injections)
		next->tries = 0;
	else if (next->tries < POLL_TRIES + POLL_DOUBLINGS)
		next->tries++;
	next->rip = rip;
	next->injections = injections;
	doublings = max(next->tries - POLL_TRIES, 0);

	exec_controls_setbit(vmx, CPU_BASED_INTR_WINDOW_EXITING);
	hrtimer_start(&vmx->nmi.timer, ns_to_ktime(POLL_NS << doublings),
		      HRTIMER_MODE_REL_HARD);
	nmi_waits(&vmx->vcpu, &vmx->nmi.record, NMI_WINDOW_IRQ);
}

bool next_boundary_can_step(struct vcpu_vmx *vmx)
{
	return (vmcs_config.cpu_based_exec_ctrl & CPU_BASED_MONITOR_TRAP_FLAG) &&
	       !vmx_shared(vmx)->emulation_required;
}

void next_boundary_step(struct vcpu_vmx *vmx)
{
	vmx->nmi.next.step = true;
	vmx->nmi.enter = true;
	nmi_waits(&vmx->vcpu, &vmx->nmi.record, NMI_WINDOW_STEP);
}

void next_boundary_wait(struct vcpu_vmx *vmx)
{
	if (next_boundary_can_step(vmx))
		next_boundary_step(vmx);
	else
		wait_by_timer(vmx);
}

/* Lend the flag to one entry. */
void next_boundary_enter(struct vcpu_vmx *vmx)
{
	exec_controls_setbit(vmx, CPU_BASED_MONITOR_TRAP_FLAG);
	vmx->nmi.exit = true;
}

static bool l1_steps_l2(struct kvm_vcpu *vcpu)
{
	return is_guest_mode(vcpu) && nested_cpu_has_mtf(get_vmcs12(vcpu));
}

/* Take it back; whatever made the exit may have ended the shadow. */
void next_boundary_exit(struct vcpu_vmx *vmx)
{
	vmx->nmi.next.step = false;
	if (!l1_steps_l2(&vmx->vcpu))
		exec_controls_clearbit(vmx, CPU_BASED_MONITOR_TRAP_FLAG);
	kvm_make_request(KVM_REQ_EVENT, &vmx->vcpu);
}

/*
 * The exit of the monitor trap flag comes before the #DB of the same instruction,
 * and injecting an NMI now would lose it.
 * (SDM, "Delivery of Pending Debug Exceptions after VM Entry", "Monitor Trap Flag")
 */
bool next_boundary_has_trap(void)
{
	return vmcs_readl(GUEST_PENDING_DBG_EXCEPTIONS) &
	       (PENDING_DBG_ENABLED_BP | DR6_BUS_LOCK | DR6_BS | DR6_RTM);
}

/* Exit handler.  The flag has been taken back, unless an entry failed before that. */
int handle_monitor_trap(struct kvm_vcpu *vcpu)
{
	exec_controls_clearbit(to_vmx(vcpu), CPU_BASED_MONITOR_TRAP_FLAG);
	return 1;
}

/*
 * Hard interrupt context, on any CPU, with PREEMPT_RT as well: the vCPU's thread may leave no
 * time for a softirq.  The thread looks at the pending NMI again and
 * decides; a vCPU that is halted has to be woken for that.
 */
static enum hrtimer_restart look_again(struct hrtimer *timer)
{
	struct vcpu_vmx *vmx = container_of(timer, struct vcpu_vmx, nmi.timer);

	kvm_make_request(KVM_REQ_EVENT, &vmx->vcpu);
	kvm_vcpu_kick(&vmx->vcpu);
	return HRTIMER_NORESTART;
}

void next_boundary_init(struct vmx_nmi *nmi)
{
	hrtimer_setup(&nmi->timer, look_again, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_HARD);
}
