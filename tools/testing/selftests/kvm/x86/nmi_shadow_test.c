// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NMI due in the shadow of MOV SS or STI comes one instruction later, and the
 * guest cannot tell how that was arranged.
 *
 * User space puts the vCPU at a stop into the shadow, as if the instruction
 * before had been MOV SS or STI, and sends the NMI there. The second half uses
 * instructions whose effect would show a trap flag that is not the guest's.
 *
 * A wrong implementation delivers in the shadow (between MOV SS and the load of
 * the stack pointer the handler would run on a broken stack; between STI and HLT
 * the wake-up is lost), delivers late when the shadowed instruction turns IRQs
 * off, or shows the guest the flag with which it is stepped.
 */
#include <unistd.h>

#include "nmi_events.h"

#define INC_RBX_SIZE	3

extern char shadow_hlt[], shadow_after_hlt[], shadow_after_cli[], shadow_verw_hlt[];
static uint64_t flags;
static uint64_t pushed;

static void guest(void)
{
	guest_stop(STAGE_READY, flags);
	guest_stage(STAGE_END);
}

static void send_nmi_in_shadow(struct kvm_vcpu *vcpu, uint8_t shadow)
{
	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	put_in_shadow(vcpu, shadow);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
}

static struct kvm_vcpu *stop_in_shadow(void (*guest_code)(void), uint64_t with_flags,
				       uint8_t shadow)
{
	struct kvm_vcpu *vcpu = create_vm(guest_code, NULL);

	flags = with_flags;
	sync_global_to_guest(vcpu->vm, flags);
	send_nmi_in_shadow(vcpu, shadow);
	return vcpu;
}

static void check_one_instruction_later(uint64_t with_flags, uint8_t shadow)
{
	const struct event_log *log;

	require_shadow_tracked(with_flags);
	log = read_log(stop_in_shadow(guest, with_flags, shadow));
	CHECK_EQ(log->nr, 1);
	CHECK_EQ(nmi_nr(log, 1)->rbx, 1);
	CHECK_EQ(nmi_nr(log, 1)->rip, (uint64_t)guest_stop_next + INC_RBX_SIZE);
	CHECK_EQ(nmi_nr(log, 1)->rflags & (RFLAGS_TF | RFLAGS_IF), with_flags & RFLAGS_IF);
}

static void mov_ss_irqs_on(void)
{
	check_one_instruction_later(RFLAGS_FIXED | RFLAGS_IF, KVM_X86_SHADOW_INT_MOV_SS);
}

static void mov_ss_irqs_off(void)
{
	check_one_instruction_later(RFLAGS_FIXED, KVM_X86_SHADOW_INT_MOV_SS);
}

static void sti_shadow(void)
{
	check_one_instruction_later(RFLAGS_FIXED | RFLAGS_IF, KVM_X86_SHADOW_INT_STI);
}

static void guest_hlt(void)
{
	asm volatile("sti\n\t"
		     "out %%eax, %0\n\t"
		     "shadow_hlt: hlt\n\t"
		     "shadow_after_hlt: cli"
		     : : "N"(STAGE_PORT), "a"(STAGE_READY) : "memory");
	guest_stage(STAGE_END);
}

static void sti_hlt(void)
{
	struct kvm_vcpu *vcpu = stop_in_shadow(guest_hlt, 0, KVM_X86_SHADOW_INT_STI);

	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)shadow_after_hlt);
}

static void both_shadows(void)
{
	check_one_instruction_later(RFLAGS_FIXED | RFLAGS_IF,
				    KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS);
}

static uint16_t verw_selector;

static void guest_verw_hlt(void)
{
	asm volatile("mov %%ds, %[selector]\n\t"
		     "sti\n\t"
		     "out %%eax, %[port]\n\t"
		     "verw %[selector]\n\t"
		     "shadow_verw_hlt: hlt"
		     : [selector] "+m"(verw_selector)
		     : [port] "N"(STAGE_PORT), "a"(STAGE_READY) : "memory", "cc");
}

static void on_nmi_end(struct event_regs *regs)
{
	guest_stage(STAGE_END);
}

/* Only the first instruction after STI is in its shadow. */
static void sti_verw_hlt(void)
{
	struct kvm_vcpu *vcpu;

	require_shadow_tracked(RFLAGS_IF);
	vcpu = create_vm(guest_verw_hlt, on_nmi_end);
	send_nmi_in_shadow(vcpu, KVM_X86_SHADOW_INT_STI);
	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)shadow_verw_hlt);
}

