/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The port to which a guest, in whatever mode, reports its stage: an OUT of EAX
 * with an immediate port works in all of them. Nothing in KVM answers there.
 */
#ifndef STAGE_PORT_H
#define STAGE_PORT_H

#define STAGE_PORT	0xf1
#define STAGE_L2_IRET	0x12		/* of l2_stop_iret() */
#define STAGE_NESTED	0xbad		/* an NMI hit the NMI handler */

#endif
