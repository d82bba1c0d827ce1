/* SPDX-License-Identifier: GPL-2.0-only */
/* L2 programs in which single instructions matter, see nmi_nested_svm.h. */

#include "stage_port.h"

	.text
	.macro label name
	.globl \name
\name:
	.endm

	/* An IRET frame for the same stack and flags. */
	.macro iret_frame cs, rip, flags=2
	mov %rsp, %rcx
	mov %ss, %eax
	push %rax
	push %rcx
	push $\flags
	mov \cs, %eax
	push %rax
	push $\rip
	.endm

	.balign 256
label l2_nop
	nop
label l2_nop_2
	nop
	jmp l2_end

label l2_iret
	iret_frame %cs, l2_open
label l2_iret_at
	iretq
label l2_open
	nop
label l2_open_2
	jmp l2_end

/* Reports stage STAGE_L2_IRET right before its IRET. */
label l2_stop_iret
	iret_frame %cs, l2_open
	mov $STAGE_L2_IRET, %eax
	out %eax, $STAGE_PORT
	iretq

label l2_iret_tf
	iret_frame %cs, l2_open, 0x102
	iretq

/* The selector is beyond the GDT: #GP, with RIP at the IRET. */
label l2_bad_iret
	iret_frame $0xff8, l2_open
label l2_bad_iret_at
	iretq

label l2_halt
	hlt
label l2_halted
	nop
	jmp l2_end

label l2_pushf
	pushf
label l2_pushf_next
	pop %rax
	mov %rax, l2_pushed
	jmp l2_end

label l2_stgi
	nop
	stgi
label l2_stgi_next
	nop
	jmp l2_end

	.section .note.GNU-stack, "", %progbits
