// SPDX-License-Identifier: GPL-2.0-only
/*
 * Instructions in an interrupt shadow do what they always do although an NMI
 * waits after them: those that long mode does not have, and those whose result
 * depends on privilege.
 *
 * The guest stops in the kernel, in user mode or in virtual-8086 mode. User space
 * of the host moves it to the instruction, into the shadow, and makes an NMI
 * pending. The NMI has to come at the first instruction of what that leads to,
 * and what the instruction stores has to be the guest's own flags.
 *
 * A wrong implementation stores its TF, lets INT n through a gate that is closed
 * to user mode, or PUSHF through in virtual-8086 mode where it has to fault.
 */
#include "nmi_events.h"
#include "nmi_flat32.h"

#define V86_STACK	0x0f00
#define INT_VECTOR	0x61
#define MSR_SYSENTER(n)	(0x174 + (n))	/* CS, ESP, EIP */
#define SYSRET_CS_SHIFT	48		/* in STAR */

extern char insn_read_idt[], insn_stop[], insn_into[], insn_bound[], insn_int_n[], insn_int3[];
extern char insn_sysenter[], insn_sysret[], insn_popf[], insn_end[], sysenter_target[];
extern char v86_insns[], v86_pushf[], v86_popf[], v86_int_n[], v86_insns_end[];

/* Each of them is followed by what the guest does after it. */
asm(".pushsection guest32, \"ax\"\n"
	".code32\n"
	"insn_read_idt: mov %ss:0x2000, %eax\n"	/* LOW_IDT; IRET left DS null */
	"insn_stop:" ASM_STAGE(STAGE_READY)
	"insn_into: into\n"
	"jmp insn_end\n"
	"insn_bound: bound %eax, (%ecx)\n"
	"jmp insn_end\n"
	"insn_int_n: int $0x61\n"
	"jmp insn_end\n"
	"insn_int3: int3\n"
	"jmp insn_end\n"
	"insn_sysenter: sysenter\n"
	"insn_sysret: sysretl\n"
	"insn_popf: popf\n"
	"jmp insn_end\n"
	"sysenter_target: nop\n"
	"insn_end:" ASM_STAGE(STAGE_END)

	".code16\n"
	"v86_insns:" ASM_STAGE(STAGE_READY)
	"v86_pushf: pushf\n"
	"pop %bx\n"
	"jmp 1f\n"
	"v86_popf: popf\n"
	"jmp 1f\n"
	"v86_int_n: int $0x61\n"
	"1:" ASM_STAGE(STAGE_END)
	"v86_insns_end:\n"
	".code64\n"
	".popsection");

static struct kvm_vcpu *stop_in_kernel(void)
{
	return create_flat32(insn_stop);
}

static struct kvm_vcpu *start_in_user_mode(char *entry)
{
	struct frame32 target = {
		.eip = (uint64_t)entry, .cs = USER_CODE32, .ss = USER_DATA32,
		.esp = LOW_USER_STACK, .eflags = RFLAGS_FIXED,
	};

	return create_flat32_at(&target);
}

static struct kvm_vcpu *stop_in_user_mode(void)
{
	return start_in_user_mode(insn_stop);
}

static struct kvm_vcpu *stop_in_v86_mode(void)
{
	uint16_t segment = LOW_FREE / 16;
	struct frame32 target = {
		.cs = segment, .ss = segment, .es = segment, .ds = segment,
		.fs = segment, .gs = segment, .esp = V86_STACK,
		.eflags = RFLAGS_FIXED | RFLAGS_VM,
	};
	struct kvm_vcpu *vcpu = create_flat32_at(&target);

	memcpy(memory32(vcpu, LOW_FREE), v86_insns, v86_insns_end - v86_insns);
	return vcpu;
}

static uint32_t v86_address(char *label)
{
	return label - v86_insns;
}

