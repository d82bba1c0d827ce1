// SPDX-License-Identifier: GPL-2.0-only
/*
 * One instruction of the guest under a single step that the guest cannot see.
 *
 * The step is lent to one entry by svm_nmi_enter() and taken back at its exit
 * by svm_nmi_exit(), so that no other code ever meets it: RFLAGS.TF, a clean DR6
 * to tell the step's #DB from the guest's own, no branch-only stepping, and
 * guards, intercepts of everything that would store RFLAGS with our TF in it:
 *
 *   exceptions	      handed to the guest by software, without TF
 *   PUSHF, POPF      emulated
 *   INTn, ICEBP      injected by software
 *   SYSCALL, SYSRET  not to be intercepted; with EFER.SCE off they raise #UD, and
 *		      then are stepped for what they are
 *   MOV DR	      emulated, as DR6 is not the guest's
 *
 * Only in an interrupt shadow need the last four be feared.  An instruction that
 * loads RFLAGS whole (IRET, SYSRET; POPF is emulated) leaves no trace of our TF: what
 * stands in RFLAGS after it is the guest's.  SYSCALL saves it in R11 and nowhere else,
 * from where it is taken out again.  A virtual interrupt that waits for the
 * end of the shadow is kept from the entry: it comes behind the #DB anyway.
 *
 * Exits that only these guards have caused are nobody else's: neither the guest
 * nor L1 asked for them.  svm_nmi_handle_exit() completes each in such a
 * way that the guest sees what it would have seen without the step.
 *
 * When to step is decided in iret_window.c.
 * (APM volume 2, "VMRUN and TF/RF Bits in EFLAGS", "#DB (Debug)")
 */
#include <linux/kvm_host.h>
#include <asm/debugreg.h>

#include "x86.h"
#include "svm.h"
#include "nmi.h"

#define INSN_BYTES	15	/* the longest instruction */

/* Opcodes, or their first bytes */
#define TWO_BYTES	0x0f
#define INT_3		0xcc
#define INT_N		0xcd
#define INTO		0xce
#define SYSCALL_2	0x05
#define SYSRET_2	0x07

/*
 * Exceptions to intercept while stepping.  Not NMI (2), nor the reserved
 * vectors, whose bits have no defined effect; #DF cannot be the first fault of
 * an instruction.
 */
#define STEP_EXCEPTIONS							\
	(BIT(DE_VECTOR) | BIT(DB_VECTOR) | BIT(BP_VECTOR) |		\
	 BIT(OF_VECTOR) | BIT(BR_VECTOR) | BIT(UD_VECTOR) |		\
	 BIT(NM_VECTOR) | BIT(TS_VECTOR) | BIT(NP_VECTOR) |		\
	 BIT(SS_VECTOR) | BIT(GP_VECTOR) | BIT(PF_VECTOR) |		\
	 BIT(MF_VECTOR) | BIT(AC_VECTOR) | BIT(MC_VECTOR) |		\
	 BIT(XM_VECTOR))

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
 * In virtual-8086 mode with IOPL below 3 PUSHF, POPF and INTn raise #GP or are
 * redirected, and the intercepts would come before that.
 */
static bool rflags_accesses_fault(struct vmcb_save_area *save)
{
	return (save->rflags & X86_EFLAGS_VM) &&
	       (save->rflags & X86_EFLAGS_IOPL) != X86_EFLAGS_IOPL;
}

/*
 * What the step adds to RFLAGS.  Not RF for an IRET: a breakpoint on it has been
 * reported before the intercept, and its handler has returned with RF, which the
 * intercept has saved.
 */
static u64 planted_flags(enum nmi_step kind)
{
	return kind == STEP_TASK_SWITCH ? 0 : X86_EFLAGS_TF;
}

/**
 * step_lend() - lend a single step to the next VMRUN
 * @svm: the vCPU
 * @kind: what is going to be stepped
 *
 * Context: vCPU thread, interrupts off, nothing to inject.
 */
