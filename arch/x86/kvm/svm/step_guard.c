// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exits that only the guards of a single step have caused (iret_window.c has
 * the step).  The guest did not ask for them, and neither did L1: each is
 * completed here in such a way that the guest sees what it would have seen
 * without the step.
 */
#include <linux/kvm_host.h>

#include "x86.h"
#include "svm.h"
#include "nmi.h"

#define INSN_BYTES	15	/* the longest instruction */
#define OPCODE_BYTES	2

/*
 * Read the opcode at RIP behind its prefixes.  Returns the length up to and
 * including @opcode, 0 if it cannot be read: the CPU has just fetched it, so
 * another vCPU is changing the page tables, and trying again is right.
 */
static int read_opcode(struct kvm_vcpu *vcpu, u8 opcode[OPCODE_BYTES])
{
	bool long_mode = to_svm(vcpu)->vmcb->save.cs.attrib & SVM_SELECTOR_L_MASK;
	unsigned long rip = kvm_get_linear_rip(vcpu);
	struct x86_exception fault;
	int len, i;
	u8 byte;

	for (len = 0; len < INSN_BYTES; len++) {
		if (kvm_read_guest_virt(vcpu, rip + len, &byte, 1, &fault))
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

	for (i = 0; i < OPCODE_BYTES; i++, len++)
		if (kvm_read_guest_virt(vcpu, rip + len, &opcode[i], 1, &fault))
			return 0;

	return len;
}

/* INTn: let common code inject it; RIP is advanced there. */
static int software_interrupt(struct kvm_vcpu *vcpu)
{
	u8 opcode[OPCODE_BYTES];

	if (read_opcode(vcpu, opcode))
		kvm_queue_interrupt(vcpu, opcode[1], true);
	return 1;
}

/* INT1 is a trap without a cause in DR6. */
static int icebp(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	u8 opcode[OPCODE_BYTES];
	int len = read_opcode(vcpu, opcode);

	if (!len)
		return 1;

	kvm_rip_write(vcpu, kvm_rip_read(vcpu) + len - OPCODE_BYTES + 1);
	svm->vmcb->control.int_state &= ~SVM_INTERRUPT_SHADOW_MASK;
	kvm_queue_exception(vcpu, DB_VECTOR);
	return 1;
}

/*
 * With EFER.SCE off SYSCALL and SYSRET raise #UD.  The emulator does SYSCALL.
 * It has no SYSRET, but that one loads RFLAGS whole and may be stepped.
 */
static int invalid_opcode(struct kvm_vcpu *vcpu)
{
	u8 opcode[OPCODE_BYTES];

	if (read_opcode(vcpu, opcode) && opcode[0] == 0x0f && opcode[1] == 0x07) {
		to_svm(vcpu)->nmi.pops_rip = kvm_rip_read(vcpu);
		return 1;
	}

	return svm_invoke_exit_handler(vcpu, SVM_EXIT_EXCP_BASE + UD_VECTOR);
}

/* An exception that the CPU would have delivered by itself. */
static int guest_exception(struct kvm_vcpu *vcpu, u8 vector)
{
	struct vmcb_control_area *control = &to_svm(vcpu)->vmcb->control;

	switch (vector) {
	case DB_VECTOR:
		break;			/* the step itself */
	case UD_VECTOR:
		return invalid_opcode(vcpu);
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

/*
 * In place of the exit handlers, nested ones included, when svm_nmi_exit() has
 * found the exit to be a guard's.  Returns what an exit handler returns.
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
		svm->nmi.pops_rip = kvm_rip_read(vcpu);
		return 1;
	case SVM_EXIT_SWINT:
		return software_interrupt(vcpu);
	case SVM_EXIT_ICEBP:
		return icebp(vcpu);
	default:
		/* PUSHF, POPF, MOV DR */
		return kvm_emulate_instruction(vcpu, 0);
	}
}
