// SPDX-License-Identifier: GPL-2.0-only
/*
 * In a 32-bit guest a second NMI comes right after the first handler's IRET as
 * well, be that to virtual-8086 mode, to user mode or to a stack of 16 bits.
 *
 * The guest is brought to its target and stops there. The frames of both NMIs
 * have to show that instruction, that stack and those flags.
 *
 * A wrong implementation runs on at the target, or shows flags of its own there.
 */
#include "nmi_events.h"
#include "nmi_flat32.h"

#define V86_CODE	LOW_FREE
#define V86_STACK	0x0f00		/* of segment V86_CODE / 16 */
#define HIGH_HALF	0x12340000	/* of ESP, which SP leaves alone */

extern char user_code[], user_stop[], v86_code[], v86_stop[], v86_end[];

asm(".pushsection guest32, \"ax\"\n"
	".code32\n"
	"user_code:\n"
	ASM_STAGE(STAGE_READY)
	"user_stop: nop\n nop\n nop\n"
	ASM_STAGE(STAGE_END)

	".code16\n"
	"v86_code:\n"
	ASM_STAGE(STAGE_READY)
	"v86_stop: nop\n nop\n nop\n"
	ASM_STAGE(STAGE_END)
	"v86_end:\n"
	".code64\n"
	".popsection");

/* The words of the frame that are there for all modes. */
static void check_frame(const struct event32 *event, const struct frame32 *want)
{
	CHECK_EQ(event->frame.eip, want->eip);
	CHECK_EQ(event->frame.cs, want->cs);
	CHECK_EQ(nmi_flags(event->frame.eflags), want->eflags);
	CHECK_EQ(event->frame.ss, want->ss);
}

/* Two NMIs at the stop, which the target gives; RIP is that of the stop. */
static struct kvm_vcpu *take_two_nmis(struct frame32 *target, uint32_t stop)
{
	struct kvm_vcpu *vcpu = create_flat32_at(target);
	struct event32 *nmi;

	memcpy(memory32(vcpu, V86_CODE), v86_code, v86_end - v86_code);
	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	set_rflags(vcpu, target->eflags);
	target->eip = stop;

	send_nmi(vcpu);
	nmi = next_event32(vcpu, NMI_VECTOR);
	check_frame(nmi, target);
	target->esp = nmi->frame.esp;
	send_nmi(vcpu);
	nmi = next_event32(vcpu, NMI_VECTOR);
	check_frame(nmi, target);
	return vcpu;
}

static void to_user_mode(uint32_t ss, uint32_t esp, uint32_t sp_bits)
{
	struct frame32 target = {
		.eip = (uint64_t)user_code, .cs = USER_CODE32, .ss = ss, .esp = esp,
		.eflags = RFLAGS_FIXED | RFLAGS_IF,
	};
	struct kvm_vcpu *vcpu = take_two_nmis(&target, (uint64_t)user_stop);

	CHECK_EQ(target.esp & sp_bits, esp & sp_bits);
	run_to(vcpu, STAGE_END);
}

static void user_mode(void)
{
	to_user_mode(USER_DATA32, LOW_USER_STACK, -1);
}

static void stack_of_16_bits(void)
{
	to_user_mode(USER_DATA16, HIGH_HALF | LOW_USER_STACK, 0xffff);
}

static struct frame32 v86_target(uint32_t eflags)
{
	uint16_t segment = V86_CODE / 16;

	return (struct frame32) {
		.eip = 0, .cs = segment, .eflags = RFLAGS_FIXED | RFLAGS_VM | eflags,
		.esp = V86_STACK, .ss = segment, .es = segment, .ds = segment,
		.fs = segment, .gs = segment,
	};
}

static void v86_mode(void)
{
	struct frame32 target = v86_target(RFLAGS_IF);
	struct kvm_vcpu *vcpu = take_two_nmis(&target, v86_stop - v86_code);

	CHECK_EQ(target.esp, V86_STACK);
	run_to(vcpu, STAGE_END);
}

/* The first NMI's IRET starts it. */
static void v86_mode_stepped(void)
{
	struct frame32 target = v86_target(RFLAGS_IF);
	struct kvm_vcpu *vcpu = create_flat32_at(&target);
	struct event32 *event;

	memcpy(memory32(vcpu, V86_CODE), v86_code, v86_end - v86_code);
	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	target.eip = v86_stop - v86_code;

	send_nmi(vcpu);
	event = next_event32(vcpu, NMI_VECTOR);
	event->frame.eflags |= RFLAGS_TF;
	send_nmi(vcpu);
	target.eflags |= RFLAGS_TF;
	event = next_event32(vcpu, NMI_VECTOR);
	check_frame(event, &target);

	target.eip++;
	check_frame(next_event32(vcpu, DB_VECTOR), &target);
}

static const struct test_case cases[] = {
	{ "to user mode", user_mode },
	{ "to a 16-bit stack", stack_of_16_bits },
	{ "to virtual-8086 mode", v86_mode },
	{ "to virtual-8086 mode that is single-stepped", v86_mode_stepped },
};

int main(void)
{
	if (nmi_path() == VMX_SOFT)
		return skip_all("soft vNMI does not see the IRET");
	return run_cases(cases, ARRAY_SIZE(cases));
}
