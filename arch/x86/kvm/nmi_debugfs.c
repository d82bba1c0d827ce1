// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/kvm/PID-FD/nmi: where each vCPU of a VM stands with its NMIs, a line
 * for each.  It answers what one asks of a guest that hangs: is an NMI waiting, since
 * when, for what, and what has ended the last handler.  How often what happens is the
 * tracepoints' to tell.
 *
 * All of it is read off the vCPU's own fields while it may run.  Nobody is disturbed for
 * it, so what only the CPU knows (virtual NMIs, vNMI) is as old as the vCPU's last exit,
 * and two fields of a line may be of two moments.
 *
 * This is a part of each of the two modules: vmx/nmi_debugfs.c and svm/nmi_debugfs.c
 * include it after what only they know.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

/* As in the events of nmi_trace.h. */
static const char * const window_names[] = {
	[NMI_WINDOW_EXITING] = "nmi-window",
	[NMI_WINDOW_IRQ] = "irq-window",
	[NMI_WINDOW_IRET] = "iret-intercept",
	[NMI_WINDOW_STEP] = "single-step",
	[NMI_WINDOW_STGI] = "stgi-intercept",
	[NMI_WINDOW_VNMI] = "v-nmi",
};

static const char * const unblock_names[] = {
	[NMI_UNBLOCK_NONE] = "none",
	[NMI_UNBLOCK_IRET] = "iret",
	[NMI_UNBLOCK_IRQ_WINDOW] = "irq-window",
	[NMI_UNBLOCK_RETURN] = "return",
	[NMI_UNBLOCK_TIMEOUT] = "timeout",
	[NMI_UNBLOCK_FAULT] = "fault",
	[NMI_UNBLOCK_TASK_SWITCH] = "task-switch",
	[NMI_UNBLOCK_RESTORED] = "state-restored",
	[NMI_UNBLOCK_RESET] = "reset",
};

static void show_vcpu(struct seq_file *m, struct kvm_vcpu *vcpu)
{
	const struct nmi_record *record = nmi_record(vcpu);
	unsigned int pending = nmi_number_pending(vcpu);
	u64 waiting = READ_ONCE(record->waiting), since = 0;

	seq_printf(m, "vcpu_id=%u level=%d path=%s state=%s", vcpu->vcpu_id,
		   is_guest_mode(vcpu) ? 2 : 1, nmi_path(vcpu), nmi_state_name(vcpu, &since));
	if (since)
		seq_printf(m, " blocked_ns=%llu", nmi_ns_since(since));
	seq_printf(m, " requested=%d pending=%u", atomic_read(&vcpu->arch.nmi_queued), pending);
	if (pending && waiting)
		seq_printf(m, " waiting_ns=%llu window=%s", nmi_ns_since(waiting),
			   window_names[READ_ONCE(record->window)]);
	seq_printf(m, " injected=%llu last_end=%s\n", READ_ONCE(vcpu->stat.nmi_injections),
		   unblock_names[READ_ONCE(record->ended)]);
}

/* The folder's removal, which comes before the vCPUs', waits for readers. */
static int nmi_show(struct seq_file *m, void *unused)
{
	struct kvm *kvm = m->private;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm)
		show_vcpu(m, vcpu);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(nmi);

/**
 * nmi_debugfs_create() - make the file of a VM
 * @vcpu: one of its vCPUs, which is being created
 *
 * Common code makes the VM's folder after the vendor module has heard of the VM, and
 * removes it with all that is in it.  There is none without debugfs.
 *
 * Context: may sleep.
 */
void nmi_debugfs_create(struct kvm_vcpu *vcpu)
{
	/* Two vCPUs may be created at once; the first one makes the file. */
	static DEFINE_MUTEX(lock);
	struct kvm *kvm = vcpu->kvm;
	struct dentry *file;

	if (!debugfs_initialized() || IS_ERR_OR_NULL(kvm->debugfs_dentry))
		return;

	mutex_lock(&lock);
	file = debugfs_lookup("nmi", kvm->debugfs_dentry);
	if (file)
		dput(file);
	else
		debugfs_create_file("nmi", 0444, kvm->debugfs_dentry, kvm, &nmi_fops);
	mutex_unlock(&lock);
}
