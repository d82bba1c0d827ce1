/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints that follow a guest NMI from injection to the end of its
 * handler.  Both vendor modules create them, under the same names, so that one
 * reader (tools/nmi-timeline, trace-cmd, perf) serves every host.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_nmi

#if !defined(_KVM_NMI_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _KVM_NMI_TRACE_H

#include <linux/kvm_host.h>
#include <linux/math64.h>
#include <linux/tracepoint.h>
#include <asm/msr.h>
#include <asm/tsc.h>

#include "nmi_debugfs.h"

#ifndef _KVM_NMI_TRACE_NS
#define _KVM_NMI_TRACE_NS
/* The TSCs of two CPUs may differ a little. */
static inline u64 nmi_ns_since(u64 tsc)
{
	s64 ticks = rdtsc() - tsc;

	return ticks > 0 ? mul_u64_u32_div(ticks, 1000000, tsc_khz) : 0;
}
#endif

/* trace-cmd and perf know the names in a format only if told their values. */
TRACE_DEFINE_ENUM(NMI_WINDOW_EXITING);
TRACE_DEFINE_ENUM(NMI_WINDOW_IRQ);
TRACE_DEFINE_ENUM(NMI_WINDOW_IRET);
TRACE_DEFINE_ENUM(NMI_WINDOW_STEP);
TRACE_DEFINE_ENUM(NMI_WINDOW_STGI);
TRACE_DEFINE_ENUM(NMI_WINDOW_VNMI);
TRACE_DEFINE_ENUM(NMI_UNBLOCK_IRET);
TRACE_DEFINE_ENUM(NMI_UNBLOCK_IRQ_WINDOW);
TRACE_DEFINE_ENUM(NMI_UNBLOCK_RETURN);
TRACE_DEFINE_ENUM(NMI_UNBLOCK_TIMEOUT);
TRACE_DEFINE_ENUM(NMI_UNBLOCK_FAULT);
TRACE_DEFINE_ENUM(NMI_UNBLOCK_TASK_SWITCH);
TRACE_DEFINE_ENUM(NMI_UNBLOCK_RESTORED);
TRACE_DEFINE_ENUM(NMI_UNBLOCK_RESET);

/*
 * The interrupted context is recorded before the handler can change it: with
 * an NMI sent to a hung guest this line says where it hung.  @again: the first
 * attempt was interrupted by an exit.
 */
TRACE_EVENT(kvm_nmi_inject,
	    TP_PROTO(struct kvm_vcpu *vcpu, unsigned long rip, unsigned long rsp,
		     unsigned long rflags, int cpl, bool again),
	    TP_ARGS(vcpu, rip, rsp, rflags, cpl, again),

	    TP_STRUCT__entry(__field(unsigned int, vcpu_id)
			     __field(int, level)
			     __field(unsigned long, rip)
			     __field(unsigned long, rsp)
			     __field(unsigned long, rflags)
			     __field(int, cpl)
			     __field(bool, again)),

	    TP_fast_assign(__entry->vcpu_id = vcpu->vcpu_id;
			   __entry->level = is_guest_mode(vcpu) ? 2 : 1;
			   __entry->rip = rip;
			   __entry->rsp = rsp;
			   __entry->rflags = rflags;
			   __entry->cpl = cpl;
			   __entry->again = again;),

	    TP_printk("vcpu_id=%u level=%d rip=0x%lx rsp=0x%lx rflags=0x%lx cpl=%d again=%d",
		      __entry->vcpu_id, __entry->level, __entry->rip, __entry->rsp,
		      __entry->rflags, __entry->cpl, __entry->again)
);

TRACE_EVENT(kvm_nmi_window,
	    TP_PROTO(struct kvm_vcpu *vcpu, enum nmi_window window),
	    TP_ARGS(vcpu, window),

	    TP_STRUCT__entry(__field(unsigned int, vcpu_id)
			     __field(int, level)
			     __field(int, window)),

	    TP_fast_assign(__entry->vcpu_id = vcpu->vcpu_id;
			   __entry->level = is_guest_mode(vcpu) ? 2 : 1;
			   __entry->window = window;),

	    TP_printk("vcpu_id=%u level=%d window=%s", __entry->vcpu_id,
		      __entry->level,
		      __print_symbolic(__entry->window,
				       { NMI_WINDOW_EXITING, "nmi-window" },
				       { NMI_WINDOW_IRQ, "irq-window" },
				       { NMI_WINDOW_IRET, "iret-intercept" },
				       { NMI_WINDOW_STEP, "single-step" },
				       { NMI_WINDOW_STGI, "stgi-intercept" },
				       { NMI_WINDOW_VNMI, "v-nmi" }))
);

/*
 * @since is the TSC at injection.  Where the CPU tracks the end of the handler
 * by itself (virtual NMIs) KVM learns of it at the next exit, and so does the
 * reader of this event.
 */
TRACE_EVENT(kvm_nmi_unblock,
	    TP_PROTO(struct kvm_vcpu *vcpu, enum nmi_unblock reason, u64 since),
	    TP_ARGS(vcpu, reason, since),

	    TP_STRUCT__entry(__field(unsigned int, vcpu_id)
			     __field(int, level)
			     __field(u64, blocked_ns)
			     __field(int, reason)),

	    TP_fast_assign(__entry->vcpu_id = vcpu->vcpu_id;
			   __entry->level = is_guest_mode(vcpu) ? 2 : 1;
			   __entry->blocked_ns = nmi_ns_since(since);
			   __entry->reason = reason;),

	    TP_printk("vcpu_id=%u level=%d blocked_ns=%llu reason=%s",
		      __entry->vcpu_id, __entry->level, __entry->blocked_ns,
		      __print_symbolic(__entry->reason,
				       { NMI_UNBLOCK_IRET, "iret" },
				       { NMI_UNBLOCK_IRQ_WINDOW, "irq-window" },
				       { NMI_UNBLOCK_RETURN, "return" },
				       { NMI_UNBLOCK_TIMEOUT, "timeout" },
				       { NMI_UNBLOCK_FAULT, "fault" },
				       { NMI_UNBLOCK_TASK_SWITCH, "task-switch" },
				       { NMI_UNBLOCK_RESTORED, "state-restored" },
				       { NMI_UNBLOCK_RESET, "reset" }))
);

/* The CPU took the NMI that waited for it, some time in the last run. */
TRACE_EVENT(kvm_nmi_taken,
	    TP_PROTO(struct kvm_vcpu *vcpu),
	    TP_ARGS(vcpu),

	    TP_STRUCT__entry(__field(unsigned int, vcpu_id)
			     __field(unsigned int, pending)),

	    TP_fast_assign(__entry->vcpu_id = vcpu->vcpu_id;
			   __entry->pending = vcpu->arch.nmi_pending;),

	    TP_printk("vcpu_id=%u pending=%u", __entry->vcpu_id, __entry->pending)
);

#endif /* _KVM_NMI_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE nmi_trace
#include <trace/define_trace.h>

#ifndef _KVM_NMI_TRACE_WAITS
#define _KVM_NMI_TRACE_WAITS
/* An NMI waits for @window: whenever that is decided, again until it is injected. */
static inline void nmi_waits(struct kvm_vcpu *vcpu, struct nmi_record *record,
			     enum nmi_window window)
{
	if (!record->waiting)
		record->waiting = rdtsc();
	record->window = window;
	trace_kvm_nmi_window(vcpu, window);
}
#endif
