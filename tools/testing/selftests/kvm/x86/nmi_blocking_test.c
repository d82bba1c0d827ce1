// SPDX-License-Identifier: GPL-2.0-only
/*
 * While an NMI handler runs, the next NMI waits; it comes when the IRET of the
 * first is done and before the interrupted code runs on. One waits, not more.
 *
 * The handler of the first NMI stops in the middle, the host sends more, and the
 * handler goes on through whatever makes the vCPU exit. Both frames have to show
 * the same instruction and the same registers.
 *
 * A wrong implementation nests (it opens the window at the IRET's start, at any
 * exit, or not at all by hardware's standards), comes late (the window is looked
 * for by polling), or keeps the second NMI for ever (blocking never ends).
 */
#include "nmi_test.h"

static uint64_t flags = RFLAGS_FIXED | RFLAGS_IF;
static volatile uint64_t sink;
static uint64_t fresh_page;	/* not yet touched by the guest or KVM */

static void guest(void)
{
	guest_stop(STAGE_READY, flags);
	guest_irqs_on();
	guest_irqs_off();
	guest_stage(STAGE_END);
}

static struct kvm_vcpu *run_to_handler(void (*handler)(struct event_regs *))
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	sync_global_to_guest(vcpu->vm, flags);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	return vcpu;
}

/* The second NMI arrived where the first did. */
static void check_second(struct kvm_vcpu *vcpu)
{
	const struct event_log *log = read_log(vcpu);

	check_nmis_at_stop(vcpu, 2);
	CHECK_EQ(nmi_nr(log, 2)->rsp, nmi_nr(log, 1)->rsp);
	CHECK_EQ(nmi_nr(log, 2)->rflags, flags);
}

static void waits(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(stop_in_first_handler);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void comes_after_iret(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(stop_in_first_handler);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	check_second(vcpu);
}

static void comes_after_iret_irqs_off(void)
{
	struct kvm_vcpu *vcpu;

	require_window_with_irqs_off();
	flags = RFLAGS_FIXED;
	vcpu = run_to_handler(stop_in_first_handler);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	check_second(vcpu);
}

/* Port, CPUID, MSR and memory that KVM has to map first: all of them exits. */
static void on_nmi_with_exits(struct event_regs *regs)
{
	uint32_t eax = 0, ebx, ecx = 0, edx;

	if (guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	sink = rdmsr(MSR_IA32_APICBASE);
	sink = *(volatile uint64_t *)fresh_page;
	*(volatile uint64_t *)fresh_page = 1;
	guest_stage(STAGE_HANDLER_END);
}

static void exits_do_not_open(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_nmi_with_exits);

	fresh_page = vm_vaddr_alloc_page(vcpu->vm);
	sync_global_to_guest(vcpu->vm, fresh_page);
	sync_global_to_guest(vcpu->vm, flags);
	run_to_handlers_end(vcpu);
	run_to(vcpu, STAGE_END);
	check_second(vcpu);
}

static void collapse_in_handler(void)
{
	struct kvm_vcpu *vcpu = run_to_handler(stop_in_first_handler);
	int i;

	for (i = 0; i < 10; i++)
		send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	check_second(vcpu);
}

static void check_sent_at_once(int nr)
{
	struct kvm_vcpu *vcpu = create_vm(guest, NULL);

	sync_global_to_guest(vcpu->vm, flags);
	run_to(vcpu, STAGE_READY);
	while (nr--)
		send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_second(vcpu);
}

static void two_at_once(void)
{
	check_sent_at_once(2);
}

static void three_at_once(void)
{
	check_sent_at_once(3);
}

static void guest_window(void)
{
	guest_stop(STAGE_READY, flags);
	guest_stop(STAGE_READY, flags);
	guest_stage(STAGE_END);
}

static void lone_nmi_leaves_window_open(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_window, NULL);

	sync_global_to_guest(vcpu->vm, flags);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, 2);
}

/* On a CPU any IRET ends blocking, also that of an exception in the handler. */
extern char after_int3[];

static void on_event_int3(struct event_regs *regs)
{
	if (regs->vector != NMI_VECTOR || guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	/* From here on the next NMI is welcome, though the first has not ended. */
	guest_log.in_nmi = 0;
	asm volatile("int3\n\t"
		     "after_int3: nop" : : : "memory");
	guest_log.in_nmi = 1;
	guest_stage(STAGE_HANDLER_END);
}

static void iret_of_exception_opens(void)
{
	struct kvm_vcpu *vcpu;

	require_iret_tracked();
	vcpu = run_to_handler(on_event_int3);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	CHECK_EQ(nmi_nr(read_log(vcpu), 2)->rip, (uint64_t)after_int3);
}

extern char blocking_elsewhere[];
asm(".pushsection .text\n"
    "blocking_elsewhere: nop\n"
    ASM_STAGE(STAGE_END)
    ".popsection");

static void return_elsewhere(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	regs->rip = (uint64_t)blocking_elsewhere;
	regs->rflags = RFLAGS_FIXED;
	regs->rsp -= 256;
}

/* As an exception handler does that gives up what has faulted. */
static void comes_elsewhere(void)
{
	const struct event_log *log;
	struct kvm_vcpu *vcpu;

	require_iret_tracked();
	vcpu = run_to_handler(return_elsewhere);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	log = read_log(vcpu);
	CHECK_EQ(log->nr, 2);
	CHECK_EQ(nmi_nr(log, 1)->rip, (uint64_t)guest_stop_next);
	CHECK_EQ(nmi_nr(log, 2)->rip, (uint64_t)blocking_elsewhere);
}

static const struct test_case cases[] = {
	{ "a second NMI waits while the first handler runs", waits },
	{ "it comes after the IRET, before the interrupted code runs on", comes_after_iret },
	{ "so it does when the interrupted code has IRQs off", comes_after_iret_irqs_off },
	{ "exits in the handler do not open the window", exits_do_not_open },
	{ "a handler that returns elsewhere, to IRQs off, has the next one come there", comes_elsewhere },
	{ "ten NMIs sent into the handler are one more", collapse_in_handler },
	{ "two NMIs sent at once come one after the other", two_at_once },
	{ "three NMIs sent at once are two", three_at_once },
	{ "after a lone NMI the next one comes at once", lone_nmi_leaves_window_open },
	{ "the IRET of an exception in the handler opens the window", iret_of_exception_opens },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
