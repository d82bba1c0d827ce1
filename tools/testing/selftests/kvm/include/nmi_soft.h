/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For the tests of soft vNMI: what the module was told to do, and where a second
 * NMI came that had to wait for the handler of the first.
 *
 * Such a test interrupts code that keeps IRQs off. The second NMI comes either at
 * the very instruction at which the first one did, by the return breakpoint; or
 * where the guest lets IRQs in, which it does in guest_open() some time later.
 */
#ifndef NMI_SOFT_H
#define NMI_SOFT_H

#include "nmi_test.h"

/* Returns at once if the handler's end is found by a breakpoint; else skips. */
void require_exact(void);

/*
 * Is the breakpoint in use? The distribution's module has no say in it, and is
 * measured by what this one promises.
 */
bool soft_exact(void);

/* 0: the module does not say. */
unsigned int soft_timeout_ms(void);

/* Guest side: the end of a stretch of code with IRQs off. */
void guest_open(void);
extern char guest_open_next[];

/* The second of two NMIs came where the first did; or only in guest_open(). */
void check_came_at_return(struct kvm_vcpu *vcpu);
void check_came_in_irq_window(struct kvm_vcpu *vcpu);

/* An NMI has waited for the timeout, and not that much longer. */
void check_timed_out(unsigned int waited_ms, unsigned int late_ms);

/* The kernel log from here on, and the messages about NMIs in it since. */
int open_kernel_log(void);
unsigned int nmi_messages(int log);

uint64_t tsc_khz_of(struct kvm_vcpu *vcpu);

#endif
