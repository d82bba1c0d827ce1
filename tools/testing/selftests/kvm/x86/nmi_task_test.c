// SPDX-License-Identifier: GPL-2.0-only
/*
 * In a 32-bit guest an NMI handler may be a task, and an IRET with NT set returns
 * by a switch to another task. It ends blocking like any other IRET, when the
 * switch is complete: the next NMI finds the handler's task free.
 *
 * The handler's task reports, the host sends a second NMI, and the handler
 * switches back. The second NMI finds the interrupted task where the first one
 * did. What a switch leaves in a TSS shows the flags of the task that was left.
 *
 * An IRET that switches tasks cannot be stepped over: the new task's flags take
 * the place of those of the step. A wrong implementation never delivers the
 * second NMI, delivers it while the handler's TSS is still busy, which is a
 * #GP, or saves a TF into a TSS.
 */
#include "nmi_events.h"
#include "nmi_flat32.h"

#define STAGE_TASK	STAGE_OWN

#define NMI_STACK	(LOW_FREE + 0x400)
#define OTHER_STACK	(LOW_STACK - 0x400)	/* a page that is in use by then */

extern char task_main[], task_stop[], task_nmi[], task_nmi_iret[], task_other[];
extern char nmi_returns_by_switch[];

asm(".pushsection guest32, \"ax\"\n"
	".code32\n"

	"task_main:\n"
	ASM_STAGE(STAGE_READY)
	"task_stop: nop\n"
	ASM_STAGE(STAGE_END)
	"jmp task_stop\n"

	/* The next switch to this task goes on after its IRET. */
	"task_nmi:\n"
	ASM_STAGE(STAGE_TASK)
	"task_nmi_iret: iretl\n"
	"jmp task_nmi\n"

	"task_other: nop\n"
	ASM_STAGE(STAGE_END)

	/* An ordinary NMI handler that leaves for the task in its TSS's link. */
	"nmi_returns_by_switch:\n"
	ASM_STAGE(STAGE_TASK)
	"pushf\n"
	"orl $0x4000, (%esp)\n"		/* NT */
	"popf\n"
	"iretl\n"

	".code64\n"
	".popsection");

/* Both kinds of TSS have the link first. */
static uint16_t link_of(struct kvm_vcpu *vcpu, uint16_t selector)
{
	return *(uint16_t *)tss_of(vcpu, selector);
}

static struct kvm_vcpu *run_to_ready(uint64_t rflags)
{
	struct kvm_vcpu *vcpu = create_flat32(task_main);

	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	set_rflags(vcpu, rflags);
	return vcpu;
}

static void use_nmi_task32(struct kvm_vcpu *vcpu)
{
	init_tss32(vcpu, NMI_TSS, CODE32, (uint64_t)task_nmi, NMI_STACK);
	set_gate32(vcpu, NMI_VECTOR, TASK_GATE32, 0, NMI_TSS, NULL);
}

/*
 * Both tasks have 16-bit TSSs: KVM saves a task in the format of the next one's.
 * IP has 16 bits, so a segment's base brings the tasks to their code.
 */
static void use_nmi_task16(struct kvm_vcpu *vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	set_base32(vcpu, BASED_CODE32, (uint64_t)task_main);
	init_tss16(vcpu, NMI_TSS, BASED_CODE32, task_nmi - task_main, NMI_STACK);
	init_tss16(vcpu, MAIN_TSS, BASED_CODE32, 0, LOW_STACK);
	mark_busy(vcpu, MAIN_TSS);
	set_gate32(vcpu, NMI_VECTOR, TASK_GATE32, 0, NMI_TSS, NULL);

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cs.selector = BASED_CODE32;
	sregs.cs.base = (uint64_t)task_main;
	sregs.tr.type = 3;
	sregs.tr.limit = sizeof(struct tss16) - 1;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_get(vcpu, &regs);
	regs.rip -= (uint64_t)task_main;
	vcpu_regs_set(vcpu, &regs);
}

