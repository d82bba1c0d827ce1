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

/*
 * Where neither the IRQ window nor the breakpoint can tell, is a handler stepped through
 * in search of its IRET? The CPU has to have the monitor trap flag. How many steps, if
 * the module says so.
 */
bool soft_searches(void);
unsigned int soft_steps(void);

/* For the rest of this program, whose main() calls it, it is not. */
void soft_no_search(void);

/* The IRET of an exception in a handler opens NMIs. Only the search sees it. */
void require_no_search(void);

/* 0: the module does not say. */
unsigned int soft_timeout_ms(void);

/* Guest side: the end of a stretch of code with IRQs off. */
void guest_open(void);
extern char guest_open_next[];

/* The second of two NMIs came where the first did; or only in guest_open(). */
void check_came_at_return(struct kvm_vcpu *vcpu);
/* So it did, where an EPT violation had cut the first one's delivery in two. */
void check_came_at_return_after_cut(struct kvm_vcpu *vcpu);
void check_came_in_irq_window(struct kvm_vcpu *vcpu);

/* At the return where the search finds it, else in the IRQ window. */
void check_came_by_search(struct kvm_vcpu *vcpu);

/* An NMI has waited for the timeout, and not that much longer. */
void check_timed_out(unsigned int waited_ms, unsigned int late_ms);

/* The kernel log from here on, and the messages in it since that have a word. */
int open_kernel_log(void);
unsigned int kernel_messages(int log, const char *about);
unsigned int nmi_messages(int log);

uint64_t tsc_khz_of(struct kvm_vcpu *vcpu);

#endif
