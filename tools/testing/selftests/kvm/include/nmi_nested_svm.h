/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of nested SVM share: a hypervisor (L1) of a few lines that runs
 * L2 with its VMCB as a test wants it, the three vNMI bits included, and writes
 * down what it finds there at each exit.
 *
 * L1 and L2 share one address space, one IDT and one log of events. They do not
 * share the check for nested NMIs: an NMI of L1 may well meet a handler of L2.
 */
#ifndef NMI_NESTED_SVM_H
#define NMI_NESTED_SVM_H

#include "nmi_test.h"
#include "svm_util.h"

#define FEATURE_VNMI	KVM_X86_CPU_FEATURE(0x8000000A, 0, EDX, 25)

/* VMCB offset 60h, and the values that EVENTINJ and EXITINTINFO have */
#define V_NMI		BIT(11)
#define V_NMI_MASK	BIT(12)
#define V_NMI_ENABLE	BIT(26)
#define V_GIF_ENABLE	BIT(25)
#define V_NMI_STATE	(V_NMI | V_NMI_MASK)

#define EVENT_NMI	0x80000200u
#define EVENT_UD	0x80000306u
#define EVENT_IRQ	(0x80000000u | IRQ_VECTOR)
#define EVENT_TYPE	0x80000700u

#define EXIT_INVALID	0xffffffffu	/* as an exit code: VMRUN refused */

#define NR_EXITS	16

/* What L1 has seen at one exit of L2. */
struct l2_exit {
	uint32_t code, int_ctl, int_info, nr_nmis;
	uint64_t rip;
};

/* How L1 starts L2. The host fills it in before the guest runs. */
struct l2_start {
	void (*rip)(void);
	uint64_t intercepts;		/* besides NMI, VMRUN and VMMCALL */
	uint32_t exceptions;
	uint32_t int_ctl, int_state, event_inj;
	bool ignore_nmi;		/* do not intercept NMIs */
};

extern struct l2_start l2_start;
extern struct svm_test_data *l1_svm;
extern struct l2_exit l2_exits[NR_EXITS];
extern uint32_t nr_l2_exits;

/* --- guest side --------------------------------------------------------- */

void prepare_l2(void);

void warm_l2_up(void);

/* Run L2 until it exits; a VMMCALL is stepped over. Returns with GIF clear. */
const struct l2_exit *run_l2(void);

/* Run L2 until something other than VMMCALL ends it, or l2_end() is reached. */
void run_l2_to_end(void);
void l2_end(void);

/* L2 programs; the labels are where NMIs are expected. */
void l2_nop(void);		/* NOP, NOP */
void l2_iret(void);		/* IRET to l2_open */
void l2_stop_iret(void);	/* the same, stage STAGE_L2_IRET before the IRET */
void l2_bad_iret(void);		/* an IRET that faults, at l2_bad_iret_at */
void l2_halt(void);		/* HLT */
void l2_pushf(void);		/* PUSHF, its image to l2_pushed */
void l2_stgi(void);		/* NOP, STGI */
void l2_iret_tf(void);		/* IRET to l2_open with TF set */
extern char l2_nop_2[], l2_iret_at[], l2_open[], l2_open_2[], l2_bad_iret_at[],
	    l2_halted[], l2_pushf_next[], l2_stgi_next[];
extern uint64_t l2_pushed;

/* --- host side ---------------------------------------------------------- */

/* A VM whose L1 is ready for prepare_l2(). */
struct kvm_vcpu *create_l1(void (*l1)(void), const struct l2_start *start,
			   void (*on_event)(struct event_regs *regs));

/* Exits seen so far; fails if there are fewer than nr. */
const struct l2_exit *read_exits(struct kvm_vcpu *vcpu, unsigned int nr);

/* The nested state that user space saves, and L2's VMCB in it. */
union nested_state {
	struct kvm_nested_state state;
	char space[16384];
};

struct vmcb *saved_vmcb12(struct kvm_vcpu *vcpu, union nested_state *nested);

/* The vNMI bits of L2 there. */
uint32_t saved_vnmi_bits(struct kvm_vcpu *vcpu);

/* Take L2's stack out of L0's page tables: its next use is an exit to L0. */
void take_l2_stack_away(struct kvm_vcpu *vcpu);

#endif