static void check_in_task(struct kvm_vcpu *vcpu, uint32_t eflags)
{
	const struct tss32 *interrupted = tss_of(vcpu, MAIN_TSS);

	run_to(vcpu, STAGE_TASK);
	CHECK_EQ(link_of(vcpu, NMI_TSS), MAIN_TSS);
	CHECK_EQ(interrupted->eip, (uint64_t)task_stop);
	CHECK_EQ(interrupted->eflags, eflags);
	CHECK(tss_is_busy(vcpu, NMI_TSS), "descriptor of the NMI's task");
}

static void check_end(struct kvm_vcpu *vcpu)
{
	run_to(vcpu, STAGE_END);
	CHECK(!tss_is_busy(vcpu, NMI_TSS), "descriptor of the NMI's task");
}

/* The exit for a task switch cannot be turned off; this emulator has none. */
static void require_task_switch_exit(void)
{
	if (on_qemu_tcg())
		skip("QEMU TCG switches tasks without the exit that SVM makes of it");
}

static void lone_nmi(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(RFLAGS_FIXED | RFLAGS_CF);
	const struct tss32 *handler = tss_of(vcpu, NMI_TSS);

	use_nmi_task32(vcpu);
	send_nmi(vcpu);
	check_in_task(vcpu, RFLAGS_FIXED | RFLAGS_CF);
	check_end(vcpu);
	CHECK_EQ(handler->eflags & (RFLAGS_TF | RFLAGS_NT), 0);
}

static void check_two_nmis(struct kvm_vcpu *vcpu, uint64_t rflags)
{
	send_nmi(vcpu);
	check_in_task(vcpu, rflags);
	send_nmi(vcpu);
	check_in_task(vcpu, rflags);
	check_end(vcpu);
}

static void two_nmis(void)
{
	struct kvm_vcpu *vcpu;
	const struct tss32 *handler;

	require_task_switch_exit();
	vcpu = run_to_ready(RFLAGS_FIXED | RFLAGS_IF);
	handler = tss_of(vcpu, NMI_TSS);
	use_nmi_task32(vcpu);
	check_two_nmis(vcpu, RFLAGS_FIXED | RFLAGS_IF);
	CHECK_EQ(handler->eflags & (RFLAGS_TF | RFLAGS_NT), 0);
}

/* How late it may come depends on the emulator, but it comes, and once. */
static void not_lost(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(RFLAGS_FIXED | RFLAGS_IF);
	const struct tss32 *interrupted = tss_of(vcpu, MAIN_TSS);
	const struct tss32 *handler = tss_of(vcpu, NMI_TSS);
	unsigned int nr_nmis = 0, nr_ends = 0;

	use_nmi_task32(vcpu);
	send_nmi(vcpu);
	check_in_task(vcpu, RFLAGS_FIXED | RFLAGS_IF);
	send_nmi(vcpu);
	while (nr_ends < 3) {
		if (next_stage(vcpu) == STAGE_END) {
			nr_ends++;
			continue;
		}
		nr_nmis++;
		CHECK_EQ(interrupted->eflags & RFLAGS_TF, 0);
	}
	CHECK_EQ(nr_nmis, 1);
	CHECK_EQ(handler->eflags & (RFLAGS_TF | RFLAGS_NT), 0);
	CHECK(!tss_is_busy(vcpu, NMI_TSS), "descriptor of the NMI's task");
}

static void two_nmis_irqs_off(void)
{
	struct kvm_vcpu *vcpu;

	require_task_switch_exit();
	require_window_with_irqs_off();
	vcpu = run_to_ready(RFLAGS_FIXED);
	use_nmi_task32(vcpu);
	check_two_nmis(vcpu, RFLAGS_FIXED);
}

