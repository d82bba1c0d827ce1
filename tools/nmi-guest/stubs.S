/* SPDX-License-Identifier: GPL-2.0-only */
/* Where events arrive, in 32 and in 64 bits: vector n at TABLE + 16 * n, then EVENT. */

	.macro	stubs table, event
	.globl	\table
	.balign	16
\table:
	.set	vector, 0
	.rept	256
	.balign	16
	.if	vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
	.else
	push	$0
	.endif
	push	$vector
	jmp	\event
	.set	vector, vector + 1
	.endr
	.endm
