/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest code in which single instructions matter: how a vCPU starts, where it
 * stops to be sent something, how its event handlers begin and end.
 */
#include "stage_port.h"

/*
 * Each vector has a whole body of its own: an address between event_entry_2 and
 * event_end_2 belongs to the NMI handler and to nothing else, which is how a
 * nested NMI is recognised even at its very first or last instruction. The
 * layout on the stack is struct event_regs.
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

/*
 * Where a vCPU starts: an IRET into the function in RAX, on the same stack.
 *
 * Bochs 2.7 does not clear blocking at a VM entry that asks for none, so a vCPU
 * inherits it from the one that ran before, until its first IRET.
 *
 * What the delivery of an event touches, besides the stack and the GDT that the
 * IRET uses, is touched before, to have the host map it: Bochs 3.0 saves RF=1 at an
 * EPT violation during a delivery, where a CPU saves what the frame would hold
 * (SDM 3C 28.3.3), and the frame that the second attempt pushes shows it.
 */
	.globl guest_start
guest_start:
	sub $16, %rsp
	sidt (%rsp)
	mov 2(%rsp), %rdx
	orb $0, (%rdx)
	add $16, %rsp
	mov guest_tss, %rdx
	orb $0, (%rdx)
	orb $0, guest_stacks + GUEST_STACK_SIZE - 1
	orb $0, guest_stacks + 2 * GUEST_STACK_SIZE - 1
	mov %rsp, %rcx
	mov %ss, %edx
	push %rdx
	push %rcx
	pushf
	mov %cs, %edx
	push %rdx
	push %rax
	iretq

/*
 * guest_stop(stage, rflags): report a stage under these flags. What the host
 * sends then has to arrive at guest_stop_next with RBX still 0; every further
 * instruction adds one to it. Returns RBX, with IRQs off.
 */
	.globl guest_stop, guest_stop_next
guest_stop:
	push %rbx
	xor %ebx, %ebx
	mov %edi, %eax
	push %rsi
	popf
	out %eax, $STAGE_PORT
guest_stop_next:
	.rept 20
	inc %rbx
	.endr
	push $2
	popf
	mov %rbx, %rax
	pop %rbx
	ret

	.section .note.GNU-stack, "", %progbits
