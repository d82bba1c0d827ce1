// SPDX-License-Identifier: GPL-2.0-only
/*
 * NMI blocking between a guest hypervisor (L1) and its guest (L2), as measured on
 * CPUs, for the three legal pairs of the controls "NMI exiting" and "virtual NMIs":
 * what an entry makes of L1's blocking and of bit 3 of the interruptibility state,
 * what L2's IRET does, what an NMI that L1 injects blocks, and how L1 finds all that
 * after the exit.
 *
 * Most cases are one walk: L1 enters L2, blocked or open, with bit 3 set or clear;
 * L2 stops, where the host sends an NMI; L2 may execute an IRET, and calls L1 if it
 * still can; L1 stops, where the host sends another NMI, and executes an IRET. Where
 * the first NMI went, what the exit says and where the second one went is all there
 * is to see. What is blocked has merged with what was there before.
 *
 * L2 keeps IRQs off: soft vNMI takes a window for interrupts as the end of blocking.
 *
 * A wrong implementation keeps L1's blocking across an entry that ends it, forgets
 * what an entry has set, lets an IRET of L2 end what only L1's ends, or has the
 * injection of an NMI block where L2 has no virtual NMIs.
 */
#include "nmi_nested_vmx.h"

enum { STAGE_L2 = STAGE_OWN, STAGE_L2_HANDLER, STAGE_L1 };

#define NEITHER		0
#define EXITING		PIN_BASED_NMI_EXITING
#define BOTH		(PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS)

static struct walk {
	/* What is done */
	bool l1_blocked;	/* L1 has had an NMI exit before */
	uint32_t controls;
	bool bit3;		/* of the interruptibility state at the entry */
	bool inject;		/* L1 injects an NMI; its handler in L2 calls L1 */
	bool iret;		/* L2 executes an IRET */
	bool bochs;		/* Bochs 2.7 gets it wrong under virtual NMIs */

	/* What comes of it */
	uint32_t reason;	/* of the exit */
	bool blocked;		/* its bit 3 */
	bool in_l2;		/* the NMI went to L2's handler */
	bool l1_stays;		/* L1 is blocked after it */
} walk;

/* --- guest side --------------------------------------------------------- */

static void l2(void)
{
	guest_stop(STAGE_L2, RFLAGS_FIXED);
	if (walk.iret)
		guest_iret();
	vmcall();
}

static void on_nmi(struct event_regs *regs)
{
	if (!walk.inject || guest_log.nr_nmis > 1)
		return;
	guest_log.in_nmi = 0;		/* another one may come, and is to be seen */
	guest_stage(STAGE_L2_HANDLER);
	vmcall();
}

static void l1(void)
{
	uint64_t rsp;

	prepare_vmx_l2(l2);
	rsp = vmreadz(GUEST_RSP);
	if (walk.l1_blocked) {
		set_vmx_pin_controls(EXITING);
		run_vmx_l2();
		vmwrite(GUEST_RIP, (uint64_t)l2);
		vmwrite(GUEST_RSP, rsp);
	}

	set_vmx_pin_controls(walk.controls);
	vmwrite(GUEST_INTERRUPTIBILITY_INFO, walk.bit3 ? BLOCKED_BY_NMI : 0);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, walk.inject ? INTR_INFO_NMI : 0);
	run_vmx_l2();

	guest_stage(STAGE_L1);
	guest_stage(STAGE_L1);
	guest_iret();
	guest_irqs_on();		/* without virtual NMIs nobody sees the IRET */
	guest_irqs_off();
	guest_stage(STAGE_END);
}

/* --- host side ---------------------------------------------------------- */

static bool masked(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	return events.nmi.masked;
}

