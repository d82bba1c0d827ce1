// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vCPU saved in any NMI state and restored into a fresh VM goes on as if it
 * had never stopped: nothing lost, nothing doubled, no handler nested.
 *
 * The states are the fields of KVM_GET_VCPU_EVENTS: pending, injected, masked.
 * "Injected" is reached by a signal that is due at VM entry: KVM has chosen the
 * event, then gives the entry up.
 *
 * A wrong implementation keeps part of the state where the ioctls do not see it
 * (in the VMCS or VMCB, in a hidden flag), or forgets it on the way in. Up to
 * Linux 6.3 kvm.ko itself saves two pending NMIs as one.
 */
#include "nmi_test.h"

static uint64_t flags = RFLAGS_FIXED | RFLAGS_IF;

static void guest(void)
{
	guest_stop(STAGE_READY, flags);
	guest_irqs_on();
	guest_irqs_off();
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *run_to_ready(void (*handler)(struct event_regs *))
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	sync_global_to_guest(vcpu->vm, flags);
	run_to(vcpu, STAGE_READY);
	return vcpu;
}

static struct kvm_vcpu *run_to_handler(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(stop_in_first_handler);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	return vcpu;
}

static struct kvm_vcpu_events events_of(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	return events;
}

static void pending(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);

	send_nmi(vcpu);
	CHECK_EQ(events_of(vcpu).nmi.pending, 1);
	vcpu = migrate(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

static void two_pending(void)
{
	struct kvm_vcpu *vcpu;

	if (!kernel_is_at_least(6, 4))
		skip("kvm.ko before 6.4 saves two pending NMIs as one");
	vcpu = run_to_ready(NULL);
	send_nmi(vcpu);
	send_nmi(vcpu);
	CHECK_EQ(events_of(vcpu).nmi.pending, 2);
	vcpu = migrate(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
}

/* In the handler of the first: one more comes when that has returned. */
static void check_next_waits(struct kvm_vcpu *vcpu)
{
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
}

static void masked(void)
{
	struct kvm_vcpu *vcpu = run_to_handler();

	CHECK_EQ(events_of(vcpu).nmi.masked, 1);
	vcpu = migrate(vcpu);
	CHECK_EQ(events_of(vcpu).nmi.masked, 1);
	check_next_waits(vcpu);
}

static void masked_and_pending(void)
{
	struct kvm_vcpu *vcpu = run_to_handler();

	send_nmi(vcpu);
	CHECK_EQ(events_of(vcpu).nmi.pending, 1);
	vcpu = migrate(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	vcpu = migrate(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
}

static void masked_only(void)
{
	struct kvm_vcpu *vcpu = run_to_handler();

	vcpu = migrate(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
	CHECK_EQ(events_of(vcpu).nmi.pending, 0);
}

static void injected(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);
	struct kvm_vcpu_events events;

	finish_stage(vcpu);
	send_nmi(vcpu);
	enter_and_give_up(vcpu);

	/* Or still pending, if it is the CPU that is to take it. */
	events = events_of(vcpu);
	CHECK_EQ(events.nmi.injected + events.nmi.pending, 1);
	vcpu = migrate(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

/* What comes in between is not what its delivery has raised: it has not begun. */
static void injected_and_overtaken(void)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_INJECT_DB };
	struct kvm_vcpu *vcpu = run_to_ready(stop_in_first_handler);

	finish_stage(vcpu);
	send_nmi(vcpu);
	enter_and_give_up(vcpu);
	vcpu_guest_debug_set(vcpu, &debug);
	enter_and_give_up(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	CHECK_EQ(read_log(vcpu)->nr, 3);
}

static void injected_and_pending(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);

	finish_stage(vcpu);
	send_nmi(vcpu);
	enter_and_give_up(vcpu);
	send_nmi(vcpu);
	vcpu = migrate(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
}

static void given_up_entry(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);
	int i;

	finish_stage(vcpu);
	send_nmi(vcpu);
	for (i = 0; i < 5; i++)
		enter_and_give_up(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

static void set_what_was_got(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events = events_of(vcpu);

	vcpu_events_set(vcpu, &events);
}

static void get_and_set(void)
{
	struct kvm_vcpu *vcpu = run_to_handler();

	set_what_was_got(vcpu);
	send_nmi(vcpu);
	set_what_was_got(vcpu);
	set_what_was_got(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	set_what_was_got(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
}

/* As only user space can ask for it: the one that is on its way blocks all others. */
static void injected_and_masked(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(stop_in_first_handler);
	struct kvm_vcpu_events events;

	finish_stage(vcpu);
	events = events_of(vcpu);
	events.nmi.injected = 1;
	events.nmi.masked = 1;
	vcpu_events_set(vcpu, &events);
	run_to(vcpu, STAGE_HANDLER);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	CHECK_EQ(events_of(vcpu).nmi.masked, 1);
	check_next_waits(vcpu);
}

static void pending_taken_back(void)
{
	struct kvm_vcpu *vcpu = run_to_handler();
	struct kvm_vcpu_events events;

	send_nmi(vcpu);
	events = events_of(vcpu);
	events.nmi.pending = 0;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	vcpu_events_set(vcpu, &events);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

/* An entry has tried to deliver it, and left it. */
static void untaken_taken_back(void)
{
	struct kvm_vcpu *vcpu = run_to_handler();
	struct kvm_vcpu_events events;

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	events = events_of(vcpu);
	CHECK_EQ(events.nmi.pending, 1);
	CHECK_EQ(events.nmi.masked, 1);
	events.nmi.pending = 0;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	vcpu_events_set(vcpu, &events);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

/*
 * 64-bit code has no BOUND: SVM's VMRUN refuses to inject its trap (APM volume 2, 15.20).
 * What the entry was made of is what the next one has: on AMD the CPU may have its own copy.
 */
static void refused_entry(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);
	struct kvm_vcpu_events events = events_of(vcpu);
	struct kvm_sregs sregs;

	finish_stage(vcpu);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.ds.base = 0x1000;
	vcpu_sregs_set(vcpu, &sregs);
	events.exception.injected = 1;
	events.exception.nr = BR_VECTOR;
	vcpu_events_set(vcpu, &events);
	send_nmi(vcpu);
	TEST_ASSERT(!__vcpu_run(vcpu), "KVM_RUN: %s", strerror(errno));
	if (vcpu->run->exit_reason != KVM_EXIT_FAIL_ENTRY)
		skip("this CPU injects any exception");
	events = events_of(vcpu);
	events.exception.injected = 0;
	vcpu_events_set(vcpu, &events);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

/* As system_reset: registers and events are written, the vCPU is not a new one. */
static void reset_by_user_space(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(stop_in_first_handler);
	struct kvm_vcpu_events events;
	struct kvm_regs start;

	finish_stage(vcpu);
	vcpu_regs_get(vcpu, &start);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	finish_stage(vcpu);
	events = events_of(vcpu);
	CHECK_EQ(events.nmi.masked, 1);
	CHECK_EQ(events.nmi.pending, 1);
	memset(&events, 0, sizeof(events));
	events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	vcpu_events_set(vcpu, &events);
	vcpu_regs_set(vcpu, &start);
	guest_log.nr = guest_log.nr_nmis = guest_log.in_nmi = 0;
	sync_global_to_guest(vcpu->vm, guest_log);

	events = events_of(vcpu);
	CHECK_EQ(events.nmi.masked, 0);
	CHECK_EQ(events.nmi.pending, 0);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 1);
}

static const struct test_case cases[] = {
	{ "a pending NMI survives migration", pending },
	{ "two pending NMIs survive migration", two_pending },
	{ "a handler migrated in the middle is not nested", masked },
	{ "an NMI that waits for a handler's end survives two migrations", masked_and_pending },
	{ "migration in a handler makes no NMI of its own", masked_only },
	{ "an injected NMI survives migration", injected },
	{ "an injected and a pending NMI survive migration", injected_and_pending },
	{ "an NMI whose entry was called off comes, also after an exception of user space's",
	  injected_and_overtaken },
	{ "an NMI comes once after entries that were given up", given_up_entry },
	{ "setting the events just read changes nothing", get_and_set },
	{ "reset by user space forgets the NMI in service and the one that waits", reset_by_user_space },
	{ "an NMI that user space injects and has masked as well comes, and blocks the next",
	  injected_and_masked },
	{ "user space can take a pending NMI back", pending_taken_back },
	{ "also one that an entry was asked to deliver and did not", untaken_taken_back },
	{ "an NMI comes once after an entry that the CPU refuses", refused_entry },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
