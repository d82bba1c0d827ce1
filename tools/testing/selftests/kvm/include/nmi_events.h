/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Claims about the events that a guest has logged, for tests in which their
 * order and frames are the point. The log is in the order in which handlers
 * begin to log: of two events taken back to back the later one comes first, as
 * it interrupts the other one's handler at its first instruction.
 */
#ifndef NMI_EVENTS_H
#define NMI_EVENTS_H

#include "nmi_test.h"

#define DR6_NONE	0xffff0ff0ul
#define DR6_B0		0x1ul
#define DR6_BD		0x2000ul
#define DR6_BS		0x4000ul
#define DR7_NONE	0x400ul
#define DR7_GD		0x2000ul
#define DR7_L0_EXEC	0x401ul

/*
 * For the end of a guest that has armed one. QEMU TCG before version 10 forgets at
 * #VMEXIT what is armed, and has it hit in the next guest that comes to that address.
 */
#define disarm_breakpoints() \
	asm volatile("mov %0, %%dr7" : : "r"(DR7_NONE) : "memory")

#define DR7_L0_WRITE	0x10401ul	/* one byte */
#define DR7_L0_ACCESS	0x30401ul	/* written or read, one byte */
#define DR7_L0_WRITE4	0xd0401ul	/* four */

/* Beside RIP, the flags with which an event's frame could give a step away. */
struct expected_event {
	uint64_t vector;
	char *rip;
	uint64_t tf_rf;
};

/* These events came, and no others. */
void check_events_at(struct kvm_vcpu *vcpu, const struct expected_event *want,
		     unsigned int nr, const char *file, int line);

#define CHECK_EVENTS(vcpu, ...)						\
	do {								\
		struct expected_event want_[] = { __VA_ARGS__ };	\
									\
		check_events_at(vcpu, want_, ARRAY_SIZE(want_),		\
				__FILE__, __LINE__);			\
	} while (0)

/* The one event of this vector. */
const struct event_regs *only_event(struct kvm_vcpu *vcpu, uint64_t vector);

/*
 * Take an event and forget it. What its delivery touches is then mapped by the
 * host, and the next one is not cut in two by an exit.
 */
static inline void guest_warm_up(void)
{
	asm volatile("int3" : : : "memory");
	guest_log.nr = 0;
}

static inline uint64_t read_dr6(void)
{
	uint64_t value;

	asm volatile("mov %%dr6, %0" : "=r"(value) : : "memory");
	return value;
}

static inline void write_dr6(uint64_t value)
{
	asm volatile("mov %0, %%dr6" : : "r"(value) : "memory");
}

#endif
