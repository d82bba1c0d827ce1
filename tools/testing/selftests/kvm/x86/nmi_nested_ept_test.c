// SPDX-License-Identifier: GPL-2.0-only
/*
 * L2's handler of an NMI that L1 has injected returns by an IRET whose frame is on a page
 * that L1 has taken away: the IRET ends the blocking, makes an EPT violation of L1's
 * tables, and is to run again. A CPU says so in bit 12 of the exit qualification; with
 * bit 3 clear that is all that L1 has to put the blocking back.
 * (SDM, "Exit Qualification for EPT Violations", "NMI unblocking due to IRET")
 *
 * A wrong implementation ends the blocking and does not say so: L1's next NMI comes in the
 * handler, before its IRET.
 */
#include "nmi_nested_vmx.h"
#include "nmi_pages.h"

enum { STAGE_L1 = STAGE_OWN };

#define EPT_WRITE_BACK	(6u << 3)	/* memory type of an entry */
#define EPTP_4_LEVELS	(3u << 3 | 6)	/* length of the walk, memory type of the tables */
#define INVEPT_GLOBAL	2

static struct l2_tables ept;	/* for L1 */

static void l2(void)
{
	vmcall();
}

static void set_entry_bits(uint64_t bits)
{
	static const uint64_t descriptor[2];
	volatile uint64_t *entry = (void *)ept.entry;

	*entry = (*entry & ~(uint64_t)L2_PTE_FULL) | bits;
	asm volatile("invept %0, %1" : : "m"(descriptor), "r"((uint64_t)INVEPT_GLOBAL) : "cc", "memory");
}

static void use_ept(void)
{
	vmwrite(EPT_POINTER, ept.root | EPTP_4_LEVELS);
	vmwrite(SECONDARY_VM_EXEC_CONTROL,
		vmreadz(SECONDARY_VM_EXEC_CONTROL) | SECONDARY_EXEC_ENABLE_EPT);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
					   CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
}

/* Inject; be called from the handler; take the IRET's frame away, and give it back. */
static void l1(void)
{
	const struct vmx_exit *exit;

	prepare_vmx_l2(l2);
	use_ept();
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	run_vmx_l2();

	set_entry_bits(0);
	exit = run_vmx_l2();
	guest_stage(STAGE_L1);
	set_entry_bits(L2_PTE_FULL);
	/* As hypervisors do. */
	if (exit->qualification & NMI_UNBLOCKING_IRET)
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, exit->interruptibility | BLOCKED_BY_NMI);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
					   CPU_BASED_NMI_WINDOW_EXITING);
	run_vmx_l2();
	guest_stage(STAGE_END);
}

static void on_nmi_vmcall(struct event_regs *regs)
{
	vmcall();
}

static struct kvm_vcpu *run_to_violation(void)
{
	struct kvm_vcpu *vcpu = create_vmx_l1(l1, PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS,
					      on_nmi_vmcall);
	const struct vmx_exit *exit;

	use_frame_page(vcpu);
	ept = make_l2_tables(vcpu, FRAME_PAGE, EPT_WRITE_BACK);
	sync_global_to_guest(vcpu->vm, ept);
	run_to(vcpu, STAGE_L1);
	exit = read_vmx_exits(vcpu, 2);
	CHECK_EQ(exit[0].reason, EXIT_REASON_VMCALL);
	CHECK_EQ(exit[0].interruptibility, BLOCKED_BY_NMI);
	CHECK_EQ(exit[1].reason, EXIT_REASON_EPT_VIOLATION);
	return vcpu;
}

static void says_so(void)
{
	struct kvm_vcpu *vcpu = run_to_violation();
	const struct vmx_exit *exit = read_vmx_exits(vcpu, 2);

	CHECK_EQ(exit[1].interruptibility, 0);
	CHECK_EQ(exit[1].qualification & NMI_UNBLOCKING_IRET, NMI_UNBLOCKING_IRET);
}

static void window_after_iret(void)
{
	struct kvm_vcpu *vcpu = run_to_violation();
	const struct vmx_exit *exit;

	run_to(vcpu, STAGE_END);
	exit = read_vmx_exits(vcpu, 3);
	CHECK_EQ(exit[2].reason, EXIT_REASON_NMI_WINDOW);
	CHECK_EQ(exit[2].rip, (uint64_t)l2);
}

static const struct test_case cases[] = {
	{ "an EPT violation of an IRET tells L1 that NMIs were unblocked", says_so },
	{ "L1 that blocks them again has its NMI window after the IRET", window_after_iret },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		return skip_all("this KVM offers no VMX to its guests");
	if (!(kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 & SECONDARY_EXEC_ENABLE_EPT))
		return skip_all("this KVM offers no EPT to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
