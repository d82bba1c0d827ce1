/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The handlers of a guest that runs random programs. Each logs its event and goes
 * on in the program, in the body for the n-th event of its kind, with the frame
 * FUZZ_FRAME_OFFSET above RSP and RFLAGS_START in RFLAGS. The code is copied to
 * FUZZ_STUBS and uses absolute addresses of data only.
 */
#include "fuzz_layout.h"
#include "stage_port.h"

	.section .rodata
	.globl fuzz_stubs, fuzz_touch, fuzz_stubs_end

.macro stub vector, has_error
	.balign FUZZ_STUB_SIZE
	.if !\has_error
	push $0
	.endif
	push $\vector
	jmp common
.endm

	.balign FUZZ_STUB_SIZE
fuzz_stubs:
	stub V_DB, 0
	stub V_NMI, 0
	stub V_BP, 0
	stub V_UD, 0
	stub V_NP, 1
	stub V_SS, 1
	stub V_GP, 1
	stub V_PF, 1
	stub V_INT, 0
	stub V_IRQ, 0
	stub V_LEAVE, 0

common:
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rsi
	push %rdi
	cld

	/* struct fuzz_event: what stands above the saved registers, and one more. */
	mov $1, %ecx
	xadd %ecx, FUZZ_LOG_NR		/* an NMI may come in between */
	and $(FUZZ_LOG_SIZE - 1), %ecx
	shl $6, %ecx
	lea FUZZ_LOG(%rcx), %edi
	lea 48(%rsp), %rsi
	mov $7, %ecx
	rep movsq
	mov 48(%rsp), %rbx

	xor %eax, %eax
	cmp $V_DB, %ebx
	jne 1f
	mov %dr6, %rax
	mov $0xffff0ff0, %ecx
	mov %rcx, %dr6
1:	cmp $V_PF, %ebx
	jne 2f
	mov %cr2, %rax
2:	mov %rax, (%rdi)

	cmp $V_IRQ, %ebx
	jne 3f
	mov $0x80b, %ecx		/* EOI of the x2APIC */
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
3:
	mov $1, %ecx
	xadd %ecx, FUZZ_COUNTS(,%rbx,4)
	and $(FUZZ_BODIES - 1), %ecx
	lea (%rcx,%rbx,FUZZ_BODIES), %ecx
	mov FUZZ_BODY_TABLE(,%rcx,4), %eax
	push $RFLAGS_START
	popf
	jmp *%rax

/* Touch all memory but the first page, and report it. */
fuzz_touch:
	mov $4096, %eax
1:	lock orb $0, (%rax)
	add $4096, %eax
	cmp $FUZZ_MEMORY, %eax
	jb 1b
	out %eax, $STAGE_PORT
fuzz_stubs_end:

	.section .note.GNU-stack, "", %progbits
