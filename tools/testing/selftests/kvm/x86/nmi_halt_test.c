// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NMI ends HLT, with IRQs on or off, and is delivered after it.
 *
 * KVM_NMI cannot reach a vCPU that is inside KVM_RUN. A signal therefore takes
 * the vCPU out of it first, and the state it left shows that it was halted; an
 * MSI in NMI mode, sent by a second thread, finds it asleep in the kernel.
 *
 * A wrong implementation leaves the vCPU asleep, delivers at the HLT instead of
 * after it so that it is run again, or keeps the second of two.
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

extern char before_sti[], in_shadow[], after_shadow[], sti_hlt[], after_sti_hlt[];

static void guest_in_shadow(void)
{
	x2apic_enable();
	guest_stage(STAGE_READY);
	asm volatile("before_sti: sti\n\t"
		     "sti_hlt: hlt\n\t"
		     "after_sti_hlt: nop; cli\n\t"
		     "in_shadow: nop\n\t"
		     "after_shadow: nop; nop; cli" : : : "memory", "cc");
	guest_stage(STAGE_END);
}

extern char before_sti_verw[], sti_verw[], verw_hlt[], after_verw_hlt[];
static uint16_t selector;

static void guest_verw(void)
{
	x2apic_enable();
	guest_stage(STAGE_READY);
	asm volatile("before_sti_verw: sti\n\t"
		     "sti_verw: verw %0\n\t"
		     "verw_hlt: hlt\n\t"
		     "after_verw_hlt: nop; nop; cli" : "+m"(selector) : : "memory", "cc");
	guest_stage(STAGE_END);
}

static void on_signal(int signal)
{
}

/* In a handler, so NMIs are blocked. */
static void on_nmi_halts(struct event_regs *regs)
{
	asm volatile("hlt");
	guest_stage(STAGE_HANDLER_END);
}

static struct kvm_vm *vm_of_vcpu;

/* What the NMI wakes has had its time to run by then. */
static void *send_nmi_and_interrupt(void *thread)
{
	wait_until_vcpu_sleeps();
	send_nmi_by_msi(vm_of_vcpu, 0);
	usleep(50000);
	pthread_kill(*(pthread_t *)thread, SIGUSR1);
	return NULL;
}

static void *interrupt_vcpu(void *thread)
{
	wait_until_vcpu_sleeps();
	pthread_kill(*(pthread_t *)thread, SIGUSR1);
	return NULL;
}

/* Does the vCPU sleep in its HLT until a thread takes it out of KVM_RUN there? */
static bool sleeps_until_signal(struct kvm_vcpu *vcpu, void *(*thread)(void *))
{
	struct sigaction act = { .sa_handler = on_signal };
	pthread_t self = pthread_self(), helper;
	struct kvm_mp_state state;
	bool interrupted;

	sigaction(SIGUSR1, &act, NULL);
	vm_of_vcpu = vcpu->vm;
	TEST_ASSERT(!pthread_create(&helper, NULL, thread, &self), "thread");
	interrupted = __vcpu_run(vcpu) == -1 && errno == EINTR;
	pthread_join(helper, NULL);

	vcpu_mp_state_get(vcpu, &state);
	return interrupted && state.mp_state == KVM_MP_STATE_HALTED;
}

static struct kvm_vcpu *run_into_halt(uint64_t with_flags)
{
	struct kvm_vcpu *vcpu = create_vm(guest, NULL);

	flags = with_flags;
	sync_global_to_guest(vcpu->vm, flags);
	run_to(vcpu, STAGE_READY);
	TEST_ASSERT(sleeps_until_signal(vcpu, interrupt_vcpu), "not halted");
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

static struct kvm_vcpu *run_into_blocked_halt(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi_halts);

	flags = RFLAGS_FIXED;
	sync_global_to_guest(vcpu->vm, flags);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	TEST_ASSERT(sleeps_until_signal(vcpu, interrupt_vcpu), "not halted");
	return vcpu;
}