/* From its stop into the shadow, before an instruction. */
static void move_to(struct kvm_vcpu *vcpu, uint32_t eip, uint32_t eflags)
{
	struct kvm_regs regs;

	require_shadow_tracked(eflags);
	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	put_in_shadow(vcpu, KVM_X86_SHADOW_INT_MOV_SS);
	vcpu_regs_get(vcpu, &regs);
	regs.rip = eip;
	regs.rflags = eflags;
	vcpu_regs_set(vcpu, &regs);
	send_nmi(vcpu);
}

/*
 * The instruction leads to this event, and the NMI comes at the first instruction
 * of its handler: the NMI reports first, the event when it is done.
 */
static struct event32 *check_event(struct kvm_vcpu *vcpu, int vector, char *entry,
				   uint32_t eip, uint32_t eflags)
{
	struct event32 *event = next_event32(vcpu, NMI_VECTOR);
	uint64_t ignored = on_qemu_tcg() ? RFLAGS_RF : 0;

	CHECK_EQ(event->frame.eip, (uint64_t)entry);
	CHECK_EQ(event->frame.eflags & RFLAGS_TF, 0);
	event = next_event32(vcpu, vector);
	CHECK_EQ(event->frame.eip, eip);
	CHECK_EQ(event->frame.eflags & ~ignored, eflags & ~ignored);
	return event;
}

#define FLAGS		(RFLAGS_FIXED | RFLAGS_CF)
#define AT(label)	((uint64_t)(label))

static void into(void)
{
	struct kvm_vcpu *vcpu = stop_in_kernel();

	move_to(vcpu, AT(insn_into), FLAGS | RFLAGS_OF);
	check_event(vcpu, OF_VECTOR, event32_4, AT(insn_into) + 1, FLAGS | RFLAGS_OF);
	run_to(vcpu, STAGE_END);
}

static void into_without_overflow(void)
{
	struct kvm_vcpu *vcpu = stop_in_kernel();

	move_to(vcpu, AT(insn_into), FLAGS);
	CHECK_EQ(next_event32(vcpu, NMI_VECTOR)->frame.eip, AT(insn_into) + 1);
	run_to(vcpu, STAGE_END);
}

/* EAX holds the number of a stage, which is out of bounds of 0 to 0. */
static void bound(void)
{
	struct kvm_vcpu *vcpu = stop_in_kernel();
	struct kvm_regs regs;

	move_to(vcpu, AT(insn_bound), FLAGS);
	vcpu_regs_get(vcpu, &regs);
	regs.rcx = LOW_FREE;
	vcpu_regs_set(vcpu, &regs);
	check_event(vcpu, BR_VECTOR, event32_5, AT(insn_bound), FLAGS | RFLAGS_RF);
}

static void user_int3(void)
{
	struct kvm_vcpu *vcpu = stop_in_user_mode();

	move_to(vcpu, AT(insn_int3), FLAGS);
	check_event(vcpu, BP_VECTOR, event32_3, AT(insn_int3) + 1, FLAGS);
	run_to(vcpu, STAGE_END);
}

static void user_int_n(void)
{
	struct kvm_vcpu *vcpu = stop_in_user_mode();

	set_gate32(vcpu, INT_VECTOR, INTERRUPT_GATE32, 3, CODE32, event32_3);
	move_to(vcpu, AT(insn_int_n), FLAGS);
	check_event(vcpu, BP_VECTOR, event32_3, AT(insn_int_n) + 2, FLAGS);
	run_to(vcpu, STAGE_END);
}

/*
 * Without NextRIP an INT n that an exit has interrupted is injected again after
 * the instruction, which is too late to refuse it: let the host map the gate.
 */
static void user_int_n_refused(void)
{
	struct kvm_vcpu *vcpu = start_in_user_mode(insn_read_idt);

	set_gate32(vcpu, INT_VECTOR, INTERRUPT_GATE32, 0, CODE32, event32_3);
	move_to(vcpu, AT(insn_int_n), FLAGS);
	check_event(vcpu, GP_VECTOR, event32_13, AT(insn_int_n), FLAGS | RFLAGS_RF);
}

