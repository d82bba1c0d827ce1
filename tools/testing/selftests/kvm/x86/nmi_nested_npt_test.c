// SPDX-License-Identifier: GPL-2.0-only
/*
 * L1 injects an NMI whose delivery needs a page that L1 has not given L2 yet: #VMEXIT
 * for the page, the NMI in EXITINTINFO, and L1 injects it once more. All of this is
 * L1's to track, and NMIs for L1 itself are as open, and as exact, as before.
 * (APM volume 2, "EVENTINJ", "Intercepts During IDT Interrupt Delivery")
 *
 * A wrong implementation takes the NMI for one of its own, blocks L1 with it or
 * injects it into L1, or takes the next NMI of L1 for one that was counted before.
 */
#include "nmi_nested_svm.h"
#include "nmi_pages.h"

enum { STAGE_L1 = STAGE_OWN };

static struct l2_tables npt;	/* for L1 */

static const struct l2_exit *run_with_page(void)
{
	*(volatile uint64_t *)npt.entry |= L2_PTE_PRESENT;
	l1_svm->vmcb->control.event_inj = l1_svm->vmcb->control.exit_int_info;
	return run_l2();
}

static void l1(void)
{
	prepare_l2();
	l1_svm->vmcb->control.nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	l1_svm->vmcb->control.nested_cr3 = npt.root;
	run_l2();
	run_with_page();
	stgi();
	guest_stop(STAGE_L1, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *run_to_end_of_l2(uint32_t int_ctl)
{
	const struct l2_start start = {
		.rip = l2_nop, .event_inj = EVENT_NMI, .int_ctl = int_ctl,
	};
	struct kvm_vcpu *vcpu = create_l1(l1, &start, NULL);
	uint64_t stack = vm_vaddr_alloc_page(vcpu->vm);
	const struct l2_exit *exit;

	npt = make_l2_tables(vcpu, stack, 0);
	*(uint64_t *)addr_gva2hva(vcpu->vm, npt.entry) &= ~L2_PTE_PRESENT;
	sync_global_to_guest(vcpu->vm, npt);
	set_ist(vcpu, 1, stack + 4096);
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
	run_to(vcpu, STAGE_L1);
	exit = read_exits(vcpu, 2);
	CHECK_EQ(exit[0].code, SVM_EXIT_NPF);
	CHECK_EQ(exit[0].int_info & EVENT_TYPE, EVENT_NMI & EVENT_TYPE);
	CHECK_EQ(exit[0].int_ctl & V_NMI_STATE, 0);
	CHECK_EQ(exit[0].nr_nmis, 0);
	CHECK_EQ(exit[1].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(exit[1].int_ctl & V_NMI_STATE, 0);
	CHECK_EQ(exit[1].nr_nmis, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)l2_nop);
	return vcpu;
}

/* Then two NMIs for L1 come where they are due, one after the other. */
static void check_l1(struct kvm_vcpu *vcpu)
{
	uint64_t before = vcpu_stat(vcpu, "nmi_injections");

	send_nmi(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr, 3);
	CHECK_EQ(nmi_nr(read_log(vcpu), 2)->rip, (uint64_t)guest_stop_next);
	CHECK_EQ(nmi_nr(read_log(vcpu), 3)->rip, (uint64_t)guest_stop_next);
	CHECK_EQ(vcpu_stat(vcpu, "nmi_injections"), before + 2);
}

static void without_vnmi(void)
{
	check_l1(run_to_end_of_l2(0));
}

static void with_vnmi(void)
{
	if (!kvm_cpu_has(FEATURE_VNMI))
		skip("this KVM offers no vNMI to its guests");
	check_l1(run_to_end_of_l2(V_NMI_ENABLE));
}

static const struct test_case cases[] = {
	{ "after an injection that L1 had to repeat two NMIs for L1 come as usual", without_vnmi },
	{ "so they do where L1 uses vNMI", with_vnmi },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM) || !kvm_cpu_has(X86_FEATURE_NPT))
		return skip_all("this KVM offers no nested paging to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
