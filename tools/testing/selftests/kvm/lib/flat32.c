// SPDX-License-Identifier: GPL-2.0-only
/* Builds the 32-bit guest and runs it from event to event. */
#include "nmi_flat32.h"

#define LOW_SLOT	0
#define CODE_SLOT	1
#define PAGE		4096u

#define IOMAP		0x68		/* right after the TSS proper */
#define TSS_LIMIT	(IOMAP + STAGE_PORT / 8 + 1)

extern char __start_guest32[], __stop_guest32[], flat32_start[];
extern char flat32_return[];

struct kvm_vcpu *create_bare_vm(unsigned int pages)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, LOW_SLOT, pages, 0);
	vcpu = __vm_vcpu_add(vm, 0);
	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	return vcpu;
}

void *memory32(struct kvm_vcpu *vcpu, uint32_t address)
{
	return addr_gpa2hva(vcpu->vm, address);
}

uint64_t descriptor32(uint64_t base, uint64_t limit, uint64_t type, uint64_t flags)
{
	return (limit & 0xffff) | (base & 0xffffff) << 16 | type << 40 |
	       (limit >> 16) << 48 | flags << 52 | (base >> 24) << 56;
}

static uint64_t *gdt_entry(struct kvm_vcpu *vcpu, uint16_t selector)
{
	return memory32(vcpu, LOW_GDT + (selector & ~7));
}

void set_base32(struct kvm_vcpu *vcpu, uint16_t selector, uint32_t base)
{
	*gdt_entry(vcpu, selector) = descriptor32(base, 0xfffff, 0x9b, 0xc);
}

void set_gate32(struct kvm_vcpu *vcpu, int vector, enum gate32 type, int dpl,
		uint16_t selector, void *offset)
{
	uint64_t address = (uint64_t)offset;
	uint64_t *idt = memory32(vcpu, LOW_IDT);

	idt[vector] = (address & 0xffff) | (uint64_t)selector << 16 |
		      (0x80ull | dpl << 5 | type) << 40 | (address >> 16) << 48;
}

static void init_gdt(struct kvm_vcpu *vcpu)
{
	*gdt_entry(vcpu, CODE32) = descriptor32(0, 0xfffff, 0x9b, 0xc);
	*gdt_entry(vcpu, DATA32) = descriptor32(0, 0xfffff, 0x93, 0xc);
	*gdt_entry(vcpu, USER_CODE32) = descriptor32(0, 0xfffff, 0xfb, 0xc);
	*gdt_entry(vcpu, USER_DATA32) = descriptor32(0, 0xfffff, 0xf3, 0xc);
	*gdt_entry(vcpu, USER_DATA16) = descriptor32(0, 0xffff, 0xf3, 0);
	init_tss32(vcpu, MAIN_TSS, CODE32, 0, LOW_STACK);
}

void init_tss32(struct kvm_vcpu *vcpu, uint16_t selector, uint16_t cs,
		uint32_t offset, uint32_t esp)
{
	struct tss32 *tss = tss_of(vcpu, selector);

	*gdt_entry(vcpu, selector) = descriptor32(LOW_TSS(selector), TSS_LIMIT, 0x89, 0);
	memset(tss, 0, TSS_LIMIT + 1);
	*tss = (struct tss32) {
		.esp0 = LOW_STACK, .ss0 = DATA32, .eip = offset, .cs = cs,
		.eflags = RFLAGS_FIXED, .esp = esp, .ss = DATA32,
		.ds = DATA32, .es = DATA32, .iomap = IOMAP,
	};
}

void init_tss16(struct kvm_vcpu *vcpu, uint16_t selector, uint16_t cs,
		uint16_t offset, uint16_t sp)
{
	struct tss16 *tss = tss_of(vcpu, selector);

	*gdt_entry(vcpu, selector) = descriptor32(LOW_TSS(selector), sizeof(*tss) - 1, 0x81, 0);
	*tss = (struct tss16) {
		.sp0 = LOW_STACK, .ss0 = DATA32, .ip = offset, .cs = cs,
		.flags = RFLAGS_FIXED, .sp = sp, .ss = DATA32,
		.ds = DATA32, .es = DATA32,
	};
}

