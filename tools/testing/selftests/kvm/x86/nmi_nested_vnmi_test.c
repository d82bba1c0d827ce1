// SPDX-License-Identifier: GPL-2.0-only
/*
 * vNMI as a hypervisor (L1) sees it: what becomes of V_NMI (pending) and
 * V_NMI_MASK (masked) of the VMCB when its guest (L2) takes an NMI, returns from
 * one, faults in returning, halts, or is injected something.
 *
 * By the manual a pending NMI is taken when NMIs are unmasked, GIF is set and no
 * interrupt shadow is left; taking it clears V_NMI and sets V_NMI_MASK, and so
 * does injecting one; an IRET that completes clears V_NMI_MASK; one that faults
 * does not. Each #VMEXIT writes both bits back. A physical NMI goes first.
 * (APM volume 2, "NMI Virtualization")
 *
 * Each cell of the table says how L2 starts and what is expected: the events of
 * L2, in order, where each interrupted it, and the bits inside each handler and
 * at the end. It runs three times: with an exit to L1 in every handler, with a
 * migration there, and straight through.
 *
 * A wrong implementation delivers at the wrong boundary, keeps a bit in a place
 * of its own that L1 or a migration does not see, lets an EVENTINJ or a faulting
 * IRET pass without looking at the mask, or shows L2 the single step by which
 * the end of a handler is found.
 */
#include "nmi_nested_svm.h"

enum { STAGE_EVENT = STAGE_OWN };

enum look { LOOK_EXIT, LOOK_MIGRATE, LOOK_NOT };

/* One event of L2: what, which instruction was next, which bits its handler has. */
struct step {
	uint32_t vector;
	void *rip;
	uint32_t bits;
};

struct cell {
	struct l2_start start;
	struct step steps[4];		/* up to vector 0 */
	uint32_t end;			/* bits when L2 has ended */
	bool off;			/* V_NMI_ENABLE is clear */
};

static enum look look;

/* The bits are looked at in each handler, by L1 or by the host. */
static void on_event(struct event_regs *regs)
{
	if (look == LOOK_EXIT)
		vmmcall();
	else if (look == LOOK_MIGRATE)
		guest_stage(STAGE_EVENT);

	if (regs->vector == 13) {
		/* Mend the frame of the IRET that faulted and go on after it. */
		regs->rip = (uint64_t)l2_open;
	} else if (regs->vector == 6) {
		regs->rip = (uint64_t)l2_nop_2;
	}
}

static void l1(void)
{
	prepare_l2();
	warm_l2_up();
	run_l2_to_end();
	stgi();
	guest_stage(STAGE_END);
}

static void check_events(struct kvm_vcpu *vcpu, const struct cell *cell)
{
	const struct event_log *log = read_log(vcpu);
	unsigned int i;

	for (i = 0; i < log->nr; i++)
		printf("event %lu at 0x%lx\n", log->event[i].vector, log->event[i].rip);
	for (i = 0; cell->steps[i].vector; i++) {
		if (i >= log->nr)
			FAIL("event %u, vector %u, did not come", i, cell->steps[i].vector);
		CHECK_EQ(log->event[i].vector, cell->steps[i].vector);
		CHECK_EQ(log->event[i].rip, (uint64_t)cell->steps[i].rip);
		CHECK_EQ(log->event[i].rflags & RFLAGS_TF, 0);
	}
	CHECK_EQ(log->nr, i);
}

static void check_exits(struct kvm_vcpu *vcpu, const struct cell *cell)
{
	const struct l2_exit *exit = read_exits(vcpu, 1);
	unsigned int i = 0;

	if (look == LOOK_EXIT)
		for (; cell->steps[i].vector; i++) {
			CHECK_EQ(read_exits(vcpu, i + 1)[i].code, SVM_EXIT_VMMCALL);
			CHECK_EQ(exit[i].int_ctl & V_NMI_STATE, cell->steps[i].bits);
		}
	CHECK_EQ(read_exits(vcpu, i + 1)[i].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(exit[i].int_ctl & V_NMI_STATE, cell->end);
	CHECK_EQ(nr_l2_exits, i + 1);
}

/* Whatever becomes of L2's NMIs, L1 has had none. */
static void check_l1(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.masked, 0);
	CHECK_EQ(events.nmi.pending, 0);
}

static void run_cell_looking(const struct cell *cell, enum look how)
{
	static const char * const names[] = { "exits", "migrates", "goes through" };
	struct l2_start start = cell->start;
	struct kvm_vcpu *vcpu;
	unsigned int i;

	printf("--- L2 %s\n", names[how]);
	look = how;
	if (!start.rip)
		start.rip = l2_nop;
	if (!cell->off)
		start.int_ctl |= V_NMI_ENABLE;
	vcpu = create_l1(l1, &start, on_event);
	sync_global_to_guest(vcpu->vm, look);

	for (i = 0; how == LOOK_MIGRATE && cell->steps[i].vector; i++) {
		run_to(vcpu, STAGE_EVENT);
		CHECK_EQ(saved_vnmi_bits(vcpu), cell->steps[i].bits);
		vcpu = migrate(vcpu);
	}
	run_to(vcpu, STAGE_END);
	check_events(vcpu, cell);
	check_exits(vcpu, cell);
	check_l1(vcpu);
	sync_global_from_guest(vcpu->vm, l2_pushed);
	CHECK_EQ(l2_pushed & RFLAGS_TF, 0);
	kvm_vm_free(vcpu->vm);
}

