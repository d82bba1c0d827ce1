// SPDX-License-Identifier: GPL-2.0-only
/*
 * What modinfo says of this kvm-amd: the version, which the distribution's module
 * lacks.
 */
#include <linux/module.h>

MODULE_VERSION(KVM_NMI_VERSION);