static void check(const struct walk *how)
{
	unsigned int nr_exits = how->l1_blocked ? 2 : 1;
	struct kvm_vcpu *vcpu = create_vmx_l1(l1, NEITHER, on_nmi);
	unsigned int nr = how->in_l2 + how->inject;
	const struct vmx_exit *exit;

	if (how->bochs)
		require_blocking_cleared_at_entry();
	if (how->controls == NEITHER && (how->iret || how->in_l2))
		require_iret_tracked();

	walk = *how;
	sync_global_to_guest(vcpu->vm, walk);
	if (how->l1_blocked) {
		run_to(vcpu, STAGE_L2);
		send_nmi(vcpu);
	}
	run_to(vcpu, how->inject ? STAGE_L2_HANDLER : STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);

	exit = read_vmx_exits(vcpu, nr_exits) + nr_exits - 1;
	CHECK_EQ(exit->reason, how->reason);
	CHECK_EQ(exit->interruptibility, how->blocked ? BLOCKED_BY_NMI : 0);
	if (how->reason == EXIT_REASON_EXCEPTION_NMI)
		CHECK_EQ(exit->intr_info & 0x80000fff, INTR_INFO_NMI);
	CHECK_EQ(read_log(vcpu)->nr_nmis, nr);
	CHECK_EQ(masked(vcpu), how->l1_stays);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_log(vcpu)->nr_nmis, nr + !how->l1_stays);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, nr + 1);
}

#define NMI	EXIT_REASON_EXCEPTION_NMI
#define CALL	EXIT_REASON_VMCALL

#define WALK(name, ...) \
	static void name(void) { check(&(struct walk) { __VA_ARGS__ }); }

WALK(neither_open, .reason = CALL, .in_l2 = true)
WALK(neither_ends, .l1_blocked = true, .reason = CALL, .in_l2 = true)
WALK(neither_bit3, .bit3 = true, .reason = CALL, .blocked = true, .l1_stays = true)
WALK(neither_both, .l1_blocked = true, .bit3 = true, .reason = CALL, .blocked = true,
     .l1_stays = true)
WALK(neither_iret, .bit3 = true, .iret = true, .reason = CALL, .in_l2 = true)
WALK(neither_iret_both, .l1_blocked = true, .bit3 = true, .iret = true, .reason = CALL,
     .in_l2 = true)

WALK(exiting_open, .controls = EXITING, .reason = NMI, .l1_stays = true)
WALK(exiting_ends, .l1_blocked = true, .controls = EXITING, .reason = NMI,
     .l1_stays = true)
WALK(exiting_bit3, .controls = EXITING, .bit3 = true, .reason = CALL, .blocked = true,
     .l1_stays = true)
WALK(exiting_both, .l1_blocked = true, .controls = EXITING, .bit3 = true, .reason = CALL,
     .blocked = true, .l1_stays = true)
WALK(exiting_iret, .controls = EXITING, .bit3 = true, .iret = true, .reason = CALL,
     .blocked = true, .l1_stays = true)
WALK(exiting_iret_both, .l1_blocked = true, .controls = EXITING, .bit3 = true,
     .iret = true, .reason = CALL, .blocked = true, .l1_stays = true)

WALK(both_open, .controls = BOTH, .reason = NMI, .l1_stays = true)
WALK(both_ends, .l1_blocked = true, .controls = BOTH, .reason = NMI, .l1_stays = true)
WALK(both_bit3, .controls = BOTH, .bit3 = true, .reason = NMI, .blocked = true,
     .l1_stays = true)
WALK(both_both, .l1_blocked = true, .controls = BOTH, .bit3 = true, .reason = NMI,
     .blocked = true, .l1_stays = true)

/* It nests, and the inner handler's IRET frees both. */
WALK(neither_injects, .inject = true, .reason = CALL, .in_l2 = true)
WALK(neither_injects_bit3, .bit3 = true, .inject = true, .reason = CALL, .blocked = true,
     .l1_stays = true)
WALK(exiting_injects, .controls = EXITING, .inject = true, .reason = NMI,
     .l1_stays = true)
WALK(exiting_injects_bit3, .controls = EXITING, .bit3 = true, .inject = true,
     .reason = CALL, .blocked = true, .l1_stays = true)
WALK(both_injects, .controls = BOTH, .inject = true, .reason = NMI, .blocked = true,
     .l1_stays = true)

/* --- without an NMI while L2 runs --- */

