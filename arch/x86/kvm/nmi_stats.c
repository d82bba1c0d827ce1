// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/kvm/PID-FD/nmi: where each vCPU of a VM stands with its NMIs,
 * and what became of those it got.
 *
 *   state   What the vCPU's own fields say while the file is read.  No vCPU is
 *	     disturbed for it, so what only the CPU knows (virtual NMIs, vNMI) is
 *	     as old as the vCPU's last exit.
 *   counts  Collected by probes on the tracepoints, from the first time that
 *	     the VM's file is opened to the end of the VM.  As long as nobody opens
 *	     any they cost neither memory nor an instruction.
 *
 * Both are about the vCPU's own NMIs, those that KVM is asked to deliver.  What
 * an L1 hypervisor delivers to its L2 by vNMI is L1's to count.
 *
 * The delay of an NMI begins when the vCPU's thread has looked at it and could
 * not deliver it, and is 0 if it could.  The time from the request to that look
 * is not in it: it is what KVM takes to get hold of a vCPU's thread, the same for
 * an NMI as for an IRQ, and passes where no vendor module is asked.
 *
 * This is a part of each of the two modules: vmx/nmi_stats.c and
 * svm/nmi_stats.c include it after what only they know.  The counters are
 * written by the thread that has the vCPU loaded and read by anybody.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

/* Common code lets no more NMIs be pending. */
#define MAX_PENDING	2

/* 0: at once; n: less than 2^n ns; the last one: whatever takes longer. */
#define NR_DELAYS	40

#define NO_WINDOW	-1

struct nmi_stats {
	u64 start;			/* TSC */
	u64 windows[NR_NMI_WINDOWS];
	u64 endings[NR_NMI_UNBLOCKS];
	u64 longest_ns;
	u64 delays[NR_DELAYS];

	/* NMIs that wait: since when by the TSC, in order; and the last window. */
	u64 waiting[MAX_PENDING];
	int window;
};

/* As in the events of nmi_trace.h. */
static const char * const window_names[NR_NMI_WINDOWS] = {
	[NMI_WINDOW_EXITING] = "nmi-window",
	[NMI_WINDOW_IRQ] = "irq-window",
	[NMI_WINDOW_IRET] = "iret-intercept",
	[NMI_WINDOW_STEP] = "single-step",
	[NMI_WINDOW_STGI] = "stgi-intercept",
	[NMI_WINDOW_VNMI] = "v-nmi",
};

static const char * const unblock_names[NR_NMI_UNBLOCKS] = {
	[NMI_UNBLOCK_IRET] = "iret",
	[NMI_UNBLOCK_IRQ_WINDOW] = "irq-window",
	[NMI_UNBLOCK_RETURN] = "return",
	[NMI_UNBLOCK_TIMEOUT] = "timeout",
	[NMI_UNBLOCK_FAULT] = "fault",
	[NMI_UNBLOCK_TASK_SWITCH] = "task-switch",
	[NMI_UNBLOCK_RESTORED] = "state-restored",
	[NMI_UNBLOCK_RESET] = "reset",
};

/* Serializes creation of files, and the first and the last user of the probes. */
static DEFINE_MUTEX(nmi_stats_mutex);
static unsigned int nr_counted;		/* vCPUs */

/* NULL: the vCPU is not counted. */
static struct nmi_stats *stats_of(struct kvm_vcpu *vcpu)
{
	/* Pairs with count_vcpu(). */
	return smp_load_acquire(nmi_stats_of(vcpu));
}

/* An NMI has stopped waiting, and the next one, if any, waits for a new window. */
static void nmi_left(struct nmi_stats *stats)
{
	stats->waiting[0] = stats->waiting[1];
	stats->waiting[1] = 0;
	stats->window = NO_WINDOW;
}

static void count_delivery(struct nmi_stats *stats)
{
	unsigned int bucket = 0;

	if (stats->waiting[0])
		bucket = clamp(fls64(nmi_ns_since(stats->waiting[0])), 1,
			       NR_DELAYS - 1);
	++stats->delays[bucket];
	nmi_left(stats);
}

static void probe_inject(void *data, struct kvm_vcpu *vcpu, unsigned long rip,
			 unsigned long rsp, unsigned long rflags, int cpl,
			 bool again)
{
	struct nmi_stats *stats = stats_of(vcpu);

	if (stats && !again && !nmi_is_from_l1(vcpu))
		count_delivery(stats);
}

