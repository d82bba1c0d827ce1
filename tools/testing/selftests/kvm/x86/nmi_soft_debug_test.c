// SPDX-License-Identifier: GPL-2.0-only
/*
 * The return breakpoint of soft vNMI takes a debug register that the guest does
 * not use, and the guest does not notice: it reads and writes its own values, its
 * breakpoints fire with the DR6 they would have had, and so do those it sets in
 * the very handler whose end is being waited for. Only when it uses all four
 * itself is there none to take; the second NMI then waits for the IRQ window.
 *
 * A wrong implementation lets the guest read our address or enable bits, loses
 * a breakpoint of the guest's, reports one too many in DR6, or raises a #DB that
 * belongs to nobody.
 */
#include "nmi_events.h"
#include "nmi_soft.h"

#define DR7_EXEC(n)	(1ul << (2 * (n)))		/* local, execution */
#define DR7_WRITE8(n)	(DR7_EXEC(n) | 9ul << (16 + 4 * (n)))
#define DR7_READ8(n)	(DR7_EXEC(n) | 11ul << (16 + 4 * (n)))
#define NR_DB		8

struct dr_values { uint64_t dr[4], dr6, dr7; };

/* What the guest loads before it is interrupted; what it reads in the handler. */
static struct dr_values set, seen, seen_later;
static uint64_t db_dr6[NR_DB];
static uint32_t nr_db;
static uint64_t watched;
static char nmi_stack[4096] __attribute__((aligned(16)));

#define MOV_FROM_DR(n, value) asm volatile("mov %%db" #n ", %0" : "=r"(value) : : "memory")
#define MOV_TO_DR(n, value) asm volatile("mov %0, %%db" #n : : "r"(value) : "memory")

static void read_drs(struct dr_values *v)
{
	MOV_FROM_DR(0, v->dr[0]);
	MOV_FROM_DR(1, v->dr[1]);
	MOV_FROM_DR(2, v->dr[2]);
	MOV_FROM_DR(3, v->dr[3]);
	MOV_FROM_DR(6, v->dr6);
	MOV_FROM_DR(7, v->dr7);
}

static void write_drs(const struct dr_values *v)
{
	MOV_TO_DR(0, v->dr[0]);
	MOV_TO_DR(1, v->dr[1]);
	MOV_TO_DR(2, v->dr[2]);
	MOV_TO_DR(3, v->dr[3]);
	MOV_TO_DR(6, v->dr6);
	MOV_TO_DR(7, v->dr7);
}

/* Places for breakpoints, after the one where NMIs arrive. */
void places(void);
extern char place_next[], place_0[], place_1[], place_2[], place_3[];
asm("places:" ASM_STAGE(STAGE_READY)
    "place_next: nop\n"
    "place_0: nop\n"
    "place_1: nop\n"
    "place_2: nop\n"
    "place_3: nop\n"
    "	ret\n");

static void guest(void)
{
	write_drs(&set);
	places();
	watched = 1;
	read_drs(&seen_later);
	guest_open();
	guest_stage(STAGE_END);
}

/* #DB: note DR6 and clear it, as kernels do; step over what was fault-like. */
static void note_db(struct event_regs *regs)
{
	MOV_FROM_DR(6, db_dr6[nr_db++ % NR_DB]);
	MOV_TO_DR(6, DR6_NONE);
	regs->rflags |= RFLAGS_RF;
}

static void on_event(struct event_regs *regs)
{
	if (regs->vector == DB_VECTOR)
		note_db(regs);
	else if (guest_log.nr_nmis == 1)
		guest_stage(STAGE_HANDLER);
}

static void on_event_reads(struct event_regs *regs)
{
	on_event(regs);
	if (regs->vector == NMI_VECTOR && guest_log.nr_nmis == 1)
		read_drs(&seen);
}

/* Sets breakpoints in the handler, which had none before. */
static struct dr_values set_in_handler;

static void on_event_sets(struct event_regs *regs)
{
	on_event(regs);
	if (regs->vector != NMI_VECTOR || guest_log.nr_nmis > 1)
		return;
	write_drs(&set_in_handler);
	read_drs(&seen);
}

/* --- host ------------------------------------------------------------------- */

static void use(struct dr_values *v, int slot, void *address, uint64_t dr7)
{
	v->dr[slot] = (uint64_t)address;
	v->dr7 |= dr7;
}

