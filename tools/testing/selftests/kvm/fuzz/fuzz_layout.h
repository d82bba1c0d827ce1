/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory of a guest that runs random programs, and its events; for C and for
 * the guest's handlers. Linear addresses are physical ones.
 */
#ifndef FUZZ_LAYOUT_H
#define FUZZ_LAYOUT_H

#define FUZZ_GDT	0x1000
#define FUZZ_TSS	0x1400
#define FUZZ_IDT	0x2000
#define FUZZ_TABLES	0x3000		/* of pages: PML4, PDPT, PD, PT */
#define FUZZ_COUNTS	0x7000		/* events so far, one u32 a vector */
#define FUZZ_LOG_NR	0x7100
#define FUZZ_WATCHED	0x7180
#define FUZZ_BODY_TABLE	0x7200		/* u32 [vector][body] */
#define FUZZ_STUBS	0x8000
#define FUZZ_SLOT_BASE	0x9000
#define FUZZ_LOG	0xa000
#define FUZZ_CODE	0x10000
#define FUZZ_CODE_SIZE	0x4000
#define FUZZ_STACK	0x20000		/* of the program */
#define FUZZ_STACK_0	0x28000		/* for events of user mode */
#define FUZZ_STACK_USER	0x30000
#define FUZZ_FRAMES	0x40000		/* a page a body */
#define FUZZ_SMBASE	0x68000
#define FUZZ_SMM_ENTRY	(FUZZ_SMBASE + 0x8000)
#define FUZZ_MEMORY	0x80000
#define FUZZ_NOWHERE	0x180000	/* not mapped */

#define FUZZ_ROM	0xfffff000
#define FUZZ_RESET	0xfffffff0

#define FUZZ_LOG_SIZE	64
#define FUZZ_SLOTS	64
#define FUZZ_BODIES	8
#define FUZZ_STUB_SIZE	16
#define FUZZ_STUBS_END	(FUZZ_STUBS + NR_FUZZ_VECTORS * FUZZ_STUB_SIZE)

/* Selectors. */
#define FUZZ_CS		0x08
#define FUZZ_SS		0x10
#define FUZZ_CS_COMPAT	0x18
#define FUZZ_SS_USER	0x23
#define FUZZ_CS_USER	0x2b
#define FUZZ_TR		0x30

/* For the second byte of a selector: the same but absent, and one beyond the limit. */
#define FUZZ_ABSENT	1
#define FUZZ_BEYOND	0xff
#define FUZZ_BAD	0xfff8
#define FUZZ_GDT_LIMIT	0x1ff

#define FUZZ_INT_N	0x61		/* of INT n */
#define FUZZ_LEAVE	0x62
#define FUZZ_IRQ	0x60

#define FUZZ_FRAME_OFFSET 64		/* above six registers, vector and error code */

#define FUZZ_SYSCALL_MASK 0x47700	/* flags that SYSCALL clears */
#define RFLAGS_START	0x3002		/* user mode may do I/O */

/* Events, by a number of our own. */
#define V_DB	0
#define V_NMI	1
#define V_BP	2
#define V_UD	3
#define V_NP	4
#define V_SS	5
#define V_GP	6
#define V_PF	7
#define V_INT	8
#define V_IRQ	9
#define V_LEAVE	10		/* user mode */
#define NR_FUZZ_VECTORS 11

#endif
