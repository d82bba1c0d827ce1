// SPDX-License-Identifier: GPL-2.0-only
/*
 * The flags and debug registers that an NMI handler's IRET leaves are the
 * guest's, also when the next NMI waits for that very IRET.
 *
 * The handler of the first NMI stops, the host sends the second one, and the
 * handler returns with TF or RF in its frame, or under TF, or with breakpoints
 * set. Events are logged in the order in which their handlers start.
 *
 * Software that finds the end of the IRET by stepping over it uses the same TF,
 * RF and DR6. A wrong implementation takes back what the IRET has popped (the
 * guest's stepping is lost), keeps a #DB that was the guest's, shows the guest
 * one that was not, or leaves its BS in DR6.
 */
#include "nmi_events.h"

#define INSN_SIZE	3	/* of those after guest_stop_next */
#define NR_STEPS	3

static uint64_t frame_flags;	/* to add to what the first NMI's IRET pops */
static bool touch_drs;		/* debug registers are the guest's to hold */
static uint64_t dr6_before = DR6_NONE, dr6_after;
static uint64_t breakpoint;	/* linear address, 0: none */
static uint64_t nmis_rf;	/* in the frames of NMIs, but not the guest's */
static bool watch;		/* a byte that nobody touches */
static uint8_t watched;
static bool detect;		/* accesses to debug registers */
static uint32_t nr_detected;	/* without any NMI */
static uint64_t dr6_seen[EVENT_LOG_SIZE];
uint32_t nr_direct_nmis;	/* that step_own_iret has taken */

static uint32_t nr_dbs;

static void detect_access(void)
{
	asm volatile("mov %0, %%dr7" : : "r"(DR7_NONE | DR7_GD) : "memory");
}

static void guest(void)
{
	if (breakpoint)
		asm volatile("mov %0, %%dr0; mov %1, %%dr7"
			     : : "r"(breakpoint), "r"(DR7_L0_EXEC) : "memory");
	if (watch)
		asm volatile("mov %0, %%dr0; mov %1, %%dr7"
			     : : "r"(&watched), "r"(DR7_L0_WRITE) : "memory");
	guest_warm_up();
	if (detect) {
		detect_access();
		read_dr6();
		nr_detected = nr_dbs;
		nr_dbs = guest_log.nr = 0;
	}
	write_dr6(dr6_before);
	if (detect)
		detect_access();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	dr6_after = read_dr6();
	if (breakpoint)
		disarm_breakpoints();
	guest_stage(STAGE_END);
}

static void on_db(struct event_regs *regs)
{
	dr6_seen[nr_dbs++ % EVENT_LOG_SIZE] = read_dr6();
	write_dr6(DR6_NONE);
	if (nr_dbs == NR_STEPS)
		regs->rflags &= ~RFLAGS_TF;
	if (breakpoint && regs->rip == breakpoint)
		regs->rflags |= RFLAGS_RF;
}

static void on_event(struct event_regs *regs)
{
	if (regs->vector == DB_VECTOR) {
		on_db(regs);
		return;
	}
	if (regs->vector != NMI_VECTOR)
		return;
	regs->rflags &= ~nmis_rf;
	if (guest_log.nr_nmis + nr_direct_nmis > 1)
		return;

	guest_stage(STAGE_HANDLER);
	regs->rflags |= frame_flags;
	if (touch_drs)
		read_dr6();
}

/* An NMI handler that steps its own IRET and nothing before it. */
extern char step_own_iret[];
asm(".pushsection .text\n"
	"step_own_iret:\n"
	"	incl nr_direct_nmis\n"
	"	cmpl $1, nr_direct_nmis\n"
	"	jne event_entry_2\n"
	"	push %rax\n"
	ASM_STAGE(STAGE_HANDLER)
	"	pop %rax\n"
	"	pushf\n"
	"	orl $0x100, (%rsp)\n"
	"	popf\n"
	"	iretq\n"
	".popsection");

static struct kvm_vcpu *run_with(void *nmi_entry, bool second_nmi)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event);

	sync_global_to_guest(vcpu->vm, frame_flags);
	sync_global_to_guest(vcpu->vm, touch_drs);
	sync_global_to_guest(vcpu->vm, dr6_before);
	sync_global_to_guest(vcpu->vm, breakpoint);
	sync_global_to_guest(vcpu->vm, nmis_rf);
	sync_global_to_guest(vcpu->vm, watch);
	sync_global_to_guest(vcpu->vm, detect);
	set_gate(vcpu, NMI_VECTOR, nmi_entry, INTERRUPT_GATE, 0);

	run_through_handler(vcpu, second_nmi);

	sync_global_from_guest(vcpu->vm, dr6_seen);
	sync_global_from_guest(vcpu->vm, dr6_after);
	sync_global_from_guest(vcpu->vm, nr_detected);
	return vcpu;
}

static void check_dr6(unsigned int nr, uint64_t value)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		CHECK_EQ(dr6_seen[i], value);
}

#define STEP(n) { DB_VECTOR, guest_stop_next + (n) * INSN_SIZE, RFLAGS_TF }

static void steps_on_after_lone_nmi(void)
{
	struct kvm_vcpu *vcpu;

	frame_flags = RFLAGS_TF;
	vcpu = run_with(event_entry_2, false);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, guest_stop_next },
		     STEP(1), STEP(2), STEP(3));
	check_dr6(NR_STEPS, DR6_NONE | DR6_BS);
}

