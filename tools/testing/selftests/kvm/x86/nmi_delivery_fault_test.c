// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NMI whose stack is not there: its delivery raises a #PF, whose handler runs in
 * place of the NMI's. The NMI counts as taken, and NMIs are blocked until the #PF
 * handler's IRET.
 *
 * A wrong implementation that uses page tables of its own takes the #PF for the
 * host's, injects it, and forgets that an NMI was on its way: the next one hits the
 * handler of the #PF, or is not counted.
 */
#include "nmi_events.h"
#include "nmi_soft.h"

#define NO_STACK	0x7f0000001000

static void guest(void)
{
	guest_warm_up();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_open();
	guest_stage(STAGE_END);
}

static void on_event(struct event_regs *regs)
{
	if (regs->vector == PF_VECTOR && guest_log.nr == 1)
		guest_stage(STAGE_HANDLER);
}

static void counts_as_taken(void)
{
	struct kvm_vcpu_events events;
	const struct event_log *log;
	struct kvm_vcpu *vcpu;
	uint64_t injected;
	bool seen;

	if (nmi_path() != VMX_VIRTUAL_NMIS && nmi_path() != VMX_SOFT)
		skip("this is about Intel CPUs");
	vcpu = create_vm(guest, on_event);
	set_ist(vcpu, 1, NO_STACK);
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
	run_to(vcpu, STAGE_READY);
	injected = vcpu_stat(vcpu, "nmi_injections");
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.masked, 1);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	log = read_log(vcpu);
	CHECK_EQ(log->nr, 2);
	CHECK_EQ(log->event[0].vector, PF_VECTOR);
	CHECK_EQ(log->event[0].rip, (uint64_t)guest_stop_next);
	CHECK_EQ(log->event[1].vector, PF_VECTOR);
	/*
	 * The frame of a fault has RF set: a breakpoint does not see that IRET. With page
	 * tables of its own KVM knows of the fault, and steps.
	 */
	seen = nmi_path() == VMX_VIRTUAL_NMIS || (soft_searches() && !param_is_yes("ept"));
	CHECK_EQ(log->event[1].rip, (uint64_t)(seen ? guest_stop_next : guest_open_next));
	CHECK_EQ(vcpu_stat(vcpu, "nmi_injections") - injected, 2);
}

static const struct test_case cases[] = {
	{ "an NMI whose delivery takes a #PF blocks until the #PF handler's IRET",
	  counts_as_taken },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
