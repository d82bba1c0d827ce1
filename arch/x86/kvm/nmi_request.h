/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_NMI_REQUEST_H
#define __KVM_X86_NMI_REQUEST_H

#include <linux/kvm_host.h>

#include "nmi_compat.h"

/* Accepted, and not injected yet; what user space has restored is a request as yet. */
static inline bool nmi_is_waiting(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.nmi_pending || atomic_read(&vcpu->arch.nmi_queued);
}

/*
 * The thread of a halted vCPU that is scheduled again was not asleep: it may be counting
 * NMIs right now, for user space that reads or writes the vCPU's events.
 */
static inline bool nmi_thread_was_preempted(struct kvm_vcpu *vcpu)
{
	return vcpu_scheduled_out(vcpu) && !vcpu->stat.generic.blocking;
}

/*
 * Does the vCPU's thread do something for user space other than to enter the guest?  It may
 * be to read or to replace its events, which at the start of KVM_RUN are in the shared page.
 */
static inline bool nmi_user_space_looks(struct kvm_vcpu *vcpu)
{
	return !vcpu_wants_to_run(vcpu) || READ_ONCE(vcpu->run->kvm_dirty_regs);
}

/*
 * Common code ends a HLT for the mere request to look at new NMIs, before it knows
 * whether NMIs are blocked; a CPU sleeps on if they are. So a vendor module looks where
 * the thread of a halted vCPU comes by: when KVM_RUN begins, and when it wakes. It
 * counts as common code does: one more NMI than is in service, and one in service at
 * most.
 *
 * The request has been taken. @masked: an NMI is in service, as get_nmi_mask() has it.
 * Not to be preempted: who schedules the thread again comes by here, too.
 */
static inline void nmi_take_requested(struct kvm_vcpu *vcpu, bool masked)
{
	unsigned int limit = masked || vcpu->arch.nmi_injected ? 1 : 2;

	preempt_disable();
	vcpu->arch.nmi_pending = min(vcpu->arch.nmi_pending +
				     atomic_xchg(&vcpu->arch.nmi_queued, 0), limit);
	preempt_enable();
	kvm_make_request(KVM_REQ_EVENT, vcpu);
}

/*
 * Instead of an NMI whose entry was called off an exception of user space's is injected, for
 * which common code would forget it. Nothing of its delivery has begun: it waits again.
 */
static inline void nmi_put_back(struct kvm_vcpu *vcpu)
{
	vcpu->arch.nmi_injected = false;
	++vcpu->arch.nmi_pending;
	--vcpu->stat.nmi_injections;
	kvm_make_request(KVM_REQ_EVENT, vcpu);
}

#endif /* __KVM_X86_NMI_REQUEST_H */
