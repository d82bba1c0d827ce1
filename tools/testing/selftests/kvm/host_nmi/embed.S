/* SPDX-License-Identifier: GPL-2.0-only */
/* The module that a test loads is part of the test, which so stays one file. */
	.section .rodata
	.globl host_nmi_ko, host_nmi_ko_end
	.balign 16
host_nmi_ko:
#ifdef HOST_NMI_KO
	.incbin HOST_NMI_KO
#endif
host_nmi_ko_end:

	.section .note.GNU-stack, "", %progbits