void step_lend(struct vcpu_svm *svm, enum nmi_step kind)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct vmcb_save_area *save = &svm->vmcb->save;
	struct svm_nmi *nmi = &svm->nmi;
	int i;

	memcpy(nmi->lent_intercepts, &control->intercepts[FIRST_WORD],
	       sizeof(nmi->lent_intercepts));
	nmi->lent_rip = save->rip;
	nmi->lent_rsp = save->rsp;
	nmi->lent_shadow = control->int_state & SVM_INTERRUPT_SHADOW_MASK;
	nmi->lent_rflags = save->rflags;
	nmi->lent_efer = save->efer;
	nmi->lent_dr6 = save->dr6;
	nmi->lent_dbgctl = save->dbgctl;
	nmi->step_lent = kind;

	control->intercepts[INTERCEPT_EXCEPTION] |= STEP_EXCEPTIONS;
	save->dr6 = DR6_ACTIVE_LOW;
	save->dbgctl &= ~DEBUGCTLMSR_BTF;
	save->rflags |= planted_flags(kind);

	/*
	 * QEMU TCG does not load the shadow and exits for the interrupt instead of
	 * stepping: entry after entry, as take-back restores the shadow.
	 */
	nmi->lent_virq = 0;
	if (kind >= STEP_SHADOW) {
		nmi->lent_virq = control->int_ctl & V_IRQ_MASK;
		nmi->lent_l1_virq = svm->nested.ctl.int_ctl & V_IRQ_MASK;
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
		nmi->lent_sfmask = svm->vmcb01.ptr->save.sfmask;
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
	struct svm_nmi *nmi = &svm->nmi;
	u64 tf = nmi->lent_rflags & X86_EFLAGS_TF;

	svm->vmcb01.ptr->save.sfmask = nmi->lent_sfmask;
	if (!completed || !(nmi->lent_efer & EFER_LMA))
		return;

	*r11 = (*r11 & ~(u64)X86_EFLAGS_TF) | tf;
	nmi->lent_rflags &= ~(tf & nmi->lent_sfmask);
}

/* Did only the step's intercepts, not the guest's or L1's, make this exit? */
static bool exit_is_a_guard(struct vcpu_svm *svm)
{
	u32 code = svm->vmcb->control.exit_code;
	int word = code / 32;

	/* A page fault of the host on behalf of the guest. */
	if (code == SVM_EXIT_EXCP_BASE + PF_VECTOR &&
	    svm->vcpu.arch.apf.host_apf_flags)
		return false;

	/*
	 * SYSCALL and SYSRET with EFER.SCE off, or what ends the shadow otherwise.
	 * #UD is always intercepted, except from SEV guests, whose SYSCALL is left
	 * alone.
	 */
	if (code == SVM_EXIT_EXCP_BASE + UD_VECTOR && !is_sev_guest(&svm->vcpu))
		return svm->nmi.step_lent == STEP_SHADOW &&
		       (svm->nmi.lent_efer & EFER_SCE ||
			!is_guest_mode(&svm->vcpu) ||
			!vmcb12_is_intercept(&svm->nested.ctl,
					     INTERCEPT_EXCEPTION_OFFSET + UD_VECTOR));

	/* Exit codes number the intercepts in the order of their bits. */
	return word >= FIRST_WORD && word <= INTERCEPT_WORD4 &&
	       !(svm->nmi.lent_intercepts[word - FIRST_WORD] & BIT(code % 32));
}

/*
 * Would the guest's own TF have trapped here?  With BTF only behind a branch, and
 * BTF was taken away for the step.  A jump that ends where the next instruction may
 * stand passes for none.
 */
