/* SPDX-License-Identifier: GPL-2.0-only */
/* System management mode, with a handler that a test brings. */
#ifndef NMI_SMM_H
#define NMI_SMM_H

#include "nmi_test.h"

#define STAGE_SMM	6		/* in an SMI handler */

#define SMRAM_GPA	0x1000000
#define SMM_ENTRY	0x8000		/* from there; in 16-bit code */

/* Have SMIs handled by this code; skips where there is no SMM. */
void set_smi_handler(struct kvm_vcpu *vcpu, const char *code, const char *end);

/* One that reports STAGE_SMM. */
void set_stop_in_smm(struct kvm_vcpu *vcpu);

void send_smi(struct kvm_vcpu *vcpu);

#endif
