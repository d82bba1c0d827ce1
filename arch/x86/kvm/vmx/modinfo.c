// SPDX-License-Identifier: GPL-2.0-only
/*
 * What modinfo says of this kvm-intel: the version, which the distribution's module
 * lacks, and one line for each parameter that has none where it is defined.
 */
#include <linux/module.h>

MODULE_VERSION(KVM_NMI_VERSION);

MODULE_PARM_DESC(vnmi, "Use virtual NMIs if the CPU has them; with 0 NMI blocking is tracked in software (soft vNMI)");
MODULE_PARM_DESC(nested, "Offer VMX to guests");
MODULE_PARM_DESC(ept, "Use extended page tables");
MODULE_PARM_DESC(eptad, "Use accessed and dirty bits of extended page tables");
MODULE_PARM_DESC(unrestricted_guest, "Run real mode and unpaged guests without emulation");
MODULE_PARM_DESC(emulate_invalid_guest_state, "Emulate guests whose state VM entry would refuse");
MODULE_PARM_DESC(vpid, "Tag TLB entries with virtual processor identifiers");
MODULE_PARM_DESC(flexpriority, "Virtualize the task priority and the xAPIC page");
MODULE_PARM_DESC(enable_apicv, "Use APIC register virtualization and posted interrupts");
MODULE_PARM_DESC(enable_ipiv, "Use IPI virtualization");
MODULE_PARM_DESC(fasteoi, "Emulate EOI writes without decoding the instruction");
MODULE_PARM_DESC(pml, "Use page-modification logging for dirty tracking");
MODULE_PARM_DESC(preemption_timer, "Use the VMX preemption timer for the guest's APIC timer");
MODULE_PARM_DESC(enable_shadow_vmcs, "Let nested hypervisors use a shadow VMCS");
MODULE_PARM_DESC(nested_early_check, "Check the VMCS of nested hypervisors by a trial VM entry");
MODULE_PARM_DESC(enlightened_vmcs, "Use the enlightened VMCS when running on Hyper-V");
MODULE_PARM_DESC(error_on_inconsistent_vmcs_config, "Refuse to load when CPUs disagree about VMX capabilities");
MODULE_PARM_DESC(dump_invalid_vmcs, "Print the VMCS when VM entry fails");
MODULE_PARM_DESC(allow_smaller_maxphyaddr, "Allow guests a smaller physical address width than the host's");
MODULE_PARM_DESC(ple_gap, "PAUSE-loop exiting: TSC cycles between two PAUSEs of one loop, 0 turns it off");
MODULE_PARM_DESC(ple_window, "PAUSE-loop exiting: TSC cycles a loop may last");
MODULE_PARM_DESC(ple_window_grow, "PAUSE-loop exiting: how the window grows after an exit");
MODULE_PARM_DESC(ple_window_shrink, "PAUSE-loop exiting: how the window shrinks when the vCPU is scheduled in");
MODULE_PARM_DESC(ple_window_max, "PAUSE-loop exiting: upper limit of the window");
MODULE_PARM_DESC(sgx, "Offer SGX to guests");
