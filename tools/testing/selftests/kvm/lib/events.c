// SPDX-License-Identifier: GPL-2.0-only
/* Compares the events a guest has logged with those a test expects. */
#include "nmi_events.h"

/* On QEMU TCG a frame has RF or not, depending on who delivers the event. */
static uint64_t tf_rf(void)
{
	return on_qemu_tcg() ? RFLAGS_TF : RFLAGS_TF | RFLAGS_RF;
}

static bool as_expected(const struct event_regs *event,
			const struct expected_event *want)
{
	return event->vector == want->vector &&
	       event->rip == (uint64_t)want->rip &&
	       ((event->rflags ^ want->tf_rf) & tf_rf()) == 0;
}

static void print_event(const char *what, uint64_t vector, uint64_t rip, uint64_t tf_rf)
{
	printf("%s: vector %lu at 0x%lx%s%s\n", what, vector, rip,
	       tf_rf & RFLAGS_TF ? " TF" : "", tf_rf & RFLAGS_RF ? " RF" : "");
}

static void __attribute__((noreturn))
fail_events(const struct event_log *log, const struct expected_event *want,
	    unsigned int nr, const char *file, int line)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		print_event("expected", want[i].vector, (uint64_t)want[i].rip, want[i].tf_rf);
	for (i = 0; i < log->nr && i < EVENT_LOG_SIZE; i++)
		print_event("came", log->event[i].vector, log->event[i].rip,
			    log->event[i].rflags & tf_rf());
	fail_at(file, line, "%u events came, or not as expected; %u were", log->nr, nr);
}

void check_events_at(struct kvm_vcpu *vcpu, const struct expected_event *want,
		     unsigned int nr, const char *file, int line)
{
	const struct event_log *log = read_log(vcpu);
	bool equal = log->nr == nr;
	unsigned int i;

	for (i = 0; equal && i < nr; i++)
		equal = as_expected(&log->event[i], &want[i]);
	if (!holds(equal))
		fail_events(log, want, nr, file, line);
}

const struct event_regs *only_event(struct kvm_vcpu *vcpu, uint64_t vector)
{
	const struct event_log *log = read_log(vcpu);
	const struct event_regs *found = NULL;
	unsigned int i;

	for (i = 0; i < log->nr && i < EVENT_LOG_SIZE; i++) {
		if (log->event[i].vector != vector)
			continue;
		if (found)
			FAIL("more than one event of vector %lu", vector);
		found = &log->event[i];
	}
	if (!found)
		FAIL("no event of vector %lu came", vector);
	return found;
}
