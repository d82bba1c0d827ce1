// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VM that runs random programs, one after the other: between two of them only
 * registers and the pages that programs write are put back. A fresh VM can take
 * over the memory of another one, which is a migration.
 */
#include <signal.h>
#include <sys/mman.h>

#include "nmi_events.h"
#include "fuzz.h"

#define SMM_SLOT	(1 << 16)	/* in the address space of SMM */
#define ROM_SLOT	1
#define ROM_OFFSET	FUZZ_MEMORY	/* after the memory, in the same file */
#define PRESENT		(1ull << 47)	/* of a segment */
#define PRESENT_WRITE_USER 7

struct fuzz_gate {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_mid;
	uint32_t offset_high, zero;
} __attribute__((packed));

extern char fuzz_stubs[], fuzz_touch[], fuzz_stubs_end[];

void fuzz_ioctl(int fd, unsigned long request, void *arg, const char *name)
{
	if (ioctl(fd, request, arg) < 0)
		FAIL("%s: %s", name, strerror(errno));
}

/* --- memory --------------------------------------------------------------- */

static void write_segments(char *memory)
{
	static const uint64_t gdt[] = {
		[FUZZ_CS / 8] = 0x00af9b000000ffff,
		[FUZZ_SS / 8] = 0x00cf93000000ffff,
		[FUZZ_CS_COMPAT / 8] = 0x00cf9b000000ffff,
		[FUZZ_SS_USER / 8] = 0x00cff3000000ffff,
		[FUZZ_CS_USER / 8] = 0x00affb000000ffff,
		[FUZZ_TR / 8] = 0x00008b0000000067 | FUZZ_TSS << 16,
		[FUZZ_TR / 8 + 1] = 0,
	};
	uint64_t *absent = (uint64_t *)(memory + FUZZ_GDT + (FUZZ_ABSENT << 8));
	uint64_t stack = FUZZ_STACK_0;
	unsigned int i;

	memcpy(memory + FUZZ_GDT, gdt, sizeof(gdt));
	for (i = 1; i < FUZZ_TR / 8; i++)
		absent[i] = gdt[i] & ~PRESENT;
	absent[0] = absent[FUZZ_SS / 8];	/* user mode's events have no SS */
	memcpy(memory + FUZZ_TSS + 4, &stack, sizeof(stack));
}

static void write_gates(char *memory)
{
	static const struct { uint8_t vector, stub; } gates[] = {
		{ DB_VECTOR, V_DB }, { NMI_VECTOR, V_NMI }, { BP_VECTOR, V_BP },
		{ UD_VECTOR, V_UD }, { NP_VECTOR, V_NP }, { SS_VECTOR, V_SS },
		{ GP_VECTOR, V_GP }, { PF_VECTOR, V_PF }, { FUZZ_INT_N, V_INT },
		{ FUZZ_IRQ, V_IRQ }, { FUZZ_LEAVE, V_LEAVE },
	};
	struct fuzz_gate *idt = (struct fuzz_gate *)(memory + FUZZ_IDT);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(gates); i++)
		idt[gates[i].vector] = (struct fuzz_gate) {
			.offset_low = FUZZ_STUBS + gates[i].stub * FUZZ_STUB_SIZE,
			.selector = FUZZ_CS, .type = 0xee,
		};
}

static void write_tables(char *memory)
{
	uint64_t *table = (uint64_t *)(memory + FUZZ_TABLES);
	unsigned int i;

	for (i = 0; i < 3; i++)
		table[i * 512] = (FUZZ_TABLES + (i + 1) * 4096) | PRESENT_WRITE_USER;
	for (i = 0; i < FUZZ_MEMORY / 4096; i++)
		table[3 * 512 + i] = i * 4096 | PRESENT_WRITE_USER;
}

/* In SMM an OUT of EAX and RSM, at the reset vector the same OUT. */
static void write_real_mode(char *memory)
{
	memcpy(memory + FUZZ_SMM_ENTRY, "\x66" FUZZ_OUT "\x0f\xaa", 5);
	memcpy(memory + ROM_OFFSET + (FUZZ_RESET & 0xfff), "\x66" FUZZ_OUT, 3);
}

