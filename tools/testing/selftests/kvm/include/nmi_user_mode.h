/* SPDX-License-Identifier: GPL-2.0-only */
/* User mode of a 64-bit guest. Its pages come from map_user_page(). */
#ifndef NMI_USER_MODE_H
#define NMI_USER_MODE_H

#include "nmi_test.h"

/* Behind what the library puts into the GDT, and as SYSRET wants them. */
#define USER_SS		(0x28 | 3)
#define USER_CS		(0x30 | 3)

void add_user_segments(struct kvm_vcpu *vcpu);

/* SYSCALL leads there and clears these flags. */
void enable_syscall(struct kvm_vcpu *vcpu, char *entry, uint64_t clears);

#endif