static bool guest_steps(struct vcpu_svm *svm)
{
	u64 moved = svm->vmcb->save.rip - svm->nmi.lent_rip;

	if (!(svm->nmi.lent_rflags & X86_EFLAGS_TF))
		return false;

	return !(svm->nmi.lent_dbgctl & DEBUGCTLMSR_BTF) ||
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

/**
 * step_take_back() - give the guest its own state back
 * @svm: the vCPU
 *
 * Right after #VMEXIT.  What is left in DR6 has the guest's own cause.
 *
 * Context: vCPU thread, interrupts off.
 * Return: true if the step's #DB says that the instruction has completed.
 */
bool step_take_back(struct vcpu_svm *svm)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct vmcb_save_area *save = &svm->vmcb->save;
	struct svm_nmi *nmi = &svm->nmi;
	u64 planted = planted_flags(nmi->step_lent);
	u64 hits = is_db_exit(svm) ? save->dr6 ^ DR6_ACTIVE_LOW : 0;
	bool stepped = hits & DR_STEP;
	bool pops = nmi->step_lent == STEP_IRET || nmi->step_lent == STEP_SHADOW_POPS;
	/* An exit in front of the #DB hides it, but not where the vCPU is. */
	bool completed = stepped || save->rip != nmi->lent_rip ||
			 save->rsp != nmi->lent_rsp;

	if (nmi->step_lent == STEP_SHADOW_SYSCALL)
		end_syscall(svm, completed);
	if (!pops || !completed)
		save->rflags = (save->rflags & ~planted) |
			       (nmi->lent_rflags & planted);

	/* nested.ctl has been brought up to date from the VMCB without it. */
	control->int_ctl |= nmi->lent_virq;
	if (nmi->lent_virq && is_guest_mode(&svm->vcpu))
		svm->nested.ctl.int_ctl |= nmi->lent_l1_virq;

	/* A CPU keeps the shadow of what has not completed, QEMU TCG forgets. */
	if (!stepped && save->rip == nmi->lent_rip) {
		control->int_state |= nmi->lent_shadow;
		if (is_guest_mode(&svm->vcpu))
			svm->nested.ctl.int_state |= nmi->lent_shadow;
	}

	hits = guest_causes(svm, hits);

	memcpy(&control->intercepts[FIRST_WORD], nmi->lent_intercepts,
	       sizeof(nmi->lent_intercepts));
	save->efer = nmi->lent_efer;
	save->dbgctl = nmi->lent_dbgctl;
	save->dr6 = ((nmi->lent_dr6 ^ DR6_ACTIVE_LOW) | hits) ^ DR6_ACTIVE_LOW;

	vmcb_mark_dirty(svm->vmcb, VMCB_INTERCEPTS);
	vmcb_mark_dirty(svm->vmcb, VMCB_DR);
	vmcb_mark_dirty(svm->vmcb, VMCB_LBR);
	vmcb_mark_dirty(svm->vmcb, VMCB_CR);
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);

	nmi->owned = is_db_exit(svm) ? !hits : exit_is_a_guard(svm);
	nmi->step_lent = STEP_NONE;
	nmi->known = STEP_NONE;
	return stepped;
}

/**
 * step_known() - say what the next instruction is
 * @svm: the vCPU
 * @kind: one of STEP_SHADOW_*
 *
 * Good for the next entry, which may be a step over it.
 *
 * Context: vCPU thread, preemption enabled.
 */
void step_known(struct vcpu_svm *svm, enum nmi_step kind)
{
	svm->nmi.known = kind;
	svm->nmi.known_rip = kvm_rip_read(&svm->vcpu);
	svm_nmi_update(svm);
}

/* As the CPU fetches it, which may where data must not be read (SMAP). */
static bool fetch_byte(struct kvm_vcpu *vcpu, unsigned long address, u8 *byte)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	struct x86_exception fault;

	return ctxt->ops->fetch(ctxt, address, byte, 1, &fault) == X86EMUL_CONTINUE;
}

/*
 * Read the opcode at RIP behind its prefixes, and the byte that belongs to it or
 * follows it.  Returns the length up to and including the first byte, 0 if one
 * cannot be read: the CPU has just fetched it, so another vCPU is changing the page
 * tables, and trying again is right.  Behind an opcode of one byte the page may end.
 */
static int read_opcode(struct kvm_vcpu *vcpu, u8 opcode[2])
{
	bool long_mode = to_svm(vcpu)->vmcb->save.cs.attrib & SVM_SELECTOR_L_MASK;
	unsigned long rip = kvm_get_linear_rip(vcpu);
	int len;
	u8 byte;

	for (len = 0; len < INSN_BYTES; len++) {
		if (!fetch_byte(vcpu, rip + len, &byte))
			return 0;

		switch (byte) {
		case 0x26: case 0x2e: case 0x36: case 0x3e:	/* segments */
		case 0x64: case 0x65:
		case 0x66: case 0x67:				/* sizes */
		case 0xf0: case 0xf2: case 0xf3:		/* LOCK, REP */
			continue;
		case 0x40 ... 0x4f:				/* REX */
			if (long_mode)
				continue;
			break;
		default:
			break;
		}
		break;
	}

	if (!fetch_byte(vcpu, rip + len++, &opcode[0]))
		return 0;

	opcode[1] = 0;
	if (!fetch_byte(vcpu, rip + len, &opcode[1]) &&
	    (opcode[0] == INT_N || opcode[0] == TWO_BYTES))
		return 0;

	return len;
}

/* The instruction ends with the delivery of an event, and so does its shadow. */
static void end_shadow(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	svm->vmcb->control.int_state &= ~SVM_INTERRUPT_SHADOW_MASK;
	if (is_guest_mode(vcpu))
		svm->nested.ctl.int_state &= ~SVM_INTERRUPT_SHADOW_MASK;
}

