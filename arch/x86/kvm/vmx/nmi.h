/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest NMIs on Intel CPUs: what kvm_x86_ops, the exit handlers and nested
 * virtualization call.  Who calls whom reads top down:
 *
 *   nested_nmi.c	 what happens to NMIs and their blocking between L1 and L2
 *   nmi.c		 the dispatcher: injection, windows, each entry, each exit
 *   virtual_nmis.c	 VMCSs with virtual NMIs: the CPU tracks blocking (nmi_inline.h:
 *			 what each exit has to do)
 *   soft_vnmi.c	 VMCSs without: blocking tracked in software
 *   iret_search.c	 the same where nothing else tells: one step after the other
 *   return_breakpoint.c  the same where the handler's end opens no IRQ window
 *   next_boundary.c	 an exit at the next instruction boundary
 *   nmi_debugfs.c	 what debugfs shows of all this
 *
 * vmx.h includes this file for struct vmx_nmi; what is inline here knows no more than
 * the VMCS.
 */
#ifndef __KVM_X86_VMX_NMI_H
#define __KVM_X86_VMX_NMI_H

#include <linux/hrtimer.h>
#include <linux/kvm_types.h>

#include "../nmi_compat.h"
#include "../nmi_debugfs.h"
#include "vmcs.h"

struct vcpu_vmx;

/* VM-entry interruption information and IDT-vectoring information of an NMI */
#define NMI_EVENT	(NMI_VECTOR | INTR_TYPE_NMI_INTR | INTR_INFO_VALID_MASK)
#define NMI_AS_EXCEPTION \
	(NMI_VECTOR | INTR_TYPE_HARD_EXCEPTION | INTR_INFO_VALID_MASK)

#define SLOT_NOT_LENT	-1

/* Where the handler of the last NMI is going to return to. */
struct return_breakpoint {
	bool armed;
	bool pass;			/* fired for somebody else: step over it */
	bool silent;			/* its frame has RFLAGS.RF set */
	bool here;			/* vmx_nmi_exit() has just found the vCPU there */
	u8 misses;			/* how often it fired in vain */
	s8 slot;			/* lent to this entry, or SLOT_NOT_LENT */
	int cpl;
	unsigned long address;		/* linear */
	unsigned long rsp;
	unsigned long rsp_mask;
};

/* What a step of the search for an IRET knows. */
struct iret_search {
	unsigned int steps_left;	/* in this handler, */
	unsigned int late_us;		/* after an NMI has waited for that long */
	bool irqs_on;			/* it has interrupted code with IRQs on */
	bool iret;			/* an IRET is next, */
	unsigned long rip;		/* if the vCPU is here */
};

/* A wait for the next instruction boundary. */
struct next_boundary {
	bool step;			/* the monitor trap flag is to be lent, or is */
	unsigned long rip;		/* without it: where the last wait was, */
	u64 injections;			/* how many NMIs had been injected, */
	int tries;			/* and how often it was there already */
};

/*
 * Per vCPU.  Whether NMIs are blocked is a property of the VMCS: the blocking
 * bit where virtual NMIs are on, loaded_vmcs.soft_nmi_blocked elsewhere.
 */
struct vmx_nmi {
	bool enter;			/* vmx_nmi_enter() has work */
	bool exit;			/* vmx_nmi_exit() has, whatever is blocked */
	bool owned;			/* the last exit was for nothing but NMIs */
	bool redelivery;		/* the NMI to be injected is not a new one */
	bool called_off;		/* its delivery has not begun: there was no entry */
	bool from_l1;			/* it is L1's, and blocks nothing in L2 */
	bool as_exception;		/* the entry under way has one like that */
	bool entry_opens;		/* the entry of L2 under way ends L1's blocking */
	u64 since;			/* TSC when blocking began, 0: its end is told */
	/* The VMCS whose last exit was an IRET's, and the event that its fault is or 0 */
	struct loaded_vmcs *iret_exit;
	u32 iret_fault;

	struct hrtimer timer;		/* makes an exit for an NMI that waits */
	struct next_boundary next;
	bool waiting;			/* soft vNMI: an NMI waits, time counts */
	ktime_t began;			/* to wait */
	ktime_t mark;			/* time has been counted up to here */
	s64 waited_ns;			/* guest and halted time of the handler */
	struct return_breakpoint ret;
	struct iret_search search;

	struct nmi_record record;	/* for debugfs */
};

/* A property of the VMCS, whatever the module parameter says. */
static __always_inline bool has_virtual_nmis(const struct loaded_vmcs *vmcs)
{
	return READ_ONCE(vmcs->controls_shadow.pin) & PIN_BASED_VIRTUAL_NMIS;
}

/* Each exit asks this, and nearly each has nothing to say about NMIs. */
static __always_inline bool vmx_nmi_exit_due(const struct loaded_vmcs *vmcs,
					     const struct vmx_nmi *nmi)
{
	return !vmcs->nmi_known_unmasked || nmi->exit;
}

/* kvm_x86_ops */
void vmx_inject_nmi(struct kvm_vcpu *vcpu);
int vmx_nmi_allowed(struct kvm_vcpu *vcpu, bool for_injection);
bool vmx_get_nmi_mask(struct kvm_vcpu *vcpu);
void vmx_set_nmi_mask(struct kvm_vcpu *vcpu, bool masked);
void vmx_enable_nmi_window(struct kvm_vcpu *vcpu);

