/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The port to which a guest, in whatever mode, reports its stage: an OUT of EAX
 * with an immediate port works in all of them. Nothing in KVM answers there.
 */
#ifndef STAGE_PORT_H
#define STAGE_PORT_H

#define STAGE_PORT	0xf1

/* Stages that most tests have; what else a test needs begins at STAGE_OWN. */
#define STAGE_READY	1		/* for what the host has to send */
#define STAGE_HANDLER	2		/* in that of the first NMI */
#define STAGE_END	3
#define STAGE_HANDLER_END 4
#define STAGE_OWN	5

#define STAGE_L2_IRET	0x12		/* of l2_stop_iret() */
#define STAGE_EVENT32	0x100		/* + vector */
#define STAGE_NESTED	0xbad		/* an NMI hit the NMI handler */

#define GUEST_STACK_SIZE 4096		/* of guest_stacks, a page */

#ifndef __ASSEMBLER__
#include <linux/stringify.h>

/* Reports a stage, which has to be a macro, and takes EAX. */
#define ASM_STAGE(stage)						\
	"mov $" __stringify(stage) ", %eax; out %eax, $" __stringify(STAGE_PORT) "\n"
#endif

#endif