static void user_popf(void)
{
	struct kvm_vcpu *vcpu = stop_in_user_mode();
	struct kvm_regs regs;

	move_to(vcpu, AT(insn_popf), FLAGS);
	vcpu_regs_get(vcpu, &regs);
	regs.rsp -= 4;
	*(uint32_t *)memory32(vcpu, regs.rsp) = FLAGS | RFLAGS_IF | RFLAGS_DF;
	vcpu_regs_set(vcpu, &regs);
	/* IOPL is 0, so IF is not user mode's. */
	CHECK_EQ(nmi_flags(next_event32(vcpu, NMI_VECTOR)->frame.eflags), FLAGS | RFLAGS_DF);
	run_to(vcpu, STAGE_END);
}

static void check_sysenter(struct kvm_vcpu *vcpu)
{
	struct event32 *nmi;

	/* It turns IRQs off, and so the IRQ window does not open after it. */
	require_shadow_tracked(FLAGS);
	vcpu_set_msr(vcpu, MSR_SYSENTER(0), CODE32);
	vcpu_set_msr(vcpu, MSR_SYSENTER(1), LOW_STACK);
	vcpu_set_msr(vcpu, MSR_SYSENTER(2), AT(sysenter_target));
	move_to(vcpu, AT(insn_sysenter), FLAGS | RFLAGS_IF);
	nmi = next_event32(vcpu, NMI_VECTOR);
	CHECK_EQ(nmi->frame.eip, AT(sysenter_target));
	CHECK_EQ(nmi->frame.cs, CODE32);
	CHECK_EQ(nmi_flags(nmi->frame.eflags), FLAGS);
	run_to(vcpu, STAGE_END);
}

static void kernel_sysenter(void)
{
	check_sysenter(stop_in_kernel());
}

static void user_sysenter(void)
{
	check_sysenter(stop_in_user_mode());
}

/* Outside of 64-bit mode it loads no flags, and sets IF. */
static void sysret(void)
{
	struct kvm_vcpu *vcpu = stop_in_kernel();
	struct kvm_regs regs;
	struct event32 *nmi;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		skip("Intel's CPUs have SYSRET in 64-bit mode only");
	move_to(vcpu, AT(insn_sysret), FLAGS);
	vcpu_set_msr(vcpu, MSR_EFER, EFER_SCE);
	vcpu_set_msr(vcpu, MSR_STAR, (uint64_t)(USER_CODE32 & ~3) << SYSRET_CS_SHIFT);
	vcpu_regs_get(vcpu, &regs);
	regs.rcx = AT(sysenter_target);
	vcpu_regs_set(vcpu, &regs);
	nmi = next_event32(vcpu, NMI_VECTOR);
	CHECK_EQ(nmi->frame.eip, AT(sysenter_target));
	CHECK_EQ(nmi->frame.cs, USER_CODE32);
	CHECK_EQ(nmi_flags(nmi->frame.eflags), FLAGS | RFLAGS_IF);
	run_to(vcpu, STAGE_END);
}

/* What its gate is to refuse is looked at before RIP is behind it; see user_int_n_refused(). */
static void check_gate(enum gate32 type, bool present, uint16_t limit, int vector, char *entry)
{
	struct kvm_vcpu *vcpu = create_flat32(insn_read_idt);
	struct kvm_sregs sregs;
	struct event32 *event;

	set_gate32(vcpu, INT_VECTOR, type, 3, CODE32, event32_3);
	if (!present)
		((uint8_t *)memory32(vcpu, LOW_IDT))[INT_VECTOR * 8 + 5] &= ~0x80;
	move_to(vcpu, AT(insn_int_n), FLAGS);
	if (limit) {
		vcpu_sregs_get(vcpu, &sregs);
		sregs.idt.limit = limit;
		vcpu_sregs_set(vcpu, &sregs);
	}
	event = check_event(vcpu, vector, entry, AT(insn_int_n), FLAGS | RFLAGS_RF);
	CHECK_EQ(event->error, INT_VECTOR * 8 + 2);
}

static void gate_not_present(void)
{
	check_gate(INTERRUPT_GATE32, false, 0, NP_VECTOR, event32_11);
}