static void check_in_task16(struct kvm_vcpu *vcpu)
{
	const struct tss16 *interrupted = tss_of(vcpu, MAIN_TSS);

	run_to(vcpu, STAGE_TASK);
	CHECK_EQ(link_of(vcpu, NMI_TSS), MAIN_TSS);
	CHECK_EQ(interrupted->ip, task_stop - task_main);
	CHECK_EQ(interrupted->flags, RFLAGS_FIXED | RFLAGS_IF);
}

static void two_nmis_16bit(void)
{
	struct kvm_vcpu *vcpu;
	const struct tss16 *handler;

	require_task_switch_exit();
	vcpu = run_to_ready(RFLAGS_FIXED | RFLAGS_IF);
	handler = tss_of(vcpu, NMI_TSS);
	use_nmi_task16(vcpu);
	send_nmi(vcpu);
	check_in_task16(vcpu);
	send_nmi(vcpu);
	check_in_task16(vcpu);
	check_end(vcpu);
	CHECK_EQ(handler->flags & (RFLAGS_TF | RFLAGS_NT), 0);
}

/* The first NMI's IRET leads to a task with TF set: it steps after the second. */
static void stepped_task(void)
{
	struct tss32 *interrupted;
	struct kvm_vcpu *vcpu;
	struct event32 *trap;

	require_task_switch_exit();
	vcpu = run_to_ready(RFLAGS_FIXED | RFLAGS_IF);
	interrupted = tss_of(vcpu, MAIN_TSS);
	use_nmi_task32(vcpu);
	send_nmi(vcpu);
	check_in_task(vcpu, RFLAGS_FIXED | RFLAGS_IF);
	interrupted->eflags |= RFLAGS_TF;
	send_nmi(vcpu);
	check_in_task(vcpu, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF);
	trap = next_event32(vcpu, DB_VECTOR);
	CHECK_EQ(trap->frame.eip, (uint64_t)task_stop + 1);
	CHECK_EQ(trap->frame.eflags & RFLAGS_TF, RFLAGS_TF);
}

/*
 * The switch out of an ordinary handler: the second NMI comes at the first
 * instruction of the other task, and the handler's flags go into the TSS.
 */
static void return_by_switch(void)
{
	struct kvm_vcpu *vcpu;
	struct tss32 *left;
	struct event32 *nmi;

	require_task_switch_exit();
	require_iret_tracked();
	vcpu = run_to_ready(RFLAGS_FIXED);
	left = tss_of(vcpu, MAIN_TSS);
	init_tss32(vcpu, OTHER_TSS, CODE32, (uint64_t)task_other, OTHER_STACK);
	mark_busy(vcpu, OTHER_TSS);
	left->link = OTHER_TSS;
	set_gate32(vcpu, NMI_VECTOR, INTERRUPT_GATE32, 0, CODE32, nmi_returns_by_switch);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_TASK);
	send_nmi(vcpu);
	set_gate32(vcpu, NMI_VECTOR, INTERRUPT_GATE32, 0, CODE32, event32_2);
	nmi = next_event32(vcpu, NMI_VECTOR);
	CHECK_EQ(nmi->frame.eip, (uint64_t)task_other);
	CHECK_EQ(nmi->frame.eflags, RFLAGS_FIXED);
	CHECK_EQ(left->eflags & (RFLAGS_TF | RFLAGS_NT), 0);
	run_to(vcpu, STAGE_END);
}

static const struct test_case cases[] = {
	{ "an NMI handler that is a task is switched to and back", lone_nmi },
	{ "a second NMI comes when it has switched back", two_nmis },
	{ "a second NMI comes once, sooner or later", not_lost },
	{ "with IRQs off it comes when the handler has switched back", two_nmis_irqs_off },
	{ "so it does with a 16-bit TSS", two_nmis_16bit },
	{ "so it does when the task it interrupts is single-stepped", stepped_task },
	{ "a second NMI comes when an ordinary handler has returned by a switch", return_by_switch },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
