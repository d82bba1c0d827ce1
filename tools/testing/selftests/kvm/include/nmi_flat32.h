/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A 32-bit guest without paging: what long mode has no more (tasks, virtual-8086
 * mode, INTO, SYSENTER) is tested there.
 *
 * Its code stands in the section guest32 and runs at the addresses it was linked
 * for. Each event it takes is reported as a stage before anything else is done;
 * the host finds the frame on the guest's stack and may change it there. Between
 * two reports nothing but the guest's own code ends KVM_RUN.
 */
#ifndef NMI_FLAT32_H
#define NMI_FLAT32_H

#include "nmi_test.h"

/* GDT */
#define CODE32		0x08
#define DATA32		0x10
#define MAIN_TSS	0x18
#define NMI_TSS		0x20
#define OTHER_TSS	0x28
#define USER_CODE32	(0x30 | 3)
#define USER_DATA32	(0x38 | 3)
#define USER_DATA16	(0x40 | 3)	/* a 16-bit stack */
#define BASED_CODE32	0x48		/* its base is of the test's choosing */

/* Memory below 64 KiB; the rest is the test's. */
#define LOW_GDT		0x1000
#define LOW_IDT		0x2000
#define LOW_TSS(selector) (0x3000 + (selector) * 0x40)	/* with I/O bitmap */
#define LOW_FRAME	0x8f00
#define LOW_STACK	0x9000
#define LOW_USER_STACK	0xa000
#define LOW_FREE	0xb000
#define LOW_END		0x10000

#define RFLAGS_IOPL	0x03000		/* 3, that is */
#define RFLAGS_NT	0x04000
#define RFLAGS_VM	0x20000

enum gate32 { TASK_GATE32 = 5, INTERRUPT_GATE32 = 14, TRAP_GATE32 = 15 };

/* What a handler has below ESP when it reports. */
struct event32 {
	uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax;
	uint32_t vector, error;
	struct frame32 {
		uint32_t eip, cs, eflags;
		uint32_t esp, ss;		/* of user and virtual-8086 mode */
		uint32_t es, ds, fs, gs;	/* of virtual-8086 mode */
	} frame;
};

/* How a task starts, or where it was left. */
struct tss32 {
	uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
	uint32_t es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, iomap;
};

struct tss16 {
	uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags;
	uint16_t ax, cx, dx, bx, sp, bp, si, di;
	uint16_t es, cs, ss, ds, ldt;
};

/* --- of use to other guests without paging as well ------------------------ */

/* Nothing but memory from address 0 on, and a vCPU. */
struct kvm_vcpu *create_bare_vm(unsigned int pages);

/* Memory of the guest at an address of its own. */
void *memory32(struct kvm_vcpu *vcpu, uint32_t address);

/* A GDT's entry; what a segment register has of it, with 32 bits and 4 GiB or not. */
uint64_t descriptor32(uint64_t base, uint64_t limit, uint64_t type, uint64_t flags);
struct kvm_segment segment32(uint16_t selector, uint64_t base, uint8_t type, bool big);

void set_gate32(struct kvm_vcpu *vcpu, int vector, enum gate32 type, int dpl,
		uint16_t selector, void *offset);

/* --- the guest ------------------------------------------------------------ */

/* A vCPU about to execute entry, with a gate for each event. */
struct kvm_vcpu *create_flat32(void *entry);

/* A vCPU about to return through this frame. */
struct kvm_vcpu *create_flat32_at(const struct frame32 *target);

void set_base32(struct kvm_vcpu *vcpu, uint16_t selector, uint32_t base);

#define tss_of(vcpu, selector) memory32(vcpu, LOW_TSS(selector))

/* A task that starts at offset in the segment cs with a stack of its own. */
void init_tss32(struct kvm_vcpu *vcpu, uint16_t selector, uint16_t cs,
		uint32_t offset, uint32_t esp);
void init_tss16(struct kvm_vcpu *vcpu, uint16_t selector, uint16_t cs,
		uint16_t offset, uint16_t sp);

/* Is this TSS in use, by its descriptor? An IRET leads only to one that is. */
void mark_busy(struct kvm_vcpu *vcpu, uint16_t selector);
bool tss_is_busy(struct kvm_vcpu *vcpu, uint16_t selector);

/* Run to the next event, which has to be this one. */
struct event32 *next_event32(struct kvm_vcpu *vcpu, int vector);

/* Handlers. */
extern char event32_1[], event32_2[], event32_3[], event32_4[], event32_5[];
extern char event32_11[], event32_13[];

#endif
