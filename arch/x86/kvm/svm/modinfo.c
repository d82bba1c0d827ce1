// SPDX-License-Identifier: GPL-2.0-only
/*
 * What modinfo says of this kvm-amd: the version, which the distribution's module
 * lacks, and one line for each parameter that has none where it is defined.
 */
#include <linux/module.h>

MODULE_VERSION(KVM_NMI_VERSION);

MODULE_PARM_DESC(npt, "Use nested page tables");
MODULE_PARM_DESC(nested, "Offer SVM to guests");
MODULE_PARM_DESC(nrips, "Use the next-RIP field that the CPU saves");
MODULE_PARM_DESC(vls, "Use virtual VMLOAD and VMSAVE for nested hypervisors");
MODULE_PARM_DESC(vgif, "Use the virtual global interrupt flag");
MODULE_PARM_DESC(lbrv, "Use last-branch-record virtualization");
MODULE_PARM_DESC(tsc_scaling, "Use TSC scaling");
MODULE_PARM_DESC(avic, "Use the virtual interrupt controller");
MODULE_PARM_DESC(force_avic, "Use the virtual interrupt controller even if CPUID does not announce it");
MODULE_PARM_DESC(dump_invalid_vmcb, "Print the VMCB when VMRUN fails");
MODULE_PARM_DESC(intercept_smi, "Intercept SMIs while a guest runs");
MODULE_PARM_DESC(pause_filter_thresh, "PAUSE filter: cycles between two PAUSEs of one loop");
MODULE_PARM_DESC(pause_filter_count, "PAUSE filter: PAUSEs a loop may execute before it exits");
MODULE_PARM_DESC(pause_filter_count_grow, "PAUSE filter: how the count grows after an exit");
MODULE_PARM_DESC(pause_filter_count_shrink, "PAUSE filter: how the count shrinks when the vCPU is scheduled in");
MODULE_PARM_DESC(pause_filter_count_max, "PAUSE filter: upper limit of the count");
MODULE_PARM_DESC(sev, "Allow guests with encrypted memory (SEV)");
MODULE_PARM_DESC(sev_es, "Allow guests with encrypted memory and registers (SEV-ES)");
