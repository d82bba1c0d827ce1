// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C half of the guest's event handlers: log the event, tell the host at
 * once if an NMI hit the NMI handler, let the test do its part.
 */
#include "nmi_test.h"

struct event_log guest_log;
void (*guest_on_event)(struct event_regs *regs);

void stop_in_first_handler(struct event_regs *regs)
{
	if (regs->vector != NMI_VECTOR || guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	guest_stage(STAGE_HANDLER_END);
}

static bool in_nmi_entry(uint64_t rip)
{
	return rip >= (uint64_t)event_entry_2 && rip < (uint64_t)event_end_2;
}

void guest_event(struct event_regs *regs)
{
	bool is_nmi = regs->vector == NMI_VECTOR;

	if (guest_log.nr < EVENT_LOG_SIZE)
		guest_log.event[guest_log.nr] = *regs;
	guest_log.nr++;

	if (is_nmi) {
		guest_log.nr_nmis++;
		if (guest_log.in_nmi++ || in_nmi_entry(regs->rip))
			guest_stage(STAGE_NESTED);
	}

	if (guest_on_event)
		guest_on_event(regs);

	if (is_nmi)
		guest_log.in_nmi--;
	if (regs->vector == IRQ_VECTOR)
		x2apic_write_reg(APIC_EOI, 0);
}