static const struct dr_values no_breakpoints = { .dr6 = DR6_NONE, .dr7 = DR7_NONE };

/* One NMI at place_next, a second in its handler. */
static struct kvm_vcpu *interrupt_places(void (*handler)(struct event_regs *))
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	require_exact();
	sync_global_to_guest(vcpu->vm, set);
	sync_global_to_guest(vcpu->vm, set_in_handler);
	run_to(vcpu, STAGE_READY);
	/* The frame that a handler watches is on a stack of its own. */
	set_ist(vcpu, 1, (uint64_t)nmi_stack + sizeof(nmi_stack));
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 0);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	sync_global_from_guest(vcpu->vm, seen);
	sync_global_from_guest(vcpu->vm, seen_later);
	sync_global_from_guest(vcpu->vm, db_dr6);
	sync_global_from_guest(vcpu->vm, nr_db);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)place_next);
	return vcpu;
}

static void check_drs(const struct dr_values *got, const struct dr_values *want)
{
	int i;

	for (i = 0; i < 4; i++)
		CHECK_EQ(got->dr[i], want->dr[i]);
	CHECK_EQ(got->dr6, want->dr6);
	CHECK_EQ(got->dr7, want->dr7);
}

static void not_seen(void)
{
	struct kvm_vcpu *vcpu;

	set = no_breakpoints;
	set.dr[0] = 0x1000;
	set.dr[3] = 0x2000;
	vcpu = interrupt_places(on_event_reads);
	check_came_at_return(vcpu);
	check_drs(&seen, &set);
	check_drs(&seen_later, &set);
	CHECK_EQ(nr_db, 0);
}

/* Three of them fire after the return, the fourth is a watchpoint. */
static void all_four(void)
{
	struct kvm_vcpu *vcpu;

	set = no_breakpoints;
	use(&set, 0, place_0, DR7_EXEC(0));
	use(&set, 1, place_1, DR7_EXEC(1));
	use(&set, 2, place_2, DR7_EXEC(2));
	use(&set, 3, &watched, DR7_WRITE8(3));
	vcpu = interrupt_places(on_event_reads);
	check_came_by_search(vcpu);
	check_drs(&seen, &set);
	check_drs(&seen_later, &set);
	CHECK_EQ(nr_db, 4);
	CHECK_EQ(db_dr6[0], DR6_NONE | 1);
	CHECK_EQ(db_dr6[1], DR6_NONE | 2);
	CHECK_EQ(db_dr6[2], DR6_NONE | 4);
	CHECK_EQ(db_dr6[3], DR6_NONE | 8);
}

static void three_of_four(void)
{
	struct kvm_vcpu *vcpu;

	set = no_breakpoints;
	use(&set, 0, place_0, DR7_EXEC(0));
	use(&set, 1, &watched, DR7_WRITE8(1));
	use(&set, 3, place_3, DR7_EXEC(3));
	vcpu = interrupt_places(on_event_reads);
	check_came_at_return(vcpu);
	check_drs(&seen, &set);
	check_drs(&seen_later, &set);
	CHECK_EQ(nr_db, 3);
	CHECK_EQ(db_dr6[0], DR6_NONE | 1);
	CHECK_EQ(db_dr6[1], DR6_NONE | 8);
	CHECK_EQ(db_dr6[2], DR6_NONE | 2);
}

/*
 * NMIs come before instruction breakpoints: the second NMI interrupts place_next,
 * not the #DB handler, and the guest's breakpoint fires once, after it.
 */
static void at_the_return_address(void)
{
	struct kvm_vcpu *vcpu;
	const struct event_log *log;

	set = no_breakpoints;
	use(&set, 2, place_next, DR7_EXEC(2));
	vcpu = interrupt_places(on_event);
	check_came_at_return(vcpu);
	CHECK_EQ(nr_db, 1);
	CHECK_EQ(db_dr6[0], DR6_NONE | 4);
	log = read_log(vcpu);
	CHECK_EQ(log->nr, 3);
	CHECK_EQ(log->event[2].vector, DB_VECTOR);
	CHECK_EQ(log->event[2].rip, (uint64_t)place_next);
}

