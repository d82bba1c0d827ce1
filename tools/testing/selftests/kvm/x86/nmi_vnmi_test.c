// SPDX-License-Identifier: GPL-2.0-only
/*
 * On a CPU with vNMI an NMI costs nothing but its own way into KVM: the CPU
 * knows by itself when a handler has ended, and takes the one that waits. No
 * exit at IRET, no single step, no window.
 *
 * What KVM counts has to be what the guest takes: nmi_injections is one per NMI
 * delivered, also for one that the CPU took by itself, and for one whose
 * delivery an exit interrupted. The host provokes that by taking the page of the
 * IDT away, which is read last before the handler.
 *
 * A wrong implementation intercepts IRET, asks for windows, takes the pending
 * bit for the masked bit (then the second NMI is lost), or counts an NMI both
 * when it is handed over and when it is injected again.
 */
#include "nmi_pages.h"

/* On a host in a host each takes some milliseconds. */
#define MANY_NMIS	(long_run() ? 10000 : 2000)
#define SOME_NMIS	1000
#define SELF_NMI	(APIC_DEST_SELF | APIC_INT_ASSERT | APIC_DM_NMI)

/* Exits that have other reasons: pages touched for the first time, timers. */
#define OTHER_EXITS	200

static uint32_t nr_nmis;

/* --- exits by reason ------------------------------------------------------ */

#define EXIT_DB		0x41
#define EXIT_IRET	0x74
#define EXIT_IO		0x7b

static void trace_exits_by_reason(void)
{
	char filter[80];

	snprintf(filter, sizeof(filter), "exit_reason==%d || exit_reason==%d || exit_reason==%d",
		 EXIT_DB, EXIT_IRET, EXIT_IO);
	trace_exits(filter);
}

static unsigned int traced(const char *reason)
{
	char line[256], want[32];

	snprintf(want, sizeof(want), " reason %s ", reason);
	return trace_find(want, line, sizeof(line));
}

/* --- what NMIs cost ------------------------------------------------------- */

static void send_self_nmi(void)
{
	x2apic_write_reg(APIC_ICR, SELF_NMI);
}

static void on_nmi_send_next(struct event_regs *regs)
{
	if (guest_log.nr_nmis < nr_nmis)
		send_self_nmi();
}

static void guest_back_to_back(void)
{
	x2apic_enable();
	send_self_nmi();
	guest_stage(STAGE_END);
}

static void guest_one_by_one(void)
{
	unsigned int i;

	x2apic_enable();
	for (i = 0; i < nr_nmis; i++)
		send_self_nmi();
	guest_stage(STAGE_END);
}

/*
 * The one exit that an NMI costs is the write to the APIC that sends it. That the
 * trace has the guest's port access says that it would have the others, too.
 */
static void check_cost(void (*guest)(void), void (*on_event)(struct event_regs *),
		       uint32_t nr)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event);
	uint64_t exits, windows;

	nr_nmis = nr;
	sync_global_to_guest(vcpu->vm, nr_nmis);
	limit_case(100);
	trace_exits_by_reason();
	run_to(vcpu, STAGE_END);
	exits = exits_of(vcpu);
	windows = vcpu_stat(vcpu, "nmi_window_exits");
	if (nmi_path() != SVM_VNMI)
		skip("no vNMI here: %u NMIs, %lu exits, %lu of them IRET windows",
		     nr, exits, windows);

	printf("%u NMIs, %lu exits\n", nr, exits);
	CHECK_EQ(read_log(vcpu)->nr_nmis, nr);
	CHECK_EQ(vcpu_stat(vcpu, "nmi_injections"), nr);
	CHECK_EQ(windows, 0);
	CHECK_EQ(traced("io"), 1);
	CHECK_EQ(traced("iret"), 0);
	CHECK_EQ(traced("DB excp"), 0);
	CHECK(exits < nr + OTHER_EXITS, "%lu exits", exits);
}

static void back_to_back(void)
{
	check_cost(guest_back_to_back, on_nmi_send_next, MANY_NMIS);
}

static void one_by_one(void)
{
	check_cost(guest_one_by_one, NULL, SOME_NMIS);
}

/* --- deliveries in two parts -------------------------------------------- */

static void guest_stops(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void on_nmi_stop(struct event_regs *regs)
{
	guest_stage(STAGE_HANDLER);
}

/* The next event finds the IDT unmapped by the host, with all that is in it. */
static void take_idt_away(struct kvm_vcpu *vcpu)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	take_page_away(vcpu, sregs.idt.base);
}

static void run_to_handler(struct kvm_vcpu *vcpu, unsigned int nr)
{
	uint64_t faults = vcpu_stat(vcpu, "pf_taken");
	struct kvm_vcpu_events events;

	take_idt_away(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	TEST_ASSERT(vcpu_stat(vcpu, "pf_taken") > faults, "the IDT was mapped");
	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.masked, 1);
	CHECK_EQ(events.nmi.pending, 0);
	CHECK_EQ(events.nmi.injected, 0);
	CHECK_EQ(read_log(vcpu)->nr_nmis, nr);
	CHECK_EQ(nmi_nr(&guest_log, nr)->rip, (uint64_t)guest_stop_next);
	CHECK_EQ(vcpu_stat(vcpu, "nmi_injections"), nr);
}

/*
 * The first NMI is injected, or the CPU's to take as the second one: before a debugger no kernel
 * leaves NMIs to the CPU that can be injected.
 */
static void in_parts(bool debugger)
{
	struct kvm_vcpu *vcpu = create_vm(guest_stops, on_nmi_stop);
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE };

	run_to(vcpu, STAGE_READY);
	if (debugger)
		vcpu_guest_debug_set(vcpu, &debug);
	send_nmi(vcpu);
	run_to_handler(vcpu, 1);
	send_nmi(vcpu);
	run_to_handler(vcpu, 2);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
}

static void two_in_parts(void)
{
	in_parts(false);
}

static void two_before_a_debugger(void)
{
	in_parts(true);
}

static void given_up(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_stops, on_nmi_stop);
	int i;

	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	send_nmi(vcpu);
	for (i = 0; i < 5; i++)
		enter_and_give_up(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	finish_stage(vcpu);
	send_nmi(vcpu);
	for (i = 0; i < 5; i++)
		enter_and_give_up(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	CHECK_EQ(vcpu_stat(vcpu, "nmi_injections"), 2);
}

static const struct test_case cases[] = {
	{ "thousands of NMIs back to back cost no exit and no window", back_to_back },
	{ "neither do 1000 NMIs one by one", one_by_one },
	{ "an NMI counts once when an exit interrupts its delivery", two_in_parts },
	{ "so it does before a debugger, where it is injected", two_before_a_debugger },
	{ "an NMI counts once when entries for it are given up", given_up },
};

int main(void)
{
	if (nmi_path() != SVM_VNMI && nmi_path() != SVM_IRET)
		return skip_all("this is about kvm-amd");
	return run_cases(cases, ARRAY_SIZE(cases));
}
