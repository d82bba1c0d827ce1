/* SPDX-License-Identifier: GPL-2.0-only */
/* Selectors, vectors and low addresses, for C and for the assembler. */
#ifndef LAYOUT_H
#define LAYOUT_H

#define CODE64		0x08
#define DATA		0x10
#define CODE32		0x18
#define CODE16		0x20
#define DATA16		0x28
#define USER_CODE32	0x33
#define USER_DATA	0x3b
#define USER_CODE64	0x43
#define ABSENT_CODE	0x48
#define ABSENT_DATA	0x50
#define TSS64		0x58		/* 16 bytes for each CPU */
#define TSS32		0x78		/* what runs, the NMI's task */
#define NMI_TSS32	0x80
#define BEYOND_GDT	0x1000

#define VECTOR_NMI	2
#define VECTOR_IRQ	0x40
#define VECTOR_TIMER	0x41
#define VECTOR_BACK	0x80		/* "int" of the code that a handler returned to */
#define VECTOR_SPURIOUS	0xff

/* In memory that real mode reaches. The first also is where an AP starts. */
#define TRAMPOLINE	0x8000
#define REAL_MODE	0x9000
#define REAL_STACK	0x9ff0

#define APIC		0xfee00000
#define APIC_ICR	0x300
#define ICR_NMI		0x4400
#define SETTLE		2000		/* turns of a loop, for an NMI to arrive */

#endif
