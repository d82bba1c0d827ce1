/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What SeaBIOS boots in firmware_test: it counts NMIs in real mode, and leaves what else is to be
 * done about them, and their IRET, to SeaBIOS's own handler. Meanwhile it calls SeaBIOS; after an s
 * on the serial port also the code in SMM, by an SMI each time, in the NMI's handler as well. An n
 * there has it tell what it has counted, in hexadecimal.
 */

	.set	PORT, 0x3f8		/* the serial port: data, and at 5 more its status */
	.set	APM, 0xb2		/* a write of what SeaBIOS has no meaning for is an SMI */
	.set	SMI_COUNT, 0x34		/* MSR */
	.set	NMI_VECTOR, 2 * 4

	.code16
	.text
	.globl	start
start:
	ljmp	$0, $1f
1:	cli
	cld
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$start, %sp
	mov	NMI_VECTOR, %eax
	mov	%eax, seabios
	movl	$nmi, NMI_VECTOR	/* segment 0 */
	sti
	mov	$ready, %si
	call	print

loop:
	xor	%ah, %ah		/* what time it is */
	int	$0x1a
	mov	$1, %ah			/* whether a key was pressed */
	int	$0x16
	call	smi
	mov	$PORT + 5, %dx
	in	%dx, %al
	test	$1, %al
	jz	loop
	mov	$PORT, %dx
	in	%dx, %al
	cmp	$'s', %al
	jne	1f
	movb	$1, smis
1:	cmp	$'n', %al
	jne	loop

	mov	$counted, %si
	call	print
	mov	count, %bx
	call	number
	mov	nested, %bx
	call	number
	mov	$SMI_COUNT, %ecx
	rdmsr
	mov	%ax, %bx
	call	number
	mov	$newline, %si
	call	print
	jmp	loop

nmi:
	push	%ax
	push	%cx
	push	%bp
	mov	%sp, %bp
	incw	%cs:count
	cmpw	$0, %cs:depth
	jne	1f
	cmpw	$0, 8(%bp)		/* where it came: its CS and IP */
	jne	2f
	cmpw	$nmi, 6(%bp)
	jb	2f
	cmpw	$nmi_end, 6(%bp)
	jae	2f
1:	incw	%cs:nested
2:	incw	%cs:depth
	call	smi			/* and time for one that comes too early */
	mov	$100, %cx
	loop	.
	decw	%cs:depth
	pop	%bp
	pop	%cx
	pop	%ax
	ljmp	*%cs:seabios
nmi_end:

smi:
	cmpb	$0, %cs:smis
	je	1f
	xor	%al, %al
	out	%al, $APM
1:	ret

print:
	lodsb
	test	%al, %al
	jz	1f
	call	put
	jmp	print
1:	ret

number:					/* BX, after a blank */
	mov	$' ', %al
	call	put
	mov	$4, %cx
1:	rol	$4, %bx
	mov	%bl, %al
	and	$15, %al
	add	$'0', %al
	cmp	$'9', %al
	jbe	2f
	add	$'a' - '9' - 1, %al
2:	call	put
	loop	1b
	ret

put:
	push	%ax
	mov	$PORT + 5, %dx
1:	in	%dx, %al
	test	$0x20, %al
	jz	1b
	mov	$PORT, %dx
	pop	%ax
	out	%al, %dx
	ret

ready:
	.asciz	"\nsector: ready\n"
counted:
	.asciz	"sector: nmis, nested, smis"
newline:
	.asciz	"\n"
	.balign	4
seabios:
	.long	0
count:
	.word	0
depth:
	.word	0
nested:				/* those that came in the handler of another one */
	.word	0
smis:
	.byte	0

	.org	510
	.word	0xaa55
