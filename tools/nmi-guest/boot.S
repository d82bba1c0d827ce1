/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From where a multiboot loader (of either protocol), a PVH loader or a STARTUP IPI leaves a CPU, to C
 * in 64-bit mode. All memory below 4 GiB is mapped where it is, for user mode, too.
 */

#include "layout.h"

	.section .boot, "ax"
	.balign	8
	.long	0x1badb002, 0, -0x1badb002

	/* GRUB's second protocol has more to tell: where ACPI's tables are, after UEFI, too. */
	.balign	8
multiboot2:
	.long	0xe85250d6, 0, multiboot2_end - multiboot2
	.long	0x100000000 - 0xe85250d6 - (multiboot2_end - multiboot2)
	.short	5, 1			/* a framebuffer, if there is one: not too many dots to read */
	.long	20, 1024, 768, 32
	.balign	8
	.short	0, 0			/* no more wishes */
	.long	8
multiboot2_end:

	.section .note.pvh, "a", @note
	.long	4, 8, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.quad	start32

	.text
	.code32
	.globl	start32
start32:
	cli
	cld
	mov	$boot_stack_top, %esp
	mov	%eax, boot_magic
	mov	%ebx, boot_info
	lgdt	gdt_register

	movl	$pdpt + 7, pml4
	mov	$4, %ecx
	mov	$pdpt, %edi
	mov	$pd + 7, %eax
1:	mov	%eax, (%edi)
	add	$4096, %eax
	add	$8, %edi
	loop	1b
	mov	$pd, %edi
	mov	$0x87, %eax
2:	cmp	$0xc0000087, %eax
	jb	3f
	or	$0x18, %eax		/* devices: not cached */
3:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x200000, %eax
	jnc	2b

	mov	$main, %ebx
	jmp	enter_long_mode

/* To the function in EBX, on the stack that there is. */
enter_long_mode:
	mov	$0x20, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx	/* EFER: LME, SCE */
	rdmsr
	or	$0x101, %eax
	wrmsr
	mov	$0x80000031, %eax
	mov	%eax, %cr0
	ljmp	$CODE64, $1f
	.code64
1:	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	mov	%ebx, %ebx
	call	*%rbx
2:	cli
	hlt
	jmp	2b

/* Copied to TRAMPOLINE. Only the first CPU to come is used. */
	.code16
	.globl	trampoline, trampoline_end
trampoline:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	lgdtl	TRAMPOLINE + trampoline_gdt - trampoline
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$CODE32, $ap32
	.balign	4
trampoline_gdt:
	.word	gdt_end - gdt - 1
	.long	gdt
trampoline_end:

	.code32
ap32:	mov	$DATA, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	xor	%eax, %eax
	cpuid
	cmp	$11, %eax
	jb	3f
	mov	$11, %eax
	xor	%ecx, %ecx
	cpuid
	cmp	$255, %edx		/* an x2APIC ID that no NMI can be sent to */
	jae	1f
3:	mov	$1, %eax
	lock xadd %eax, aps
	test	%eax, %eax
	jz	2f
1:	cli
	hlt
	jmp	1b
2:	mov	$ap_stack_top, %esp
	mov	$ap_main, %ebx
	jmp	enter_long_mode

	.data
	.balign	8
	.globl	gdt, gdt_register
gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* CODE64 */
	.quad	0x00cf93000000ffff	/* DATA */
	.quad	0x00cf9b000000ffff	/* CODE32 */
	.quad	0x00009b000000ffff	/* CODE16 */
	.quad	0x000093000000ffff	/* DATA16 */
	.quad	0x00cffb000000ffff	/* USER_CODE32 */
	.quad	0x00cff3000000ffff	/* USER_DATA */
	.quad	0x00affb000000ffff	/* USER_CODE64 */
	.quad	0x00af1b000000ffff	/* ABSENT_CODE */
	.quad	0x00cf13000000ffff	/* ABSENT_DATA */
	.fill	6, 8, 0			/* TSS64 twice, TSS32, NMI_TSS32 */
gdt_end:
	.word	0
gdt_register:
	.word	gdt_end - gdt - 1
	.quad	gdt

	.globl	boot_magic, boot_info, aps
boot_magic:
	.long	0
boot_info:
	.long	0
aps:	.long	0

	.bss
	.balign	4096
	.globl	pml4, pdpt
pml4:	.skip	4096
pdpt:	.skip	4096
pd:	.skip	4 * 4096
	.skip	16384
boot_stack_top:
	.skip	16384
ap_stack_top:
