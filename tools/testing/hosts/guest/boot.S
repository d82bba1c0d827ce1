/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Boot sector of the disk that a host in Bochs starts from. It loads a memory
 * image that already looks as the kernel wants to find it, unpacked, and enters
 * it by the PVH protocol: 32-bit mode, EBX pointing to a structure that tells
 * where the memory map, the command line and the initramfs are. General boot
 * loaders take ten seconds of emulation for the same.
 *
 * bootdisk.py tells the assembler where things are: CHUNKS of CHUNK sectors make
 * the memory image that belongs at LOAD, and PVH_ENTRY, COMMAND_LINE, INITRD and
 * INITRD_SIZE are in it.
 */

	.set	BUFFER, 0x10000
	.set	MEMORY_MAP, 0x8000
	.set	CODE, 0x08		/* selectors: flat, 4 GiB */
	.set	DATA, 0x10

	.code16
	.text
start:
	cld
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$start, %sp

	in	$0x92, %al		/* addresses above 1 MiB */
	or	$2, %al
	out	%al, $0x92

	mov	$MEMORY_MAP, %di
	xor	%ebx, %ebx
next_range:
	mov	$0xe820, %eax
	mov	$0x534d4150, %edx	/* "SMAP" */
	mov	$20, %ecx
	int	$0x15
	jc	load
	add	$24, %di		/* PVH has four spare bytes in each */
	incl	ranges
	test	%ebx, %ebx
	jnz	next_range

load:
	mov	$packet, %si
	mov	$0x42, %ah		/* read by sector number */
	mov	$0x80, %dl		/* from the first disk */
	int	$0x13
	jc	stop
	call	reach_all_memory
	mov	$BUFFER, %esi
	mov	address, %edi
	mov	$CHUNK * 512 / 4, %ecx
	addr32 rep movsl
	mov	%edi, address
	addl	$CHUNK, sector
	decw	chunks
	jnz	load

	call	protected_mode
	ljmp	$CODE, $enter_kernel

stop:
	hlt
	jmp	stop

/* Segment limits outlive the return to real mode until the BIOS sets others. */
reach_all_memory:
	call	protected_mode
	and	$~1, %al
	mov	%eax, %cr0
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	sti
	ret

protected_mode:
	cli
	lgdt	gdt_register
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	mov	$DATA, %bx
	mov	%bx, %ds
	mov	%bx, %es
	ret

	.code32
enter_kernel:
	mov	$DATA, %ax
	mov	%ax, %ss
	mov	$start_info, %ebx
	mov	$PVH_ENTRY, %eax
	jmp	*%eax

	.balign	8
packet:
	.word	16, CHUNK		/* own size, sectors */
	.word	0, BUFFER >> 4		/* offset, segment */
sector:
	.long	1, 0
address:
	.long	LOAD
chunks:
	.word	CHUNKS

gdt_register:
	.word	gdt_end - gdt - 1
	.long	gdt
	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff
	.quad	0x00cf93000000ffff
gdt_end:

start_info:
	.long	0x336ec578, 1, 0, 1	/* magic, version, flags, modules */
	.long	module, 0
	.long	COMMAND_LINE, 0
	.long	0, 0			/* ACPI tables: to be searched for */
	.long	MEMORY_MAP, 0
ranges:
	.long	0, 0
module:
	.long	INITRD, 0, INITRD_SIZE, 0
	.long	0, 0, 0, 0		/* command line, reserved */

	/* Behind this the kernel would look for partitions. */
	.org	446
	.org	510
	.word	0xaa55
