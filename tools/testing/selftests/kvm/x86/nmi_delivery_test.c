// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NMI is delivered once, before the instruction that would have run next,
 * and its handler finds the interrupted context in its frame.
 *
 * The guest stops in an OUT; the host sends the NMI there, so the instruction
 * after the OUT is the one that must not have run yet.
 *
 * A wrong implementation loses the NMI, delivers it twice, delivers it an
 * instruction late, or leaves traces of its own (TF, RF) in the frame.
 */
#include "nmi_test.h"

#define NR_IN_A_ROW	1000

static uint64_t flags;

/* An entry that only reports: the flags in force are those of the handler. */
extern char report_entry[];
asm("report_entry:" ASM_STAGE(STAGE_HANDLER));

static void guest(void)
{
	guest_stop(STAGE_READY, flags);
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *run_to_ready(uint64_t with_flags)
{
	struct kvm_vcpu *vcpu = create_vm(guest, NULL);

	flags = with_flags;
	sync_global_to_guest(vcpu->vm, flags);
	run_to(vcpu, STAGE_READY);
	return vcpu;
}

static void check_delivery(uint64_t with_flags)
{
	struct kvm_vcpu *vcpu = run_to_ready(with_flags);
	const struct event_log *log;

	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	log = read_log(vcpu);
	CHECK_EQ(log->nr, 1);
	CHECK_EQ(nmi_nr(log, 1)->rip, (uint64_t)guest_stop_next);
	CHECK_EQ(nmi_nr(log, 1)->rbx, 0);
}

static void irqs_on(void)
{
	check_delivery(RFLAGS_FIXED | RFLAGS_IF);
}

static void irqs_off(void)
{
	check_delivery(RFLAGS_FIXED);
}

static void frame(void)
{
	const uint64_t all = RFLAGS_FIXED | RFLAGS_IF | RFLAGS_CF | RFLAGS_DF | RFLAGS_OF;
	struct kvm_vcpu *vcpu = run_to_ready(all);
	const struct event_regs *nmi;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	finish_stage(vcpu);
	vcpu_sregs_get(vcpu, &sregs);
	vcpu_regs_get(vcpu, &regs);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	nmi = nmi_nr(read_log(vcpu), 1);
	CHECK_EQ(nmi->rflags, all);
	CHECK_EQ(nmi->rsp, regs.rsp);
	CHECK_EQ(nmi->cs, sregs.cs.selector);
	CHECK_EQ(nmi->ss, sregs.ss.selector);
}

static void handler_flags(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(RFLAGS_FIXED | RFLAGS_IF);
	struct kvm_regs regs;

	set_gate(vcpu, NMI_VECTOR, report_entry, INTERRUPT_GATE, 0);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	vcpu_regs_get(vcpu, &regs);
	CHECK_EQ(regs.rflags & (RFLAGS_IF | RFLAGS_TF | RFLAGS_RF), 0);
}

static void guest_row(void)
{
	int i;

	guest_irqs_on();
	for (i = 0; i < NR_IN_A_ROW; i++)
		guest_stage(STAGE_READY);
	guest_stage(STAGE_END);
}

static void in_a_row(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_row, NULL);
	int i;

	for (i = 0; i < NR_IN_A_ROW; i++) {
		run_to(vcpu, STAGE_READY);
		send_nmi(vcpu);
	}
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, NR_IN_A_ROW);
}

static const struct test_case cases[] = {
	{ "with IRQs on, an NMI comes once, before the next instruction", irqs_on },
	{ "with IRQs off, an NMI comes once, before the next instruction", irqs_off },
	{ "the frame holds the interrupted stack, segments and flags", frame },
	{ "the handler starts with IF, TF and RF clear", handler_flags },
	{ "a thousand NMIs one after another are a thousand deliveries", in_a_row },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
