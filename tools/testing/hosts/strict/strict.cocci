/// target/i386/tcg: SVM as strict as the manual
///
/// The rules stand in strict.c; here is where the emulated CPU asks for them. The CPU of
/// QEMU has no NextRIP, no virtual NMI, no clean bits and no decode assists, forgets all
/// translations at each VMRUN, and makes no exit for a task switch. It leaves fields as
/// they were that the manual leaves undefined, and software may then rely on them.
///
/// What is delivered in an interrupt shadow ends it; no NMI may be. An interrupt pushes the RF
/// that there was. IRET that runs with RF loses the RF that it pops, which is reset at the end
/// of each instruction; IRET looks neither where it returns to nor whether its frame can be
/// there, and takes an absent stack segment for any other segment. STI makes a shadow even
/// where interrupts were on, and SYSCALL loses the status flags. A watchpoint that the frame of
/// an event hits is found under the lock that the delivery holds, outside of any instruction
/// that could be made to start anew.
//# files: target/i386/cpu.c target/i386/tcg/helper-tcg.h target/i386/tcg/excp_helper.c
//# files: target/i386/tcg/system/excp_helper.c
//# files: target/i386/tcg/seg_helper.c target/i386/tcg/emit.c.inc
//# files: target/i386/tcg/system/svm_helper.c target/i386/tcg/system/seg_helper.c
//# files: accel/tcg/watchpoint.c
//# macros: G_NORETURN
//# matches: include 1 features 1 reset 1 nmi_shadow 1 pending 1 take 1
//# matches: stage2 1
//# matches: vmrun 1 check 1 virq 1 load 1 inject_int 1 inject_exception 1
//# matches: exit_info 1 before 1 after 1
//# matches: event_type 1 software_interrupt 1 task_switch 1 unblock 2
//# matches: frame 1 target 1 absent_stack 1 syscall 1 sti 1
//# matches: popped_rf 1 debug_request 1 watched_frame 1 event_rf 2 delivered 1

@include@
typedef CPUX86State;
symbol env, cs, hflags2;
position p;
@@
+ #include "tcg/strict.h"
+
  void do_vmexit@p(CPUX86State *env);

@features@
//# place: x86_cpu_get_supported_feature_word: {wi->tcg_features} {STRICT_SVM_FEATURES}
symbol r, wi, w, tcg_features;
position p;
@@
  r = wi->tcg_features@p;
+ if (w == FEAT_SVM) {
+	r |= STRICT_SVM_FEATURES;
+ }

@reset@
//# place: x86_cpu_reset_hold: memset strict_reset
symbol end_reset_fields;
position p;
@@
  memset@p(env, 0, offsetof(CPUX86State, end_reset_fields));
+ strict_reset(env);

@nmi_shadow@
//# place: x86_cpu_pending_interrupt: {CPU_INTERRUPT_NMI} {strict_blocks_nmi} {CPU_INTERRUPT_HARD}
position p;
@@
- !(env->hflags2 & HF2_NMI_MASK@p)
+ !strict_blocks_nmi(env)

@pending@
//# place: x86_cpu_pending_interrupt: {CPU_INTERRUPT_HARD} {HF2_VGIF_MASK} {strict_vnmi_ready} {CPU_INTERRUPT_VIRQ}
symbol interrupt_request;
statement S;
position p;
@@
  if (env->hflags2 & HF2_VGIF_MASK@p) {
+	if (strict_vnmi_ready(env, interrupt_request)) {
+		return STRICT_INTERRUPT_VNMI;
+	}
	S
  }

@take@
//# place: x86_cpu_exec_interrupt: x86_cpu_pending_interrupt strict_take_vnmi {CPU_INTERRUPT_POLL}
statement S;
position p;
@@
  interrupt_request = x86_cpu_pending_interrupt@p(cs, interrupt_request);
  if (!interrupt_request) S
+ if (strict_take_vnmi(env, interrupt_request)) {
+	return true;
+ }

@vmrun@
//# place: helper_vmrun: cpu_svm_check_intercept_param vm_vmcb=addr strict_vmrun vm_hsave
symbol addr, vm_vmcb;
position p;
@@
  env->vm_vmcb@p = addr;
+ strict_vmrun(env);

@check@
//# place: helper_vmrun: intercept_exceptions strict_check_vmrun HF_GUEST_MASK
position p;
@@
+ strict_check_vmrun(env, GETPC());
  env->nested_pg_mode@p = 0;

