// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exits that only the guards of a single step have caused (loan.c).
 *
 * Nobody else's: neither the guest nor L1 asked for them.  Each is completed here in
 * such a way that the guest sees what it would have seen without the step, its TF
 * among it.  An instruction that can only be stepped is looked at and left to the next
 * entry, which then knows what it steps over.
 */
#include <linux/kvm_host.h>
#include <asm/debugreg.h>

#include "x86.h"
#include "latch.h"

#define INSN_BYTES	15	/* the longest instruction */

/* Opcodes, or their first bytes */
#define TWO_BYTES	0x0f
#define INT_3		0xcc
#define INT_N		0xcd
#define INTO		0xce
#define SYSCALL_2	0x05
#define SYSRET_2	0x07

/* Say what the next instruction is: for the next entry, which may be a step over it. */
static void step_known(struct vcpu_svm *svm, enum nmi_loan kind)
{
	svm->nmi.known = kind;
	svm->nmi.known_rip = kvm_rip_read(&svm->vcpu);
	nmi_rearm(svm);
}

/* As the CPU fetches it, which may where data must not be read (SMAP). */
static bool fetch_byte(struct kvm_vcpu *vcpu, unsigned long address, u8 *byte)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	struct x86_exception fault;

	return ctxt->ops->fetch(ctxt, address, byte, 1, &fault) == X86EMUL_CONTINUE;
}

/*
 * Read the opcode at RIP after its prefixes, and the byte that belongs to it or
 * follows it.  Returns the length up to and including the first byte, 0 if one
 * cannot be read: the CPU has just fetched it, so another vCPU is changing the page
 * tables, and trying again is right.  After an opcode of one byte the page may end.
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
 * The exception that INTn raises because of its gate, 0 if none: it must fault with RIP
 * at the INTn.  Without NRIPS, RIP has to be advanced before the injection, so look here.
 * (APM volume 3, "INT")
 */
static u8 fault_of_gate(struct kvm_vcpu *vcpu, u8 vector)
{
	struct vmcb_save_area *save = &to_svm(vcpu)->vmcb->save;
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	bool long_mode = save->efer & EFER_LMA;
	unsigned int size = long_mode ? 16 : 8;
	struct x86_exception fault;
	u8 gate[8], type;

	if (!(save->cr0 & X86_CR0_PE))
		return 0;
	if (vector * size + size - 1 > save->idtr.limit)
		return GP_VECTOR;

	/* If the gate cannot be read its delivery finds that out. */
	if (ctxt->ops->read_std(ctxt, save->idtr.base + vector * size,
				gate, sizeof(gate), &fault, true))
		return 0;

	/* With the bit that is clear for system descriptors; bit 3 is that of 32 bits. */
	type = gate[5] & 0x1f;
	if (type != GATE_INTERRUPT && type != GATE_TRAP &&
	    (long_mode || (type != GATE_TASK && type != (GATE_INTERRUPT & 7) &&
			   type != (GATE_TRAP & 7))))
		return GP_VECTOR;
	if ((gate[5] >> 5 & 3) < save->cpl)
		return GP_VECTOR;

	return gate[5] & 0x80 ? 0 : NP_VECTOR;
}

/*
 * INTn: let common code inject it; RIP is advanced there.  QEMU TCG reports INT3
 * and INTO here, too.
 */
static int software_interrupt(struct kvm_vcpu *vcpu)
{
	u8 opcode[2], fault;

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
		fault = fault_of_gate(vcpu, opcode[1]);
		if (fault)
			kvm_queue_exception_e(vcpu, fault, opcode[1] * 8 + 2);
		else
			kvm_queue_interrupt(vcpu, opcode[1], true);
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
		switch (opcode[1]) {
		case SYSRET_2:
			step_known(to_svm(vcpu), is_64_bit_mode(vcpu) ?
				   STEP_SHADOW_POPS : STEP_SHADOW_SYSRET);
			return 1;
		case SYSCALL_2:
			step_known(to_svm(vcpu), STEP_SHADOW_SYSCALL);
			return 1;
		}
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
	case PF_VECTOR:
		/* One of the host's, on behalf of the guest. */
		if (vcpu->arch.apf.host_apf_flags)
			return svm_invoke_exit_handler(vcpu, SVM_EXIT_EXCP_BASE + PF_VECTOR);
		break;
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
	case CP_VECTOR:
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

/*
 * The data breakpoints in use that such an access hits, as bits of DR6.  Common code's
 * DR7 is that of L1 also while L2 runs.
 */
static u64 data_breakpoints(struct kvm_vcpu *vcpu, unsigned long address,
			    unsigned int size, bool write)
{
	bool user = vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP;
	u64 dr7 = user ? vcpu->arch.guest_debug_dr7 : to_svm(vcpu)->vmcb->save.dr7;
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

/*
 * In place of the exit handlers, nested ones included, when svm_nmi_exit() has
 * found the exit to be a guard's.  Like theirs the result is 1 to stay in the kernel,
 * 0 for an exit to user space.
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
