// SPDX-License-Identifier: GPL-2.0-only
/*
 * Soft vNMI's return breakpoint: where an NMI interrupts code that runs with
 * IRQs off, the end of its handler opens no IRQ window.  But the handler comes
 * back to the interrupted instruction, and that one can be given an execution
 * breakpoint.  When it fires with the interrupted RSP and CPL, the IRET has
 * retired.
 *
 *   armed    From the injection on.  MOV DR exits and is emulated, so the guest
 *	      reads and writes its own values and keeps the other three slots.
 *   lent     For the length of one VM entry: the first slot that the guest does
 *	      not use, in the CPU and in GUEST_DR7.  Nothing of it is ever in the
 *	      fields from which debug registers are saved, migrated or emulated.
 *   given up For the rest of this NMI: the breakpoint fired MAX_MISSES times for
 *	      somebody else, such as a handler that calls the function it
 *	      interrupted.  Not lent, but not given up either: in L2, in SMM,
 *	      while the guest uses all slots, or user space any to debug it.
 *
 * The vCPU may also be seen at the return address at an exit that has nothing to
 * do with the breakpoint; that counts as well.  It catches most cases in which
 * the breakpoint stays silent because the interrupted context had RFLAGS.RF set
 * (a REP instruction between two iterations, a fault that KVM has repaired): the
 * IRET restores RF.  What neither catches is for iret_search.c, or ends with the IRQ
 * window or the timeout, as does a handler that does not go back where it came from.
 *
 * The guest cannot see the breakpoint: #DB is intercepted, an intercepted #DB
 * changes neither DR6 nor DR7, and a #DB of the guest's own at the same time
 * loses only our bit of the exit qualification.
 * (SDM, "Debug Exceptions (#DB)", "VM Exits: Debug Exceptions")
 */
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <asm/debugreg.h>

#include "x86.h"
#include "vmx.h"
#include "nmi.h"

#define MAX_MISSES	16

static bool __read_mostly soft_vnmi_exact = true;
module_param(soft_vnmi_exact, bool, 0444);
MODULE_PARM_DESC(soft_vnmi_exact,
		 "CPUs without virtual NMIs: find the end of a handler by a breakpoint where it interrupted code with IRQs off (default Y)");

/* Enable bits and the four bits of type and length of a slot in DR7. */
static unsigned long dr7_enable(int slot)
{
	return 3ul << (slot * DR_ENABLE_SIZE);
}

static unsigned long dr7_control(int slot)
{
	return 15ul << (DR_CONTROL_SHIFT + slot * DR_CONTROL_SIZE);
}

/* 0: instruction execution. */
static unsigned long dr7_type(int slot)
{
	return 3ul << (DR_CONTROL_SHIFT + slot * DR_CONTROL_SIZE);
}

static bool at_return(struct vcpu_vmx *vmx)
{
	struct return_breakpoint *bp = &vmx->nmi.ret;
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	return kvm_get_linear_rip(vcpu) == bp->address &&
	       !((kvm_rsp_read(vcpu) ^ bp->rsp) & bp->rsp_mask) &&
	       vmx_get_cpl(vcpu) == bp->cpl;
}

/*
 * An NMI is about to be injected: its handler returns to where the vCPU is now.
 * With IRQs on the IRQ window does, and costs no exit if no other NMI comes.
 */
