// SPDX-License-Identifier: GPL-2.0-only
/*
 * NMIs and a guest hypervisor (L1) on VMX: where an NMI goes that arrives while
 * its guest (L2) runs, who is blocked after it, and whether L1 can inject NMIs
 * into L2 and learn when L2 is ready for the next.
 *
 * L1 and L2 share one address space and one IDT, so the log shows NMIs of both.
 *
 * A wrong implementation gives L2 an NMI that L1 asked to intercept, forgets
 * that such an exit blocks NMIs for L1, or confuses L1's blocking with L2's:
 * the window exit then comes inside L2's handler or not at all.
 */
#include "nmi_test.h"
#include "vmx.h"

enum { STAGE_L2 = STAGE_OWN, STAGE_L1 };

#define EXIT_NMI		0
#define EXIT_NMI_WINDOW		8
#define EXIT_VMCALL		18
#define INTR_INFO_NMI		0x80000202	/* valid, type NMI, vector 2 */
#define BLOCKED_BY_NMI		(1u << 3)
#define PIN_NMI_EXITING		(1u << 3)
#define PIN_VIRTUAL_NMIS	(1u << 5)
#define CPU_NMI_WINDOW		(1u << 22)
#define NR_EXITS		4

struct l2_exit { uint64_t reason, intr_info, rip, interruptibility; };

static struct vmx_pages *vmx;
static uint32_t pin_controls;
static struct l2_exit exits[NR_EXITS];
static uint32_t nr_exits;
static char l2_stack[4096] __attribute__((aligned(16)));

/* IRQs on: L1 intercepts none, and soft vNMI needs the window they open. */
static void l2(void)
{
	guest_stop(STAGE_L2, RFLAGS_FIXED | RFLAGS_IF);
	vmcall();
}

/* --- L1 --- */

static void prepare_l2(void)
{
	x2apic_enable();
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2, l2_stack + sizeof(l2_stack));
	vmwrite(PIN_BASED_VM_EXEC_CONTROL,
		vmreadz(PIN_BASED_VM_EXEC_CONTROL) | pin_controls);
}

/* Note the exit; step over a VMCALL. Its reason is returned. */
static uint64_t note_exit(void)
{
	struct l2_exit *exit = &exits[nr_exits++];

	exit->reason = vmreadz(VM_EXIT_REASON);
	exit->intr_info = vmreadz(VM_EXIT_INTR_INFO);
	exit->rip = vmreadz(GUEST_RIP);
	exit->interruptibility = vmreadz(GUEST_INTERRUPTIBILITY_INFO);
	if (exit->reason == EXIT_VMCALL)
		vmwrite(GUEST_RIP, exit->rip + vmreadz(VM_EXIT_INSTRUCTION_LEN));
	return exit->reason;
}

static void l1_runs_l2(void)
{
	prepare_l2();
	GUEST_ASSERT(!vmlaunch());
	if (note_exit() != EXIT_VMCALL) {
		GUEST_ASSERT(!vmresume());
		note_exit();
	}
	guest_stage(STAGE_END);
}

static void l1_is_blocked(void)
{
	prepare_l2();
	GUEST_ASSERT(!vmlaunch());
	note_exit();
	guest_stage(STAGE_L1);
	guest_stage(STAGE_L1);
	guest_iret();
	guest_irqs_on();
	guest_irqs_off();
	guest_stage(STAGE_END);
}

/* Inject, be called from the handler, ask for the window, inject again. */
static void l1_injects(void)
{
	uint64_t controls;

	prepare_l2();
	vmwrite(GUEST_RIP, (uint64_t)guest_stop);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	GUEST_ASSERT(!vmlaunch());
	note_exit();

	controls = vmreadz(CPU_BASED_VM_EXEC_CONTROL);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, controls | CPU_NMI_WINDOW);
	GUEST_ASSERT(!vmresume());
	note_exit();

	vmwrite(CPU_BASED_VM_EXEC_CONTROL, controls);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	GUEST_ASSERT(!vmresume());
	note_exit();
	guest_stage(STAGE_END);
}

