// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's own NMIs (profiling, watchdogs, backtraces, crash dumps) arrive
 * while a guest runs, also while that guest is in its NMI handler with IRQs off.
 *
 * A module that is part of this test sends the host an NMI each millisecond. The
 * guest spins in its handler for a while, and each NMI that arrives then is a VM
 * exit. One that is held back until some other exit is none.
 *
 * Without virtual NMIs, a CPU may take the injection of an NMI, or the blocking
 * bit of the VMCS at a later entry, as the blocking of the host's own NMIs. A
 * wrong implementation lets it.
 */
#include <sys/syscall.h>

#include "nmi_nested_vmx.h"
#include "nmi_soft.h"

#define SPIN_MS		50	/* and about as many NMIs */
#define LEAST_EXITS	(SPIN_MS * 3 / 4)

extern char host_nmi_ko[], host_nmi_ko_end[];

static uint64_t ticks;

/*
 * Without the CLI of guest_spin_irqs_off(): Bochs holds the host's interrupts back
 * meanwhile, so there is no exit that would let NMIs in for a moment.
 */
static void spin(void)
{
	uint64_t start = rdtsc();

	while (rdtsc() - start < ticks)
		;
}

static void guest(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	spin();
	guest_stage(STAGE_END);
}

/* The exits before the end of the first stage come at the injection. */
static void on_nmi(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	spin();
	guest_stage(STAGE_HANDLER_END);
}

/* From the injection on, without any exit but those that are looked for. */
static void on_nmi_at_once(struct event_regs *regs)
{
	spin();
	guest_stage(STAGE_HANDLER_END);
}

static unsigned int host_nmis(void)
{
	FILE *f = fopen("/sys/module/host_nmi/parameters/count", "r");
	unsigned int count;

	TEST_ASSERT(f && fscanf(f, "%u", &count) == 1, "host_nmi's count");
	fclose(f);
	return count;
}

static struct kvm_vcpu *run_to_ready(void (*handler)(struct event_regs *))
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	/* On a kernel that is slow at NMIs the guest hardly runs in between. */
	ticks = patience(SPIN_MS) * tsc_khz_of(vcpu);
	sync_global_to_guest(vcpu->vm, ticks);
	run_to(vcpu, STAGE_READY);
	return vcpu;
}

/* What follows is to be one stage long; its OUT is an exit, too. */
static void check_arrive(struct kvm_vcpu *vcpu, uint32_t stage)
{
	uint64_t exits = exits_of(vcpu);
	unsigned int count = host_nmis();

	run_to(vcpu, stage);
	exits = exits_of(vcpu) - exits - 1;
	count = host_nmis() - count;
	printf("%lu exits, %u NMIs of the host\n", exits, count);
	CHECK(count >= LEAST_EXITS, "the host took %u NMIs", count);
	CHECK(exits >= LEAST_EXITS, "%lu exits, too few for NMIs to be among them", exits);
}

static void no_nmi_in_guest(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);

	check_arrive(vcpu, STAGE_END);
}

static void just_injected(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(on_nmi_at_once);

	send_nmi(vcpu);
	check_arrive(vcpu, STAGE_HANDLER_END);
}

static void later_in_handler(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(on_nmi);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	check_arrive(vcpu, STAGE_HANDLER_END);
}

static void while_one_waits(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(on_nmi);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	check_arrive(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	if (nmi_path() != VMX_SOFT || soft_exact()) {
		run_to(vcpu, STAGE_END);
		CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	}
}

/* --- in L2 --- */

static void l2(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED | RFLAGS_IF);
	vmcall();
}

static void l1_runs_l2(void)
{
	prepare_vmx_l2(l2);
	run_vmx_l2();
	guest_stage(STAGE_END);
}

static void l1_injects(void)
{
	prepare_vmx_l2(l2);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	guest_stage(STAGE_READY);
	run_vmx_l2();
}

static void check_nested(void (*l1)(void), uint32_t controls, bool send)
{
	struct kvm_vcpu *vcpu;

	if (!kvm_cpu_has(X86_FEATURE_VMX))
		skip("this KVM offers no VMX to its guests");
	vcpu = create_vmx_l1(l1, controls, on_nmi_at_once);
	ticks = patience(SPIN_MS) * tsc_khz_of(vcpu);
	sync_global_to_guest(vcpu->vm, ticks);
	run_to(vcpu, STAGE_READY);
	if (send)
		send_nmi(vcpu);
	check_arrive(vcpu, STAGE_HANDLER_END);
}

static void l2_takes_nmi(void)
{
	check_nested(l1_runs_l2, 0, true);
}

static void l1_injects_with_exiting(void)
{
	check_nested(l1_injects, PIN_BASED_NMI_EXITING, false);
}

static void l1_injects_without(void)
{
	check_nested(l1_injects, 0, false);
}

static const struct test_case cases[] = {
	{ "host NMIs arrive while a guest spins with IRQs off", no_nmi_in_guest },
	{ "so they do from the injection of an NMI on", just_injected },
	{ "so they do later in the guest's NMI handler", later_in_handler },
	{ "so they do while a second NMI waits, which still comes", while_one_waits },
	{ "host NMIs arrive while L2 handles an NMI of its own", l2_takes_nmi },
	{ "host NMIs arrive while L2 handles one that L1 injects, with NMI exiting",
	  l1_injects_with_exiting },
	{ "host NMIs arrive while L2 handles one that L1 injects, without NMI exiting",
	  l1_injects_without },
};

int main(void)
{
	int r;

	if (!on_bochs())
		return skip_all("sends the host NMIs on Bochs only, whose HPET has a timer to spare");
	if (&host_nmi_ko[0] == &host_nmi_ko_end[0])
		return skip_all("was built without the headers of the host's kernel");
	if (syscall(SYS_init_module, host_nmi_ko, host_nmi_ko_end - host_nmi_ko, ""))
		return skip_all("cannot load a module that sends NMIs, see the kernel log");
	r = run_cases(cases, ARRAY_SIZE(cases));
	if (syscall(SYS_delete_module, "host_nmi", 0))
		perror("unloading host_nmi");
	return r;
}
