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

/*
 * Up to 6.9 a test sets up the IDT itself; from 6.10 on each vCPU comes with
 * one. The macro that came with the change tells the two apart.
 */
static inline void compat_init_idt(struct kvm_vcpu *vcpu)
{
#ifndef KVM_GUEST_PAGE_TABLE_COMPAT
	if (!vcpu->vm->idt)
		vm_init_descriptor_tables(vcpu->vm);
	vcpu_init_descriptor_tables(vcpu);
#endif
}

#endif
