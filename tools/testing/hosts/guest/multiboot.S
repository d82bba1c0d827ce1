/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a multiboot loader to the PVH entry of a Linux kernel that lies unpacked
 * in the same image, right behind this code: nothing is left to decompress.
 *
 * Both protocols hand over in flat 32-bit mode with the address of a structure
 * in EBX. All there is to do is to tell PVH's from multiboot's: the command
 * line, one module (the initramfs) and the memory map.
 *
 * The assembler is told PVH_ENTRY and BSS_END, the end of the kernel's memory.
 */

	.set	MAGIC, 0x1badb002
	.set	FLAGS, 0x10003		/* aligned modules, memory map, load addresses */

	.text
header:
	.long	MAGIC, FLAGS, -(MAGIC + FLAGS)
	.long	header, header, 0, BSS_END, start

start:
	cld
	mov	16(%ebx), %eax		/* cmdline */
	mov	%eax, command_line

	mov	24(%ebx), %esi		/* mods_addr: start, end */
	lodsl
	mov	%eax, module
	sub	(%esi), %eax
	neg	%eax
	mov	%eax, module_size

	mov	44(%ebx), %edx		/* mmap_length */
	mov	48(%ebx), %esi		/* mmap_addr: size, address, length, type */
	add	%esi, %edx
	mov	$memory_map, %edi
next_range:
	lodsl				/* size of what follows */
	lea	(%esi, %eax), %ebx
	mov	$5, %ecx
	rep movsl
	add	$4, %edi
	incl	ranges
	mov	%ebx, %esi
	cmp	%edx, %esi
	jb	next_range

	mov	$start_info, %ebx
	mov	$PVH_ENTRY, %eax
	jmp	*%eax

	.balign	8
start_info:
	.long	0x336ec578, 1, 0, 1	/* magic, version, flags, modules */
	.long	module_list, 0
command_line:
	.quad	0
	.quad	0			/* ACPI tables: to be searched for */
	.long	memory_map, 0
ranges:
	.long	0, 0

module_list:
module:
	.quad	0
module_size:
	.quad	0, 0, 0			/* size, command line, reserved */

memory_map:
	.skip	32 * 24
