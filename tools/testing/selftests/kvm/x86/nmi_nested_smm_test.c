// SPDX-License-Identifier: GPL-2.0-only
/*
 * RSM into L2 is like VMRUN: an NMI that has waited for the end of SMM is L1's, and
 * makes L2 exit before L2 takes an NMI of its own.
 *
 * An SMI, an NMI and a V_NMI wait for the VMRUN that sets GIF. The SMI comes first,
 * and SMM blocks NMIs of either kind.
 *
 * A wrong implementation hands the V_NMI to the CPU before it looks at L1's NMI, or
 * loses one of them in the state that SMM saves.
 */
#include "nmi_nested_svm.h"
#include "nmi_smm.h"

enum { STAGE_L1 = STAGE_OWN };

static void l1(void)
{
	prepare_l2();
	clgi();
	guest_stage(STAGE_L1);
	if (run_l2()->code == SVM_EXIT_NMI) {
		stgi();
		run_l2_to_end();
	}
	stgi();
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *run_to_l1(void)
{
	const struct l2_start start = {
		.rip = l2_nop, .int_ctl = V_NMI_ENABLE | V_NMI,
	};
	struct kvm_vcpu *vcpu = create_l1(l1, &start, NULL);

	set_stop_in_smm(vcpu);
	run_to(vcpu, STAGE_L1);
	return vcpu;
}

static void l1_first(void)
{
	struct kvm_vcpu *vcpu = run_to_l1();
	const struct l2_exit *exit;

	send_nmi(vcpu);
	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 0);
	run_to(vcpu, STAGE_END);
	exit = read_exits(vcpu, 2);
	CHECK_EQ(exit[0].code, SVM_EXIT_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)l2_nop);
	CHECK_EQ(exit[0].int_ctl & V_NMI_STATE, V_NMI);
	CHECK_EQ(exit[0].nr_nmis, 0);
	CHECK_EQ(exit[1].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	CHECK_EQ(nmi_nr(read_log(vcpu), 2)->rip, (uint64_t)l2_nop);
}

static void only_l2(void)
{
	struct kvm_vcpu *vcpu = run_to_l1();

	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 0);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)l2_nop);
}

static const struct test_case cases[] = {
	{ "after RSM into L2 an NMI for L1 goes before one for L2", l1_first },
	{ "after RSM into L2 its V_NMI comes at the next instruction", only_l2 },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM) || !kvm_cpu_has(FEATURE_VNMI))
		return skip_all("this KVM offers no vNMI to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
