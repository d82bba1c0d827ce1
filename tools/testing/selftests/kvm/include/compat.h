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
