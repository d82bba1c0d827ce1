/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_NMI_REQUEST_H
#define __KVM_X86_NMI_REQUEST_H

#include <linux/kvm_host.h>

/*
 * Common code ends a HLT for the mere request to look at new NMIs, before it knows
 * whether NMIs are blocked; a CPU sleeps on if they are. So a vendor module looks where
 * the thread of a halted vCPU comes by: when KVM_RUN begins, and when it wakes. It
 * counts as common code does: one more NMI than is in service, and one in service at
 * most.
 *
 * The request has been taken. @masked: an NMI is in service, be it L1 or L2 that runs.
 */
static inline void nmi_take_requested(struct kvm_vcpu *vcpu, bool masked)
{
	unsigned int limit = masked || vcpu->arch.nmi_injected ? 1 : 2;

	vcpu->arch.nmi_pending = min(vcpu->arch.nmi_pending +
				     atomic_xchg(&vcpu->arch.nmi_queued, 0), limit);
	kvm_make_request(KVM_REQ_EVENT, vcpu);
}

#endif /* __KVM_X86_NMI_REQUEST_H */