/* vmx.c */
void vmx_nmi_create(struct kvm_vcpu *vcpu);
void vmx_nmi_free(struct kvm_vcpu *vcpu);
void vmx_nmi_reset(struct kvm_vcpu *vcpu);
void vmx_nmi_enter(struct vcpu_vmx *vmx);
bool vmx_nmi_exit(struct kvm_vcpu *vcpu);
void vmx_nmi_delivery_aborted(struct kvm_vcpu *vcpu);
void vmx_nmi_cancel(struct kvm_vcpu *vcpu);
void vmx_nmi_took_task_gate(struct kvm_vcpu *vcpu);
int handle_nmi_window(struct kvm_vcpu *vcpu);
int handle_monitor_trap(struct kvm_vcpu *vcpu);
int vmx_nmi_host_event(struct kvm_vcpu *vcpu);

void vmx_nmi_vcpu_load(struct kvm_vcpu *vcpu);
void vmx_nmi_vcpu_put(struct kvm_vcpu *vcpu);

/* nested.c */
bool vmx_nmi_due(struct kvm_vcpu *vcpu);
void vmx_nmi_exit_to_l1(struct kvm_vcpu *vcpu);
void vmx_nmi_load_vmcs12(struct vcpu_vmx *vmx);
void vmx_nmi_restore_vmcs12(struct vcpu_vmx *vmx);
u32 vmx_nmi_save_vmcs12(struct vcpu_vmx *vmx);
bool vmx_nmi_iret_faulted(struct kvm_vcpu *vcpu);
void vmx_nmi_left_l2(struct kvm_vcpu *vcpu, u32 exit_reason);

/* nmi.c, called by nested_nmi.c */
bool vmx_nmi_blocked(struct kvm_vcpu *vcpu);
void vmx_nmi_block(struct vcpu_vmx *vmx, bool blocked);
void vmx_nmi_take_requested(struct kvm_vcpu *vcpu);

/*
 * The two ways in which NMIs are blocked, called by nmi.c; virtual NMIs' "blocked",
 * "inject" and "exit" are in nmi_inline.h.  wait: false if only an interrupt shadow is
 * in the way; exit: true if the exit was for nothing but NMIs.
 */
bool virtual_nmis_wait(struct vcpu_vmx *vmx);
void virtual_nmis_enter(struct vcpu_vmx *vmx);
void virtual_nmis_take_window(struct vcpu_vmx *vmx);
void virtual_nmis_set_blocking(struct vcpu_vmx *vmx, bool blocked);
void virtual_nmis_block(struct vcpu_vmx *vmx);
void virtual_nmis_unblock(struct vcpu_vmx *vmx, enum nmi_unblock cause);

/*
 * A parameter with bounds that may be changed while the module is loaded.  The value is
 * first, for param_get_uint().
 */
struct soft_vnmi_param {
	unsigned int value, min, max;
	const char *unit;	/* for the line that refuses a value */
};

extern const struct kernel_param_ops soft_vnmi_param_ops;

bool soft_vnmi_blocked(struct vcpu_vmx *vmx);
void soft_vnmi_inject(struct vcpu_vmx *vmx);
bool soft_vnmi_wait(struct vcpu_vmx *vmx);
void soft_vnmi_enter(struct vcpu_vmx *vmx);
bool soft_vnmi_exit(struct vcpu_vmx *vmx);
void soft_vnmi_aborted(struct vcpu_vmx *vmx);
void soft_vnmi_block(struct vcpu_vmx *vmx);
void soft_vnmi_unblock(struct vcpu_vmx *vmx, enum nmi_unblock cause);
void soft_vnmi_count_time(struct vcpu_vmx *vmx);

/* return_breakpoint.c, called by soft_vnmi.c, iret_search.c and nmi.c */
void return_breakpoint_init(struct return_breakpoint *bp);
void return_breakpoint_take_back(struct vcpu_vmx *vmx);
void return_breakpoint_arm(struct vcpu_vmx *vmx, unsigned long rflags);
void return_breakpoint_enter(struct vcpu_vmx *vmx);
bool return_breakpoint_exit(struct vcpu_vmx *vmx, bool *owned);

bool return_breakpoint_can_fire(struct vcpu_vmx *vmx);

/*
 * iret_search.c, called by soft_vnmi.c; enter only if nmi.next.step is set, exit if
 * nmi.search.iret is
 */
void iret_search_begin(struct vcpu_vmx *vmx, bool irqs_on);
bool iret_search_due(struct vcpu_vmx *vmx);
void iret_search_step(struct vcpu_vmx *vmx);
void iret_search_enter(struct vcpu_vmx *vmx);
bool iret_search_exit(struct vcpu_vmx *vmx);

/*
 * next_boundary.c, called by nmi.c and iret_search.c; enter and exit only if
 * nmi.next.step is set
 */
void next_boundary_init(struct vmx_nmi *nmi);
void next_boundary_wait(struct vcpu_vmx *vmx);
bool next_boundary_can_step(struct vcpu_vmx *vmx);
void next_boundary_step(struct vcpu_vmx *vmx);
void next_boundary_enter(struct vcpu_vmx *vmx);
void next_boundary_exit(struct vcpu_vmx *vmx);
bool next_boundary_has_trap(void);

#endif /* __KVM_X86_VMX_NMI_H */
