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

enum { STAGE_L1 = STAGE_OWN };

#define PTE_PRESENT	1
#define PTE_FULL	7		/* present, writable, for user accesses */
#define PTE_LARGE	0x80
#define NR_LARGE	512		/* of 2 MiB */
#define LARGE		(2ul << 20)

/* L1's tables for L2: all memory is where it is, but for what the last level lacks. */
struct npt {
	uint64_t pml4[512], pdpt[512], pd[512], pt[512];
};

static uint64_t npt_gpa, missing;	/* for L1: where the tables and the entry are */

static const struct l2_exit *run_with_page(void)
{
	*(volatile uint64_t *)missing |= PTE_PRESENT;
	l1_svm->vmcb->control.event_inj = l1_svm->vmcb->control.exit_int_info;
	return run_l2();
}

static void l1(void)
{
	prepare_l2();
	l1_svm->vmcb->control.nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	l1_svm->vmcb->control.nested_cr3 = npt_gpa;
	run_l2();
	run_with_page();
	stgi();
	guest_stop(STAGE_L1, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static uint64_t gpa_of(struct kvm_vm *vm, uint64_t tables, void *member, struct npt *npt)
{
	return addr_gva2gpa(vm, tables + ((char *)member - (char *)npt));
}

/* Each of the four tables is a page; the page at @gva is not in the last one. */
static void make_tables(struct kvm_vcpu *vcpu, uint64_t gva)
{
	struct kvm_vm *vm = vcpu->vm;
	uint64_t tables = vm_vaddr_alloc(vm, sizeof(struct npt), KVM_UTIL_MIN_VADDR);
	struct npt *npt = addr_gva2hva(vm, tables);
	uint64_t gpa = addr_gva2gpa(vm, gva), base = gpa & ~(LARGE - 1);
	int i;

	npt->pml4[0] = gpa_of(vm, tables, npt->pdpt, npt) | PTE_FULL;
	npt->pdpt[0] = gpa_of(vm, tables, npt->pd, npt) | PTE_FULL;
	for (i = 0; i < NR_LARGE; i++) {
		npt->pd[i] = i * LARGE | PTE_FULL | PTE_LARGE;
		npt->pt[i] = (base + i * 4096ul) | PTE_FULL;
	}
	npt->pd[gpa / LARGE] = gpa_of(vm, tables, npt->pt, npt) | PTE_FULL;
	npt->pt[gpa % LARGE / 4096] &= ~PTE_PRESENT;
	npt_gpa = gpa_of(vm, tables, npt->pml4, npt);
	missing = tables + offsetof(struct npt, pt[gpa % LARGE / 4096]);
	sync_global_to_guest(vm, npt_gpa);
	sync_global_to_guest(vm, missing);
}

static struct kvm_vcpu *run_to_end_of_l2(uint32_t int_ctl)
{
	const struct l2_start start = {
		.rip = l2_nop, .event_inj = EVENT_NMI, .int_ctl = int_ctl,
	};
	struct kvm_vcpu *vcpu = create_l1(l1, &start, NULL);
	uint64_t stack = vm_vaddr_alloc_page(vcpu->vm);
	const struct l2_exit *exit;

	make_tables(vcpu, stack);
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
