/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What both modules tell of NMIs: the words of their events, and the file "nmi" of each
 * VM in debugfs.
 */
#ifndef __KVM_X86_NMI_STATS_H
#define __KVM_X86_NMI_STATS_H

struct kvm_vcpu;
struct nmi_stats;

/* How KVM arranges to notice that a waiting NMI can be delivered. */
enum nmi_window {
	NMI_WINDOW_EXITING,		/* VMX: NMI-window exiting */
	NMI_WINDOW_IRQ,			/* VMX: interrupt-window exiting */
	NMI_WINDOW_IRET,		/* SVM: IRET intercept */
	NMI_WINDOW_STEP,		/* one single step: TF, or VMX's monitor trap flag */
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

void nmi_stats_create(struct kvm_vcpu *vcpu);
void nmi_stats_free(struct kvm_vcpu *vcpu);

#endif /* __KVM_X86_NMI_STATS_H */
