// SPDX-License-Identifier: GPL-2.0-only
/* Segments of user mode, and the ways in and out, see nmi_user_mode.h. */
#include "nmi_user_mode.h"

void add_user_segments(struct kvm_vcpu *vcpu)
{
	set_descriptor(vcpu, USER_SS, 0x00cff3000000ffff);
	set_descriptor(vcpu, USER_CS, 0x00affb000000ffff);
}

void enable_syscall(struct kvm_vcpu *vcpu, char *entry, uint64_t clears)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.efer |= EFER_SCE;
	vcpu_sregs_set(vcpu, &sregs);
	/* SYSRET counts from the first one: SS is 8 behind it, CS 16. */
	vcpu_set_msr(vcpu, MSR_STAR, (USER_SS - 8ull) << 48 |
		     (uint64_t)sregs.cs.selector << 32);
	vcpu_set_msr(vcpu, MSR_LSTAR, (uint64_t)entry);
	vcpu_set_msr(vcpu, MSR_SYSCALL_MASK, clears);
}
