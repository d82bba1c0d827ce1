/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What both modules tell of NMIs: the words of their events, and the file "nmi" of each
 * VM in debugfs.
 */
#ifndef __KVM_X86_NMI_DEBUGFS_H
#define __KVM_X86_NMI_DEBUGFS_H

#include <linux/types.h>

struct kvm_vcpu;

/* How KVM arranges to notice that a waiting NMI can be delivered. */
enum nmi_window {
	NMI_WINDOW_EXITING,		/* VMX: NMI-window exiting */
	NMI_WINDOW_IRQ,			/* VMX: interrupt-window exiting */
	NMI_WINDOW_IRET,		/* SVM: IRET intercept */
	NMI_WINDOW_STEP,		/* one single step: TF, or VMX's monitor trap flag */
	NMI_WINDOW_STGI,		/* SVM: STGI intercept */
	NMI_WINDOW_VNMI,		/* SVM: none, the CPU takes the NMI */
};

/* What ended the time in which NMIs were blocked. */
enum nmi_unblock {
	NMI_UNBLOCK_NONE,		/* nothing as yet */
	NMI_UNBLOCK_IRET,		/* IRET retired */
	NMI_UNBLOCK_IRQ_WINDOW,		/* the guest can take interrupts */
	NMI_UNBLOCK_RETURN,		/* back at the interrupted instruction */
	NMI_UNBLOCK_TIMEOUT,		/* soft_vnmi_timeout_ms is over */
	NMI_UNBLOCK_FAULT,		/* IRET faulted in the guest */
	NMI_UNBLOCK_TASK_SWITCH,	/* IRET was a task switch */
	NMI_UNBLOCK_RESTORED,		/* user space, RSM or emulation */
	NMI_UNBLOCK_RESET,		/* INIT or RESET */
};

/*
 * What is kept of a vCPU's own NMIs for that file alone.  Those that an L1 delivers to its
 * L2 by vNMI are L1's.
 */
struct nmi_record {
	u64 waiting;			/* TSC: since when the next one waits, 0: it does not */
	u8 window;			/* enum nmi_window: for what */
	u8 ended;			/* enum nmi_unblock: how the last blocking ended */
};

void nmi_debugfs_create(struct kvm_vcpu *vcpu);

#endif /* __KVM_X86_NMI_DEBUGFS_H */
