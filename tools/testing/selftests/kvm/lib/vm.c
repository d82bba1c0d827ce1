// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's side of a test: build the VM, run it from stage to stage, and name
 * every end of KVM_RUN that was not expected; move it, take its pages away.
 */
#include <signal.h>
#include <sys/mman.h>

#include "nmi_pages.h"

extern char guest_start[];

#define TSS_RSP0	4	/* offset */

/* One 16-byte descriptor of a 64-bit IDT. */
struct gate64 {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_mid;
	uint32_t offset_high, zero;
} __attribute__((packed));

void set_gate(struct kvm_vcpu *vcpu, int vector, void *entry, enum gate gate,
	      int ist)
{
	uint64_t offset = (uint64_t)entry;
	struct kvm_sregs sregs;
	struct gate64 *idt;

	vcpu_sregs_get(vcpu, &sregs);
	idt = addr_gva2hva(vcpu->vm, sregs.idt.base);
	idt[vector] = (struct gate64) {
		.offset_low = offset, .offset_mid = offset >> 16,
		.offset_high = offset >> 32, .selector = sregs.cs.selector,
		.ist = ist, .type = 0x80 | gate,
	};
}

void set_descriptor(struct kvm_vcpu *vcpu, uint16_t selector, uint64_t value)
{
	struct kvm_sregs sregs;
	uint64_t *gdt;

	vcpu_sregs_get(vcpu, &sregs);
	gdt = addr_gva2hva(vcpu->vm, sregs.gdt.base);
	gdt[selector / 8] = value;
}

void set_ist(struct kvm_vcpu *vcpu, int ist, uint64_t stack_top)
{
	struct kvm_sregs sregs;
	char *tss;

	vcpu_sregs_get(vcpu, &sregs);
	tss = addr_gva2hva(vcpu->vm, sregs.tr.base);
	memcpy(tss + 28 + 8 * ist, &stack_top, sizeof(stack_top));
}

void set_rsp0(struct kvm_vcpu *vcpu, uint64_t stack_top)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	memcpy(addr_gva2hva(vcpu->vm, sregs.tr.base + TSS_RSP0), &stack_top,
	       sizeof(stack_top));
}

void set_rflags(struct kvm_vcpu *vcpu, uint64_t rflags)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	regs.rflags = rflags;
	vcpu_regs_set(vcpu, &regs);
}

void put_in_shadow(struct kvm_vcpu *vcpu, uint8_t shadow)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
	events.interrupt.shadow = shadow;
	vcpu_events_set(vcpu, &events);
}

void init_events(struct kvm_vcpu *vcpu, void (*on_event)(struct event_regs *regs))
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	regs.rax = regs.rip;
	regs.rip = (uint64_t)guest_start;
	vcpu_regs_set(vcpu, &regs);

	vcpu_sregs_get(vcpu, &sregs);
	guest_tss = sregs.tr.base;
	sync_global_to_guest(vcpu->vm, guest_tss);

	guest_on_event = on_event;
	sync_global_to_guest(vcpu->vm, guest_on_event);

	compat_init_idt(vcpu);
	set_gate(vcpu, 1, event_entry_1, INTERRUPT_GATE, 0);
	set_gate(vcpu, 2, event_entry_2, INTERRUPT_GATE, 0);
	set_gate(vcpu, 3, event_entry_3, INTERRUPT_GATE, 0);
	set_gate(vcpu, 6, event_entry_6, INTERRUPT_GATE, 0);
	set_gate(vcpu, 13, event_entry_13, INTERRUPT_GATE, 0);
	set_gate(vcpu, 14, event_entry_14, INTERRUPT_GATE, 0);
	set_gate(vcpu, IRQ_VECTOR, event_entry_0x60, INTERRUPT_GATE, 0);
}

struct kvm_vcpu *create_vm(void (*guest)(void),
			   void (*on_event)(struct event_regs *regs))
{
	struct kvm_vcpu *vcpu;

	vm_create_with_one_vcpu(&vcpu, guest);
	init_events(vcpu, on_event);
	return vcpu;
}