static void probe_taken(void *data, struct kvm_vcpu *vcpu)
{
	struct nmi_stats *stats = stats_of(vcpu);

	if (stats)
		count_delivery(stats);
}

/* Windows are asked for at each entry anew; an NMI counts once for each kind. */
static void probe_window(void *data, struct kvm_vcpu *vcpu, enum nmi_window how)
{
	struct nmi_stats *stats = stats_of(vcpu);
	unsigned int i;

	if (!stats)
		return;

	for (i = 0; i < MAX_PENDING; i++) {
		if (i >= vcpu->arch.nmi_pending)
			stats->waiting[i] = 0;
		else if (!stats->waiting[i])
			stats->waiting[i] = rdtsc();
	}
	if (stats->window != how)
		++stats->windows[how];
	stats->window = how;
}

static void probe_unblock(void *data, struct kvm_vcpu *vcpu, enum nmi_unblock why,
			  u64 since)
{
	struct nmi_stats *stats = stats_of(vcpu);

	if (!stats || nmi_is_from_l1(vcpu))
		return;

	++stats->endings[why];
	stats->longest_ns = max(stats->longest_ns, nmi_ns_since(since));

	/* One that waited may have been taken back by user space. */
	if (!vcpu->arch.nmi_pending)
		nmi_left(stats);
}

static void remove_probes(void)
{
	unregister_trace_kvm_nmi_inject(probe_inject, NULL);
	unregister_trace_kvm_nmi_taken(probe_taken, NULL);
	unregister_trace_kvm_nmi_window(probe_window, NULL);
	unregister_trace_kvm_nmi_unblock(probe_unblock, NULL);
	tracepoint_synchronize_unregister();
}

static int add_probes(void)
{
	int r;

	r = register_trace_kvm_nmi_inject(probe_inject, NULL);
	if (r)
		return r;
	r = register_trace_kvm_nmi_taken(probe_taken, NULL);
	if (r)
		goto inject;
	r = register_trace_kvm_nmi_window(probe_window, NULL);
	if (r)
		goto taken;
	r = register_trace_kvm_nmi_unblock(probe_unblock, NULL);
	if (!r)
		return 0;

	unregister_trace_kvm_nmi_window(probe_window, NULL);
taken:
	unregister_trace_kvm_nmi_taken(probe_taken, NULL);
inject:
	unregister_trace_kvm_nmi_inject(probe_inject, NULL);
	tracepoint_synchronize_unregister();
	return r;
}

/* From now on, if it is not counted yet. */
static int count_vcpu(struct kvm_vcpu *vcpu)
{
	struct nmi_stats **where = nmi_stats_of(vcpu);
	struct nmi_stats *stats;
	int r;

	if (*where)
		return 0;

	stats = kzalloc_obj(*stats, GFP_KERNEL_ACCOUNT);
	if (!stats)
		return -ENOMEM;

	r = nr_counted ? 0 : add_probes();
	if (r) {
		kfree(stats);
		return r;
	}
	++nr_counted;
	stats->start = rdtsc();
	stats->window = NO_WINDOW;
	/* Only what is set up is found, by the vCPU and by readers. */
	smp_store_release(where, stats);
	return 0;
}

static int count_all(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;
	int r = 0;

	mutex_lock(&nmi_stats_mutex);
	kvm_for_each_vcpu(i, vcpu, kvm) {
		r = count_vcpu(vcpu);
		if (r)
			break;
	}
	mutex_unlock(&nmi_stats_mutex);
	return r;
}

static void show_counts(struct seq_file *m, const char *title, const u64 *counts,
			const char * const *names, unsigned int nr)
{
	unsigned int i;

	seq_puts(m, title);
	for (i = 0; i < nr; i++) {
		u64 count = READ_ONCE(counts[i]);

		if (count)
			seq_printf(m, " %s=%llu", names[i], count);
	}
	seq_putc(m, '\n');
}

static void show_delays(struct seq_file *m, const u64 *delays)
{
	unsigned int i;

	seq_puts(m, "  delay");
	for (i = 0; i < NR_DELAYS; i++) {
		u64 nr = READ_ONCE(delays[i]);

		if (!nr)
			continue;
		if (!i)
			seq_printf(m, " at-once=%llu", nr);
		else if (i < NR_DELAYS - 1)
			seq_printf(m, " <%lluns=%llu", BIT_ULL(i), nr);
		else
			seq_printf(m, " more=%llu", nr);
	}
	seq_putc(m, '\n');
}