/*
 * May what runs now use INTn with this vector?  A CPU looks at the gate with RIP
 * at the instruction; where the next RIP is not its business (no NRIPS), RIP is
 * behind it at the injection, too late for the frame of a #GP.
 */
static bool gate_is_open(struct kvm_vcpu *vcpu, u8 vector)
{
	struct vmcb_save_area *save = &to_svm(vcpu)->vmcb->save;
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	unsigned int size = save->efer & EFER_LMA ? 16 : 8;
	struct x86_exception fault;
	u8 gate[8];

	/* If the gate cannot be read its delivery finds that out. */
	if (!save->cpl || ctxt->ops->read_std(ctxt, save->idtr.base + vector * size,
					      gate, sizeof(gate), &fault, true))
		return true;

	return (gate[5] >> 5 & 3) >= save->cpl;
}

/*
 * INTn: let common code inject it; RIP is advanced there.  QEMU TCG reports INT3
 * and INTO here, too.
 */
static int software_interrupt(struct kvm_vcpu *vcpu)
{
	u8 opcode[2];

	if (!read_opcode(vcpu, opcode))
		return 1;

	end_shadow(vcpu);
	switch (opcode[0]) {
	case INT_3:
		kvm_queue_exception(vcpu, BP_VECTOR);
		break;
	case INTO:
		kvm_queue_exception(vcpu, OF_VECTOR);
		break;
	default:
		if (gate_is_open(vcpu, opcode[1]))
			kvm_queue_interrupt(vcpu, opcode[1], true);
		else
			kvm_queue_exception_e(vcpu, GP_VECTOR, opcode[1] * 8 + 2);
		/* Exceptions ask to be injected, a queued interrupt does not. */
		kvm_make_request(KVM_REQ_EVENT, vcpu);
		break;
	}
	return 1;
}

/* INT1 is a trap without a cause in DR6. */
static int icebp(struct kvm_vcpu *vcpu)
{
	u8 opcode[2];
	int len = read_opcode(vcpu, opcode);

	if (!len)
		return 1;

	kvm_rip_write(vcpu, kvm_rip_read(vcpu) + len);
	end_shadow(vcpu);
	kvm_queue_exception(vcpu, DB_VECTOR);
	return 1;
}

/*
 * With EFER.SCE off SYSCALL and SYSRET raise #UD.  The emulator has no SYSRET, and
 * refuses SYSCALL to guests with shadow stacks; but both can be stepped once they
 * are known.
 */
static int invalid_opcode(struct kvm_vcpu *vcpu)
{
	u8 opcode[2];
	int ret;

	if (!read_opcode(vcpu, opcode))
		return 1;

	if (opcode[0] == TWO_BYTES && to_svm(vcpu)->vmcb->save.efer & EFER_SCE) {
		if (opcode[1] == SYSRET_2)
			step_known(to_svm(vcpu), STEP_SHADOW_POPS);
		else if (opcode[1] == SYSCALL_2)
			step_known(to_svm(vcpu), STEP_SHADOW_SYSCALL);
		if (opcode[1] == SYSRET_2 || opcode[1] == SYSCALL_2)
			return 1;
	}

	/* Common code queues a #UD, which ends the shadow like any exception. */
	ret = svm_invoke_exit_handler(vcpu, SVM_EXIT_EXCP_BASE + UD_VECTOR);
	if (vcpu->arch.exception.pending)
		end_shadow(vcpu);
	return ret;
}

/* An exception that the CPU would have delivered by itself. */
static int guest_exception(struct kvm_vcpu *vcpu, u8 vector)
{
	struct vmcb_control_area *control = &to_svm(vcpu)->vmcb->control;

	switch (vector) {
	case DB_VECTOR:
		return 1;		/* the step itself */
	case UD_VECTOR:
		if (!is_sev_guest(vcpu))
			return invalid_opcode(vcpu);
		break;
	}

	end_shadow(vcpu);
	switch (vector) {
	case PF_VECTOR:
		/* The CPU leaves CR2 alone when #PF is intercepted. */
		vcpu->arch.cr2 = control->exit_info_2;
		fallthrough;
	case TS_VECTOR:
	case NP_VECTOR:
	case SS_VECTOR:
	case GP_VECTOR:
	case AC_VECTOR:
		kvm_queue_exception_e(vcpu, vector, control->exit_info_1);
		break;
	default:
		kvm_queue_exception(vcpu, vector);
		break;
	}
	return 1;
}