static void check_quiet(uint32_t controls, bool bit3, bool inject, bool iret, bool blocked)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1, NEITHER, on_nmi);
	bool stays = blocked && controls != BOTH;
	const struct vmx_exit *exit;

	if (iret && controls == NEITHER)
		require_iret_tracked();
	if (bit3 && controls == BOTH && !iret)
		require_blocking_cleared_at_entry();
	walk = (struct walk) {
		.controls = controls, .bit3 = bit3, .inject = inject, .iret = iret,
	};
	sync_global_to_guest(vcpu->vm, walk);
	run_to(vcpu, inject ? STAGE_L2_HANDLER : STAGE_L2);
	run_to(vcpu, STAGE_L1);

	exit = read_vmx_exits(vcpu, 1);
	CHECK_EQ(exit->reason, EXIT_REASON_VMCALL);
	CHECK_EQ(exit->interruptibility, blocked ? BLOCKED_BY_NMI : 0);
	CHECK_EQ(masked(vcpu), stays);

	/* Two that are blocked become one. */
	send_nmi(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_log(vcpu)->nr_nmis, inject + (stays ? 0 : 2));
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, inject + (stays ? 1 : 2));
}

#define QUIET(name, ...) static void name(void) { check_quiet(__VA_ARGS__); }

QUIET(quiet_neither_bit3, NEITHER, true, false, false, true)
QUIET(quiet_neither_iret, NEITHER, true, false, true, false)
QUIET(quiet_neither_injects, NEITHER, false, true, false, false)
QUIET(quiet_exiting_bit3, EXITING, true, false, false, true)
QUIET(quiet_exiting_iret, EXITING, true, false, true, true)
QUIET(quiet_exiting_injects, EXITING, false, true, false, false)
QUIET(quiet_both_bit3, BOTH, true, false, false, true)
QUIET(quiet_both_iret, BOTH, true, false, true, false)

static const struct test_case cases[] = {
	{ "neither control, bit 3 clear: the NMI goes to L2", neither_open },
	{ "neither control, bit 3 clear: the entry ends L1's blocking", neither_ends },
	{ "neither control, bit 3 set: the entry blocks, and L1 stays blocked", neither_bit3 },
	{ "neither control, bit 3 set: L1 was and stays blocked", neither_both },
	{ "neither control: L2's IRET frees L2 and L1", neither_iret },
	{ "neither control: L2's IRET frees an L1 that was blocked", neither_iret_both },

	{ "NMI exiting, bit 3 clear: the NMI makes L2 exit", exiting_open },
	{ "NMI exiting, bit 3 clear: the entry ends L1's blocking", exiting_ends },
	{ "NMI exiting, bit 3 set: no exit, and L1 stays blocked", exiting_bit3 },
	{ "NMI exiting, bit 3 set: no exit, L1 was and stays blocked", exiting_both },
	{ "NMI exiting, bit 3 set: L2's IRET changes nothing", exiting_iret },
	{ "NMI exiting, bit 3 set: nor if L1 was blocked", exiting_iret_both },

	{ "virtual NMIs, bit 3 clear: the NMI makes L2 exit", both_open },
	{ "virtual NMIs, bit 3 clear: the entry ends L1's blocking", both_ends },
	{ "virtual NMIs, bit 3 set: the NMI makes L2 exit", both_bit3 },
	{ "virtual NMIs, bit 3 set: the entry ends L1's blocking", both_both },

	{ "neither control: an injected NMI does not block one for L2", neither_injects },
	{ "neither control, bit 3 set: an NMI is injected, and bit 3 blocks on",
	  neither_injects_bit3 },
	{ "NMI exiting: an injected NMI does not block the exit", exiting_injects },
	{ "NMI exiting, bit 3 set: an NMI is injected, and bit 3 blocks on",
	  exiting_injects_bit3 },
	{ "virtual NMIs: an injected NMI sets bit 3 and does not block the exit", both_injects },

	{ "neither control: blocking by bit 3 outlives an exit without an NMI",
	  quiet_neither_bit3 },
	{ "neither control: nothing is blocked after L2's IRET", quiet_neither_iret },
	{ "neither control: nothing is blocked after an injected NMI", quiet_neither_injects },
	{ "NMI exiting: blocking by bit 3 outlives an exit without an NMI", quiet_exiting_bit3 },
	{ "NMI exiting: blocking by bit 3 outlives L2's IRET, too", quiet_exiting_iret },
	{ "NMI exiting: nothing is blocked after an injected NMI", quiet_exiting_injects },
	{ "virtual NMIs: bit 3 does not block L1 after the exit", quiet_both_bit3 },
	{ "virtual NMIs: L2's IRET clears bit 3", quiet_both_iret },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		return skip_all("this KVM offers no VMX to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
