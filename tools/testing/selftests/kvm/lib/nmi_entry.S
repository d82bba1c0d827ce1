/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * First instructions of the guest's event handlers, and their IRET.
 *
 * Each vector has a whole body of its own: an address between event_entry_2 and
 * event_end_2 belongs to the NMI handler and to nothing else, which is how a
 * nested NMI is recognised even at its very first or last instruction. The
 * layout on the stack is struct guest_regs.
 */
.macro event_body vector, has_error
	.globl event_entry_\vector
event_entry_\vector:
	.if !\has_error
	push $0
	.endif
	push $\vector
	.irp reg, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	push %\reg
	.endr
	mov %rsp, %rdi
	cld
	call guest_event
	.irp reg, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
	pop %\reg
	.endr
	add $16, %rsp
	.globl event_iret_\vector
event_iret_\vector:
	iretq
	.globl event_end_\vector
event_end_\vector:
.endm

	.text
	event_body 1, 0
	event_body 2, 0
	event_body 3, 0
	event_body 6, 0
	event_body 13, 1
	event_body 14, 1
	event_body 0x60, 0

	.section .note.GNU-stack, "", %progbits