static void run_cell(const struct cell *cell)
{
	run_cell_looking(cell, LOOK_NOT);
	run_cell_looking(cell, LOOK_EXIT);
	run_cell_looking(cell, LOOK_MIGRATE);
}

#define CELL(name, ...)							\
	static void name(void)						\
	{								\
		static const struct cell cell = { __VA_ARGS__ };	\
									\
		run_cell(&cell);					\
	}

#define P	V_NMI
#define M	V_NMI_MASK
#define START(...)	.start = { __VA_ARGS__ }
#define EVENTS(...)	.steps = { __VA_ARGS__ }
#define OFF		.off = true

/* --- the table ---------------------------------------------------------- */

CELL(nothing, START(.int_ctl = 0), .end = 0)
CELL(pending, START(.int_ctl = P), EVENTS({ 2, l2_nop, M }), .end = 0)
CELL(masked, START(.int_ctl = M), .end = M)
CELL(pending_masked, START(.int_ctl = P | M), .end = P | M)

CELL(iret_nothing, START(.rip = l2_iret, .int_ctl = 0), .end = 0)
CELL(iret, START(.rip = l2_iret, .int_ctl = M), .end = 0)
CELL(iret_pending, START(.rip = l2_iret, .int_ctl = P | M),
     EVENTS({ 2, l2_open, M }), .end = 0)
CELL(iret_unmasked, START(.rip = l2_iret, .int_ctl = P),
     EVENTS({ 2, l2_iret, M }), .end = 0)

CELL(fault, START(.rip = l2_bad_iret, .int_ctl = M),
     EVENTS({ 13, l2_bad_iret_at, M }), .end = 0)
CELL(fault_pending, START(.rip = l2_bad_iret, .int_ctl = P | M),
     EVENTS({ 13, l2_bad_iret_at, P | M }, { 2, l2_open, M }), .end = 0)
CELL(fault_unmasked, START(.rip = l2_bad_iret, .int_ctl = 0),
     EVENTS({ 13, l2_bad_iret_at, 0 }), .end = 0)
CELL(fault_pending_unmasked, START(.rip = l2_bad_iret, .int_ctl = P),
     EVENTS({ 2, l2_bad_iret, M }, { 13, l2_bad_iret_at, 0 }), .end = 0)

CELL(inject, START(.int_ctl = 0, .event_inj = EVENT_NMI),
     EVENTS({ 2, l2_nop, M }), .end = 0)
CELL(inject_pending, START(.int_ctl = P, .event_inj = EVENT_NMI),
     EVENTS({ 2, l2_nop, P | M }, { 2, l2_nop, M }), .end = 0)
CELL(inject_masked, START(.int_ctl = M, .event_inj = EVENT_NMI),
     EVENTS({ 2, l2_nop, M }), .end = 0)
CELL(inject_pending_masked, START(.int_ctl = P | M, .event_inj = EVENT_NMI),
     EVENTS({ 2, l2_nop, P | M }, { 2, l2_nop, M }), .end = 0)
CELL(exception, START(.int_ctl = 0, .event_inj = EVENT_UD),
     EVENTS({ 6, l2_nop, 0 }), .end = 0)
CELL(exception_pending, START(.int_ctl = P, .event_inj = EVENT_UD),
     EVENTS({ 2, event_entry_6, M }, { 6, l2_nop, 0 }), .end = 0)
CELL(irq_pending, START(.int_ctl = P, .event_inj = EVENT_IRQ),
     EVENTS({ 2, event_entry_0x60, M }, { IRQ_VECTOR, l2_nop, 0 }), .end = 0)
CELL(exception_masked, START(.int_ctl = M, .event_inj = EVENT_UD),
     EVENTS({ 6, l2_nop, M }), .end = 0)
CELL(exception_pending_masked, START(.int_ctl = P | M, .event_inj = EVENT_UD),
     EVENTS({ 6, l2_nop, P | M }, { 2, l2_nop_2, M }), .end = 0)
CELL(irq_pending_masked, START(.int_ctl = P | M, .event_inj = EVENT_IRQ),
     EVENTS({ IRQ_VECTOR, l2_nop, P | M }, { 2, l2_nop, M }), .end = 0)

CELL(shadow_nothing, START(.int_ctl = 0, .int_state = 1), .end = 0)
CELL(shadow_only_masked, START(.int_ctl = M, .int_state = 1), .end = M)
CELL(shadow, START(.int_ctl = P, .int_state = 1),
     EVENTS({ 2, l2_nop_2, M }), .end = 0)
