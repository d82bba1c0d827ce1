// SPDX-License-Identifier: GPL-2.0-only
/*
 * Without virtual NMIs an NMI goes into the guest as a hardware exception of
 * vector 2: a CPU may take the injection of a true NMI for a reason to block the
 * host's own. The guest must not be able to tell, and if the delivery does not
 * get through, KVM and user space must find an NMI again, not an exception that
 * no CPU has.
 *
 * The host takes away what the delivery needs, the page of the stack or of the
 * IDT, or gives up the entry; the guest offers a gate that faults.
 *
 * A wrong implementation delivers twice or never, finds the blocking of its first
 * attempt in its own way, or looks for the return where the first attempt was.
 */
#include "nmi_pages.h"
#include "nmi_soft.h"

#define IDT_PAGE	SHARED_GPA

static void guest(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_open();
	guest_stage(STAGE_END);
}

static void on_event(struct event_regs *regs)
{
	if (regs->vector == NMI_VECTOR && guest_log.nr_nmis == 1)
		guest_stage(STAGE_HANDLER);
}

static struct kvm_vcpu *run_to_ready(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event);

	require_exact();
	run_to(vcpu, STAGE_READY);
	return vcpu;
}

/* The first NMI is on its way; a second waits until the first has returned. */
static void send_second(struct kvm_vcpu *vcpu)
{
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)guest_stop_next);
}

static void check_two(struct kvm_vcpu *vcpu)
{
	send_second(vcpu);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rflags, RFLAGS_FIXED);
	check_came_at_return(vcpu);
}

static void check_two_after_cut(struct kvm_vcpu *vcpu)
{
	send_second(vcpu);
	check_came_at_return_after_cut(vcpu);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rflags, RFLAGS_FIXED);
}

static void stack_page_missing(void)
{
	struct kvm_vcpu *vcpu = run_to_ready();

	use_frame_page(vcpu);
	drop_shared_page(vcpu, FRAME_PAGE);
	send_nmi(vcpu);
	check_two_after_cut(vcpu);
}

/* KVM_RUN ends in the middle of the delivery, for user space to find out why. */
static void stack_page_forbidden(void)
{
	struct kvm_vcpu *vcpu = run_to_ready();
	struct kvm_vcpu_events events;
	void *page;

	use_frame_page(vcpu);
	page = addr_gpa2hva(vcpu->vm, FRAME_PAGE);
	TEST_ASSERT(!mprotect(page, 4096, PROT_NONE), "mprotect");
	send_nmi(vcpu);
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EFAULT, "no EFAULT");
	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.injected, 1);
	CHECK_EQ(events.exception.injected, 0);
	vcpu_events_set(vcpu, &events);
	TEST_ASSERT(!mprotect(page, 4096, PROT_READ | PROT_WRITE), "mprotect");
	check_two_after_cut(vcpu);
}

static void idt_page_missing(void)
{
	struct kvm_vcpu *vcpu = run_to_ready();
	struct kvm_sregs sregs;

	add_shared_memory(vcpu);
	vcpu_sregs_get(vcpu, &sregs);
	memcpy(addr_gpa2hva(vcpu->vm, IDT_PAGE), addr_gva2hva(vcpu->vm, sregs.idt.base),
	       4096);
	sregs.idt.base = IDT_PAGE;
	vcpu_sregs_set(vcpu, &sregs);
	drop_shared_page(vcpu, IDT_PAGE);
	send_nmi(vcpu);
	check_two_after_cut(vcpu);
}

/* --- entries that are given up ---------------------------------------------- */

static void entry_given_up(void)
{
	struct kvm_vcpu *vcpu = run_to_ready();
	struct kvm_vcpu_events events;
	int i;

	finish_stage(vcpu);
	send_nmi(vcpu);
	for (i = 0; i < 3; i++)
		enter_and_give_up(vcpu);
	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.injected, 1);
	CHECK_EQ(events.exception.injected, 0);
	check_two(vcpu);
}

/* User space moves the vCPU on, as a debugger may, before the NMI has left. */
static void moved_in_between(void)
{
	struct kvm_vcpu *vcpu = run_to_ready();
	const struct event_log *log;
	struct kvm_regs regs;

	finish_stage(vcpu);
	send_nmi(vcpu);
	enter_and_give_up(vcpu);
	vcpu_regs_get(vcpu, &regs);
	regs.rip += 3;		/* one INC */
	vcpu_regs_set(vcpu, &regs);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	log = read_log(vcpu);
	CHECK_EQ(nmi_nr(log, 1)->rip, (uint64_t)guest_stop_next + 3);
	check_came_at_return(vcpu);
}

/* --- a gate that faults ----------------------------------------------------- */

#define EXTERNAL	1	/* in an error code: not the program's doing */
#define IN_IDT		2

static void gate_faults(void)
{
	struct kvm_vcpu *vcpu = run_to_ready();
	const struct event_log *log;

	set_gate(vcpu, NMI_VECTOR, event_entry_2, 0, 0);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	log = read_log(vcpu);
	CHECK_EQ(log->nr, 1);
	CHECK_EQ(log->event[0].vector, GP_VECTOR);
	CHECK_EQ(log->event[0].error, NMI_VECTOR * 8 | IN_IDT | EXTERNAL);
	CHECK_EQ(log->event[0].rip, (uint64_t)guest_stop_next);
	CHECK_EQ(log->event[0].rflags & ~RFLAGS_RF, RFLAGS_FIXED);
}

static const struct test_case cases[] = {
	{ "found: the delivery had to wait for its stack's page", stack_page_missing },
	{ "found: the delivery had to wait for user space, which saw an NMI", stack_page_forbidden },
	{ "found: the delivery had to wait for the IDT's page", idt_page_missing },
	{ "found: entries were given up, and user space saw an NMI", entry_given_up },
	{ "found: the vCPU was moved on between the two", moved_in_between },
	{ "a faulty gate makes a #GP that is external to the program", gate_faults },
};

int main(void)
{
	if (nmi_path() != VMX_SOFT)
		return skip_all("this machine has virtual NMIs, or no need of them");
	return run_cases(cases, ARRAY_SIZE(cases));
}