static char *make_memory(void)
{
	size_t size = FUZZ_MEMORY + 4096;
	int fd = memfd_create("fuzz", 0);
	char *memory;

	TEST_ASSERT(fd >= 0 && !ftruncate(fd, size), "memfd: %s", strerror(errno));
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TEST_ASSERT(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	close(fd);

	write_segments(memory);
	write_gates(memory);
	write_tables(memory);
	write_real_mode(memory);
	memcpy(memory + FUZZ_STUBS, fuzz_stubs, fuzz_stubs_end - fuzz_stubs);
	return memory;
}

void fuzz_lose_pages(struct fuzz_machine *machine, uint64_t address, uint64_t size)
{
	if (madvise(machine->memory + address, size, MADV_DONTNEED))
		FAIL("madvise: %s", strerror(errno));
}

/* --- VM --------------------------------------------------------------------- */

static void add_memory(struct fuzz_machine *machine, uint32_t slot, uint64_t gpa,
		       uint64_t offset, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uint64_t)machine->memory + offset,
	};

	FUZZ_IOCTL(machine->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment) {
		.selector = selector, .type = type, .limit = ~0u, .present = 1,
		.s = 1, .g = 1, .l = code, .db = !code,
	};
}

static void init_sregs(struct fuzz_machine *machine)
{
	struct kvm_sregs *sregs = &machine->sregs;

	FUZZ_IOCTL(machine->vcpu, KVM_GET_SREGS, sregs);
	sregs->cs = segment(FUZZ_CS, 11, true);
	sregs->ss = segment(FUZZ_SS, 3, false);
	/* Of user mode, which may keep them: 32-bit code needs one. */
	sregs->ds = segment(FUZZ_SS_USER, 3, false);
	sregs->ds.dpl = 3;
	sregs->es = sregs->fs = sregs->gs = sregs->ds;
	sregs->tr = (struct kvm_segment) {
		.selector = FUZZ_TR, .base = FUZZ_TSS, .limit = 0x67, .type = 11,
		.present = 1,
	};
	sregs->gdt = (struct kvm_dtable) { .base = FUZZ_GDT, .limit = FUZZ_GDT_LIMIT };
	sregs->idt = (struct kvm_dtable) { .base = FUZZ_IDT, .limit = 0xfff };
	sregs->cr0 = 0x80010031;
	sregs->cr3 = FUZZ_TABLES;
	sregs->cr4 = 0x20;
	sregs->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;
	sregs->apic_base |= MSR_IA32_APICBASE_ENABLE | 1 << 10;
	FUZZ_IOCTL(machine->vcpu, KVM_SET_SREGS, sregs);
}

static void set_msr(struct fuzz_machine *machine, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	if (ioctl(machine->vcpu, KVM_SET_MSRS, &msrs) != 1)
		FAIL("MSR 0x%x cannot be set", index);
}

static void init_msrs(struct fuzz_machine *machine)
{
	set_msr(machine, MSR_STAR, (uint64_t)FUZZ_CS << 32);
	set_msr(machine, MSR_LSTAR, FUZZ_CODE);
	set_msr(machine, MSR_SYSCALL_MASK, FUZZ_SYSCALL_MASK);
	set_msr(machine, APIC_BASE_MSR + (APIC_SPIV >> 4), 0x1ff);
	if (fuzz_does(SMM))
		set_msr(machine, MSR_IA32_SMBASE, FUZZ_SMBASE);
}

static int open_kvm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		FAIL("/dev/kvm: %s", strerror(errno));
	return kvm;
}

static void set_cpuid(struct fuzz_machine *machine, int kvm)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[256];
	} cpuid;

	if (!cpuid.head.nent) {
		cpuid.head.nent = ARRAY_SIZE(cpuid.entry);
		FUZZ_IOCTL(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	}
	FUZZ_IOCTL(machine->vcpu, KVM_SET_CPUID2, &cpuid);
}

/* A VM and its vCPU on the memory that there is. */
static void create_fuzz_vm(struct fuzz_machine *machine)
{
	int kvm = open_kvm();
	long size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);

	machine->vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (machine->vm < 0)
		FAIL("KVM_CREATE_VM: %s", strerror(errno));
	FUZZ_IOCTL(machine->vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000);
	FUZZ_IOCTL(machine->vm, KVM_CREATE_IRQCHIP, NULL);
	add_memory(machine, 0, 0, 0, FUZZ_MEMORY);
	add_memory(machine, ROM_SLOT, FUZZ_ROM, ROM_OFFSET, 4096);
	if (fuzz_does(SMM))
		add_memory(machine, SMM_SLOT, 0, 0, FUZZ_MEMORY);

	machine->vcpu = ioctl(machine->vm, KVM_CREATE_VCPU, 0);
	if (machine->vcpu < 0)
		FAIL("KVM_CREATE_VCPU: %s", strerror(errno));
	machine->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    machine->vcpu, 0);
	TEST_ASSERT(machine->run != MAP_FAILED, "mmap: %s", strerror(errno));
	machine->run_size = size;
	set_cpuid(machine, kvm);
	close(kvm);
	machine->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	fuzz_accept_signal(machine);
}