static void blocked_by_ioctl(void)
{
	struct kvm_vcpu *vcpu = run_into_blocked_halt();

	send_nmi(vcpu);
	CHECK(sleeps_until_signal(vcpu, interrupt_vcpu), "HLT has ended");
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void blocked_by_thread(void)
{
	struct kvm_vcpu *vcpu = run_into_blocked_halt();

	CHECK(sleeps_until_signal(vcpu, send_nmi_and_interrupt), "HLT has ended");
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static struct kvm_vcpu *send_nmi_at(void (*guest_code)(void), char *rip, uint64_t rflags,
				    uint8_t shadow)
{
	struct kvm_vcpu *vcpu = create_vm(guest_code, NULL);
	struct kvm_regs regs;

	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	vcpu_regs_get(vcpu, &regs);
	regs.rip = (uint64_t)rip;
	regs.rflags |= rflags;
	vcpu_regs_set(vcpu, &regs);
	if (shadow)
		put_in_shadow(vcpu, shadow);
	send_nmi(vcpu);
	return vcpu;
}

/* An NMI waits, and the vCPU is in the shadow of an STI or of more. */
static void check_waits_in(uint8_t shadow, char *rip, char *want)
{
	struct kvm_vcpu *vcpu = send_nmi_at(guest_in_shadow, rip, RFLAGS_IF, shadow);

	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(nmi_nr(&guest_log, 1)->rip, (uint64_t)want);
}

static void shadow_of_sti(void)
{
	check_waits_in(KVM_X86_SHADOW_INT_STI, sti_hlt, after_sti_hlt);
}

/* One comes before the HLT, so that it takes another to end it. */
static void check_comes_before(void (*guest_code)(void), char *rip, uint64_t rflags,
			       uint8_t shadow, char *want, char *behind)
{
	struct kvm_vcpu *vcpu = send_nmi_at(guest_code, rip, rflags, shadow);

	run_over_halt(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr, 2);
	CHECK_EQ(nmi_nr(&guest_log, 1)->rip, (uint64_t)want);
	CHECK_EQ(nmi_nr(&guest_log, 2)->rip, (uint64_t)behind);
}

static void before_sti_and_hlt(void)
{
	check_comes_before(guest_in_shadow, before_sti, 0, 0, before_sti, after_sti_hlt);
}

static void before_sti_and_verw(void)
{
	check_comes_before(guest_verw, before_sti_verw, 0, 0, before_sti_verw, after_verw_hlt);
}

static void between_sti_and_verw(void)
{
	check_comes_before(guest_verw, sti_verw, RFLAGS_IF, KVM_X86_SHADOW_INT_STI, verw_hlt,
			   after_verw_hlt);
}

static void between_verw_and_hlt(void)
{
	check_comes_before(guest_verw, verw_hlt, RFLAGS_IF, 0, verw_hlt, after_verw_hlt);
}

static void both_shadows(void)
{
	check_waits_in(KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS, in_shadow,
		       after_shadow);
}

static const struct test_case cases[] = {
	{ "KVM_NMI ends HLT with IRQs on", ioctl_irqs_on },
	{ "KVM_NMI ends HLT with IRQs off", ioctl_irqs_off },
	{ "an NMI from another thread ends HLT with IRQs on", thread_irqs_on },
	{ "an NMI from another thread ends HLT with IRQs off", thread_irqs_off },
	{ "two NMIs sent to a halted vCPU both come after the HLT", two_at_once },
	{ "an NMI that waits in the shadow of STI comes after the HLT there", shadow_of_sti },
	{ "STI, HLT: an NMI that comes before the STI does not end the HLT", before_sti_and_hlt },
	{ "STI, VERW, HLT: nor does one that comes before the STI", before_sti_and_verw },
	{ "STI, VERW, HLT: nor does one that waits in the shadow of STI", between_sti_and_verw },
	{ "STI, VERW, HLT: nor does one that comes after VERW", between_verw_and_hlt },
	{ "user space asks for the shadows of STI and MOV SS: the NMI comes one instruction later",
	  both_shadows },
	{ "KVM_NMI does not end a HLT in an NMI handler", blocked_by_ioctl },
	{ "an NMI from another thread does not end a HLT in an NMI handler", blocked_by_thread },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
