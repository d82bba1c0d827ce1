// SPDX-License-Identifier: GPL-2.0-only
/* SMRAM with an SMI handler, see nmi_smm.h. */
#include "nmi_smm.h"

#define SMRAM_SLOT	(1 << 16)	/* in the address space of SMM */
#define SMRAM_PAGES	16

void set_smi_handler(struct kvm_vcpu *vcpu, const char *code, const char *end)
{
	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		skip("this KVM is built without SMM");
	vm_userspace_mem_region_add(vcpu->vm, VM_MEM_SRC_ANONYMOUS, SMRAM_GPA,
				    SMRAM_SLOT, SMRAM_PAGES, 0);
	memcpy(addr_gpa2hva(vcpu->vm, SMRAM_GPA + SMM_ENTRY), code, end - code);
	vcpu_set_msr(vcpu, MSR_IA32_SMBASE, SMRAM_GPA);
}

void send_smi(struct kvm_vcpu *vcpu)
{
	vcpu_ioctl(vcpu, KVM_SMI, NULL);
}