void return_breakpoint_arm(struct vcpu_vmx *vmx, unsigned long rflags)
{
	struct return_breakpoint *bp = &vmx->nmi.ret;
	struct kvm_vcpu *vcpu = &vmx->vcpu;
	struct kvm_segment ss;

	bp->armed = soft_vnmi_exact && !is_guest_mode(vcpu) &&
		    !(rflags & X86_EFLAGS_IF);
	if (!bp->armed)
		return;

	bp->misses = 0;
	bp->pass = false;
	bp->silent = rflags & X86_EFLAGS_RF;
	if (bp->here)
		return;

	/* IRET to a 16-bit stack leaves the upper bits of ESP as they are. */
	bp->rsp_mask = ~0ul;
	if (!is_64_bit_mode(vcpu)) {
		vmx_get_segment(vcpu, &ss, VCPU_SREG_SS);
		if (!ss.db)
			bp->rsp_mask = 0xffff;
	}
	bp->rsp = kvm_rsp_read(vcpu);
	bp->address = kvm_get_linear_rip(vcpu);
	bp->cpl = vmx_get_cpl(vcpu);

	/* The exit before this entry may have left MOV DR to the guest. */
	vcpu->arch.switch_db_regs &= ~KVM_DEBUGREG_WONT_EXIT;
	exec_controls_setbit(vmx, CPU_BASED_MOV_DR_EXITING);
}

static int free_slot(unsigned long dr7)
{
	int slot;

	for (slot = 0; slot < KVM_NR_DB_REGS; slot++)
		if (!(dr7 & dr7_enable(slot)))
			return slot;
	return SLOT_NOT_LENT;
}

/* Is it going to say that the handler has returned to where it came from? */
bool return_breakpoint_can_fire(struct vcpu_vmx *vmx)
{
	struct return_breakpoint *bp = &vmx->nmi.ret;
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	return bp->armed && !bp->silent &&
	       !(vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP) &&
	       free_slot(vcpu->arch.dr7) != SLOT_NOT_LENT;
}

static void write_slot(int slot, unsigned long address)
{
	switch (slot) {
	case 0:
		set_debugreg(address, 0);
		break;
	case 1:
		set_debugreg(address, 1);
		break;
	case 2:
		set_debugreg(address, 2);
		break;
	default:
		set_debugreg(address, 3);
		break;
	}
}

/*
 * The CPU's debug registers have been loaded for the guest, if it uses any; and nothing
 * is enabled in DR7: common code has cleared it, or the last exit.
 */
static void lend(struct vcpu_vmx *vmx, int slot)
{
	struct return_breakpoint *bp = &vmx->nmi.ret;
	unsigned long dr7 = vmx->vcpu.arch.dr7;

	write_slot(slot, bp->address);

	/* Type and length 0: instruction execution. */
	vmcs_writel(GUEST_DR7, (dr7 & ~dr7_control(slot)) | dr7_enable(slot));
	bp->slot = slot;
}

/*
 * An exit that goes straight back does not load the guest's debug registers
 * again, and a slot that is not enabled may still be reported as a match.  Also called
 * before an entry, after one that failed: that is no exit, and user space may go on
 * after it, with breakpoints of its own.
 */
void return_breakpoint_take_back(struct vcpu_vmx *vmx)
{
	struct return_breakpoint *bp = &vmx->nmi.ret;
	struct kvm_vcpu *vcpu = &vmx->vcpu;

	write_slot(bp->slot, vcpu->arch.eff_db[bp->slot]);
	vmcs_writel(GUEST_DR7, vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP ?
			       vcpu->arch.guest_debug_dr7 : vcpu->arch.dr7);
	bp->slot = SLOT_NOT_LENT;
}

void return_breakpoint_init(struct return_breakpoint *bp)
{
	bp->slot = SLOT_NOT_LENT;
}

