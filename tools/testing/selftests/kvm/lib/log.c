// SPDX-License-Identifier: GPL-2.0-only
/* Prints what a guest has seen, for a comparison of hosts. */
#include <stdarg.h>

#include "nmi_events.h"

static bool wanted(void)
{
	return getenv("NMI_TEST_LOG");
}

/* On QEMU TCG a frame has RF or not, depending on who delivers the event. */
uint64_t logged_flags(uint64_t rflags)
{
	return on_qemu_tcg() ? rflags & ~RFLAGS_RF : rflags;
}

void log_line(const char *fmt, ...)
{
	va_list args;

	if (!wanted())
		return;
	printf("log: ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}

static void log_events(const struct event_log *log)
{
	static unsigned int nr_logged;

	/* Guests may forget events: guest_warm_up(). */
	if (log->nr < nr_logged)
		nr_logged = 0;
	for (; nr_logged < log->nr && nr_logged < EVENT_LOG_SIZE; nr_logged++) {
		const struct event_regs *event = &log->event[nr_logged];

		log_line("vector %lu error 0x%lx rip 0x%lx cs 0x%lx rflags 0x%lx rsp 0x%lx",
			 event->vector, event->error, event->rip, event->cs,
			 logged_flags(event->rflags), event->rsp);
	}
	if (log->nr > EVENT_LOG_SIZE)
		log_line("%u events, %u of them NMIs", log->nr, log->nr_nmis);
}

void log_stage(struct kvm_vcpu *vcpu, uint32_t stage)
{
	if (!wanted())
		return;
	if (compat_has_pgd(vcpu->vm))
		log_events(read_log(vcpu));
	log_line("stage %u", stage);
}