static void steps_on(void)
{
	struct kvm_vcpu *vcpu;

	frame_flags = RFLAGS_TF;
	vcpu = run_with(event_entry_2, true);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, guest_stop_next },
		     { NMI_VECTOR, guest_stop_next, RFLAGS_TF },
		     STEP(1), STEP(2), STEP(3));
	check_dr6(NR_STEPS, DR6_NONE | DR6_BS);
}

static void steps_on_with_drs(void)
{
	touch_drs = true;
	steps_on();
}

static void own_iret_stepped_alone(void)
{
	struct kvm_vcpu *vcpu = run_with(step_own_iret, false);

	CHECK_EVENTS(vcpu, { DB_VECTOR, guest_stop_next });
	check_dr6(1, DR6_NONE | DR6_BS);
}

/* A trap comes before the NMI that is due at the same boundary. */
static void own_iret_stepped(void)
{
	struct kvm_vcpu *vcpu = run_with(step_own_iret, true);

	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_1 },
		     { DB_VECTOR, guest_stop_next });
	check_dr6(1, DR6_NONE | DR6_BS);
}

static void check_dr6_kept(uint64_t value)
{
	struct kvm_vcpu *vcpu;

	dr6_before = value;
	vcpu = run_with(event_entry_2, true);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, guest_stop_next },
		     { NMI_VECTOR, guest_stop_next });
	CHECK_EQ(dr6_after, value);
}

static void dr6_is_kept(void)
{
	check_dr6_kept(DR6_NONE | DR6_B0);
}

static void dr6_with_bs_is_kept(void)
{
	check_dr6_kept(DR6_NONE | DR6_BS);
}

static void dr6_in_hand_is_kept(void)
{
	touch_drs = true;
	check_dr6_kept(DR6_NONE | DR6_B0);
}

static void dr6_with_bs_in_hand_is_kept(void)
{
	touch_drs = true;
	check_dr6_kept(DR6_NONE | DR6_BS);
}

/* B0 in DR6 is of a hit long ago. */
static void old_hit_is_kept(void)
{
	watch = true;
	dr6_in_hand_is_kept();
}

/*
 * A CPU takes the second NMI before the breakpoint, Bochs after it. What
 * matters is that the step over IRET costs the guest none and adds none.
 */
static void breakpoint_behind_iret(void)
{
	struct kvm_vcpu *vcpu;

	if (!breakpoints_armed_at_entry())
		skip("QEMU TCG before version 10 does not arm a guest's breakpoints at VMRUN");
	nmis_rf = nmis_push_rf() ? RFLAGS_RF : 0;
	breakpoint = (uint64_t)guest_stop_next;
	vcpu = run_with(event_entry_2, true);
	CHECK_EQ(only_event(vcpu, DB_VECTOR)->rip, breakpoint);
	CHECK_EQ(read_log(vcpu)->nr, 3);
	check_dr6(1, DR6_NONE | DR6_B0);
}

static void rf_is_popped(void)
{
	struct kvm_vcpu *vcpu;

	if (on_qemu_tcg())
		skip("QEMU TCG loses the RF that an IRET pops which itself runs with RF");
	breakpoint = (uint64_t)guest_stop_next;
	/* It holds soft vNMI's own breakpoint back as well. */
	require_iret_tracked();
	frame_flags = RFLAGS_RF;
	vcpu = run_with(event_entry_2, true);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, guest_stop_next },
		     { NMI_VECTOR, guest_stop_next, RFLAGS_RF });
}

/* DR7.GD is cleared by a #DB, also by one that is not the guest's. */
static void access_is_detected(void)
{
	struct kvm_vcpu *vcpu;

	detect = true;
	vcpu = run_with(event_entry_2, true);
	if (!nr_detected)
		skip("the emulated CPU does not detect accesses to debug registers");
	CHECK_EQ(read_log(vcpu)->nr, 3);
	CHECK_EQ(read_log(vcpu)->event[2].vector, DB_VECTOR);
	check_dr6(1, DR6_NONE | DR6_BD);
}

static const struct test_case cases[] = {
	{ "IRET of a lone NMI goes on stepping", steps_on_after_lone_nmi },
	{ "so does an IRET for which another NMI waits", steps_on },
	{ "so it does when the guest holds the debug registers", steps_on_with_drs },
	{ "a guest that steps its NMI handler's IRET gets its #DB", own_iret_stepped_alone },
	{ "that #DB comes before the NMI that waits", own_iret_stepped },
	{ "two NMIs leave DR6 alone", dr6_is_kept },
	{ "two NMIs leave BS in DR6 alone", dr6_with_bs_is_kept },
	{ "two NMIs leave DR6 alone when the guest holds it", dr6_in_hand_is_kept },
	{ "two NMIs leave BS in DR6 alone when the guest holds it", dr6_with_bs_in_hand_is_kept },
	{ "two NMIs do not report a watchpoint that has hit before them", old_hit_is_kept },
	{ "a breakpoint on the interrupted instruction hits once in spite of two NMIs", breakpoint_behind_iret },
	{ "after two NMIs the guest's debug registers are guarded as before (DR7.GD)", access_is_detected },
	{ "RF popped by the IRET holds a breakpoint back", rf_is_popped },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
