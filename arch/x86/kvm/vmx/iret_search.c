// SPDX-License-Identifier: GPL-2.0-only
/*
 * Soft vNMI's search for the IRET that ends a handler, where the CPU has the monitor trap
 * flag and an NMI waits: one instruction an entry, and before each a look at what it is.
 * When an IRET has been stepped over NMIs are open, wherever it went, as on a CPU that
 * tracks them; that of an exception within the handler ends blocking as well.
 *
 * A step costs an exit, so the search is for what nothing else finds:
 *
 *   at once   neither the IRQ window nor the return breakpoint can tell: the NMI
 *	       interrupted code with IRQs off, and the breakpoint is not to be had, was
 *	       given up, or RFLAGS.RF keeps it silent; or it is not known what was
 *	       interrupted, as in a VM that was restored.
 *   later     at the first exit when an NMI has waited for soft_vnmi_search_us.  By then a
 *	       handler is over as a rule, found by one of those two.  One that is not may
 *	       go anywhere.
 *
 * After soft_vnmi_steps steps in one handler the search is given up.  L2 is never
 * stepped, nor is SMM, where no NMI comes anyway, nor a guest that KVM emulates, whose
 * IRETs it sees; nor one whose real mode runs as virtual-8086 mode.  The guest cannot see
 * the steps: the flag is in the VMCS for one entry (next_boundary.c), its exit comes before
 * any trap of the guest's own, and that before the NMI.
 */
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>

#include "x86.h"
#include "vmx.h"
#include "nmi.h"

#define INSN_BYTES	15	/* the longest instruction */
#define IRET		0xcf

static struct soft_vnmi_param max_steps __read_mostly = {
	.value = 4096, .max = 1000000, .unit = "instructions",
};

module_param_cb(soft_vnmi_steps, &soft_vnmi_param_ops, &max_steps, 0644);
__MODULE_PARM_TYPE(soft_vnmi_steps, "uint");
MODULE_PARM_DESC(soft_vnmi_steps,
		 "CPUs without virtual NMIs: how many instructions of a handler are stepped over in search of its IRET while an NMI waits (0 to 1000000, default 4096; may be changed while loaded)");

static struct soft_vnmi_param late_us __read_mostly = {
	.value = 1000, .max = 1000000, .unit = "microseconds",
};

module_param_cb(soft_vnmi_search_us, &soft_vnmi_param_ops, &late_us, 0644);
__MODULE_PARM_TYPE(soft_vnmi_search_us, "uint");
MODULE_PARM_DESC(soft_vnmi_search_us,
		 "CPUs without virtual NMIs: how long an NMI waits before the handler is stepped through, in microseconds (0 to 1000000, default 1000; may be changed while loaded)");

/*
 * A handler begins, from where IRQs were on or off.  Its limits are those of now: whether to
 * search is asked twice for one exit, and the second time may be too late to read guest memory.
 */
void iret_search_begin(struct vcpu_vmx *vmx, bool irqs_on)
{
	struct iret_search *search = &vmx->nmi.search;

	search->steps_left = READ_ONCE(max_steps.value);
	search->late_us = READ_ONCE(late_us.value);
	search->irqs_on = irqs_on;
	search->iret = false;
}

/* An NMI waits, in L1 and outside of SMM: is it time to search? */
bool iret_search_due(struct vcpu_vmx *vmx)
{
	struct iret_search *search = &vmx->nmi.search;
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	if (!search->steps_left || !next_boundary_can_step(vmx) ||
	    vcpu->arch.mp_state != KVM_MP_STATE_RUNNABLE || vmx->rmode.vm86_active ||
	    is_guest_mode(vcpu) || is_smm(vcpu))
		return false;

	if (!search->irqs_on && !return_breakpoint_can_fire(vmx))
		return true;

	return ktime_us_delta(vmx->nmi.mark, vmx->nmi.began) >= search->late_us;
}

static bool is_prefix(u8 byte, bool long_mode)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e:	/* segments */
	case 0x64: case 0x65:
	case 0x66: case 0x67:				/* sizes */
	case 0xf2: case 0xf3:				/* REP */
		return true;
	case 0x40 ... 0x4f:				/* REX */
		return long_mode;
	default:
		return false;
	}
}

/* Read as the CPU fetches it; what cannot be read is no IRET but a fault, or MMIO. */
static bool iret_is_next(struct kvm_vcpu *vcpu)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	unsigned long rip = kvm_get_linear_rip(vcpu);
	bool long_mode = is_64_bit_mode(vcpu);
	struct x86_exception fault;
	int i;
	u8 byte;

	for (i = 0; i < INSN_BYTES; i++) {
		if (ctxt->ops->fetch(ctxt, rip + i, &byte, 1, &fault) != X86EMUL_CONTINUE)
			return false;
		if (!is_prefix(byte, long_mode))
			return byte == IRET;
	}
	return false;
}

/* Step over the next instruction.  Guest memory is read: interrupts are on. */
void iret_search_step(struct vcpu_vmx *vmx)
{
	struct iret_search *search = &vmx->nmi.search;

	search->rip = kvm_rip_read(&vmx->vcpu);
	search->iret = iret_is_next(&vmx->vcpu);
	next_boundary_step(vmx);
}

/* The step is lent to this entry.  An event to be injected is what it ends with. */
void iret_search_enter(struct vcpu_vmx *vmx)
{
	struct iret_search *search = &vmx->nmi.search;

	--search->steps_left;
	if (kvm_rip_read(&vmx->vcpu) != search->rip ||
	    (vmcs_read32(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID_MASK))
		search->iret = false;
}

/*
 * An IRET was next: has the guest executed it in this step?  One that faults has ended
 * blocking, too, if the guest gets the fault at once.
 */
bool iret_search_exit(struct vcpu_vmx *vmx)
{
	vmx->nmi.search.iret = false;
	return vmx_shared(vmx)->exit_reason.basic == EXIT_REASON_MONITOR_TRAP_FLAG;
}