#define TSS_BUSY	(2ull << 40)

void mark_busy(struct kvm_vcpu *vcpu, uint16_t selector)
{
	*gdt_entry(vcpu, selector) |= TSS_BUSY;
}

bool tss_is_busy(struct kvm_vcpu *vcpu, uint16_t selector)
{
	return *gdt_entry(vcpu, selector) & TSS_BUSY;
}

struct kvm_segment segment32(uint16_t selector, uint64_t base, uint8_t type, bool big)
{
	return (struct kvm_segment) {
		.selector = selector, .base = base, .limit = big ? -1 : 0xffff,
		.type = type, .present = 1, .s = 1, .db = big, .g = big,
	};
}

static void enter_flat(struct kvm_vcpu *vcpu, void *entry)
{
	struct kvm_regs regs = {
		.rip = (uint64_t)flat32_start, .rax = (uint64_t)entry,
		.rsp = LOW_STACK, .rflags = RFLAGS_FIXED,
	};
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.gdt = (struct kvm_dtable) { .base = LOW_GDT, .limit = PAGE - 1 };
	sregs.idt = (struct kvm_dtable) { .base = LOW_IDT, .limit = PAGE / 2 - 1 };
	sregs.cr0 |= X86_CR0_PE;
	sregs.cs = segment32(CODE32, 0, 11, true);
	sregs.ds = sregs.es = sregs.ss = segment32(DATA32, 0, 3, true);
	sregs.fs = sregs.gs = sregs.ds;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
}

struct kvm_vcpu *create_flat32(void *entry)
{
	uint64_t first = (uint64_t)__start_guest32 & ~(PAGE - 1ul);
	uint64_t size = __stop_guest32 - __start_guest32;
	struct kvm_vcpu *vcpu = create_bare_vm(LOW_END / PAGE);

	vm_userspace_mem_region_add(vcpu->vm, VM_MEM_SRC_ANONYMOUS, first, CODE_SLOT,
				    size / PAGE + 2, 0);
	memcpy(memory32(vcpu, (uint64_t)__start_guest32), __start_guest32, size);

	init_gdt(vcpu);
	set_gate32(vcpu, DB_VECTOR, INTERRUPT_GATE32, 0, CODE32, event32_1);
	set_gate32(vcpu, NMI_VECTOR, INTERRUPT_GATE32, 0, CODE32, event32_2);
	set_gate32(vcpu, BP_VECTOR, INTERRUPT_GATE32, 3, CODE32, event32_3);
	set_gate32(vcpu, OF_VECTOR, INTERRUPT_GATE32, 3, CODE32, event32_4);
	set_gate32(vcpu, BR_VECTOR, INTERRUPT_GATE32, 0, CODE32, event32_5);
	set_gate32(vcpu, NP_VECTOR, INTERRUPT_GATE32, 0, CODE32, event32_11);
	set_gate32(vcpu, GP_VECTOR, INTERRUPT_GATE32, 0, CODE32, event32_13);
	enter_flat(vcpu, entry);
	return vcpu;
}

struct event32 *next_event32(struct kvm_vcpu *vcpu, int vector)
{
	uint32_t stage = next_stage(vcpu);
	struct event32 *event;
	struct kvm_regs regs;

	if (stage != STAGE_EVENT32 + vector)
		FAIL("guest is at stage 0x%x, expected vector %d (0x%x)", stage,
		     vector, STAGE_EVENT32 + vector);
	vcpu_regs_get(vcpu, &regs);
	event = memory32(vcpu, regs.rsp);
	log_line("error 0x%x eip 0x%x cs 0x%x eflags 0x%lx", event->error, event->frame.eip,
		 event->frame.cs, logged_flags(event->frame.eflags));
	return event;
}

struct kvm_vcpu *create_flat32_at(const struct frame32 *target)
{
	struct kvm_vcpu *vcpu = create_flat32(flat32_return);

	memcpy(memory32(vcpu, LOW_FRAME), target, sizeof(*target));
	return vcpu;
}