void send_nmi(struct kvm_vcpu *vcpu)
{
	vcpu_ioctl(vcpu, KVM_NMI, NULL);
}

void send_nmi_by_msi(struct kvm_vm *vm, uint8_t apic_id)
{
	struct kvm_msi msi = {
		.address_lo = APIC_DEFAULT_GPA | apic_id << 12,
		.data = APIC_DM_NMI,
	};
	int r = __vm_ioctl(vm, KVM_SIGNAL_MSI, &msi);

	TEST_ASSERT(r == 1, "KVM_SIGNAL_MSI: returned %d, errno %d", r, errno);
}

static bool at_stage(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	return run->exit_reason == KVM_EXIT_IO && run->io.port == STAGE_PORT;
}

static void print_position(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;
	const struct event_log *log;
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	vcpu_events_get(vcpu, &events);
	printf("guest at rip 0x%llx rsp 0x%llx rflags 0x%llx\n",
	       regs.rip, regs.rsp, regs.rflags);
	if (compat_has_pgd(vcpu->vm)) {
		log = read_log(vcpu);
		printf("%u events logged, %u of them NMIs\n", log->nr, log->nr_nmis);
	}
	printf("NMI pending %u, injected %u, masked %u\n", events.nmi.pending,
	       events.nmi.injected, events.nmi.masked);
}

void fail_on_exit(struct kvm_vcpu *vcpu)
{
	uint32_t reason = vcpu->run->exit_reason;
	struct ucall uc;

	print_position(vcpu);
	if (reason == KVM_EXIT_INTERNAL_ERROR)
		FAIL("KVM internal error, suberror %u", vcpu->run->internal.suberror);
	if (reason == KVM_EXIT_FAIL_ENTRY)
		FAIL("VM entry failed, hardware reason 0x%llx",
		     vcpu->run->fail_entry.hardware_entry_failure_reason);
	if (reason == KVM_EXIT_IO) {
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_UNHANDLED:
			FAIL("exception %lu that the guest has no handler for", uc.args[0]);
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		}
	}
	FAIL("unexpected exit: %s", exit_reason_str(reason));
}

static void fail_nested(struct kvm_vcpu *vcpu)
{
	const struct event_log *log = read_log(vcpu);
	const struct event_regs *nmi;

	print_position(vcpu);
	if (log->nr > EVENT_LOG_SIZE)
		FAIL("NMI %u hit the handler of the one before", log->nr_nmis);
	nmi = nmi_nr(log, log->nr_nmis);
	FAIL("NMI %u hit the handler of NMI %u at rip 0x%lx (IRET is at 0x%lx)",
	     log->nr_nmis, log->nr_nmis - 1, nmi->rip, (uint64_t)event_iret_2);
}

/*
 * Has the guest taken more events since its time was over for the last time? Then the
 * machine is only slow, and a case of many events has as much time again, up to ten
 * times.
 */
static bool is_only_slow(struct kvm_vcpu *vcpu)
{
	static unsigned int seen, times;
	unsigned int nr = compat_has_pgd(vcpu->vm) ? read_log(vcpu)->nr : 0;

	if (nr <= seen || ++times > 10)
		return false;
	seen = nr;
	limit_case(CASE_SECONDS);
	return true;
}

uint32_t next_stage(struct kvm_vcpu *vcpu)
{
	uint32_t stage;

	while (__vcpu_run(vcpu)) {
		if (errno != EINTR)
			FAIL("KVM_RUN: %s", strerror(errno));
		if (is_only_slow(vcpu))
			continue;
		print_position(vcpu);
		FAIL("the guest reported no further stage in time");
	}
	if (!at_stage(vcpu))
		fail_on_exit(vcpu);

	memcpy(&stage, (char *)vcpu->run + vcpu->run->io.data_offset, sizeof(stage));
	log_stage(vcpu, stage);
	if (stage == STAGE_NESTED)
		fail_nested(vcpu);
	return stage;
}

void run_to_at(struct kvm_vcpu *vcpu, uint32_t stage, const char *name,
	       const char *file, int line)
{
	uint32_t got = next_stage(vcpu);

	if (got != stage)
		fail_at(file, line, "guest is at stage %u, expected %s (%u)",
			got, name, stage);
}

