// SPDX-License-Identifier: GPL-2.0-only
/*
 * User space that single-steps a guest gets each instruction reported once and
 * at the right address, whatever NMIs arrive meanwhile.
 *
 * A dry run without NMIs gives the addresses. An event that is injected while
 * user space steps takes the step with it, so the handler of an NMI runs through
 * and stepping goes on where it returns: the addresses stay the same.
 *
 * A wrong implementation that steps for itself, too, swallows a step of user
 * space, reports one of its own, or delivers the NMI to a guest that is to be
 * spared.
 */
#include "nmi_events.h"

#define NR_STEPS	8
#define NR_HANDLER_STEPS 200

static void guest(void)
{
	guest_warm_up();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void on_event(struct event_regs *regs)
{
	if (regs->vector == NMI_VECTOR && guest_log.nr_nmis == 1)
		guest_stage(STAGE_HANDLER);
}

static struct kvm_vcpu *run_to_ready(void (*handler)(struct event_regs *regs))
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	return vcpu;
}

static void debug(struct kvm_vcpu *vcpu, uint32_t control)
{
	struct kvm_guest_debug dbg = { .control = control };

	vcpu_guest_debug_set(vcpu, &dbg);
}

/* One step under the control of user space; returns where it ended. */
static uint64_t step(struct kvm_vcpu *vcpu, uint32_t control)
{
	debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | control);
	if (__vcpu_run(vcpu))
		FAIL("KVM_RUN: %s", strerror(errno));
	if (vcpu->run->exit_reason != KVM_EXIT_DEBUG)
		fail_on_exit(vcpu);
	CHECK_EQ(vcpu->run->debug.arch.exception, DB_VECTOR);
	CHECK_EQ(vcpu->run->debug.arch.dr6 & DR6_BS, DR6_BS);
	return vcpu->run->debug.arch.pc;
}

static void dry_run(uint64_t *addresses)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);
	int i;

	for (i = 0; i < NR_STEPS; i++)
		addresses[i] = step(vcpu, 0);
	CHECK_EQ(addresses[0], (uint64_t)guest_stop_next + 3);
	kvm_vm_free(vcpu->vm);
}

static void check_steps_with(unsigned int nr_nmis)
{
	uint64_t expected[NR_STEPS];
	struct kvm_vcpu *vcpu;
	unsigned int i, n;

	dry_run(expected);
	vcpu = run_to_ready(NULL);
	for (i = 0; i < NR_STEPS; i++) {
		for (n = 0; n < nr_nmis; n++)
			send_nmi(vcpu);
		CHECK_EQ(step(vcpu, 0), expected[i]);
	}
	CHECK_EQ(read_log(vcpu)->nr_nmis, NR_STEPS * nr_nmis);
	debug(vcpu, 0);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr, NR_STEPS * nr_nmis);
}

static void one_nmi_a_step(void)
{
	check_steps_with(1);
}

static void two_nmis_a_step(void)
{
	check_steps_with(2);
}

static void held_back(void)
{
	uint64_t expected[NR_STEPS];
	struct kvm_vcpu *vcpu;
	unsigned int i;

	dry_run(expected);
	vcpu = run_to_ready(NULL);
	send_nmi(vcpu);
	for (i = 0; i < NR_STEPS; i++)
		CHECK_EQ(step(vcpu, KVM_GUESTDBG_BLOCKIRQ), expected[i]);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 0);

	debug(vcpu, 0);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rip, expected[NR_STEPS - 1]);
}

/* Nobody steps, but the IRET and what is after it are not for user space alone. */
static void held_back_in_handler(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(on_event);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

/* Step from the middle of the handler to the code it interrupted. */
static unsigned int step_out_of_handler(struct kvm_vcpu *vcpu, uint64_t *addresses)
{
	unsigned int nr = 0;

	finish_stage(vcpu);
	do {
		TEST_ASSERT(nr < NR_HANDLER_STEPS, "the handler does not end");
		addresses[nr] = step(vcpu, 0);
	} while (addresses[nr++] != (uint64_t)guest_stop_next);
	return nr;
}

static void out_of_handler(void)
{
	uint64_t expected[NR_HANDLER_STEPS], got[NR_HANDLER_STEPS];
	struct kvm_vcpu *vcpu;
	unsigned int nr, i;

	vcpu = run_to_ready(on_event);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	nr = step_out_of_handler(vcpu, expected);
	kvm_vm_free(vcpu->vm);

	vcpu = run_to_ready(on_event);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	CHECK_EQ(step_out_of_handler(vcpu, got), nr);
	for (i = 0; i < nr; i++)
		CHECK_EQ(got[i], expected[i]);

	debug(vcpu, 0);
	run_to(vcpu, STAGE_END);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, guest_stop_next },
		     { NMI_VECTOR, guest_stop_next });
}

/*
 * In the shadow user space steps one instruction, and only one. Where the NMI
 * comes is another matter: on Intel KVM ends the shadow in favour of the step.
 */
static void in_shadow(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);
	uint64_t expected[NR_STEPS];

	dry_run(expected);
	put_in_shadow(vcpu, KVM_X86_SHADOW_INT_MOV_SS);
	send_nmi(vcpu);

	CHECK_EQ(step(vcpu, 0), expected[0]);
	CHECK_EQ(step(vcpu, 0), expected[1]);
	debug(vcpu, 0);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr, 1);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static const struct test_case cases[] = {
	{ "an NMI between any two steps changes none of them", one_nmi_a_step },
	{ "two NMIs between any two steps change none of them", two_nmis_a_step },
	{ "steps over an interrupt shadow with an NMI waiting are one each", in_shadow },
	{ "steps out of the NMI handler are the same with another NMI waiting", out_of_handler },
	{ "with events held back the NMI comes when stepping ends", held_back },
	{ "with events held back none comes after the handler's IRET", held_back_in_handler },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
