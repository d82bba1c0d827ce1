/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that these files are built for.  Where the
 * difference is in the distribution's files, the semantic patches know it.
 */
#ifndef __KVM_X86_NMI_COMPAT_H
#define __KVM_X86_NMI_COMPAT_H

#include <linux/bits.h>
#include <linux/hrtimer.h>
#include <linux/version.h>

#define KVM_NMI_SERIES	(LINUX_VERSION_MAJOR * 1000 + LINUX_VERSION_PATCHLEVEL)

#if KVM_NMI_SERIES != 6001 && KVM_NMI_SERIES != 6012 && KVM_NMI_SERIES != 7003 && \
	!defined(KVM_NMI_ANY_SERIES)
#error "Not a kernel that the NMI code knows: 6.1, 6.12 and 7.3 are"
#endif

/* CPUID Fn8000_000A_EDX[25].  6.1 gives X86_FEATURE_VNMI to another bit. */
#define FEATURE_VNMI		(15 * 32 + 25)

/* #CP; no guest of older kernels has shadow stacks. */
#ifndef CP_VECTOR
#define CP_VECTOR		21
#endif

#if KVM_NMI_SERIES < 6004

/* The bits of VMCB offset 60h */
#define V_NMI_PENDING_MASK	BIT(11)
#define V_NMI_BLOCKING_MASK	BIT(12)
#define V_NMI_ENABLE_MASK	BIT(26)

/* They tell the end of a handler by NMI_COMPLETE, with vNMI the CPU does as well. */
#define SEV_ES_HAS_VNMI		false

#else

#define SEV_ES_HAS_VNMI		true

#endif

#if KVM_NMI_SERIES < 6011

/* Not told: nmi_request.h */
#define vcpu_scheduled_out(v)	((void)(v), false)
#define vcpu_wants_to_run(v)	((void)(v), false)

#else

#define vcpu_scheduled_out(v)	READ_ONCE((v)->scheduled_out)
#define vcpu_wants_to_run(v)	((v)->wants_to_run)

#endif

#if KVM_NMI_SERIES < 7000

/* What VMX shares with TDX since, and SVM with common code */
#define vmx_shared(vmx)		(vmx)
#define nested_run_pending(v)	((v)->nested.nested_run_pending)
#define guest_has_vnmi(vcpu)	guest_cpuid_has(vcpu, FEATURE_VNMI)
#define is_sev_guest(vcpu)	sev_guest((vcpu)->kvm)
#define is_sev_es_guest(vcpu)	sev_es_guest((vcpu)->kvm)

static inline void nmi_hrtimer_setup(struct hrtimer *timer,
				     enum hrtimer_restart (*function)(struct hrtimer *),
				     clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}

/* An update may bring it to older kernels. */
#define hrtimer_setup		nmi_hrtimer_setup

#else

#define vmx_shared(vmx)		(&(vmx)->vt)
#define nested_run_pending(v)	((v)->vcpu.arch.nested_run_pending)
#define guest_has_vnmi(vcpu)	guest_cpu_cap_has(vcpu, FEATURE_VNMI)

#endif

#endif /* __KVM_X86_NMI_COMPAT_H */
