/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest NMIs on Intel CPUs: what kvm_x86_ops, the exit handlers and nested
 * virtualization call.
 *
 *   nmi.c        injection, blocking, windows; the virtual-NMI hardware path
 *   nmi_exit.h   the part of it that every exit runs
 *   soft_vnmi.c  VMCSs without virtual NMIs: blocking tracked in software
 *   nested_nmi.c  what happens to NMIs and their blocking between L1 and L2
 *   return_breakpoint.c  the same where the handler's end opens no IRQ window
 *   nmi_stats.c  what debugfs shows of all this
 */
#ifndef __KVM_X86_VMX_NMI_H
#define __KVM_X86_VMX_NMI_H

#include <linux/hrtimer.h>
#include <linux/kvm_types.h>

#include "../nmi_compat.h"
#include "../nmi_stats.h"

struct loaded_vmcs;
struct vcpu_vmx;

/* VM-entry interruption information and IDT-vectoring information of an NMI */
#define NMI_EVENT	(NMI_VECTOR | INTR_TYPE_NMI_INTR | INTR_INFO_VALID_MASK)
#define NMI_AS_EXCEPTION \
	(NMI_VECTOR | INTR_TYPE_HARD_EXCEPTION | INTR_INFO_VALID_MASK)

/* Where the handler of the last NMI is going to return to. */
struct return_breakpoint {
	bool armed;
	bool pass;			/* fired for somebody else: step over it */
	u8 misses;			/* how often it did */
	s8 slot;			/* lent to this entry, -1: none */
	int cpl;
	unsigned long address;		/* linear */
	unsigned long rsp;
	unsigned long rsp_mask;
};

/*
 * Per vCPU.  Whether NMIs are blocked is a property of the VMCS: the blocking
 * bit where virtual NMIs are on, loaded_vmcs.soft_nmi_blocked elsewhere.
 */
struct vmx_nmi {
	bool enter;			/* vmx_nmi_enter() has work */
	bool reenter;			/* the last exit goes straight back */
	bool redelivery;		/* the NMI to be injected is not a new one */
	bool from_l1;			/* it is L1's, and blocks nothing in L2 */
	bool as_exception;		/* the entry under way has one like that */
	u64 since;			/* TSC when blocking began, for those who ask */
	/* The VMCS whose last exit was an IRET's, and the event that its fault is or 0 */
	struct loaded_vmcs *iret_exit;
	u32 iret_fault;

	struct hrtimer timer;		/* makes an exit for an NMI that waits */
	unsigned long sti_rip;		/* where the last wait for a shadow's end was */
	u64 sti_injections;		/* and how many NMIs had been injected */
	int sti_tries;			/* and how often it was there already */
	bool waiting;			/* soft vNMI: an NMI waits, time counts */
	ktime_t mark;			/* time has been counted up to here */
	s64 waited_ns;			/* guest and halted time of the handler */
	struct return_breakpoint ret;

	struct nmi_stats *stats;	/* for debugfs; NULL: not counted */
};

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
void vmx_nmi_exit(struct vcpu_vmx *vmx);
void vmx_nmi_delivery_aborted(struct kvm_vcpu *vcpu);
void vmx_nmi_took_task_gate(struct kvm_vcpu *vcpu);
int handle_nmi_window(struct kvm_vcpu *vcpu);
int vmx_nmi_host_event(struct kvm_vcpu *vcpu);

void vmx_nmi_vcpu_load(struct kvm_vcpu *vcpu);
void vmx_nmi_vcpu_put(struct kvm_vcpu *vcpu);

/* nested.c */
bool vmx_nmi_blocked(struct kvm_vcpu *vcpu);
bool vmx_nmi_due(struct kvm_vcpu *vcpu);
void vmx_nmi_exit_to_l1(struct kvm_vcpu *vcpu);
void vmx_nmi_load_vmcs12(struct vcpu_vmx *vmx);
void vmx_nmi_restore_vmcs12(struct vcpu_vmx *vmx);
u32 vmx_nmi_save_vmcs12(struct vcpu_vmx *vmx);
bool vmx_nmi_iret_faulted(struct kvm_vcpu *vcpu);
void vmx_nmi_left_l2(struct kvm_vcpu *vcpu, u32 exit_reason);

/* nested_nmi.c, called by nmi.c */
bool vmx_nmi_exiting_alone(struct kvm_vcpu *vcpu);
bool vmx_nmi_held_in_l2(struct kvm_vcpu *vcpu);
void vmx_nmi_hold_in_l2(struct kvm_vcpu *vcpu, bool held);

/* nmi.c, called by the other files */
void vmx_nmi_block(struct vcpu_vmx *vmx, bool blocked);
void vmx_nmi_take_requested(struct kvm_vcpu *vcpu);
void vmx_set_blocking_bit(struct vcpu_vmx *vmx, bool blocked);
void vmx_nmi_unblocked(struct vcpu_vmx *vmx, int cause);
void vmx_nmi_reenter(struct vcpu_vmx *vmx);

/* soft_vnmi.c, called by nmi.c for a VMCS without virtual NMIs */
void soft_vnmi_inject(struct vcpu_vmx *vmx);
void soft_vnmi_block(struct vcpu_vmx *vmx);
bool soft_vnmi_blocked(struct kvm_vcpu *vcpu);
void soft_vnmi_unblock(struct vcpu_vmx *vmx, int cause);
void soft_vnmi_wait(struct vcpu_vmx *vmx);
void soft_vnmi_enter(struct vcpu_vmx *vmx);
void soft_vnmi_exit(struct vcpu_vmx *vmx);
void soft_vnmi_count_time(struct vcpu_vmx *vmx);

/* return_breakpoint.c, called by soft_vnmi.c and nmi.c */
void return_breakpoint_init(struct return_breakpoint *bp);
void return_breakpoint_take_back(struct vcpu_vmx *vmx);
void return_breakpoint_arm(struct vcpu_vmx *vmx);
void return_breakpoint_enter(struct vcpu_vmx *vmx);
bool return_breakpoint_exit(struct vcpu_vmx *vmx);

#endif /* __KVM_X86_VMX_NMI_H */
