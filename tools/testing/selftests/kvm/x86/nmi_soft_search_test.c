// SPDX-License-Identifier: GPL-2.0-only
/*
 * Soft vNMI steps through a handler in search of its IRET, by the monitor trap flag, while
 * an NMI waits whose time neither the IRQ window nor the return breakpoint can tell: at
 * once where it knows that, and else when the NMI has waited for a millisecond. When an
 * IRET has been stepped over NMIs are open, wherever it went.
 *
 * A wrong implementation takes something else for the IRET, or is late or early by an
 * instruction; it loses a trap of the guest's, or lets it see a step; it goes on for ever,
 * or begins where a handler is about to end and be found.
 */
#include "nmi_events.h"
#include "nmi_soft.h"

enum { STAGE_LATER = STAGE_OWN };

#define STEPS_PARAM	"/sys/module/kvm_intel/parameters/soft_vnmi_steps"
#define SEARCH_PARAM	"/sys/module/kvm_intel/parameters/soft_vnmi_search_us"
#define LATER_US	3000

/* --- guest ------------------------------------------------------------------ */

static uint32_t loops;
static uint64_t took;		/* TSC ticks */

/* What arrives at leave() arrives at leave_next; a handler may go to elsewhere. */
void leave(uint32_t stage);
extern char leave_next[], elsewhere[], elsewhere_next[];
asm("leave:	mov %edi, %eax\n"
    "	out %eax, $" __stringify(STAGE_PORT) "\n"
    "leave_next: ret\n"
    "elsewhere: nop\n"
    "elsewhere_next: ret\n");

static void guest(void)
{
	leave(STAGE_READY);
	guest_open();
	guest_stage(STAGE_END);
}

static void begin(void)
{
	uint32_t leaf;

	guest_stage(STAGE_HANDLER);
	guest_stage(STAGE_LATER);
	/* An exit, at which the NMI is seen to have waited. */
	asm volatile("cpuid" : "=a"(leaf) : "a"(0) : "rbx", "rcx", "rdx");
}

/* It takes its time, and then does not go back where it came from. */
static void on_nmi_elsewhere(struct event_regs *regs)
{
	uint64_t start;

	if (regs->vector != NMI_VECTOR || guest_log.nr_nmis > 1)
		return;
	begin();
	start = rdtsc();
	for (uint32_t i = 0; i < loops; i++)
		asm volatile("");
	took = rdtsc() - start;
	regs->rip = (uint64_t)elsewhere;
}

static void on_nmi_elsewhere_stepping(struct event_regs *regs)
{
	on_nmi_elsewhere(regs);
	if (regs->vector == NMI_VECTOR && guest_log.nr_nmis == 1)
		regs->rflags |= RFLAGS_TF;
	else if (regs->vector == DB_VECTOR)
		regs->rflags &= ~RFLAGS_TF;
}

/* An exception in the handler, whose IRET opens NMIs on any CPU. */
static void on_nmi_exception(struct event_regs *regs)
{
	if (regs->vector != NMI_VECTOR || guest_log.nr_nmis > 1)
		return;
	begin();
	/* What follows is expected to be hit by the second NMI. */
	guest_log.in_nmi = 0;
	asm volatile("int3\n"
		     "after_int3: nop" : : : "memory");
	guest_log.in_nmi = 1;
}
extern char after_int3[];

/* --- host ------------------------------------------------------------------- */

/* Returns why not, as errno has it. */
static int set_param(const char *param, const char *value)
{
	int fd = open(param, O_WRONLY), error = 0;

	if (fd < 0 && geteuid())
		skip("only root may change when and how far a handler is stepped through");
	TEST_ASSERT(fd >= 0, "%s: %s", param, strerror(errno));
	if (write(fd, value, strlen(value)) != (ssize_t)strlen(value))
		error = errno;
	close(fd);
	return error;
}

static int set_steps(const char *steps)
{
	return set_param(STEPS_PARAM, steps);
}

static void require_search(void)
{
	if (!soft_searches())
		skip("this CPU has no monitor trap flag, or soft_vnmi_steps is 0");
}

/* Two NMIs; the second has waited for a while, or for nothing, when the first's handler ends. */
static struct kvm_vcpu *run_handler(void (*handler)(struct event_regs *), unsigned int wait_us)
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	require_exact();
	sync_global_to_guest(vcpu->vm, loops);
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	if (wait_us)
		send_nmi(vcpu);
	run_to(vcpu, STAGE_LATER);
	if (wait_us)
		usleep(wait_us);
	else
		send_nmi(vcpu);
	return vcpu;
}

static void check_comes_elsewhere(struct kvm_vcpu *vcpu)
{
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	CHECK_EQ(nmi_nr(read_log(vcpu), 2)->rip, (uint64_t)elsewhere);
	CHECK_EQ(nmi_nr(read_log(vcpu), 2)->rflags & (RFLAGS_TF | RFLAGS_RF), 0);
}

static void found_elsewhere(void)
{
	require_search();
	check_comes_elsewhere(run_handler(on_nmi_elsewhere, LATER_US));
}

