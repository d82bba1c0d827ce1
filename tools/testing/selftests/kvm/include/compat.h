/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's selftest library changes from release to release. This is the
 * one place that knows how; every test is written against what is here.
 */
#ifndef COMPAT_H
#define COMPAT_H

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "apic.h"

/* Not among the registers that every release of the library names. */
#ifndef APIC_LVT0
#define APIC_LVT0	0x350
#endif

/* Other names for addresses in the guest, and a stack that comes with an L2. */
#ifdef LIBRARY_HAS_GVA_T
#define vm_vaddr_t		gva_t
#define vm_vaddr_alloc		vm_alloc
#define vm_vaddr_alloc_page	vm_alloc_page
#define compat_svm_setup(svm, rip, stack)				\
do {									\
	struct svm_test_data *__svm = (svm);				\
									\
	generic_svm_setup(__svm, rip);					\
	__svm->vmcb->save.rsp = (uint64_t)(stack);			\
} while (0)
#define compat_prepare_vmcs(vmx, rip, stack)				\
do {									\
	prepare_vmcs(vmx, rip);						\
	vmwrite(GUEST_RSP, (uint64_t)(stack));				\
} while (0)
#define compat_has_pgd(vm)	((vm)->mmu.pgd_created)

/* and for two fields of the VMCB and their bits */
#define nested_ctl				misc_ctl
#define SVM_NESTED_CTL_NP_ENABLE		SVM_MISC_ENABLE_NP
#define virt_ext				misc_ctl2
#define VIRTUAL_VMLOAD_VMSAVE_ENABLE_MASK	SVM_MISC2_ENABLE_V_VMLOAD_VMSAVE
#else
#define compat_has_pgd(vm)	((vm)->pgd_created)
#define compat_svm_setup	generic_svm_setup
#define compat_prepare_vmcs	prepare_vmcs
#endif

/*
 * Up to 6.9 a test asks for an IDT, from 6.10 on each vCPU comes with one. The
 * Makefile looks at what the library declares.
 */
static inline void compat_init_idt(struct kvm_vcpu *vcpu)
{
#ifndef LIBRARY_SETS_UP_IDT
	if (!vcpu->vm->idt)
		vm_init_descriptor_tables(vcpu->vm);
	vcpu_init_descriptor_tables(vcpu);
#endif
}

#endif