@virq@
//# place: helper_vmrun: ctl_has_irq {strict_request} !interrupt_request|=CPU_INTERRUPT_VIRQ
position p;
@@
  if (ctl_has_irq(env)) {
-	cs->interrupt_request@p |= CPU_INTERRUPT_VIRQ;
+	strict_request(env, CPU_INTERRUPT_VIRQ);
  }

@load@
//# place: helper_vmrun: int_ctl strict_load_interrupts cpu_load_efer
symbol int_ctl;
position p;
@@
+ strict_load_interrupts(env);
  env->hflags2@p &= ~(HF2_HIF_MASK | HF2_VINTR_MASK);
  if (env->int_ctl & V_INTR_MASKING_MASK) { ... }

@stage2@
//# place: get_physical_address: {nested_cr3} {strict_kept} {mmu_translate} {strict_keep}
symbol in, addr, access_type, out, err, ra;
statement S;
position p;
@@
+ if (strict_kept(env, addr, 1 << access_type, &out->paddr, &out->prot)) {
+	out->page_size = TARGET_PAGE_SIZE;
+	return true;
+ }
  if (!mmu_translate@p(env, &in, out, err, ra)) S
+ strict_keep(env, addr, out->paddr, out->prot);

@inject_int@
//# place: helper_vmrun: {SVM_EVTINJ_TYPE_SOFT} {strict_return_rip}
position p;
@@
  env->exception_is_int = 1;
- env->exception_next_eip@p = env->eip;
+ env->exception_next_eip = strict_return_rip(env);

@inject_exception@
//# place: helper_vmrun: {SVM_EVTINJ_TYPE_EXEPT} {strict_pushes_next_rip} {strict_return_rip}
symbol vector, event_inj_err;
position p;
@@
  cs->exception_index = vector;
  env->error_code = event_inj_err;
- env->exception_is_int = 0;
- env->exception_next_eip@p = -1;
+ env->exception_is_int = strict_pushes_next_rip(env, vector);
+ env->exception_next_eip = env->exception_is_int ? strict_return_rip(env) : -1;
  qemu_log_mask(CPU_LOG_TB_IN_ASM, "EXEPT");

@exit_info@
//# place: cpu_vmexit: cpu_restore_state exit_info_1 strict_vmexit cpu_loop_exit
symbol exit_code;
position p;
@@
  cs->exception_index@p = EXCP_VMEXIT;
  ...
+ strict_vmexit(env, exit_code);
  cpu_loop_exit(cs);

@before@
//# place: do_vmexit: strict_before_vmexit svm_save_seg
position p;
@@
+ strict_before_vmexit(env);
  env->hflags2@p &= ~HF2_NPT_MASK;

@after@
//# place: do_vmexit: event_inj strict_after_vmexit
position p;
@@
+ strict_after_vmexit(env);
  env->hflags2@p &= ~HF2_GIF_MASK;
  env->hflags2 &= ~HF2_VGIF_MASK;

@event_type@
//# place: handle_even_inj: {strict_event_type} {event_inj}
symbol is_int, is_hw, intno;
identifier kind;
position p;
@@
- if (is_int@p) {
-	kind = SVM_EVTINJ_TYPE_SOFT;
- } else {
-	kind = SVM_EVTINJ_TYPE_EXEPT;
- }
+ kind = strict_event_type(env, intno, is_int, is_hw);

@software_interrupt@
//# place: raise_interrupt2: {strict_check_int}
symbol retaddr;
position p;
@@
- cpu_svm_check_intercept_param@p(env, SVM_EXIT_SWINT, 0, retaddr);
+ strict_check_int(env, intno, retaddr);

@task_switch@
//# place: switch_tss_ra: SWITCH_TSS_IRET strict_check_task_switch access_prepare_mmu
symbol tss_selector, source, mmu_index;
position p;
@@
+ strict_check_task_switch(env, tss_selector, source == SWITCH_TSS_IRET,
+			  source == SWITCH_TSS_JMP, retaddr);
  mmu_index@p = cpu_mmu_index_kernel(env);

@unblock@
//# place: helper_iret_real: strict_unblock_nmi
//# place: helper_iret_protected: {helper_ret_protected} strict_unblock_nmi
position p;
@@
- env->hflags2@p &= ~HF2_NMI_MASK;
+ strict_unblock_nmi(env);