static void set_by_handler(void)
{
	struct kvm_vcpu *vcpu;

	set = no_breakpoints;
	set_in_handler = no_breakpoints;
	use(&set_in_handler, 0, place_0, DR7_EXEC(0));
	use(&set_in_handler, 1, &watched, DR7_WRITE8(1));
	vcpu = interrupt_places(on_event_sets);
	check_came_at_return(vcpu);
	check_drs(&seen, &set_in_handler);
	check_drs(&seen_later, &set_in_handler);
	CHECK_EQ(nr_db, 2);
	CHECK_EQ(db_dr6[0], DR6_NONE | 1);
	CHECK_EQ(db_dr6[1], DR6_NONE | 2);
}

/* Until then the handler's return has a register; from then on it has not. */
static void all_four_set_by_handler(void)
{
	struct kvm_vcpu *vcpu;

	set = no_breakpoints;
	set_in_handler = no_breakpoints;
	use(&set_in_handler, 0, place_0, DR7_EXEC(0));
	use(&set_in_handler, 1, place_1, DR7_EXEC(1));
	use(&set_in_handler, 2, place_2, DR7_EXEC(2));
	use(&set_in_handler, 3, &watched, DR7_WRITE8(3));
	vcpu = interrupt_places(on_event_sets);
	check_came_by_search(vcpu);
	check_drs(&seen, &set_in_handler);
	check_drs(&seen_later, &set_in_handler);
	CHECK_EQ(nr_db, 4);
}

/* DR7.GD makes the handler's own MOV DR fault, ours must not end that. */
static void on_event_gd(struct event_regs *regs)
{
	uint64_t value;

	if (regs->vector == DB_VECTOR) {
		MOV_FROM_DR(6, db_dr6[nr_db++ % NR_DB]);
		MOV_TO_DR(6, DR6_NONE);
		return;
	}
	on_event(regs);
	if (guest_log.nr_nmis == 1)
		MOV_FROM_DR(0, value);
}

static void general_detect(void)
{
	struct kvm_vcpu *vcpu;

	require_no_search();
	set = no_breakpoints;
	set.dr7 |= DR7_GD;
	vcpu = interrupt_places(on_event_gd);
	check_came_at_return(vcpu);
	CHECK_EQ(nr_db, 1);
	CHECK_EQ(db_dr6[0], DR6_NONE | DR6_BD);
}

/*
 * The handler watches its own frame: the IRET reads it and traps. The vCPU has
 * returned by then, although the next instruction it executes is the #DB
 * handler's first; #DB traps come before NMIs.
 */
static void on_event_watches_frame(struct event_regs *regs)
{
	if (regs->vector == NMI_VECTOR && guest_log.nr_nmis == 1)
		MOV_TO_DR(1, (uint64_t)&regs->rip);
	if (regs->vector == DB_VECTOR)
		MOV_TO_DR(7, DR7_NONE);
	on_event(regs);
	if (regs->vector == NMI_VECTOR && guest_log.nr_nmis == 1)
		MOV_TO_DR(7, DR7_NONE | DR7_READ8(1));
}

static void watched_frame(void)
{
	struct kvm_vcpu *vcpu;
	const struct event_log *log;

	set = no_breakpoints;
	vcpu = interrupt_places(on_event_watches_frame);
	log = read_log(vcpu);
	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(nr_db, 1);
	CHECK_EQ(db_dr6[0], DR6_NONE | 2);
	CHECK_EQ(nmi_nr(log, 2)->rip, (uint64_t)event_entry_1);
	/* The #DB handler logs last, being hit at its first instruction. */
	CHECK_EQ(log->event[2].vector, DB_VECTOR);
	CHECK_EQ(log->event[2].rip, (uint64_t)place_next);
}

static const struct test_case cases[] = {
	{ "found: the handler reads DR0-3, DR6, DR7 and sees its own", not_seen },
	{ "found by the search for the IRET, or in the IRQ window: the guest uses all four, and they fire", all_four },
	{ "found: the guest uses three, and they fire", three_of_four },
	{ "found: the guest has a breakpoint at the return address, too", at_the_return_address },
	{ "found: the handler sets breakpoints, and they fire afterwards", set_by_handler },
	{ "found by the search, or in the IRQ window: the handler sets all four", all_four_set_by_handler },
	{ "found: the guest has DR7.GD set, which works", general_detect },
	{ "found: the IRET itself hits a watchpoint of the guest's", watched_frame },
};

int main(void)
{
	if (nmi_path() != VMX_SOFT)
		return skip_all("this machine has virtual NMIs, or no need of them");
	return run_cases(cases, ARRAY_SIZE(cases));
}
