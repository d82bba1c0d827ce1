// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page-modification logging: the exit for a log that is full may come from an IRET, which
 * has dropped the blocking then, but did not retire. Bit 12 of the exit qualification says
 * so, unless the exit happened while an event was delivered: then it is undefined.
 * (SDM, "Exit Qualification for Page-Modification Log-Full Events and EPT Violations")
 *
 * The IRET's one write is the accessed bit of the descriptor that it loads into CS. All
 * pages that the handler has written before are in the log; how many these are, besides
 * those that it is told to write, is found by trying.
 *
 * A wrong implementation delivers the next NMI before that IRET, or keeps NMIs blocked
 * although an IRET that faulted has unblocked them.
 */
#include "nmi_test.h"

#define LOG_ENTRIES	512
#define OTHER_WRITES	40	/* at most: stack, log, page tables */

#define PAGES_GPA	0x20000000ul
#define PAGES_SLOT	10
#define BAD_SELECTOR	0xfff8
#define EXIT_VALID	(1ull << 31)
#define EXIT_UNBLOCKED	(1ull << 12)

static uint32_t pages;
static bool iret_faults;

static uint8_t *accessed_byte(uint16_t selector)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __packed gdt;

	asm volatile("sgdt %0" : "=m"(gdt));
	return (uint8_t *)gdt.base + (selector & ~7) + 5;
}

static void write_pages(unsigned int nr)
{
	volatile uint8_t *page = (void *)PAGES_GPA;

	while (nr--) {
		*page = 1;
		page += 4096;
	}
}

static void on_event(struct event_regs *regs)
{
	if (regs->vector == GP_VECTOR) {
		/* The frame that the IRET has found wrong is where its RSP says. */
		((uint64_t *)regs->rsp)[1] = regs->cs;
		return;
	}
	if (guest_log.nr_nmis != 1)
		return;

	if (iret_faults)
		regs->cs = BAD_SELECTOR;
	else
		*accessed_byte(regs->cs) &= ~1;
	guest_stage(STAGE_HANDLER);
	write_pages(pages);
}

static void guest(void)
{
	write_pages(LOG_ENTRIES);
	for (;;) {
		guest_stop(STAGE_READY, RFLAGS_FIXED);
		guest_stage(STAGE_END);
	}
}

static struct kvm_vcpu *create(bool faults)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event);
	struct kvm_vm *vm = vcpu->vm;

	limit_case(120);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, PAGES_GPA, PAGES_SLOT,
				    LOG_ENTRIES, KVM_MEM_LOG_DIRTY_PAGES);
	virt_map(vm, PAGES_GPA, PAGES_GPA, LOG_ENTRIES);
	vm_mem_region_set_flags(vm, 0, KVM_MEM_LOG_DIRTY_PAGES);
	set_ist(vcpu, 2, guest_stack_top(1));
	set_gate(vcpu, GP_VECTOR, event_entry_13, INTERRUPT_GATE, 2);
	iret_faults = faults;
	sync_global_to_guest(vm, iret_faults);
	return vcpu;
}

/* From here on the first write to each page is logged anew. */
static void begin_log(struct kvm_vm *vm)
{
	static uint8_t bitmap[1 << 16];

	kvm_vm_get_dirty_log(vm, 0, bitmap);
	kvm_vm_get_dirty_log(vm, PAGES_SLOT, bitmap);
}

struct log_full {
	uint64_t rip, qualification, vectoring;
};

/* The first NMI's handler writes so many pages; another NMI waits for its end. */
static bool log_is_full(struct kvm_vcpu *vcpu, unsigned int nr, struct log_full *exit)
{
	struct event_log *log = addr_gva2hva(vcpu->vm, (uint64_t)&guest_log);
	char event[512];

	pages = nr;
	sync_global_to_guest(vcpu->vm, pages);
	run_to(vcpu, STAGE_READY);
	memset(log, 0, sizeof(*log));
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	trace_begin();
	begin_log(vcpu->vm);
	run_to(vcpu, STAGE_END);
	if (!trace_end("reason PML_FULL ", event, sizeof(event)))
		return false;

	TEST_ASSERT(sscanf(event, "reason PML_FULL rip 0x%lx info1 0x%lx info2 0x%lx",
			   &exit->rip, &exit->qualification, &exit->vectoring) == 3,
		    "unknown event: %s", event);
	return true;
}

/* Try until the log has been full in the IRET, or in the delivery of its fault. */
static void fill_log_for_iret(struct kvm_vcpu *vcpu, struct log_full *exit)
{
	unsigned int nr;

	for (nr = LOG_ENTRIES; nr > LOG_ENTRIES - OTHER_WRITES; nr--) {
		if (log_is_full(vcpu, nr, exit) && exit->rip == (uint64_t)event_iret_2) {
			printf("%u pages\n", nr);
			return;
		}
	}
	FAIL("the log was full elsewhere only");
}

static void iret(void)
{
	struct kvm_vcpu *vcpu = create(false);
	struct log_full exit;

	fill_log_for_iret(vcpu, &exit);
	CHECK(!(exit.vectoring & EXIT_VALID), "vectoring 0x%lx", exit.vectoring);
	CHECK(exit.qualification & EXIT_UNBLOCKED, "qualification 0x%lx", exit.qualification);
	check_nmis_at_stop(vcpu, 2);
}

static void fault_of_iret(void)
{
	const struct event_log *log;
	struct kvm_vcpu *vcpu = create(true);
	struct log_full exit;

	fill_log_for_iret(vcpu, &exit);
	CHECK(exit.vectoring & EXIT_VALID, "vectoring 0x%lx", exit.vectoring);
	printf("qualification 0x%lx\n", exit.qualification);

	log = read_log(vcpu);
	CHECK_EQ(log->nr, 3);
	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(log->event[1].vector, NMI_VECTOR);
	CHECK_EQ(log->event[1].rip, (uint64_t)event_entry_13);
	CHECK_EQ(log->event[2].vector, GP_VECTOR);
	CHECK_EQ(log->event[2].rip, (uint64_t)event_iret_2);
}

static const struct test_case cases[] = {
	{ "the log is full at a handler's IRET: the next NMI waits until it retires", iret },
	{ "it is full where the IRET's #GP is delivered: the NMI comes at its handler", fault_of_iret },
};

int main(void)
{
	if (nmi_path() != VMX_VIRTUAL_NMIS)
		return skip_all("this is about Intel CPUs with virtual NMIs");
	if (!param_is_yes("pml"))
		return skip_all("this CPU has no page-modification log");

	return run_cases(cases, ARRAY_SIZE(cases));
}
