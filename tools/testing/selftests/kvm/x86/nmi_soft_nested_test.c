// SPDX-License-Identifier: GPL-2.0-only
/*
 * Soft vNMI is for the VMCSs without virtual NMIs. With vnmi=0 a guest hypervisor
 * (L1) is one of those, but may run its guest (L2) with virtual NMIs all the same,
 * and then the CPU tracks blocking in L2, with all that this takes: an IRET that
 * exits because the host has to map its page runs again, still blocked.
 *
 * L1 and L2 share one address space and one IDT. The page of L2's frame is dropped
 * as in nmi_iret_fault_test.
 *
 * A wrong implementation clears the blocking bit of L2's VMCS, or leaves it clear
 * after such an IRET: L1's window then opens at the IRET, not behind it. Or it
 * leaves the breakpoint of L1's handler in L2, or forgets it there.
 */
#include "nmi_soft.h"
#include "vmx.h"

enum { STAGE_L1 = STAGE_OWN, STAGE_L2 };

#define EXIT_NMI_WINDOW		8
#define EXIT_VMCALL		18
#define INTR_INFO_NMI		0x80000202	/* valid, type NMI, vector 2 */
#define BLOCKED_BY_NMI		(1u << 3)
#define PIN_NMI_EXITING		(1u << 3)
#define PIN_VIRTUAL_NMIS	(1u << 5)
#define VIRTUAL_NMIS		(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS)
#define CPU_NMI_WINDOW		(1u << 22)

#define STACK_GPA	0x10000000
#define STACK_SLOT	10
#define STACK_PAGES	4
#define FRAME_PAGE	(STACK_GPA + 2 * 4096)
#define FRAME_SIZE	48	/* five words, at a 16-byte boundary */
#define STOPS_IN_L2	20	/* more than the breakpoint may miss */

static struct vmx_pages *vmx;
static char l2_stack[4096] __attribute__((aligned(16)));
static struct { uint64_t reason, rip, interruptibility; } seen;
static bool in_l2;
static uint32_t pin_controls;

/* --- L2 --- */

extern char l2_next[];
asm("l2_next: nop; vmcall");

static void l2_stops(void)
{
	int i;

	for (i = 0; i < STOPS_IN_L2; i++)
		guest_stop(STAGE_L2, RFLAGS_FIXED);
	vmcall();
}

/* --- L1 --- */

static void prepare_l2(void *code)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, code, l2_stack + sizeof(l2_stack));
	vmwrite(PIN_BASED_VM_EXEC_CONTROL,
		vmreadz(PIN_BASED_VM_EXEC_CONTROL) | pin_controls);
}

static void note_exit(void)
{
	in_l2 = false;
	seen.reason = vmreadz(VM_EXIT_REASON);
	seen.rip = vmreadz(GUEST_RIP);
	seen.interruptibility = vmreadz(GUEST_INTERRUPTIBILITY_INFO);
}

static void step_over_vmcall(void)
{
	GUEST_ASSERT(seen.reason == EXIT_VMCALL);
	vmwrite(GUEST_RIP, seen.rip + vmreadz(VM_EXIT_INSTRUCTION_LEN));
}

static void launch_l2(void)
{
	in_l2 = true;
	GUEST_ASSERT(!vmlaunch());
	note_exit();
}

/* Inject, be called from the handler, ask for the window, let the IRET run. */
static void l1_injects(void)
{
	prepare_l2(l2_next);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_NMI);
	launch_l2();
	step_over_vmcall();
	GUEST_ASSERT(seen.interruptibility == BLOCKED_BY_NMI);

	vmwrite(CPU_BASED_VM_EXEC_CONTROL,
		vmreadz(CPU_BASED_VM_EXEC_CONTROL) | CPU_NMI_WINDOW);
	guest_stage(STAGE_L1);
	in_l2 = true;
	GUEST_ASSERT(!vmresume());
	note_exit();
	guest_stage(STAGE_END);
}