void return_breakpoint_enter(struct vcpu_vmx *vmx)
{
	struct return_breakpoint *bp = &vmx->nmi.ret;
	struct kvm_vcpu *vcpu = &vmx->vcpu;
	bool pass = bp->pass;
	int slot;

	bp->pass = false;
	if (!bp->armed || is_guest_mode(vcpu) || is_smm(vcpu) ||
	    (vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP) ||
	    vmx_shared(vmx)->emulation_required)
		return;

	slot = free_slot(vcpu->arch.dr7);
	if (slot == SLOT_NOT_LENT)
		return;

	lend(vmx, slot);

	/*
	 * Let the guest execute the instruction for which the breakpoint fired
	 * in vain, unless KVM has done so.  An event would store the flag in the
	 * guest's frame; then the breakpoint fires again after its handler.
	 */
	bp->pass = pass && kvm_get_linear_rip(vcpu) == bp->address &&
		   !(vmcs_read32(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID_MASK);
	if (bp->pass)
		vmcs_writel(GUEST_RFLAGS, vmcs_readl(GUEST_RFLAGS) | X86_EFLAGS_RF);
}

/*
 * The instruction to be passed may still be ahead; RF is not the guest's, who had it
 * clear, or the breakpoint would not have fired.  With the #DB of that the CPU has saved
 * it clear.
 * (SDM, "Instruction-Breakpoint Exception Condition")
 */
static void end_pass(struct vcpu_vmx *vmx)
{
	struct return_breakpoint *bp = &vmx->nmi.ret;

	if (bp->pass && kvm_get_linear_rip(&vmx->vcpu) == bp->address)
		vmcs_writel(GUEST_RFLAGS, vmcs_readl(GUEST_RFLAGS) & ~X86_EFLAGS_RF);
	else
		bp->pass = false;
}

/* Is this exit the breakpoint's?  The rest of its causes is left in place. */
static bool fired(struct vcpu_vmx *vmx, int slot)
{
	u32 info = vmx_get_intr_info(&vmx->vcpu);
	unsigned long causes;

	if (vmx_shared(vmx)->exit_reason.basic != EXIT_REASON_EXCEPTION_NMI ||
	    !is_debug(info) || is_icebp(info))
		return false;

	causes = vmx_get_exit_qual(&vmx->vcpu);
	if (!(causes & BIT(slot)))
		return false;

	vmx_shared(vmx)->exit_qualification = causes & ~BIT(slot);
	return true;
}

/*
 * Does the guest get this #DB?  Breakpoints that are not enabled may be reported,
 * but are no cause.  Back at the return address, neither is an instruction
 * breakpoint that the guest has there, for an NMI comes before it: it fires
 * again when the guest executes the instruction.
 */
static bool causes_of_guest(struct vcpu_vmx *vmx, bool returned)
{
	unsigned long causes = vmx_shared(vmx)->exit_qualification;
	unsigned long dr7 = vmx->vcpu.arch.dr7;
	int slot;

	if (!causes)
		return false;

	for (slot = 0; slot < KVM_NR_DB_REGS; slot++)
		if (!(dr7 & dr7_enable(slot)) ||
		    (returned && !(dr7 & dr7_type(slot))))
			causes &= ~BIT(slot);

	/* A bus lock, for one; that the guest is in a transaction causes nothing. */
	return causes & ~DR6_RTM;
}

/*
 * Take the breakpoint back.  True if the vCPU is back where the NMI interrupted it; and
 * *@owned if the exit was for nothing but the breakpoint.
 */
bool return_breakpoint_exit(struct vcpu_vmx *vmx, bool *owned)
{
	struct return_breakpoint *bp = &vmx->nmi.ret;
	int slot = bp->slot;
	bool returned;

	if (!bp->armed || is_guest_mode(&vmx->vcpu))
		return false;

	if (slot != SLOT_NOT_LENT) {
		return_breakpoint_take_back(vmx);
		end_pass(vmx);
	}

	/* In the middle of a delivery, perhaps of this very NMI. */
	if (vmx->idt_vectoring_info & VECTORING_INFO_VALID_MASK)
		return false;

	returned = at_return(vmx);
	if (slot == SLOT_NOT_LENT || !fired(vmx, slot))
		return returned;

	if (!causes_of_guest(vmx, returned)) {
		*owned = true;
		bp->here = returned;
	}
	if (!returned) {
		bp->pass = true;
		bp->armed = ++bp->misses < MAX_MISSES;
	}
	return returned;
}