/* Where it matters, see guest_start, have the host map what a delivery touches. */
static void touch_memory(struct fuzz_machine *machine)
{
	struct kvm_regs regs = {
		.rip = FUZZ_STUBS + (fuzz_touch - fuzz_stubs), .rflags = RFLAGS_FIXED,
	};

	if (!cut_deliveries_push_rf())
		return;
	FUZZ_IOCTL(machine->vcpu, KVM_SET_SREGS, &machine->sregs);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_REGS, &regs);
	FUZZ_IOCTL(machine->vcpu, KVM_RUN, NULL);
	if (machine->run->exit_reason != KVM_EXIT_IO)
		FAIL("KVM_RUN ended for reason %u", machine->run->exit_reason);
	machine->completed = false;
	fuzz_complete(machine);
}

static void close_vm(struct fuzz_machine *machine)
{
	munmap(machine->run, machine->run_size);
	close(machine->vcpu);
	close(machine->vm);
}

void fuzz_create_machine(struct fuzz_machine *machine)
{
	machine->memory = make_memory();
	machine->completed = true;
	create_fuzz_vm(machine);
	init_sregs(machine);
	touch_memory(machine);
	init_msrs(machine);
	FUZZ_IOCTL(machine->vcpu, KVM_GET_LAPIC, &machine->lapic);
}

void fuzz_destroy_machine(struct fuzz_machine *machine)
{
	close_vm(machine);
	munmap(machine->memory, FUZZ_MEMORY + 4096);
}

void fuzz_migrate(struct fuzz_machine *machine)
{
	struct fuzz_machine old = *machine;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp_state;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	FUZZ_IOCTL(old.vcpu, KVM_GET_VCPU_EVENTS, &events);
	FUZZ_IOCTL(old.vcpu, KVM_GET_MP_STATE, &mp_state);
	FUZZ_IOCTL(old.vcpu, KVM_GET_REGS, &regs);
	FUZZ_IOCTL(old.vcpu, KVM_GET_SREGS, &sregs);
	FUZZ_IOCTL(old.vcpu, KVM_GET_DEBUGREGS, &debugregs);
	FUZZ_IOCTL(old.vcpu, KVM_GET_LAPIC, &lapic);

	create_fuzz_vm(machine);
	touch_memory(machine);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_SREGS, &sregs);
	init_msrs(machine);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_REGS, &regs);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_LAPIC, &lapic);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_DEBUGREGS, &debugregs);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_MP_STATE, &mp_state);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_VCPU_EVENTS, &events);
	close_vm(&old);
}

/* --- programs ------------------------------------------------------------------ */

static void write_program(char *memory, const struct fuzz_program *program)
{
	uint32_t *body = (uint32_t *)(memory + FUZZ_BODY_TABLE);
	unsigned int v, i;

	memset(memory + FUZZ_COUNTS, 0, FUZZ_BODY_TABLE - FUZZ_COUNTS);
	memset(memory + FUZZ_SLOT_BASE, 0, FUZZ_SLOTS * 8);
	memcpy(memory + FUZZ_CODE, program->code, program->code_size);
	for (v = 0; v < NR_FUZZ_VECTORS; v++)
		for (i = 0; i < FUZZ_BODIES; i++)
			*body++ = program->insn[program->body[v][i]].address;
}

static void set_regs(struct fuzz_machine *machine, const struct fuzz_program *program)
{
	struct kvm_regs regs = {
		.rip = program->insn[program->start].address, .rsp = FUZZ_STACK,
		.rflags = RFLAGS_START,
	};

	FUZZ_IOCTL(machine->vcpu, KVM_SET_SREGS, &machine->sregs);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_REGS, &regs);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_LAPIC, &machine->lapic);
}

void fuzz_restart(struct fuzz_machine *machine, const struct fuzz_program *program)
{
	fuzz_complete(machine);
	set_regs(machine, program);
}

void fuzz_load_program(struct fuzz_machine *machine, const struct fuzz_program *program)
{
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_debugregs debugregs = { .dr6 = DR6_NONE, .dr7 = DR7_NONE };
	struct kvm_guest_debug debug = { };
	struct kvm_vcpu_events left_over, events = {
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	};

	fuzz_complete(machine);
	write_program(machine->memory, program);
	/* NMIs that have been sent are counted as pending when somebody asks. */
	FUZZ_IOCTL(machine->vcpu, KVM_GET_VCPU_EVENTS, &left_over);
	/* If there is SMM: no SMI, and no INIT. */
	events.flags |= left_over.flags & KVM_VCPUEVENT_VALID_SMM;
	/* In this order: leaving SMM changes what may be loaded. */
	FUZZ_IOCTL(machine->vcpu, KVM_SET_VCPU_EVENTS, &events);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_GUEST_DEBUG, &debug);
	set_regs(machine, program);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_DEBUGREGS, &debugregs);
	FUZZ_IOCTL(machine->vcpu, KVM_SET_MP_STATE, &mp_state);
	machine->late_ns = 0;
}
