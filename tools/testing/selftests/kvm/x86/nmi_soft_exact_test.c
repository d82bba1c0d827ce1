// SPDX-License-Identifier: GPL-2.0-only
/*
 * Without virtual NMIs the end of an NMI handler is found by a breakpoint where
 * it returns to code with IRQs off, within the time of two VM exits. Where
 * soft_vnmi_exact is off, the NMI after it waits for the whole timeout.
 *
 * The guest hangs with IRQs off, which is when people send NMIs. What it measures
 * is the time from the IRET of one handler to the first instruction of the next.
 *
 * A wrong implementation never delivers the second NMI (the blocking bit of the
 * VMCS is taken for guest state), is late by a second each, nests, or pays for
 * the breakpoint where the IRQ window would have done.
 */
#include "nmi_soft.h"

enum { STAGE_AFTER_STI = STAGE_OWN };

#define SAMPLES		8
#define MOST_TICKS	3000	/* in an emulator: instructions */
#define LATE_MS		500
#define IN_A_ROW	1000

/* --- a guest hangs, its handlers measure ---------------------------------- */

static uint32_t waited;		/* TSC ticks */

/*
 * R9D counts NMIs, R8D is the time at the first handler's end. For the CLI see
 * guest_spin_irqs_off().
 */
asm(
"hang:	xor %r9d, %r9d\n"
	ASM_STAGE(STAGE_READY)
"1:	cli\n"
"	cmp $2, %r9d\n"
"	jne 1b\n"
	ASM_STAGE(STAGE_END)
"	jmp hang\n"
"hang_nmi: inc %r9d\n"
"	cmp $1, %r9d\n"
"	jne 2f\n"
	ASM_STAGE(STAGE_HANDLER)
"	rdtsc; mov %eax, %r8d\n"
"	iretq\n"
"2:	rdtsc; sub %r8d, %eax; mov %eax, waited(%rip)\n"
"	iretq\n");

extern char hang[], hang_nmi[];

static struct kvm_vcpu *create_hang(void)
{
	struct kvm_vcpu *vcpu = create_vm((void (*)(void))hang, NULL);

	set_gate(vcpu, NMI_VECTOR, hang_nmi, INTERRUPT_GATE, 0);
	return vcpu;
}

static uint32_t take_sample(struct kvm_vcpu *vcpu)
{
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	sync_global_from_guest(vcpu->vm, waited);
	return waited;
}

/* An interrupt of the host may be in a sample, but not in all of them. */
static void comes_at_once(void)
{
	struct kvm_vcpu *vcpu = create_hang();
	uint32_t ticks, least = -1, most = 0;
	int i;

	require_exact();
	for (i = 0; i < SAMPLES; i++) {
		ticks = take_sample(vcpu);
		least = ticks < least ? ticks : least;
		most = ticks > most ? ticks : most;
	}
	printf("%u to %u ticks from IRET to the next handler\n", least, most);
	/* A kernel that needs patience takes more. */
	if (on_bochs() && patience(1) == 1)
		CHECK(least <= MOST_TICKS, "%u ticks", least);
	CHECK(most < soft_timeout_ms() * tsc_khz_of(vcpu) / 10, "%u ticks", most);
}

static void comes_after_timeout(void)
{
	struct kvm_vcpu *vcpu = create_hang();

	if (soft_exact() || soft_searches())
		skip("soft_vnmi_exact is on, or soft_vnmi_steps");
	check_timed_out(take_sample(vcpu) / tsc_khz_of(vcpu), LATE_MS);
}

/* --- each handler sends the next NMI to itself ----------------------------- */

static volatile uint32_t nmis;
static uint64_t start, end;

static void guest_row(void)
{
	x2apic_enable();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	while (nmis < IN_A_ROW)
		guest_spin_irqs_off();
	guest_stage(STAGE_END);
}

static void on_nmi_row(struct event_regs *regs)
{
	if (!nmis)
		start = rdtsc();
	end = rdtsc();
	if (++nmis < IN_A_ROW)
		x2apic_write_reg(APIC_ICR, APIC_DM_NMI);
}

static void many_in_a_row(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_row, on_nmi_row);
	int log = open_kernel_log();

	require_exact();
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	CHECK_EQ(read_log(vcpu)->nr_nmis, IN_A_ROW);
	CHECK_EQ(nmi_messages(log), 0);
	sync_global_from_guest(vcpu->vm, start);
	sync_global_from_guest(vcpu->vm, end);
	printf("%lu ticks from one to the next\n", (end - start) / (IN_A_ROW - 1));
	CHECK(end - start < IN_A_ROW / 100 * soft_timeout_ms() * tsc_khz_of(vcpu),
	      "%lu ticks", end - start);
}

/* --- what a lone NMI costs -------------------------------------------------- */

static uint64_t flags;

static void guest_stops(void)
{
	for (;;)
		guest_stop(STAGE_READY, flags);
}

static uint64_t exits_to_next_stop(struct kvm_vcpu *vcpu, bool nmi)
{
	uint64_t before = exits_of(vcpu);

	if (nmi)
		send_nmi(vcpu);
	run_to(vcpu, STAGE_READY);
	return exits_of(vcpu) - before;
}

static void check_lone(uint64_t with_flags, unsigned int cost)
{
	struct kvm_vcpu *vcpu = create_vm(guest_stops, NULL);
	uint64_t without;

	flags = with_flags;
	sync_global_to_guest(vcpu->vm, flags);
	run_to(vcpu, STAGE_READY);
	/* The first time maps the guest's memory. */
	exits_to_next_stop(vcpu, true);
	without = exits_to_next_stop(vcpu, false);
	CHECK_EQ(exits_to_next_stop(vcpu, true), without + cost);
	CHECK_EQ(exits_to_next_stop(vcpu, false), without);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
}

static void lone_irqs_on(void)
{
	check_lone(RFLAGS_FIXED | RFLAGS_IF, 0);
}

static void lone_irqs_off(void)
{
	require_exact();
	check_lone(RFLAGS_FIXED, 1);
}

/* --- what remains a guess --------------------------------------------------- */

extern char handler_opened[];

static void guest_once(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_open();
	guest_stage(STAGE_END);
}

static void on_nmi_sti(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	/* What follows is expected to be hit by the second NMI. */
	guest_log.in_nmi = 0;
	asm volatile("sti; nop\n\t"
		     "handler_opened: nop; cli" : : : "memory");
	guest_log.in_nmi = 1;
	guest_stage(STAGE_AFTER_STI);
}

static void irqs_on_in_handler(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_once, on_nmi_sti);

	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_AFTER_STI);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	CHECK_EQ(nmi_nr(read_log(vcpu), 2)->rip, (uint64_t)handler_opened);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
}

static const struct test_case cases[] = {
	{ "with IRQs off, a second NMI comes as soon as the first handler returns", comes_at_once },
	{ "without the breakpoint it comes after the timeout", comes_after_timeout },
	{ "1,000 NMIs back to back with IRQs off all come, none nests or waits", many_in_a_row },
	{ "a lone NMI costs no exit where IRQs are on", lone_irqs_on },
	{ "a lone NMI costs the exit of the breakpoint where IRQs are off", lone_irqs_off },
	{ "a handler that enables IRQs looks finished: a known guess", irqs_on_in_handler },
};

int main(void)
{
	if (nmi_path() != VMX_SOFT)
		return skip_all("this machine has virtual NMIs, or no need of them");
	return run_cases(cases, ARRAY_SIZE(cases));
}
