// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the mistake that its parameter names. A kernel that does not report each
 * of them is not watching, and its silence about other modules says nothing.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>

static char *make = "";
module_param(make, charp, 0);
MODULE_PARM_DESC(make, "which mistake to make");

static int sink;
static int __rcu *pointer;
static DEFINE_SPINLOCK(spin);
static DEFINE_MUTEX(one);
static DEFINE_MUTEX(other);

static void use_after_free(void)
{
	int *object = kzalloc(sizeof(*object), GFP_KERNEL);

	kfree(object);
	/* The compiler would know better. */
	OPTIMIZER_HIDE_VAR(object);
	WRITE_ONCE(sink, READ_ONCE(*object));
}

static void wide_shift(void)
{
	int width = 32;

	OPTIMIZER_HIDE_VAR(width);
	WRITE_ONCE(sink, 1 << width);
}

static void sleep_in_atomic(void)
{
	spin_lock(&spin);
	mutex_lock(&one);
	mutex_unlock(&one);
	spin_unlock(&spin);
}

static void preemptible_cpu(void)
{
	WRITE_ONCE(sink, smp_processor_id());
}

static void unlocked_rcu(void)
{
	WRITE_ONCE(sink, !rcu_dereference(pointer));
}

static void nest(struct mutex *outer, struct mutex *inner)
{
	mutex_lock(outer);
	mutex_lock(inner);
	mutex_unlock(inner);
	mutex_unlock(outer);
}

static void lock_inversion(void)
{
	nest(&one, &other);
	nest(&other, &one);
}

static const struct {
	const char *name;
	void (*make)(void);
} mistakes[] = {
	{ "use_after_free", use_after_free },
	{ "wide_shift", wide_shift },
	{ "sleep_in_atomic", sleep_in_atomic },
	{ "preemptible_cpu", preemptible_cpu },
	{ "unlocked_rcu", unlocked_rcu },
	{ "lock_inversion", lock_inversion },
};

static int __init mistakes_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mistakes); i++) {
		if (!strcmp(make, mistakes[i].name)) {
			mistakes[i].make();
			return 0;
		}
	}
	return -EINVAL;
}

static void __exit mistakes_exit(void)
{
}

module_init(mistakes_init);
module_exit(mistakes_exit);
MODULE_DESCRIPTION("Mistakes that a kernel built for debugging has to report");
MODULE_LICENSE("GPL");
