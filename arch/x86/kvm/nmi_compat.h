/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that these files are built for.  Where the
 * difference is in the distribution's files, the semantic patches know it.
 */
#ifndef __KVM_X86_NMI_COMPAT_H
#define __KVM_X86_NMI_COMPAT_H

#include <linux/bits.h>
#include <linux/version.h>

#if LINUX_VERSION_MAJOR != 6
#error "Not a kernel that the NMI code knows: 6.1 and 6.12 are"
#elif LINUX_VERSION_PATCHLEVEL == 1

/* The bits of VMCB offset 60h, new in 6.4 */
#define V_NMI_PENDING_MASK	BIT(11)
#define V_NMI_BLOCKING_MASK	BIT(12)
#define V_NMI_ENABLE_MASK	BIT(26)

#elif LINUX_VERSION_PATCHLEVEL != 12
#error "Not a kernel that the NMI code knows: 6.1 and 6.12 are"
#endif

/* CPUID Fn8000_000A_EDX[25].  6.1 gives X86_FEATURE_VNMI to another bit. */
#define FEATURE_VNMI		(15 * 32 + 25)

#endif /* __KVM_X86_NMI_COMPAT_H */