/* What PUSHF or POPF did to the stack pointer, and so the size of its operand. */
static unsigned int moved_by(u64 from, u64 to)
{
	return (to - from) & 0xf;
}

static unsigned long stack_address(struct kvm_vcpu *vcpu, unsigned long sp)
{
	struct vmcb_save_area *save = &to_svm(vcpu)->vmcb->save;

	if (is_64_bit_mode(vcpu))
		return sp;

	return (u32)(save->ss.base + (save->ss.attrib & SVM_SELECTOR_DB_MASK ?
				      (u32)sp : (u16)sp));
}

/* The data breakpoints in use that such an access hits, as bits of DR6. */
static u64 data_breakpoints(struct kvm_vcpu *vcpu, unsigned long address,
			    unsigned int size, bool write)
{
	bool user = vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP;
	u64 dr7 = user ? vcpu->arch.guest_debug_dr7 : vcpu->arch.dr7;
	u64 hits = 0;
	int i;

	for (i = 0; i < HBP_NUM; i++) {
		u64 control = dr7 >> (DR_CONTROL_SHIFT + i * DR_CONTROL_SIZE);
		u64 type = control & 3;
		u64 length = control >> 2 & 3;
		u64 last = length == 2 ? 7 : length;	/* DR7 has no 3, 2 is eight */
		unsigned long start = vcpu->arch.eff_db[i] & ~last;

		if ((dr7 >> (i * DR_ENABLE_SIZE) & 3) &&
		    (type == DR_RW_READ || (write && type == DR_RW_WRITE)) &&
		    address <= start + last && start < address + size)
			hits |= DR_TRAP0 << i;
	}
	return hits;
}

/*
 * Emulation does not look at breakpoints on data; a trap of the guest's own step
 * may be there already.
 */
static int report_breakpoints(struct kvm_vcpu *vcpu, u64 hits)
{
	struct kvm_queued_exception *queued = &vcpu->arch.exception;
	struct kvm_debug_exit_arch *debug = &vcpu->run->debug.arch;

	if (!(vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP)) {
		if (queued->pending && queued->vector == DB_VECTOR && queued->has_payload)
			hits |= queued->payload;
		kvm_queue_exception_p(vcpu, DB_VECTOR, hits);
		return 1;
	}

	debug->exception = DB_VECTOR;
	debug->pc = kvm_get_linear_rip(vcpu);
	debug->dr6 = hits ^ DR6_ACTIVE_LOW;
	debug->dr7 = vcpu->arch.guest_debug_dr7;
	vcpu->run->exit_reason = KVM_EXIT_DEBUG;
	return 0;
}

static int emulate_flags(struct kvm_vcpu *vcpu, bool push)
{
	unsigned long before = kvm_rsp_read(vcpu), after;
	int ret = kvm_emulate_instruction(vcpu, 0);
	unsigned int size;
	u64 hits;

	after = kvm_rsp_read(vcpu);
	size = push ? moved_by(after, before) : moved_by(before, after);
	if (ret <= 0 || !size)
		return ret;

	hits = data_breakpoints(vcpu, stack_address(vcpu, push ? after : before),
				size, push);
	return hits ? report_breakpoints(vcpu, hits) : ret;
}

/**
 * svm_nmi_handle_exit() - exit handler for what only the step intercepts
 * @vcpu: the vCPU
 *
 * In place of the exit handlers, nested ones included, when svm_nmi_exit() has
 * found the exit to be a guard's.
 *
 * Context: vCPU thread, preemption enabled.
 * Return: 1 to stay in the kernel, 0 for an exit to user space.
 */
int svm_nmi_handle_exit(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	u32 code = svm->vmcb->control.exit_code;

	svm->nmi.owned = false;

	switch (code) {
	case SVM_EXIT_EXCP_BASE ... SVM_EXIT_EXCP_BASE + 31:
		return guest_exception(vcpu, code - SVM_EXIT_EXCP_BASE);
	case SVM_EXIT_IRET:
		step_known(svm, STEP_SHADOW_POPS);
		return 1;
	case SVM_EXIT_STGI:
		return nested_vnmi_stgi(vcpu);
	case SVM_EXIT_SWINT:
		return software_interrupt(vcpu);
	case SVM_EXIT_ICEBP:
		return icebp(vcpu);
	case SVM_EXIT_PUSHF:
	case SVM_EXIT_POPF:
		return emulate_flags(vcpu, code == SVM_EXIT_PUSHF);
	default:
		return kvm_emulate_instruction(vcpu, 0);	/* MOV DR */
	}
}
