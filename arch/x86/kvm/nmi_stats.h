/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file "nmi" of each VM in debugfs: what the two modules call.
 */
#ifndef __KVM_X86_NMI_STATS_H
#define __KVM_X86_NMI_STATS_H

struct kvm_vcpu;
struct nmi_stats;

void nmi_stats_create(struct kvm_vcpu *vcpu);
void nmi_stats_free(struct kvm_vcpu *vcpu);

#endif /* __KVM_X86_NMI_STATS_H */