static void guest_cli(void)
{
	asm volatile("sti\n\t"
		     "out %%eax, %0\n\t"
		     "cli\n\t"
		     "shadow_after_cli: nop; nop"
		     : : "N"(STAGE_PORT), "a"(STAGE_READY) : "memory");
	guest_stage(STAGE_END);
}

static void sti_cli(void)
{
	struct kvm_vcpu *vcpu = stop_in_shadow(guest_cli, 0, KVM_X86_SHADOW_INT_STI);

	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)shadow_after_cli);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rflags & (RFLAGS_TF | RFLAGS_IF), 0);
}

static void guest_pushf(void)
{
	asm volatile("out %%eax, %[port]\n\t"
		     "pushf\n\t"
		     "pop %[pushed]"
		     : [pushed] "=m"(pushed)
		     : [port] "N"(STAGE_PORT), "a"(STAGE_READY) : "memory");
	guest_stage(STAGE_END);
}

static void pushf(void)
{
	struct kvm_vcpu *vcpu = stop_in_shadow(guest_pushf, 0, KVM_X86_SHADOW_INT_MOV_SS);

	CHECK_EQ(read_log(vcpu)->nr, 1);
	sync_global_from_guest(vcpu->vm, pushed);
	CHECK_EQ(pushed & RFLAGS_TF, 0);
}

static void guest_int3(void)
{
	guest_warm_up();
	asm volatile("out %%eax, %0\n\t"
		     "int3" : : "N"(STAGE_PORT), "a"(STAGE_READY) : "memory");
	guest_stage(STAGE_END);
}

static void breakpoint(void)
{
	struct kvm_vcpu *vcpu = stop_in_shadow(guest_int3, 0, KVM_X86_SHADOW_INT_MOV_SS);
	const struct event_log *log = read_log(vcpu);

	/* The NMI interrupts the #BP handler and is logged first. */
	CHECK_EQ(log->nr, 2);
	CHECK_EQ(log->event[0].vector, NMI_VECTOR);
	CHECK_EQ(log->event[1].vector, BP_VECTOR);
	CHECK_EQ(log->event[1].rflags & RFLAGS_TF, 0);
}

static void guest_ud2(void)
{
	asm volatile("out %%eax, %0\n\t"
		     "ud2" : : "N"(STAGE_PORT), "a"(STAGE_READY) : "memory");
}

/* The #UD handler cannot return; the frame is all that is of interest. */
static void on_ud(struct event_regs *regs)
{
	if (regs->vector == UD_VECTOR)
		guest_stage(STAGE_END);
}

static void invalid_opcode(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_ud2, on_ud);
	const struct event_log *log;

	send_nmi_in_shadow(vcpu, KVM_X86_SHADOW_INT_MOV_SS);
	log = read_log(vcpu);
	CHECK_EQ(log->nr, 2);
	CHECK_EQ(log->event[0].vector, NMI_VECTOR);
	CHECK_EQ(log->event[1].rflags & RFLAGS_TF, 0);
	/* Only ours has a version. */
	if (nmi_path() == SVM_VNMI && on_qemu_tcg() && shadow_survives_entry() &&
	    log->event[0].rip != (uint64_t)event_entry_6 &&
	    access("/sys/module/kvm_amd/version", F_OK))
		skip("the distribution's module leaves the shadow to the #UD that it injects, and so does QEMU 10");
	CHECK_EQ(log->event[0].rip, (uint64_t)event_entry_6);
}

static const struct test_case cases[] = {
	{ "with IRQs on, an NMI in a MOV SS shadow comes one instruction later", mov_ss_irqs_on },
	{ "with IRQs off, an NMI in a MOV SS shadow comes one instruction later", mov_ss_irqs_off },
	{ "an NMI in an STI shadow comes one instruction later", sti_shadow },
	{ "an NMI in both shadows at once comes one instruction later", both_shadows },
	{ "an NMI between STI and VERW comes before the HLT that follows", sti_verw_hlt },
	{ "an NMI between STI and HLT comes after the HLT", sti_hlt },
	{ "an NMI between STI and CLI comes after the CLI", sti_cli },
	{ "PUSHF in the shadow pushes the guest's own flags", pushf },
	{ "#BP in the shadow pushes the guest's own flags, then the NMI comes", breakpoint },
	{ "#UD in the shadow pushes the guest's own flags, then the NMI comes", invalid_opcode },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