@frame@
//# place: helper_ret_protected: {strict_check_frame} {new_eip} load_segment_ra
symbol is_iret, new_eip, sa, sp;
position p;
@@
+ strict_check_frame(env, sa.sp, is_iret, retaddr);
  new_eip = popq@p(&sa);

@target@
//# place: helper_ret_protected: load_segment_ra strict_check_target addend
symbol addend, e2;
statement S;
position p;
@@
  if (!(e2 & DESC_P_MASK@p)) S
+ strict_check_target(env, new_eip, e2, retaddr);
  sa.sp += addend;

@absent_stack@
//# place: helper_ret_protected: {load_segment_ra} {EXCP0C_STACK}
symbol ss_e2;
expression selector;
position p;
@@
  if (!(ss_e2 & DESC_P_MASK@p)) {
-	raise_exception_err_ra(env, EXCP0B_NOSEG, selector, retaddr);
+	raise_exception_err_ra(env, EXCP0C_STACK, selector, retaddr);
  }

@syscall@
//# place: helper_syscall: {cpu_compute_eflags} {cpu_load_eflags}
symbol eflags, regs, fmask;
position p;
@@
- cpu_load_eflags@p(env, env->eflags, 0);
+ cpu_load_eflags(env, env->regs[11] & ~env->fmask, 0);

@sti@
//# place: gen_STI: tcg_gen_not_tl tcg_gen_st_i32 gen_set_eflags DISAS_EOB_NEXT
symbol s, base, is_jmp;
position p;
@@
+ TCGv masked = tcg_temp_new();
+ TCGv_i32 shadow = tcg_temp_new_i32();
+ TCGv_i32 hflags = tcg_temp_new_i32();
+
+ /* Only where interrupts were off; gen_eob() ends one that there is. */
+ tcg_gen_ld_tl(masked, tcg_env, offsetof(CPUX86State, eflags));
+ tcg_gen_not_tl(masked, masked);
+ tcg_gen_andi_tl(masked, masked, IF_MASK);
+ tcg_gen_trunc_tl_i32(shadow, masked);
+ tcg_gen_shri_i32(shadow, shadow, ctz32(IF_MASK) - HF_INHIBIT_IRQ_SHIFT);
+ tcg_gen_ld_i32(hflags, tcg_env, offsetof(CPUX86State, hflags));
+ tcg_gen_or_i32(hflags, hflags, shadow);
+ tcg_gen_st_i32(hflags, tcg_env, offsetof(CPUX86State, hflags));
  gen_set_eflags@p(s, IF_MASK);
- s->base.is_jmp = DISAS_EOB_INHIBIT_IRQ;
+ s->base.is_jmp = DISAS_EOB_NEXT;

@popped_rf@
//# place: gen_IRET: {gen_helper_iret_protected} HF_RF_MASK DISAS_EOB_ONLY
symbol s, base, is_jmp;
expression list args;
statement S;
position p;
@@
  if (!PE(s) || VM86(s)) S else { gen_helper_iret_protected@p(args); }
+ s->flags &= ~HF_RF_MASK;

@debug_request@
//# place: cpu_check_watchpoint: {BQL_LOCK_GUARD} {CPU_INTERRUPT_DEBUG} !bql_lock
symbol cpu, wp, watchpoint_hit, ra;
position p;
@@
- bql_lock();
+ BQL_LOCK_GUARD();
  cpu_interrupt@p(cpu, CPU_INTERRUPT_DEBUG);
- bql_unlock();

@watched_frame@
//# place: cpu_check_watchpoint: {watchpoint_hit=wp} {CPU_INTERRUPT_DEBUG} {mmap_lock}
position p;
@@
  cpu->watchpoint_hit@p = wp;
+ if (!ra && bql_locked()) {
+	cpu_interrupt(cpu, CPU_INTERRUPT_DEBUG);
+	return;
+ }

@event_rf@
symbol set_rf;
position p;
@@
- set_rf = exception_is_fault@p(intno);
+ set_rf = strict_sets_rf(intno, is_hw) && exception_is_fault(intno);

@delivered@
//# place: do_interrupt_all: {SVM_EVTINJ_VALID} {HF_INHIBIT_IRQ_MASK}
symbol control, event_inj;
position p;
@@
  x86_stl_phys@p(cs, env->vm_vmcb + offsetof(struct vmcb, control.event_inj), event_inj & ~SVM_EVTINJ_VALID);
+ env->hflags &= ~HF_INHIBIT_IRQ_MASK;
