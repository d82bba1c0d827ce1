// SPDX-License-Identifier: GPL-2.0-only
/* What is left out of random programs on this machine, and why. */
#include "nmi_events.h"
#include "fuzz.h"

#define SVM_NEXT_RIP	(1u << 3)

static bool no_absent_ss(void)
{
	return on_qemu_tcg() || on_bochs();
}

static bool is_vmx(void)
{
	return nmi_path() == VMX_SOFT || nmi_path() == VMX_VIRTUAL_NMIS;
}

/* kvm.ko answers some exits early, where it need not read the guest's code for it. */
static bool has_fast_path(void)
{
	uint32_t eax, ebx, ecx, edx;

	if (is_vmx())
		return true;
	cpuid(0x8000000a, &eax, &ebx, &ecx, &edx);
	return edx & SVM_NEXT_RIP;
}

static bool no_smm(void)
{
	return !kvm_has_cap(KVM_CAP_X86_SMM) || !blocking_cleared_at_entry();
}

/* Not understood yet; the distribution's module does the same. */
static bool irq_leaves_guest_halted(void)
{
	return nmi_path() == VMX_VIRTUAL_NMIS && on_bochs_2_7() &&
	       kernel_is_at_least(6, 4);
}

static const struct {
	const char *name;
	bool (*left_out)(void);
} parts[NR_FUZZ_PARTS] = {
	[STEP_MOV_SS] = { "TF across MOV SS: QEMU TCG traps in the shadow", on_qemu_tcg },
	[STEP_STI] = { "TF across STI: QEMU TCG before 10.0.1 does not trap", on_qemu_tcg },
	[STEP_ICR] = { "TF across sending an IRQ: kvm.ko's fast path loses DR6.BS", has_fast_path },
	[STEPS] = { "TF: Bochs traps early if an exit follows what has loaded it", on_bochs_2_7 },
	[STI_AGAIN] = { "STI with IRQs on: QEMU TCG makes a shadow", on_qemu_tcg },
	[EXIT_IN_SHADOW] = { "MOV DR in a shadow: QEMU TCG forgets the shadow at its exit",
			     on_qemu_tcg },
	[ABSENT_SS] = { "#SS of an IRET: QEMU TCG and Bochs raise #NP instead", no_absent_ss },
	[SYSCALL_FLAGS] = { "status flags at SYSCALL: QEMU TCG loses them", on_qemu_tcg },
	[WATCH] = { "watchpoints: QEMU TCG aborts", on_qemu_tcg },
	[RF_IN_FRAMES] = { "RF in frames: QEMU TCG has it now and then", on_qemu_tcg },
	[LOST_PAGES] = { "lost pages: Bochs 3.0 pushes RF with an event that finds them missing",
			 cut_deliveries_push_rf },
	[SOFT_SHADOW] = { "shadows with IRQs off: soft vNMI finds their end by a timer",
			  shadow_tracked_by_timer },
	[SMM] = { "SMM: KVM is built without, or Bochs 2.7 keeps NMIs blocked after RSM", no_smm },
	[AT_SOME_TIME] = { "NMIs at any time: on 6.12 in Bochs an IRQ may leave HLT as it is, with any module",
			   irq_leaves_guest_halted },
};

bool fuzz_does(enum fuzz_part part)
{
	static int known[NR_FUZZ_PARTS];

	if (!known[part])
		known[part] = parts[part].left_out() ? -1 : 1;
	return known[part] > 0;
}

const char *fuzz_left_out(enum fuzz_part part)
{
	return fuzz_does(part) ? NULL : parts[part].name;
}
