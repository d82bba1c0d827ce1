// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs shows of an Intel vCPU.  Read while the vCPU may run, without its
 * VMCS: where the CPU tracks blocking, what the last exit has shown.
 */
#include <linux/kvm_host.h>

#include "x86.h"
#include "vmx.h"
#include "nmi.h"
#include "../nmi_trace.h"

static struct nmi_record *nmi_record(struct kvm_vcpu *vcpu)
{
	return &to_vmx(vcpu)->nmi.record;
}

static unsigned int nmi_number_pending(struct kvm_vcpu *vcpu)
{
	return READ_ONCE(vcpu->arch.nmi_pending);
}

static const char *nmi_path(struct kvm_vcpu *vcpu)
{
	struct loaded_vmcs *vmcs = READ_ONCE(to_vmx(vcpu)->loaded_vmcs);

	return has_virtual_nmis(vmcs) ? "virtual-nmis" : "soft-vnmi";
}

static const char *nmi_state_name(struct kvm_vcpu *vcpu, u64 *since)
{
	struct loaded_vmcs *vmcs = READ_ONCE(to_vmx(vcpu)->loaded_vmcs);

	/* In an L2 with virtual NMIs it may be L1's that blocks, which does not count. */
	*since = READ_ONCE(to_vmx(vcpu)->nmi.since);
	if (*since && (has_virtual_nmis(vmcs) ? !READ_ONCE(vmcs->nmi_known_unmasked) :
						READ_ONCE(vmcs->soft_nmi_blocked)))
		return "blocked";

	*since = 0;
	return "open";
}

#include "../nmi_debugfs.c"
