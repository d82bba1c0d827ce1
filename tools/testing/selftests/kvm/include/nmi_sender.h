/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A second vCPU that sends NMIs to the first one at times of no one's choosing.
 * At most one is on its way at a time, from whomever: none may be lost, and none
 * can melt into another.
 *
 * Where there is more than one CPU the sender spins for a random time between
 * two NMIs. Where there is one only, its thread sleeps for a random time instead
 * and wakes with priority: the receiver is interrupted wherever it is then.
 */
#ifndef NMI_SENDER_H
#define NMI_SENDER_H

#include "nmi_test.h"

enum nmi_source { NO_NMI, OTHER_VCPU, OWN_HANDLER };

/* Guest memory that both vCPUs share. */
extern volatile uint64_t nmis_wanted, nmis_sent, nmis_own;
extern volatile uint64_t nmi_on_its_way;	/* enum nmi_source */

/* In the NMI handler, once: where it came from. The next one may be sent. */
static inline enum nmi_source guest_nmi_came(void)
{
	enum nmi_source from = nmi_on_its_way;

	nmi_on_its_way = NO_NMI;
	return from;
}

/* In the NMI handler, after guest_nmi_came(): one that has to wait, if none does. */
void guest_send_nmi_to_self(void);

static inline bool guest_all_nmis_came(void)
{
	return nmis_sent == nmis_wanted && nmi_on_its_way == NO_NMI;
}

/*
 * How many to send: so many on AMD, where the end of a handler is found by
 * software. Elsewhere the CPU does most of it, and the emulated host is slow: a
 * twentieth. Without NMI_TEST_LONG it is a fifth of these. NMI_TEST_COUNT in the
 * environment overrules all of it.
 */
uint64_t worth_sending(uint64_t nr);

/*
 * Host: start sending so many to this vCPU; wait for the end of it and check that
 * each of them was taken. Meanwhile there is no limit to the case's time, but an
 * NMI that does not come within seconds fails it.
 */
void start_sender(struct kvm_vcpu *receiver, uint64_t nr);
void end_sender(void);

/*
 * Host, again and again: so many have come, or were sent by who waits for each. Has that
 * stood still for so long that one must be lost? Until then the case has time, however slow
 * the machine is.
 */
bool nmi_is_lost(uint64_t nr);

/* Whoever has a state of his own: 24 bits. */
static inline uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

#endif
