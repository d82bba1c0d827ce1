// SPDX-License-Identifier: GPL-2.0-only
/*
 * L1 uses vNMI for L2, but virtualizes GIF neither by the CPU nor by intercepts of
 * CLGI and STGI: L2 clears and sets the GIF that L1 has, too.
 *
 * By the manual no NMI is taken while GIF is clear, physical or virtual. So an NMI
 * or SMI for L1 that arrives meanwhile ends L2 right after its STGI, and a V_NMI
 * that L2 has unmasked is taken there. (APM volume 2, "Global Interrupt Flag",
 * "NMI Virtualization")
 *
 * A wrong implementation looks at L2's own GIF only, which is none here; asks for
 * no exit at the STGI, so that what L1 waits for comes whenever L2 happens to exit;
 * or gives up the exit that somebody else has asked for.
 */
#include "nmi_nested_svm.h"
#include "nmi_smm.h"

#define STAGE_GIF_CLEAR		5
_Static_assert(STAGE_GIF_CLEAR == STAGE_OWN, "as below");

/* Counts the instructions of L2 after its STGI. */
uint32_t gif_count;

void gif_stop(void);
void gif_iret(void);
extern char gif_set_again[], gif_open[], gif_iret_set_again[];
asm(".pushsection .text\n"
    "gif_stop:\n"
    "	clgi\n"
    ASM_STAGE(STAGE_GIF_CLEAR)
    "	stgi\n"
    "gif_set_again:\n"
    "	.rept 200; incl gif_count; .endr\n"
    "	jmp l2_end\n"
    "gif_iret:\n"
    "	clgi\n"
    "	mov %rsp, %rcx; mov %ss, %eax; push %rax; push %rcx; push $2\n"
    "	mov %cs, %eax; push %rax; push $gif_open; iretq\n"
    "gif_open:\n"
    "	nop\n"
    "	stgi\n"
    "gif_iret_set_again:\n"
    "	nop\n"
    "	jmp l2_end\n"
    ".popsection");

static void l1(void)
{
	prepare_l2();
	warm_l2_up();
	run_l2();
	stgi();
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *run_to_gif_clear(uint32_t int_ctl)
{
	const struct l2_start start = { .rip = gif_stop, .int_ctl = int_ctl };
	struct kvm_vcpu *vcpu = create_l1(l1, &start, NULL);

	set_stop_in_smm(vcpu);
	run_to(vcpu, STAGE_GIF_CLEAR);
	return vcpu;
}

static void check_nmi_for_l1(uint32_t int_ctl)
{
	struct kvm_vcpu *vcpu = run_to_gif_clear(int_ctl);
	const struct l2_exit *exit;

	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	exit = read_exits(vcpu, 1);
	CHECK_EQ(exit[0].code, SVM_EXIT_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)gif_set_again);
	CHECK_EQ(exit[0].int_ctl & V_NMI_STATE, int_ctl & V_NMI_STATE);
}

static void nmi_without_vnmi(void)
{
	check_nmi_for_l1(0);
}

static void nmi_with_vnmi(void)
{
	check_nmi_for_l1(V_NMI_ENABLE);
}

static void nmi_migrates(void)
{
	struct kvm_vcpu *vcpu = run_to_gif_clear(V_NMI_ENABLE);

	send_nmi(vcpu);
	vcpu = migrate(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_NMI);
	CHECK_EQ(l2_exits[0].rip, (uint64_t)gif_set_again);
}

static void nmi_with_vnmi_masked(void)
{
	check_nmi_for_l1(V_NMI_ENABLE | V_NMI_MASK);
}

static void nmi_with_v_nmi(void)
{
	check_nmi_for_l1(V_NMI_ENABLE | V_NMI | V_NMI_MASK);
}

static void check_smi(uint32_t int_ctl)
{
	struct kvm_vcpu *vcpu = run_to_gif_clear(int_ctl);

	send_smi(vcpu);
	run_to(vcpu, STAGE_SMM);
	sync_global_from_guest(vcpu->vm, gif_count);
	CHECK_EQ(gif_count, 0);
	run_to(vcpu, STAGE_END);
}

static void smi_without_vnmi(void)
{
	check_smi(0);
}

static void smi_masked(void)
{
	check_smi(V_NMI_ENABLE | V_NMI_MASK);
}

static void v_nmi_waits(void)
{
	const struct l2_start start = {
		.rip = gif_iret, .int_ctl = V_NMI_ENABLE | V_NMI | V_NMI_MASK,
	};
	struct kvm_vcpu *vcpu = create_l1(l1, &start, NULL);

	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_exits(vcpu, 1)[0].code, SVM_EXIT_VMMCALL);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)gif_iret_set_again);
}

static const struct test_case cases[] = {
	{ "an NMI for L1 ends L2 after its STGI", nmi_without_vnmi },
	{ "an NMI for L1 that uses vNMI does, too", nmi_with_vnmi },
	{ "and it does after a migration", nmi_migrates },
	{ "an NMI for L1 ends a masked L2 after its STGI", nmi_with_vnmi_masked },
	{ "an NMI for L1 ends an L2 with a V_NMI after its STGI", nmi_with_v_nmi },
	{ "an SMI comes after the STGI of L2", smi_without_vnmi },
	{ "an SMI comes after the STGI of a masked L2", smi_masked },
	{ "a V_NMI that IRET unmasks waits for the STGI", v_nmi_waits },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM) || !kvm_cpu_has(FEATURE_VNMI))
		return skip_all("this KVM offers no vNMI to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