/* An NMI that has just begun to wait is no reason to step through a handler, */
static void not_at_once(void)
{
	struct kvm_vcpu *vcpu;

	require_search();
	vcpu = run_handler(on_nmi_elsewhere, 0);
	run_to(vcpu, STAGE_END);
	check_came_in_irq_window(vcpu);
}

/* unless that is asked for. */
static void at_once(void)
{
	struct kvm_vcpu *vcpu;
	char before[16];

	require_search();
	require_exact();
	TEST_ASSERT(vendor_param("soft_vnmi_search_us", before, sizeof(before)),
		    "there is no parameter soft_vnmi_search_us");
	CHECK_EQ(set_param(SEARCH_PARAM, "0"), 0);
	vcpu = run_handler(on_nmi_elsewhere, 0);
	/* A handler keeps the limit with which it has begun. */
	CHECK_EQ(set_param(SEARCH_PARAM, before), 0);
	check_comes_elsewhere(vcpu);
}

static uint64_t exits_of_handler(uint32_t nr_loops)
{
	struct kvm_vcpu *vcpu;
	uint64_t before;

	loops = nr_loops;
	vcpu = run_handler(on_nmi_elsewhere, LATER_US);
	before = exits_of(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	sync_global_from_guest(vcpu->vm, took);
	return exits_of(vcpu) - before;
}

/* Each step is an exit, and their number has an end. */
static void ends(void)
{
	uint64_t exits;

	require_search();
	exits = exits_of_handler(10000);
	printf("%lu exits, %lu ticks a step\n", exits, took / soft_steps());
	CHECK(exits >= soft_steps() && exits < soft_steps() + soft_steps() / 4,
	      "%lu exits, %u steps", exits, soft_steps());
}

/* A handler keeps the limit with which it has begun. */
static void turned_off(void)
{
	struct kvm_vcpu *vcpu;
	uint64_t exits;
	char steps[16];

	require_search();
	require_exact();
	snprintf(steps, sizeof(steps), "%u", soft_steps());
	CHECK_EQ(set_steps("0"), 0);
	vcpu = run_handler(on_nmi_elsewhere, LATER_US);
	CHECK_EQ(set_steps(steps), 0);
	exits = exits_of(vcpu);
	run_to(vcpu, STAGE_END);
	check_came_in_irq_window(vcpu);
	exits = exits_of(vcpu) - exits;
	CHECK(exits < 100, "%lu exits", exits);
}

static void refused(void)
{
	const char * const values[] = { "1000001", "many", "-1" };
	unsigned int i, before = soft_steps();
	int log = open_kernel_log();

	if (access(STEPS_PARAM, F_OK))
		skip("this kvm_intel has no parameter soft_vnmi_steps");
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		CHECK_EQ(set_steps(values[i]), EINVAL);
		CHECK_EQ(soft_steps(), before);
		CHECK_EQ(kernel_messages(log, "soft_vnmi_steps"), 1);
		CHECK_EQ(set_param(SEARCH_PARAM, values[i]), EINVAL);
		CHECK_EQ(kernel_messages(log, "soft_vnmi_search_us"), 1);
	}
}

/* The trap is due one instruction after the IRET, where the NMI comes first. */
static void trap_comes_first(void)
{
	const struct event_log *log;
	struct kvm_vcpu *vcpu;

	require_search();
	vcpu = run_handler(on_nmi_elsewhere_stepping, LATER_US);
	run_to(vcpu, STAGE_END);
	log = read_log(vcpu);
	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(log->nr, 3);
	CHECK_EQ(nmi_nr(log, 2)->rip, (uint64_t)elsewhere);
	CHECK_EQ(nmi_nr(log, 2)->rflags & (RFLAGS_TF | RFLAGS_RF), RFLAGS_TF);
	CHECK_EQ(log->event[2].vector, DB_VECTOR);
	CHECK_EQ(log->event[2].rip, (uint64_t)elsewhere_next);
}

static void nested_iret(void)
{
	struct kvm_vcpu *vcpu;

	require_search();
	vcpu = run_handler(on_nmi_exception, LATER_US);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	CHECK_EQ(nmi_nr(read_log(vcpu), 2)->rip, (uint64_t)after_int3);
}

static const struct test_case cases[] = {
	{ "a handler that returns elsewhere gets the next NMI right there, if that has waited", found_elsewhere },
	{ "a handler is not stepped through as soon as an NMI waits", not_at_once },
	{ "with soft_vnmi_search_us=0 it is stepped at once, and the NMI comes where it returns to", at_once },
	{ "the search is given up after soft_vnmi_steps", ends },
	{ "with soft_vnmi_steps=0 there is none", turned_off },
	{ "a number out of range is refused with one line in the log", refused },
	{ "the IRET of an exception in the handler opens NMIs as well", nested_iret },
	{ "an IRET that sets TF: the trap is not lost", trap_comes_first },
};

int main(void)
{
	if (nmi_path() != VMX_SOFT)
		return skip_all("this machine has virtual NMIs, or no need of them");
	return run_cases(cases, ARRAY_SIZE(cases));
}
