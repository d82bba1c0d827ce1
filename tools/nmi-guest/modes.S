/* SPDX-License-Identifier: GPL-2.0-only */
/* To 32-bit protected mode without paging, from there to real mode, and back. */

#include "layout.h"
#include "stubs.S"

/* Where a label of the copy is. Without parentheses: those mean registers. */
#define REAL(label)	label - real_mode_start + REAL_MODE

	.text
	.code64
/* call32(fn): a function of protected.c, or real_mode below. */
	.globl	call32
call32:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushfq
	cli
	mov	%rsp, saved_rsp
	sidt	saved_idt
	mov	%edi, %ebx
	ljmpl	*to_32bit

	.code32
in_32bit:
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$DATA, %eax
	mov	%eax, %ss
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$stack32_top, %esp
	lidt	idt32_register
	call	*%ebx
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	ljmp	$CODE64, $in_64bit

	.code64
in_64bit:
	lidt	saved_idt
	andb	$~2, gdt + TSS64 + 5
	mov	$TSS64, %eax
	ltr	%ax
	mov	saved_rsp, %rsp
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

	.code32
	stubs	stubs32, event32

event32:
	pusha
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	cld
	push	%esp
	call	on_event32
	add	$4, %esp
	popa
	add	$4, %esp
	ret

	.globl	exit32_iret, exit32_lret, exit32_elsewhere, iret32_elsewhere
exit32_iret:
	iret
exit32_elsewhere:
	mov	exit32_rsp, %esp
iret32_elsewhere:
	iret
exit32_lret:
	mov	exit32_rsp, %esp
	popf
	lret

	.globl	open_nmis32, opened32
open_nmis32:
	pushf
	push	%cs
	push	$opened32
	iret
opened32:
	ret

/* The NMI's task: each NMI goes on behind the IRET that ended the one before. */
	.globl	nmi_task
nmi_task:
	call	on_nmi_task
	iret
	jmp	nmi_task

/* For call32(): the claims of real mode are about what is copied to REAL_MODE. */
	.globl	real_mode
real_mode:
	pusha
	mov	%esp, saved_esp
	lidt	real_idt
	mov	$DATA, %eax			/* its limit outlives the way to real mode */
	mov	%eax, %fs
	ljmp	$CODE16, $REAL(to_real)

	.code16
	.globl	real_mode_start, real_mode_end
real_mode_start:
to_real:
	mov	$DATA16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	%cr0, %eax
	and	$~1, %al
	mov	%eax, %cr0
	ljmp	$0, $REAL(real)
real:	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$REAL_STACK, %sp
	call	send16
	call	settle16
real_target:
	nop
real_back:
	call	open16
	call	settle16
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$CODE32, $from_real

open16:	pushf
	push	%cs
	push	$REAL(opened16)
	iret
opened16:
	ret

send16:	push	%edi
	mov	$APIC + APIC_ICR, %edi
	movl	$ICR_NMI, %fs:(%edi)
	pop	%edi
	ret

settle16:
	mov	$SETTLE, %cx
1:	pause
	loop	1b
	mov	$APIC + 0x20, %eax
	mov	%fs:(%eax), %eax
	ret

/*
 * The first sends three more, waits, and goes to real_target: by IRET, or, where
 * real_by_lret says so, by a far return, which leaves NMIs blocked.
 */
nmi16:	push	%bp
	mov	%sp, %bp
	push	%eax
	push	%cx
	push	%di
	mov	REAL(real_nmis), %di
	incw	REAL(real_nmis)
	shl	$3, %di
	mov	2(%bp), %ax
	mov	%ax, REAL(real_frames)(%di)
	mov	4(%bp), %ax
	mov	%ax, REAL(real_frames) + 2(%di)
	mov	6(%bp), %ax
	mov	%ax, REAL(real_frames) + 4(%di)
	test	%di, %di
	jnz	1f
	call	send16
	call	send16
	call	send16
	call	settle16
	mov	REAL(real_nmis), %ax
	mov	%ax, REAL(real_nmis_inside)
	movw	$REAL(real_target), 2(%bp)
	cmpw	$0, REAL(real_by_lret)
	je	1f
	pop	%di
	pop	%cx
	pop	%eax
	pop	%bp
	lret	$2
1:	pop	%di
	pop	%cx
	pop	%eax
	pop	%bp
	iret

	.balign	8
	.globl	real_frames, real_nmis, real_nmis_inside, real_by_lret, nmi16, real_target, opened16
real_frames:
	.fill	8, 8, 0
real_nmis:
	.word	0
real_nmis_inside:
	.word	0
real_by_lret:
	.word	0
real_mode_end:

	.code32
from_real:
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	saved_esp, %esp
	lidt	idt32_register
	popa
	ret

	.data
	.balign	8
	.globl	idt32_register
to_32bit:
	.long	in_32bit
	.word	CODE32
saved_rsp:
	.quad	0
saved_esp:
	.long	0
saved_idt:
	.fill	10
idt32_register:
	.word	256 * 8 - 1
	.long	idt32
real_idt:
	.word	0x3ff
	.long	0

	.bss
	.balign	16
	.globl	stack32_top
	.skip	8192
stack32_top:

	.data
	.globl	exit32_rsp
exit32_rsp:
	.long	0