void run_to_handlers_end(struct kvm_vcpu *vcpu)
{
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
}

void run_through_handler(struct kvm_vcpu *vcpu, bool second_nmi)
{
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	if (second_nmi)
		send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
}

void finish_stage(struct kvm_vcpu *vcpu)
{
	vcpu_run_complete_io(vcpu);
}

const struct event_log *read_log(struct kvm_vcpu *vcpu)
{
	unsigned int i;

	sync_global_from_guest(vcpu->vm, guest_log);
	for (i = 0; i < guest_log.nr && i < EVENT_LOG_SIZE; i++)
		if (guest_log.event[i].vector == NMI_VECTOR)
			guest_log.event[i].rflags = nmi_flags(guest_log.event[i].rflags);
	return &guest_log;
}

const struct event_regs *nmi_nr(const struct event_log *log, unsigned int nr)
{
	unsigned int i, seen = 0;

	for (i = 0; i < log->nr && i < EVENT_LOG_SIZE; i++)
		if (log->event[i].vector == NMI_VECTOR && ++seen == nr)
			return &log->event[i];

	FAIL("NMI %u did not arrive, only %u did", nr, seen);
}

void check_nmis_at_stop(struct kvm_vcpu *vcpu, unsigned int nr)
{
	const struct event_log *log = read_log(vcpu);
	unsigned int i;

	CHECK_EQ(log->nr, nr);
	for (i = 1; i <= nr; i++) {
		CHECK_EQ(nmi_nr(log, i)->rip, (uint64_t)guest_stop_next);
		CHECK_EQ(nmi_nr(log, i)->rbx, 0);
		CHECK_EQ(nmi_nr(log, i)->rflags & RFLAGS_TF, 0);
	}
}

/* A vCPU between two entries: its state saved and restored, or an entry given up. */

struct kvm_vcpu *migrate_while(struct kvm_vcpu *vcpu, void (*meanwhile)(void))
{
	struct kvm_x86_state *state = vcpu_save_state(vcpu);
	struct kvm_vm *vm = vcpu->vm;

	kvm_vm_release(vm);
	if (meanwhile)
		meanwhile();
	vcpu = vm_recreate_with_one_vcpu(vm);
	vcpu_load_state(vcpu, state);
	kvm_x86_state_cleanup(state);
	return vcpu;
}

static void on_signal(int signal)
{
}

void enter_and_give_up(struct kvm_vcpu *vcpu)
{
	struct {
		struct kvm_signal_mask head;
		uint64_t set;
	} __attribute__((packed)) mask = { .head.len = 8 };
	struct sigaction act = { .sa_handler = on_signal };
	sigset_t usr1;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigaction(SIGUSR1, &act, NULL);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	raise(SIGUSR1);

	vcpu_ioctl(vcpu, KVM_SET_SIGNAL_MASK, &mask.head);
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EINTR, "no EINTR");
	sigwaitinfo(&usr1, NULL);
}

/* A guest's page tables, and pages that the host takes away, see nmi_pages.h. */

#define PTE_PRESENT	1
#define PTE_USER	4
#define PTE_ADDRESS	0xffffffffff000ull

/* Set bits in each entry on the way to a 4 KiB page, and return the last one. */
static uint64_t *walk_page_tables(struct kvm_vcpu *vcpu, uint64_t gva, uint64_t set)
{
	struct kvm_sregs sregs;
	uint64_t *entry, table;
	int shift;

	vcpu_sregs_get(vcpu, &sregs);
	for (table = sregs.cr3, shift = 39; shift >= 12; shift -= 9) {
		entry = addr_gpa2hva(vcpu->vm, table & PTE_ADDRESS);
		entry += (gva >> shift) & 511;
		TEST_ASSERT(*entry & PTE_PRESENT, "0x%lx is not mapped", gva);
		*entry |= set;
		table = *entry;
	}
	return entry;
}

uint64_t *guest_pte(struct kvm_vcpu *vcpu, uint64_t gva)
{
	return walk_page_tables(vcpu, gva, 0);
}

