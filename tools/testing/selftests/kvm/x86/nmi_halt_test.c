// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NMI ends HLT, with IRQs on or off, and is delivered behind it.
 *
 * KVM_NMI cannot reach a vCPU that is inside KVM_RUN. A signal therefore takes
 * the vCPU out of it first, and the state it left shows that it was halted; an
 * MSI in NMI mode, sent by a second thread, finds it asleep in the kernel.
 *
 * A wrong implementation leaves the vCPU asleep, delivers at the HLT instead of
 * behind it so that it is run again, or keeps the second of two.
 */
#include <pthread.h>
#include <signal.h>

#include "nmi_test.h"

extern char after_hlt[];
static uint64_t flags;

static void guest(void)
{
	x2apic_enable();
	guest_stage(STAGE_READY);
	asm volatile("push %0; popf; hlt\n\t"
		     "after_hlt: nop; nop; cli" : : "m"(flags) : "memory", "cc");
	guest_stage(STAGE_END);
}

static void on_signal(int signal)
{
}

static void *interrupt_vcpu(void *thread)
{
	wait_until_vcpu_sleeps();
	pthread_kill(*(pthread_t *)thread, SIGUSR1);
	return NULL;
}

/* Run the vCPU into its HLT and take it out of KVM_RUN there. */
static struct kvm_vcpu *run_into_halt(uint64_t with_flags)
{
	struct sigaction act = { .sa_handler = on_signal };
	struct kvm_vcpu *vcpu = create_vm(guest, NULL);
	pthread_t self = pthread_self(), helper;
	struct kvm_mp_state state;

	flags = with_flags;
	sync_global_to_guest(vcpu->vm, flags);
	sigaction(SIGUSR1, &act, NULL);
	run_to(vcpu, STAGE_READY);

	TEST_ASSERT(!pthread_create(&helper, NULL, interrupt_vcpu, &self), "thread");
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EINTR, "not interrupted");
	pthread_join(helper, NULL);

	vcpu_mp_state_get(vcpu, &state);
	TEST_ASSERT(state.mp_state == KVM_MP_STATE_HALTED, "not halted");
	return vcpu;
}

static void check_woken(struct kvm_vcpu *vcpu, unsigned int nr)
{
	const struct event_log *log = read_log(vcpu);
	unsigned int i;

	CHECK_EQ(log->nr_nmis, nr);
	for (i = 1; i <= nr; i++)
		CHECK_EQ(nmi_nr(log, i)->rip, (uint64_t)after_hlt);
}

static void by_ioctl(uint64_t with_flags)
{
	struct kvm_vcpu *vcpu = run_into_halt(with_flags);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_woken(vcpu, 1);
}

static void by_thread(uint64_t with_flags)
{
	struct kvm_vcpu *vcpu = run_into_halt(with_flags);

	run_over_halt(vcpu, STAGE_END);
	check_woken(vcpu, 1);
}

static void ioctl_irqs_on(void)
{
	by_ioctl(RFLAGS_FIXED | RFLAGS_IF);
}

static void ioctl_irqs_off(void)
{
	by_ioctl(RFLAGS_FIXED);
}

static void thread_irqs_on(void)
{
	by_thread(RFLAGS_FIXED | RFLAGS_IF);
}

static void thread_irqs_off(void)
{
	by_thread(RFLAGS_FIXED);
}

static void two_at_once(void)
{
	struct kvm_vcpu *vcpu = run_into_halt(RFLAGS_FIXED | RFLAGS_IF);

	send_nmi(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_woken(vcpu, 2);
}

static const struct test_case cases[] = {
	{ "KVM_NMI ends HLT with IRQs on", ioctl_irqs_on },
	{ "KVM_NMI ends HLT with IRQs off", ioctl_irqs_off },
	{ "an NMI from another thread ends HLT with IRQs on", thread_irqs_on },
	{ "an NMI from another thread ends HLT with IRQs off", thread_irqs_off },
	{ "two NMIs sent to a halted vCPU both come behind the HLT", two_at_once },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