CELL(shadow_masked, START(.int_ctl = P | M, .int_state = 1), .end = P | M)
CELL(shadow_iret, START(.rip = l2_iret, .int_ctl = P | M, .int_state = 1),
     EVENTS({ 2, l2_open, M }), .end = 0)
CELL(shadow_halt, START(.rip = l2_halt, .int_ctl = P, .int_state = 1),
     EVENTS({ 2, l2_halted, M }), .end = 0)
CELL(shadow_pushf, START(.rip = l2_pushf, .int_ctl = P, .int_state = 1),
     EVENTS({ 2, l2_pushf_next, M }), .end = 0)

CELL(gif_clear, START(.int_ctl = P | V_GIF_ENABLE), .end = P)
CELL(gif_clear_masked, START(.int_ctl = P | M | V_GIF_ENABLE), .end = P | M)
CELL(gif_clear_iret, START(.rip = l2_iret, .int_ctl = P | M | V_GIF_ENABLE), .end = P)
CELL(gif_set_masked, START(.rip = l2_stgi, .int_ctl = P | M | V_GIF_ENABLE), .end = P | M)
CELL(gif_set, START(.rip = l2_stgi, .int_ctl = P | V_GIF_ENABLE),
     EVENTS({ 2, l2_stgi_next, M }), .end = 0)

CELL(off_pending, START(.int_ctl = P), OFF, .end = P)
CELL(off_masked_iret, START(.rip = l2_iret, .int_ctl = M), OFF, .end = M)
CELL(off_pending_masked_iret, START(.rip = l2_iret, .int_ctl = P | M), OFF, .end = P | M)
CELL(off_inject, START(.int_ctl = 0, .event_inj = EVENT_NMI), OFF,
     EVENTS({ 2, l2_nop, 0 }), .end = 0)
CELL(off_inject_pending_masked, START(.int_ctl = P | M, .event_inj = EVENT_NMI), OFF,
     EVENTS({ 2, l2_nop, P | M }), .end = P | M)

static const struct test_case cases[] = {
	{ "no bit set: none is set", nothing },
	{ "pending: taken before the first instruction", pending },
	{ "masked: stays so", masked },
	{ "pending and masked: both stay", pending_masked },
	{ "no bit set, IRET: none is set", iret_nothing },
	{ "masked, IRET: unmasked", iret },
	{ "pending and masked, IRET: taken at its target", iret_pending },
	{ "pending, IRET: taken before it", iret_unmasked },
	{ "masked, IRET faults: masked in the fault's handler", fault },
	{ "pending and masked, IRET faults: taken after the fault's IRET", fault_pending },
	{ "unmasked, IRET faults: unmasked", fault_unmasked },
	{ "pending, IRET faults: taken before it all", fault_pending_unmasked },
	{ "an NMI is injected: masked", inject },
	{ "pending, an NMI is injected: taken after its IRET", inject_pending },
	{ "masked, an NMI is injected: delivered all the same", inject_masked },
	{ "pending and masked, an NMI is injected: taken after its IRET", inject_pending_masked },
	{ "pending, an exception is injected: taken at its handler", exception_pending },
	{ "pending, an interrupt is injected: taken at its handler", irq_pending },
	{ "pending and masked, an exception is injected: its IRET unmasks", exception_pending_masked },
	{ "pending and masked, an interrupt is injected: its IRET unmasks", irq_pending_masked },
	{ "masked, an exception is injected: its IRET unmasks", exception_masked },
	{ "an exception is injected: unmasked", exception },
	{ "in a shadow: no bit is set", shadow_nothing },
	{ "masked, in a shadow: stays so", shadow_only_masked },
	{ "pending, in a shadow: taken after it", shadow },
	{ "pending and masked, in a shadow: both stay", shadow_masked },
	{ "pending and masked, IRET after a shadow: taken at its target", shadow_iret },
	{ "pending, HLT in a shadow: wakes", shadow_halt },
	{ "pending, PUSHF in a shadow: taken after it", shadow_pushf },
	{ "pending, L2's GIF is clear: stays", gif_clear },
	{ "pending and masked, L2's GIF is clear: both stay", gif_clear_masked },
	{ "pending and masked, L2's GIF is clear, IRET: unmasked, stays pending", gif_clear_iret },
	{ "pending, L2 sets its GIF: taken after the STGI", gif_set },
	{ "pending and masked, L2 sets its GIF: both stay", gif_set_masked },
	{ "not enabled, pending: stays", off_pending },
	{ "not enabled, masked, IRET: stays masked", off_masked_iret },
	{ "not enabled, pending and masked, IRET: both stay", off_pending_masked_iret },
	{ "not enabled, an NMI is injected: not masked", off_inject },
	{ "not enabled, pending and masked, an NMI is injected: both stay", off_inject_pending_masked },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM) || !kvm_cpu_has(FEATURE_VNMI))
		return skip_all("this KVM offers no vNMI to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