static void on_nmi_vmcall(struct guest_regs *regs)
{
	if (in_l2)
		vmcall();
}

static void l1_is_interrupted(void)
{
	prepare_l2(l2_stops);
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_open();
	guest_stage(STAGE_END);
}

/* Where L2 has no virtual NMIs, L1 can only tell it that they are blocked. */
static void on_nmi_runs_l2(struct guest_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	if (!pin_controls)
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, BLOCKED_BY_NMI);
	launch_l2();
	guest_stage(STAGE_HANDLER);
}

/* --- host --- */

static struct kvm_vcpu *create_l1(void (*l1)(void), uint32_t controls,
				  void (*on_event)(struct guest_regs *))
{
	struct kvm_vcpu *vcpu = create_vm(l1, on_event);
	vm_vaddr_t gva;

	vcpu_alloc_vmx(vcpu->vm, &gva);
	vmx = (struct vmx_pages *)gva;
	pin_controls = controls;
	sync_global_to_guest(vcpu->vm, vmx);
	sync_global_to_guest(vcpu->vm, pin_controls);
	return vcpu;
}

static bool page_is_mapped(void *page)
{
	uint64_t entry;
	FILE *f = fopen("/proc/self/pagemap", "r");

	TEST_ASSERT(f && !fseek(f, (uintptr_t)page / 4096 * 8, SEEK_SET) &&
		    fread(&entry, sizeof(entry), 1, f) == 1, "pagemap");
	fclose(f);
	return entry >> 63;
}

static void iret_of_l2_runs_again(void)
{
	struct kvm_vcpu *vcpu = create_l1(l1_injects, VIRTUAL_NMIS, on_nmi_vmcall);
	void *page;

	vm_userspace_mem_region_add(vcpu->vm, VM_MEM_SRC_SHMEM, STACK_GPA,
				    STACK_SLOT, STACK_PAGES, 0);
	virt_map(vcpu->vm, STACK_GPA, STACK_GPA, STACK_PAGES);
	set_ist(vcpu, 1, FRAME_PAGE + FRAME_SIZE);
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
	run_to(vcpu, STAGE_L1);
	page = addr_gpa2hva(vcpu->vm, FRAME_PAGE);
	TEST_ASSERT(!madvise(page, 4096, MADV_DONTNEED), "madvise");
	TEST_ASSERT(!page_is_mapped(page), "page still mapped");
	run_to(vcpu, STAGE_END);
	TEST_ASSERT(page_is_mapped(page), "the IRET did not touch its page");

	sync_global_from_guest(vcpu->vm, seen);
	CHECK_EQ(seen.reason, EXIT_NMI_WINDOW);
	CHECK_EQ(seen.rip, (uint64_t)l2_next);
	CHECK_EQ(seen.interruptibility, 0);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
}

static void check_l2_in_handler(uint32_t controls)
{
	struct kvm_vcpu *vcpu = create_l1(l1_is_interrupted, controls, on_nmi_runs_l2);
	int i;

	if (nmi_path() == VMX_SOFT)
		require_exact();
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	for (i = 0; i < STOPS_IN_L2; i++)
		run_to(vcpu, STAGE_L2);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	sync_global_from_guest(vcpu->vm, seen);
	CHECK_EQ(seen.reason, EXIT_VMCALL);
	check_came_at_return(vcpu);
}

static void l2_in_handler(void)
{
	check_l2_in_handler(VIRTUAL_NMIS);
}

static void l2_in_handler_blocked(void)
{
	check_l2_in_handler(0);
}

static const struct test_case cases[] = {
	{ "an IRET in L2 that the host interrupts to map a page leaves L2 blocked",
	  iret_of_l2_runs_again },
	{ "found: L1's handler runs L2, which passes the return address", l2_in_handler },
	{ "found: the same with an L2 that has no virtual NMIs", l2_in_handler_blocked },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		return skip_all("this KVM offers no VMX to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