static void on_nmi_vmcall(struct guest_regs *regs)
{
	vmcall();
}

static void on_nmi(struct guest_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	guest_stage(STAGE_HANDLER);
	guest_stage(STAGE_HANDLER_END);
}

/* --- host --- */

static struct kvm_vcpu *create_l1(void (*l1)(void), uint32_t controls,
				  void (*on_event)(struct guest_regs *))
{
	struct kvm_vcpu *vcpu;
	vm_vaddr_t gva;

	vcpu = create_vm(l1, on_event);
	vcpu_alloc_vmx(vcpu->vm, &gva);
	vmx = (struct vmx_pages *)gva;
	pin_controls = controls;
	sync_global_to_guest(vcpu->vm, vmx);
	sync_global_to_guest(vcpu->vm, pin_controls);
	return vcpu;
}

static const struct l2_exit *read_exits(struct kvm_vcpu *vcpu)
{
	sync_global_from_guest(vcpu->vm, exits);
	sync_global_from_guest(vcpu->vm, nr_exits);
	return exits;
}

static void intercepted(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2, PIN_NMI_EXITING, NULL);
	const struct l2_exit *exit;

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	exit = read_exits(vcpu);
	CHECK_EQ(nr_exits, 2);
	CHECK_EQ(exit[0].reason, EXIT_NMI);
	CHECK_EQ(exit[0].intr_info & 0x80000fff, INTR_INFO_NMI);
	CHECK_EQ(exit[0].rip, (uint64_t)guest_stop_next);
	CHECK_EQ(exit[1].reason, EXIT_VMCALL);
	CHECK_EQ(read_log(vcpu)->nr, 0);
}

static void exit_blocks_l1(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_is_blocked, PIN_NMI_EXITING, NULL);

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_exits(vcpu)[0].reason, EXIT_NMI);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L1);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 0);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void not_intercepted(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2, 0, NULL);
	const struct event_log *log;

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);

	log = read_log(vcpu);
	CHECK_EQ(log->nr, 1);
	CHECK_EQ(nmi_nr(log, 1)->rip, (uint64_t)guest_stop_next);
	read_exits(vcpu);
	CHECK_EQ(nr_exits, 1);
}

static void second_waits_in_l2(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_runs_l2, 0, on_nmi);
	const struct event_log *log;

	run_to(vcpu, STAGE_L2);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);

	log = read_log(vcpu);
	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(nmi_nr(log, 2)->rip, (uint64_t)guest_stop_next);
	CHECK_EQ(nmi_nr(log, 2)->rbx, 0);
}

static void injected_by_l1(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_injects, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS,
					  on_nmi_vmcall);
	const struct event_log *log;
	const struct l2_exit *exit;

	run_to(vcpu, STAGE_END);
	log = read_log(vcpu);
	exit = read_exits(vcpu);

	CHECK_EQ(nr_exits, 3);
	CHECK_EQ(exit[0].reason, EXIT_VMCALL);
	CHECK_EQ(exit[0].interruptibility, BLOCKED_BY_NMI);
	CHECK_EQ(exit[1].reason, EXIT_NMI_WINDOW);
	CHECK_EQ(exit[1].rip, (uint64_t)guest_stop);
	CHECK_EQ(exit[1].interruptibility, 0);
	CHECK_EQ(exit[2].reason, EXIT_VMCALL);
	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(nmi_nr(log, 1)->rip, (uint64_t)guest_stop);
	CHECK_EQ(nmi_nr(log, 2)->rip, (uint64_t)guest_stop);
}

static const struct test_case cases[] = {
	{ "an NMI that L1 intercepts ends L2 and reaches no handler", intercepted },
	{ "such an exit blocks NMIs for L1 until its IRET", exit_blocks_l1 },
	{ "an NMI that L1 does not intercept goes to L2's handler", not_intercepted },
	{ "a second one waits for the IRET in L2", second_waits_in_l2 },
	{ "L1 injects an NMI, gets the window exit at L2's IRET, injects another", injected_by_l1 },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		return skip_all("this KVM offers no VMX to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