/* The library maps pages for the kernel only. */
void *map_user_page(struct kvm_vcpu *vcpu, uint64_t gva)
{
	uint64_t page = vm_vaddr_alloc_page(vcpu->vm);

	virt_map(vcpu->vm, gva, addr_gva2gpa(vcpu->vm, page), 1);
	walk_page_tables(vcpu, gva, PTE_USER);
	return addr_gva2hva(vcpu->vm, page);
}

static void drop(void *page)
{
	TEST_ASSERT(!madvise(page, 4096, MADV_DONTNEED), "madvise: %s", strerror(errno));
}

/* The library's memory is private, and loses what is in a page that is dropped. */
void take_page_away(struct kvm_vcpu *vcpu, uint64_t gva)
{
	void *page = addr_gva2hva(vcpu->vm, gva);
	char copy[4096];

	memcpy(copy, page, sizeof(copy));
	drop(page);
	memcpy(page, copy, sizeof(copy));
}

void add_shared_memory(struct kvm_vcpu *vcpu)
{
	vm_userspace_mem_region_add(vcpu->vm, VM_MEM_SRC_SHMEM, SHARED_GPA,
				    SHARED_SLOT, SHARED_PAGES, 0);
	virt_map(vcpu->vm, SHARED_GPA, SHARED_GPA, SHARED_PAGES);
}

void drop_shared_page(struct kvm_vcpu *vcpu, uint64_t gpa)
{
	drop(addr_gpa2hva(vcpu->vm, gpa));
	TEST_ASSERT(!shared_page_is_used(vcpu, gpa), "page still mapped");
}

/* To map a page for the guest, KVM has it mapped in this process. */
bool shared_page_is_used(struct kvm_vcpu *vcpu, uint64_t gpa)
{
	uintptr_t page = (uintptr_t)addr_gpa2hva(vcpu->vm, gpa);
	FILE *f = fopen("/proc/self/pagemap", "r");
	uint64_t entry;

	TEST_ASSERT(f && !fseek(f, page / 4096 * sizeof(entry), SEEK_SET) &&
		    fread(&entry, sizeof(entry), 1, f) == 1, "pagemap");
	fclose(f);
	return entry >> 63;
}

void use_frame_page(struct kvm_vcpu *vcpu)
{
	add_shared_memory(vcpu);
	set_ist(vcpu, 1, FRAME_PAGE + FRAME_SIZE);
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
}

#define L2_PTE_LARGE	0x80
#define L2_NR_LARGE	512		/* of 2 MiB */
#define L2_LARGE	(2ul << 20)

/* Each of the four is a page. */
struct l2_table_pages {
	uint64_t pml4[512], pdpt[512], pd[L2_NR_LARGE], pt[512];
};

struct l2_tables make_l2_tables(struct kvm_vcpu *vcpu, uint64_t gva, uint64_t leaf_bits)
{
	struct kvm_vm *vm = vcpu->vm;
	uint64_t tables = vm_vaddr_alloc(vm, sizeof(struct l2_table_pages), KVM_UTIL_MIN_VADDR);
	struct l2_table_pages *pages = addr_gva2hva(vm, tables);
	uint64_t gpa = addr_gva2gpa(vm, gva), base = gpa & ~(L2_LARGE - 1);
	unsigned int i, page = gpa % L2_LARGE / 4096;

#define TABLE(name) addr_gva2gpa(vm, tables + offsetof(struct l2_table_pages, name))
	pages->pml4[0] = TABLE(pdpt) | L2_PTE_FULL;
	pages->pdpt[0] = TABLE(pd) | L2_PTE_FULL;
	for (i = 0; i < L2_NR_LARGE; i++) {
		pages->pd[i] = i * L2_LARGE | leaf_bits | L2_PTE_FULL | L2_PTE_LARGE;
		pages->pt[i] = (base + i * 4096ul) | leaf_bits | L2_PTE_FULL;
	}
	pages->pd[gpa / L2_LARGE] = TABLE(pt) | L2_PTE_FULL;
	return (struct l2_tables){ TABLE(pml4), tables + offsetof(struct l2_table_pages, pt[page]) };
#undef TABLE
}
