// SPDX-License-Identifier: GPL-2.0-only
/*
 * With GIF clear an NMI waits for STGI, and comes right after it, whatever user space
 * does to the vCPU in between.
 *
 * The guest clears GIF and stops; the NMI arrives, and an entry arranges for it to be
 * noticed. Then user space sets the same CPUID again, takes EFER.SVME away and gives
 * it back, or moves the vCPU to another VM. KVM before 7.0 sets GIF when EFER.SVME
 * goes, so there the NMI comes at once; a CPU, and KVM since, leaves GIF alone. (APM
 * volume 2, "Global Interrupt Flag")
 *
 * A wrong implementation forgets the intercept of STGI with what user space changes,
 * and delivers at the next exit, if there is one.
 */
#include "nmi_nested_svm.h"

enum { STAGE_AGAIN = STAGE_OWN };

extern char gif_stop_next[], gif_again_next[], gif_set_next[];

static void guest(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	asm volatile("clgi\n\t"
		     "out %%eax, %[port]\n\t"
		     "gif_stop_next: mov %[again], %%eax\n\t"
		     "out %%eax, %[port]\n\t"
		     "gif_again_next: nop\n\t"
		     "stgi\n\t"
		     "gif_set_next: nop; nop"
		     : : "a"(STAGE_READY), [again] "i"(STAGE_AGAIN), [port] "N"(STAGE_PORT)
		     : "memory");
	guest_stage(STAGE_END);
}

/* The NMI has met an entry with GIF clear. */
static struct kvm_vcpu *run_to_again(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, NULL);

	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_AGAIN);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 0);
	return vcpu;
}

static void check_comes_at(struct kvm_vcpu *vcpu, char *rip)
{
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, (uint64_t)rip);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rflags & RFLAGS_TF, 0);
}

static void stgi_opens(void)
{
	check_comes_at(run_to_again(), gif_set_next);
}

static void cpuid_set(void)
{
	struct kvm_vcpu *vcpu = run_to_again();

	vcpu_set_cpuid(vcpu);
	check_comes_at(vcpu, gif_set_next);
}

static void svme_toggled(void)
{
	struct kvm_vcpu *vcpu = run_to_again();
	struct kvm_sregs sregs;

	finish_stage(vcpu);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.efer &= ~EFER_SVME;
	vcpu_sregs_set(vcpu, &sregs);
	sregs.efer |= EFER_SVME;
	vcpu_sregs_set(vcpu, &sregs);
	check_comes_at(vcpu, kernel_is_at_least(7, 0) ? gif_set_next : gif_again_next);
}

static void migrated(void)
{
	check_comes_at(migrate(run_to_again()), gif_set_next);
}

static const struct test_case cases[] = {
	{ "an NMI that waits for GIF comes after STGI", stgi_opens },
	{ "so it does when user space has set the same CPUID again", cpuid_set },
	{ "it comes once when user space takes EFER.SVME and gives it back", svme_toggled },
	{ "it comes after STGI when the vCPU has migrated", migrated },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM))
		return skip_all("this KVM offers no SVM to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
