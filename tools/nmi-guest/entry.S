/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * 64-bit mode: where events arrive, the ways a handler can return, and the code it
 * returns to. What is between two labels here is what the claims are about.
 */

#include "layout.h"
#include "stubs.S"

	.text
	.code64

	stubs	stubs64, event64

event64:
	push	%rax
	push	%rbx
	push	%rcx
	push	%rdx
	push	%rsi
	push	%rdi
	push	%rbp
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	cld
	mov	%rsp, %rdi
	call	on_event
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rbp
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%rcx
	pop	%rbx
	pop	%rax
	add	$8, %rsp
	ret				/* to one of: */

	.globl	exit_iret, exit_step, exit_sti, exit_mov_ss, exit_elsewhere, exit_iretl, exit_lret
exit_iret:
	iretq
exit_step:				/* the IRET itself is single-stepped */
	pushq	$0x102
	popfq
	iretq
exit_sti:
	sti
	iretq
exit_mov_ss:
	mov	data_selector, %ss
	iretq
exit_elsewhere:				/* from a frame at exit_rsp */
	mov	exit_rsp, %rsp
	.globl	iret_elsewhere
iret_elsewhere:
	iretq
exit_iretl:
	mov	exit_rsp, %rsp
	iretl
exit_lret:				/* no IRET: flags, RIP and CS at exit_rsp */
	mov	exit_rsp, %rsp
	popfq
	lretq

/* An IRET to the next instruction. */
	.globl	open_nmis, opened
open_nmis:
	mov	%rsp, %rax
	mov	%ss, %ecx
	push	%rcx
	push	%rax
	pushfq
	mov	%cs, %ecx
	push	%rcx
	push	$opened
	iretq
opened:	ret

/* In 64-bit, compatibility, 32-bit and virtual-8086 mode the same. */
	.globl	target, target_end
	.balign	16
target:	nop
	nop
	nop
target_end:
	int	$VECTOR_BACK

	.globl	target_ud, target_pushf, target_int3, target_syscall
	.balign	16
target_ud:
	ud2
target_pushf:
	pushfq
	pop	%rax
	int	$VECTOR_BACK
target_int3:
	int3
	int	$VECTOR_BACK
target_syscall:
	syscall
	int	$VECTOR_BACK

/* SYSCALL clears TF by SFMASK. */
	.globl	syscall_entry
syscall_entry:
	int	$VECTOR_BACK

/* What is executed step by step: the ICR's address in RDI. */
	.globl	stepped, stepped_end
stepped:
	push	%rbx
	mov	$ICR_NMI, %ebx
	xor	%eax, %eax
	pushfq
	orl	$0x100, (%rsp)
	popfq
	nop
	mov	%ebx, (%rdi)
	inc	%eax
	inc	%eax
	push	%rax
	pop	%rax
	mov	%ebx, (%rdi)
	.rept	8
	inc	%eax
	.endr
	pushfq
	andl	$~0x100, (%rsp)
	popfq
stepped_end:
	pop	%rbx
	ret

/* Long runs of short shadows. */
	.globl	mov_ss_sled, mov_ss_pairs, mov_ss_sled_end, sti_sled, sti_sled_end
mov_ss_sled:
	mov	%ss, %eax
mov_ss_pairs:
	.rept	1000
	mov	%eax, %ss
	nop
	.endr
mov_ss_sled_end:
	ret

sti_sled:
	.rept	1000
	sti
	cli
	.endr
sti_sled_end:
	ret

	.globl	sti_hlt, sti_hlt_at, sti_hlt_end, cli_hlt, cli_hlt_end
sti_hlt:
	sti
sti_hlt_at:
	hlt
sti_hlt_end:
	cli
	ret

cli_hlt:
	cli
	hlt
cli_hlt_end:
	ret

/* In a handler: an INT3 returns by IRET, and so does an interrupt. */
	.globl	nested_int3, nested_int3_end, nested_irq, nested_irq_end
nested_int3:
	int3
nested_int3_end:
	ret

nested_irq:
	sti
	nop
nested_irq_end:
	nop
	nop
	cli
	ret

	.data
	.globl	exit_rsp
	.balign	8
exit_rsp:
	.quad	0
data_selector:
	.word	DATA