static void gate_of_no_kind(void)
{
	check_gate(0, true, 0, GP_VECTOR, event32_13);
}

static void gate_beyond_limit(void)
{
	check_gate(INTERRUPT_GATE32, true, INT_VECTOR * 8 + 6, GP_VECTOR, event32_13);
}

#define V86_FLAGS	(FLAGS | RFLAGS_VM)

static void v86_pushes(void)
{
	struct kvm_vcpu *vcpu = stop_in_v86_mode();
	struct event32 *nmi;
	struct kvm_regs regs;

	move_to(vcpu, v86_address(v86_pushf), V86_FLAGS | RFLAGS_IOPL);
	nmi = next_event32(vcpu, NMI_VECTOR);
	CHECK_EQ(nmi->frame.eip, v86_address(v86_pushf) + 1);
	CHECK_EQ(nmi_flags(nmi->frame.eflags), V86_FLAGS | RFLAGS_IOPL);
	run_to(vcpu, STAGE_END);
	vcpu_regs_get(vcpu, &regs);
	CHECK_EQ(regs.rbx & 0xffff, FLAGS | RFLAGS_IOPL);
}

static void check_v86_refused(char *insn)
{
	struct kvm_vcpu *vcpu = stop_in_v86_mode();

	set_gate32(vcpu, INT_VECTOR, INTERRUPT_GATE32, 3, CODE32, event32_3);
	move_to(vcpu, v86_address(insn), V86_FLAGS);
	check_event(vcpu, GP_VECTOR, event32_13, v86_address(insn), V86_FLAGS | RFLAGS_RF);
}

static void v86_pushf_refused(void)
{
	check_v86_refused(v86_pushf);
}

static void v86_popf_refused(void)
{
	check_v86_refused(v86_popf);
}

static void v86_int_n_refused(void)
{
	check_v86_refused(v86_int_n);
}

static void v86_int_n_allowed(void)
{
	struct kvm_vcpu *vcpu = stop_in_v86_mode();

	set_gate32(vcpu, INT_VECTOR, INTERRUPT_GATE32, 3, CODE32, event32_3);
	move_to(vcpu, v86_address(v86_int_n), V86_FLAGS | RFLAGS_IOPL);
	check_event(vcpu, BP_VECTOR, event32_3, v86_address(v86_int_n) + 2,
		    V86_FLAGS | RFLAGS_IOPL);
	run_to(vcpu, STAGE_END);
}

static const struct test_case cases[] = {
	{ "INTO pushes the guest's flags, then the NMI comes", into },
	{ "INTO without overflow is nothing", into_without_overflow },
	{ "BOUND pushes the guest's flags, then the NMI comes", bound },
	{ "user mode: INT3 pushes the guest's flags, then the NMI comes", user_int3 },
	{ "user mode: INT n pushes the guest's flags, then the NMI comes", user_int_n },
	{ "user mode: INT n does not pass a gate that is closed to it", user_int_n_refused },
	{ "user mode: POPF leaves IF alone", user_popf },
	{ "user mode: SYSENTER arrives with the guest's flags", user_sysenter },
	{ "SYSENTER arrives with the guest's flags", kernel_sysenter },
	{ "SYSRET arrives with the guest's flags and IF", sysret },
	{ "INT n through a gate that is not present faults where it stands", gate_not_present },
	{ "INT n through what is no gate faults where it stands", gate_of_no_kind },
	{ "INT n beyond the IDT's limit faults where it stands", gate_beyond_limit },
	{ "virtual-8086 mode: PUSHF pushes the guest's flags", v86_pushes },
	{ "virtual-8086 mode: PUSHF faults with IOPL 0", v86_pushf_refused },
	{ "virtual-8086 mode: POPF faults with IOPL 0", v86_popf_refused },
	{ "virtual-8086 mode: INT n faults with IOPL 0", v86_int_n_refused },
	{ "virtual-8086 mode: INT n pushes the guest's flags with IOPL 3", v86_int_n_allowed },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