static void show_stats(struct seq_file *m, struct nmi_stats *stats)
{
	u64 since = READ_ONCE(stats->waiting[0]);
	int window = READ_ONCE(stats->window);

	if (since && window != NO_WINDOW)
		seq_printf(m, "  waiting %llu ns for %s\n", nmi_ns_since(since),
			   window_names[window]);
	seq_printf(m, "  counted %llu ns\n", nmi_ns_since(stats->start));
	show_counts(m, "  windows", stats->windows, window_names,
		    NR_NMI_WINDOWS);
	show_counts(m, "  endings", stats->endings, unblock_names,
		    NR_NMI_UNBLOCKS);
	seq_printf(m, "  longest %llu ns\n", READ_ONCE(stats->longest_ns));
	show_delays(m, stats->delays);
}

static void show_vcpu(struct seq_file *m, struct kvm_vcpu *vcpu)
{
	struct nmi_stats *stats = stats_of(vcpu);
	u64 since = 0;

	seq_printf(m, "vcpu %u\n", vcpu->vcpu_id);
	seq_printf(m, "  path %s\n", nmi_path(vcpu));
	seq_printf(m, "  state %s", nmi_state_name(vcpu, &since));
	if (since)
		seq_printf(m, " %llu ns", nmi_ns_since(since));
	seq_printf(m, "\n  level L%d\n", is_guest_mode(vcpu) ? 2 : 1);
	seq_printf(m, "  requested %d\n", atomic_read(&vcpu->arch.nmi_queued));
	seq_printf(m, "  pending %u\n", READ_ONCE(vcpu->arch.nmi_pending));
	seq_printf(m, "  delivered %llu\n", READ_ONCE(vcpu->stat.nmi_injections));
	if (stats)
		show_stats(m, stats);
}

static int nmi_stats_show(struct seq_file *m, void *unused)
{
	struct kvm *kvm = m->private;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm)
		show_vcpu(m, vcpu);
	return 0;
}

/* The file goes away with the VM, which stays for as long as the file is open. */
static int nmi_stats_open(struct inode *inode, struct file *file)
{
	struct kvm *kvm = inode->i_private;
	int r;

	if (!kvm_get_kvm_safe(kvm))
		return -ENOENT;

	r = count_all(kvm);
	if (!r)
		r = single_open(file, nmi_stats_show, kvm);
	if (r)
		kvm_put_kvm(kvm);
	return r;
}

static int nmi_stats_release(struct inode *inode, struct file *file)
{
	struct kvm *kvm = inode->i_private;
	int r = single_release(inode, file);

	kvm_put_kvm(kvm);
	return r;
}

static const struct file_operations nmi_stats_fops = {
	.owner = THIS_MODULE,
	.open = nmi_stats_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = nmi_stats_release,
};

/**
 * nmi_stats_create() - make the file of a VM
 * @vcpu: one of its vCPUs, which is being created
 *
 * Common code makes the VM's folder before the vendor module hears of the VM, and
 * removes it with all that is in it.  There is none without debugfs.
 *
 * Context: may sleep.
 */
void nmi_stats_create(struct kvm_vcpu *vcpu)
{
	struct kvm *kvm = vcpu->kvm;
	struct dentry *file;

	if (!debugfs_initialized() || IS_ERR_OR_NULL(kvm->debugfs_dentry))
		return;

	mutex_lock(&nmi_stats_mutex);
	file = debugfs_lookup("nmi", kvm->debugfs_dentry);
	if (file)
		dput(file);
	else
		debugfs_create_file("nmi", 0444, kvm->debugfs_dentry, kvm,
				    &nmi_stats_fops);
	mutex_unlock(&nmi_stats_mutex);
}

/**
 * nmi_stats_free() - a vCPU goes away
 * @vcpu: the vCPU
 *
 * Context: nobody can read the VM's file any more; may sleep.
 */
void nmi_stats_free(struct kvm_vcpu *vcpu)
{
	struct nmi_stats **where = nmi_stats_of(vcpu);

	if (!*where)
		return;

	mutex_lock(&nmi_stats_mutex);
	if (!--nr_counted)
		remove_probes();
	mutex_unlock(&nmi_stats_mutex);
	kfree(*where);
	*where = NULL;
}
