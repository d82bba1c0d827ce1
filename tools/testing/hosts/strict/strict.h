/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SVM as the manual has it and not kinder: what the CPU emulated by QEMU calls where
 * its own code is content with less. The rules stand in strict.c.
 */
#ifndef STRICT_H
#define STRICT_H

#ifndef CONFIG_USER_ONLY

/* A V_NMI waits: a request of the CPU to itself, by a number that x86 does not use. */
#define STRICT_INTERRUPT_VNMI	CPU_INTERRUPT_TGT_EXT_0

/* Features of CPUID Fn8000_000A_EDX that QEMU's own SVM does not have. */
#define STRICT_SVM_FEATURES \
	(CPUID_SVM_NRIPSAVE | CPUID_SVM_VMCBCLEAN | CPUID_SVM_FLUSHASID | \
	 CPUID_SVM_DECODEASSIST | CPUID_SVM_V_VMSAVE_VMLOAD | CPUID_SVM_VNMI)

void strict_reset(CPUX86State *env);
void strict_vmrun(CPUX86State *env);
void strict_check_vmrun(CPUX86State *env, uintptr_t retaddr);
void strict_request(CPUX86State *env, int which);
void strict_load_interrupts(CPUX86State *env);
bool strict_kept(CPUX86State *env, hwaddr guest, int prot, hwaddr *host,
		 int *kept_prot);
void strict_keep(CPUX86State *env, hwaddr guest, hwaddr host, int prot);
bool strict_pushes_next_rip(CPUX86State *env, int vector);
target_ulong strict_return_rip(CPUX86State *env);

void strict_vmexit(CPUX86State *env, uint64_t code);
void strict_before_vmexit(CPUX86State *env);
void strict_after_vmexit(CPUX86State *env);

uint32_t strict_event_type(CPUX86State *env, int vector, int is_int, int is_hw);
bool strict_sets_rf(int vector, int is_hw);
void strict_check_int(CPUX86State *env, int vector, uintptr_t retaddr);
void strict_check_task_switch(CPUX86State *env, int selector, bool iret, bool jump,
			      uintptr_t retaddr);

void strict_check_frame(CPUX86State *env, target_ulong sp, bool iret,
			uintptr_t retaddr);
void strict_check_target(CPUX86State *env, target_ulong rip, uint32_t flags,
			 uintptr_t retaddr);

bool strict_blocks_nmi(CPUX86State *env);
bool strict_vnmi_ready(CPUX86State *env, int request);
bool strict_take_vnmi(CPUX86State *env, int request);
void strict_unblock_nmi(CPUX86State *env);

#endif
#endif
