// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs shows of an AMD vCPU.  Read while the vCPU may run: the bits of its
 * VMCB are those of the last #VMEXIT.
 */
#include <linux/kvm_host.h>

#include "x86.h"
#include "latch.h"
#include "../nmi_trace.h"

static struct nmi_record *nmi_record(struct kvm_vcpu *vcpu)
{
	return &to_svm(vcpu)->nmi.record;
}

/* What the CPU has taken as if it were injected is in nmi_pending up to the next exit. */
static unsigned int nmi_number_pending(struct kvm_vcpu *vcpu)
{
	struct svm_nmi *nmi = &to_svm(vcpu)->nmi;
	unsigned int pending = READ_ONCE(vcpu->arch.nmi_pending);

	if (pending && READ_ONCE(nmi->lent.kind) == LOAN_FIRST_VNMI)
		--pending;
	return pending + READ_ONCE(nmi->handed);
}

static const char *nmi_path(struct kvm_vcpu *vcpu)
{
	if (vnmi_in_use(to_svm(vcpu)))
		return "vnmi";

	return is_sev_es_guest(vcpu) ? "nmi-complete" : "iret-window";
}

static const char *nmi_state_name(struct kvm_vcpu *vcpu, u64 *since)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	enum nmi_state state;

	if (vnmi_in_use(svm))
		return vnmi_masked(svm) ? "blocked" : "open";

	state = READ_ONCE(svm->nmi.l1.state);
	if (state == NMI_OPEN)
		return "open";

	*since = READ_ONCE(svm->nmi.l1.since);
	return state == NMI_RETIRING ? "retiring" : "blocked";
}

#include "../nmi_debugfs.c"
