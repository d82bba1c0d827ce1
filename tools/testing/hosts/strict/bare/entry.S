/* SPDX-License-Identifier: GPL-2.0-only */
/* VMRUN, and what guests consist of: each begins at a label and ends with VMMCALL. */

	.text
	.code64

/* vmrun(VMCB): registers that C wants kept are kept, the guest may change all. */
	.globl	vmrun, at_vmrun
vmrun:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rdi, %rax
	clgi
at_vmrun:
	vmrun	%rax
	stgi
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* A handler for each vector of a guest: where it stops says which. */
	.balign	16
	.globl	handlers
handlers:
	.rept	256
	.balign	16
	vmmcall
	ud2
	.endr

/* Instructions that are intercepted, and what is next after each. */
	.macro	insn name:req, code:vararg
	.globl	insn_\name, next_\name
insn_\name:
	\code
next_\name:
	vmmcall
	.endm

	insn	cpuid, cpuid
	insn	cpuid_prefix, .byte 0x66, 0x48, 0x0f, 0xa2
	insn	rdtsc, rdtsc
	insn	mov_cr0, mov %rax, %cr0
	insn	mov_cr8, mov %rax, %cr8
	insn	mov_dr7, mov %dr7, %r9
	insn	clts, clts
	insn	lmsw, lmsw %cx
	insn	lgdt, lgdt 0x12345678(%rax, %rbx, 4)
	insn	invlpg, invlpg 8(%r12)
	insn	invlpg_rip, invlpg handlers(%rip)
	insn	invlpg_sib, invlpg 0x12345678(%rsp, %rax, 4)
	insn	rdmsr, rdmsr
	insn	in_number, in $0x80, %al
	insn	outsb, rep outsb
	insn	pushf, pushf
	insn	iret, iretq
	insn	hlt, hlt
	insn	int, int $0x40
	insn	int3, int3
	insn	int_3, .byte 0xcd, 3
	insn	ud2, ud2

	.globl	guest_store, after_store, guest_rf, guest_push, after_push
guest_store:
	movl	$1, watched
after_store:
	vmmcall

/* RF is set where this begins, and in the frame that it pops. */
guest_rf:
	iretq

/* An event is delivered to a stack that is watched. */
guest_push:
	int	$0x40
after_push:
	vmmcall

/* What ends a shadow of STI, if there is one, is an exit; and where a SYSCALL leads. */
	.globl	guest_sti, guest_syscall, after_syscall
guest_sti:
	sti
	vmmcall
guest_syscall:
	syscall
after_syscall:
	vmmcall

	.globl	guest_read_cr2, after_read_cr2
guest_read_cr2:
	mov	%cr2, %rax
after_read_cr2:
	vmmcall

/* Memory that a guest reads, and what VMSAVE writes. */
	insn	read, mov (%rax), %rcx
	insn	read_eax, mov (%rax), %eax
	insn	vmsave, vmsave %rax

	.globl	guest_nmi, guest_shadow, after_shadow, guest_iret, guest_iret_fault
/* Where an NMI is to come at once. */
guest_nmi:
	nop
	vmmcall

/* VMRUN loads a shadow: it is over after one instruction. */
guest_shadow:
	nop
after_shadow:
	nop
	vmmcall

/* The end of a handler. */
guest_iret:
	iretq
guest_iret_fault:
	iretq
	vmmcall
