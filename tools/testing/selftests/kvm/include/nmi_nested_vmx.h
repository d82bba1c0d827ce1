/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of nested VMX share: a hypervisor (L1) of a few lines, and what it
 * finds at each exit of its guest (L2). Both share one address space, one IDT and
 * one log of events.
 */
#ifndef NMI_NESTED_VMX_H
#define NMI_NESTED_VMX_H

#include "nmi_test.h"
#include "vmx.h"

#define INTR_INFO_NMI		0x80000202	/* valid, type NMI, vector 2 */
#define BLOCKED_BY_NMI		(1u << 3)
#define NMI_UNBLOCKING_IRET	0x1000	/* in an exception's information, an EPT violation's qualification */
#define NR_VMX_EXITS		4

struct vmx_exit {
	uint64_t reason, qualification, intr_info, rip, interruptibility, activity, insn_length;
};

/* --- guest side --------------------------------------------------------- */

void prepare_vmx_l2(void (*rip)(void));

/* A VMCS of its own, which is the current one then, until L1 goes back to the first. */
void prepare_second_vmx_l2(void (*rip)(void));
void back_to_first_vmx_l2(void);

/* Other pin-based controls from the next entry on. */
void set_vmx_pin_controls(uint32_t pin_controls);

/* Run L2 until it exits; a VMCALL is stepped over. */
const struct vmx_exit *run_vmx_l2(void);

/* --- host side ---------------------------------------------------------- */

/* A VM whose L1 is ready for prepare_vmx_l2(), which sets these pin-based controls. */
struct kvm_vcpu *create_vmx_l1(void (*l1)(void), uint32_t pin_controls,
			       void (*on_event)(struct event_regs *regs));

/* Exits seen so far; fails if they are not so many. */
const struct vmx_exit *read_vmx_exits(struct kvm_vcpu *vcpu, unsigned int nr);

#endif
