// SPDX-License-Identifier: GPL-2.0-only
/*
 * What modinfo says of this kvm-intel: the version, which the distribution's module
 * lacks, and what its parameter vnmi does here.
 */
#include <linux/module.h>

MODULE_VERSION(KVM_NMI_VERSION);

MODULE_PARM_DESC(vnmi, "Use virtual NMIs if the CPU has them; with 0 NMI blocking is tracked in software (soft vNMI)");
