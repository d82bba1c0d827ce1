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

#ifndef _KVM_NMI_TRACE_ENUMS
#define _KVM_NMI_TRACE_ENUMS
/* How KVM arranges to notice that a waiting NMI can be delivered. */
enum nmi_window {
	NMI_WINDOW_EXITING,		/* VMX: NMI-window exiting */
	NMI_WINDOW_IRQ,			/* VMX: interrupt-window exiting */
	NMI_WINDOW_IRET,		/* SVM: IRET intercept */
	NMI_WINDOW_STEP,		/* SVM: one single step */
	NMI_WINDOW_STGI,		/* SVM: STGI intercept */
	NMI_WINDOW_VNMI,		/* SVM: none, the CPU takes the NMI */
	NR_NMI_WINDOWS
};

/* What ended the time in which NMIs were blocked. */
enum nmi_unblock {
	NMI_UNBLOCK_IRET,		/* IRET retired */
	NMI_UNBLOCK_IRQ_WINDOW,		/* the guest can take interrupts */
	NMI_UNBLOCK_RETURN,		/* back at the interrupted instruction */
	NMI_UNBLOCK_TIMEOUT,		/* soft_vnmi_timeout_ms is over */
	NMI_UNBLOCK_FAULT,		/* IRET faulted in the guest */
	NMI_UNBLOCK_TASK_SWITCH,	/* IRET was a task switch */
	NMI_UNBLOCK_RESTORED,		/* user space, RSM or emulation */
	NMI_UNBLOCK_RESET,		/* INIT or RESET */
	NR_NMI_UNBLOCKS
};

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
			     __field(int, cpl)
			     __field(bool, l2)
			     __field(bool, again)
			     __field(unsigned long, rip)
			     __field(unsigned long, rsp)
			     __field(unsigned long, rflags)),

	    TP_fast_assign(__entry->vcpu_id = vcpu->vcpu_id;
			   __entry->cpl = cpl;
			   __entry->l2 = is_guest_mode(vcpu);
			   __entry->again = again;
			   __entry->rip = rip;
			   __entry->rsp = rsp;
			   __entry->rflags = rflags;),

	    TP_printk("vcpu %u rip 0x%lx rsp 0x%lx rflags 0x%lx cpl %d level L%d%s",
		      __entry->vcpu_id, __entry->rip, __entry->rsp,
		      __entry->rflags, __entry->cpl, __entry->l2 ? 2 : 1,
		      __entry->again ? " again" : "")
);

TRACE_EVENT(kvm_nmi_window,
	    TP_PROTO(struct kvm_vcpu *vcpu, enum nmi_window how),
	    TP_ARGS(vcpu, how),

	    TP_STRUCT__entry(__field(unsigned int, vcpu_id)
			     __field(int, how)
			     __field(bool, l2)),

	    TP_fast_assign(__entry->vcpu_id = vcpu->vcpu_id;
			   __entry->l2 = is_guest_mode(vcpu);
			   __entry->how = how;),

	    TP_printk("vcpu %u level L%d waits for %s", __entry->vcpu_id,
		      __entry->l2 ? 2 : 1,
		      __print_symbolic(__entry->how,
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
	    TP_PROTO(struct kvm_vcpu *vcpu, enum nmi_unblock why, u64 since),
	    TP_ARGS(vcpu, why, since),

	    TP_STRUCT__entry(__field(unsigned int, vcpu_id)
			     __field(int, why)
			     __field(bool, l2)
			     __field(u64, blocked_ns)),

	    TP_fast_assign(__entry->vcpu_id = vcpu->vcpu_id;
			   __entry->l2 = is_guest_mode(vcpu);
			   __entry->why = why;
			   __entry->blocked_ns = nmi_ns_since(since);),

	    TP_printk("vcpu %u level L%d open again after %llu ns: %s",
		      __entry->vcpu_id, __entry->l2 ? 2 : 1, __entry->blocked_ns,
		      __print_symbolic(__entry->why,
				       { NMI_UNBLOCK_IRET, "iret" },
				       { NMI_UNBLOCK_IRQ_WINDOW, "irq-window" },
				       { NMI_UNBLOCK_RETURN, "return" },
				       { NMI_UNBLOCK_TIMEOUT, "timeout" },
				       { NMI_UNBLOCK_FAULT, "fault" },
				       { NMI_UNBLOCK_TASK_SWITCH, "task-switch" },
				       { NMI_UNBLOCK_RESTORED, "state-restored" },
				       { NMI_UNBLOCK_RESET, "reset" }))
);

/* The CPU took the NMI that was lent to it, some time in the last run. */
TRACE_EVENT(kvm_nmi_taken,
	    TP_PROTO(struct kvm_vcpu *vcpu),
	    TP_ARGS(vcpu),

	    TP_STRUCT__entry(__field(unsigned int, vcpu_id)
			     __field(unsigned int, left)),

	    TP_fast_assign(__entry->vcpu_id = vcpu->vcpu_id;
			   __entry->left = vcpu->arch.nmi_pending;),

	    TP_printk("vcpu %u, %u still pending", __entry->vcpu_id, __entry->left)
);

#endif /* _KVM_NMI_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE nmi_trace
#include <trace/define_trace.h>
