/* SPDX-License-Identifier: GPL-2.0-only */
/* Where the 32-bit guest starts, and its event handlers: report, then return. */
#include "stage_port.h"

.macro event32 vector, has_error
	.globl event32_\vector
event32_\vector:
	.if !\has_error
	push $0
	.endif
	push $\vector
	pusha
	mov $(STAGE_EVENT32 + \vector), %eax
	out %eax, $STAGE_PORT
	popa
	add $8, %esp
	.globl event32_iret_\vector
event32_iret_\vector:
	iretl
.endm

	.section guest32, "ax", %progbits
	.code32

/*
 * Memory is touched and an IRET leads into the function in EAX, for the reasons
 * guest_start has. The task register is loaded here: QEMU TCG stops altogether at a
 * privilege change with the busy TSS that user space would have to load.
 */
	.globl flat32_start
flat32_start:
	orb $0, 0x2000			/* LOW_IDT */
	orb $0, 0x3000			/* LOW_TSS */
	mov $0x18, %ecx			/* MAIN_TSS */
	ltr %cx
	pushf
	push %cs
	push %eax
	iretl

/* An IRET through the frame at LOW_FRAME. */
	.globl flat32_return
flat32_return:
	mov $0x8f00, %esp		/* LOW_FRAME */
	iretl

	event32 1, 0
	event32 2, 0
	event32 3, 0
	event32 4, 0
	event32 5, 0
	event32 11, 1
	event32 13, 1

	.section .note.GNU-stack, "", %progbits
