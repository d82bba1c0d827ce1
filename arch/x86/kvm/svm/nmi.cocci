/// KVM: SVM: Move guest NMI handling to files of its own
///
/// Injection, blocking and windows of guest NMIs move from svm.c to nmi.c, and
/// the detection of the end of a handler to latch.c. The
/// single step over IRET is now lent to one VMRUN and taken back right after
/// it (loan.c), so svm_get_rflags(), svm_set_rflags() and the #DB handler no longer
/// have to know of it, and neither nested virtualization, SMM nor user space can
/// meet it. svm.c keeps one check before each entry and one after each exit, in
/// place of those it had, and one in the exit handler for exits that only the step
/// has caused. An exit at which there is nothing to do but to go on enters the guest
/// again on the spot.
///
/// What is taken back after an exit is marked dirty, so all is marked clean before that,
/// right after VMRUN: a CPU may else go on with the copy it has, intercepts of the step
/// included. After a VMRUN that has failed nothing is.
///
/// The type in EXITINTINFO means nothing unless the field is valid. QEMU's CPU leaves
/// it there, and the first MMIO after an NMI or an exception that was injected then
/// ended the VM as one that was made while an event was delivered.
///
/// An exception that KVM injects ends the instruction in an interrupt shadow, and the
/// shadow with it. The manual does not say whether VMRUN sees to that, and QEMU's CPU
/// does not from version 10 on: an NMI then missed the first boundary of the handler.
//# files: svm/svm.c svm/svm.h
//# matches: take_out 8 hide_step 2 plant_step 1 swallow 1 run_step 1
//# matches: delivered 1 complete 1 6.12+=0 complete_fields 0 6.12+=1
//# matches: load 1 enter 1 unclean 1 exit 1 handle_exit 1 task_switch 1 cancel 1 reset 1
//# matches: state_rip 1 state_step 1 declared 2 include 1 setup 1 announce 1
//# matches: cpuid 1 6.12+=0 cpuid_caps 0 6.12=1 cpuid_end 0 7.3+=1 aborted 1 new 1 vectoring 0 7.3+=1
//# gone: disable_nmi_singlestep svm_inject_nmi svm_nmi_blocked svm_nmi_allowed
//# gone: svm_get_nmi_mask svm_set_nmi_mask svm_enable_nmi_window iret_interception

@take_out@
symbol vcpu, svm, control, vgif, true, false, vmexit, tss_selector, int_vec, reason;
type T;
identifier fn = {
	disable_nmi_singlestep, svm_inject_nmi, svm_nmi_blocked, svm_nmi_allowed,
	svm_get_nmi_mask, svm_set_nmi_mask, svm_enable_nmi_window, iret_interception
};
parameter list params;
position p;
@@
- T fn@p(params) { ... }

@vectoring@
//# place: svm_check_emulate_instruction: SVM_EXITINTINFO_VALID kvm_can_emulate_event_vectoring
symbol emul_type;
position p;
@@
- (svm->vmcb->control.exit_int_info@p & SVM_EXITINTINFO_TYPE_MASK)
+ (svm->vmcb->control.exit_int_info & SVM_EXITINTINFO_VALID)
  && !kvm_can_emulate_event_vectoring(emul_type)

@hide_step@
statement S;
position p;
@@
- if (svm->nmi_singlestep@p) S

@plant_step@
statement S;
position p;
@@
- if (to_svm(vcpu)->nmi_singlestep@p) S

@swallow@
statement S;
position p;
@@
  if (!(vcpu->guest_debug &
	(KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP))
-     && !svm->nmi_singlestep@p
     ) S

@run_step@
statement S;
position p;
@@
- if (svm->nmi_singlestep@p && svm->vmcb->control.event_inj) S

@complete@
expression E;
statement S;
position p;
@@
- if ((vcpu->arch.hflags & HF_IRET_MASK@p) && E) S

@complete_fields@
expression E;
statement S;
position p;
@@
- if (svm->awaiting_iret_completion@p && E) S

@delivered@
//# place: svm_inject_exception: event_inj event_inj_err int_state
expression E;
position p;
@@
  svm->vmcb->control.event_inj_err@p = E;
+ svm->vmcb->control.int_state &= ~SVM_INTERRUPT_SHADOW_MASK;

@load@
//# place: svm_vcpu_load: !return svm_nmi_vcpu_load kvm_vcpu_apicv_active
symbol cpu;
position p;
@@
+ svm_nmi_vcpu_load(vcpu);
  if (kvm_vcpu_apicv_active(vcpu))
	avic_vcpu_load@p(vcpu, cpu);

@enter@
//# place: svm_vcpu_run: pre_svm_run svm_nmi_enter clgi svm_vcpu_enter_exit
position p;
@@
+ if (unlikely(svm->nmi.enter))
+	svm_nmi_enter(vcpu);
  clgi@p();

@unclean@
position p;
@@
- vmcb_mark_all_clean@p(svm->vmcb);

@exit@
//# place: svm_vcpu_run: clgi svm_vcpu_enter_exit svm_nmi_mark_clean svm_nmi_exit {svm_nmi_mark_clean} {vcpu->arch.cr2=svm->vmcb->save.cr2} stgi !vmcb_mark_all_clean
expression list args;
position p;
@@
  svm_vcpu_enter_exit@p(args);
+ svm_nmi_mark_clean(svm->vmcb);
+ while (unlikely(svm->nmi.in_play) && svm_nmi_exit(vcpu)) {
+	svm_vcpu_enter_exit(args);
+	svm_nmi_mark_clean(svm->vmcb);
+ }

@handle_exit@
//# place: svm_handle_exit: svm_nmi_handle_exit {nested_svm_exit_special} svm_invoke_exit_handler
position p;
@@
+ if (unlikely(svm->nmi.owned))
+	return svm_nmi_handle_exit(vcpu);
  if (is_guest_mode(vcpu)) {
	int vmexit;
	trace_kvm_nested_vmexit@p(vcpu, KVM_ISA_SVM);
	...
  }

@task_switch@
//# place: task_switch_interception: {svm_skip_emulated_instruction} svm_nmi_task_switch
expression list args;
position p;
@@
- return kvm_task_switch@p(vcpu, tss_selector, int_vec, reason, args);
+ return svm_nmi_task_switch(vcpu, tss_selector, int_vec, reason, args);

@cancel@
//# place: svm_cancel_injection: svm_nmi_cancel svm_complete_interrupts
position p;
@@
  control->event_inj@p = 0;
+ svm_nmi_cancel(vcpu);

@reset@
//# place: svm_vcpu_reset: init_vmcb svm_nmi_reset !init_vmcb
expression list args;
position p;
@@
  init_vmcb@p(args);
+ svm_nmi_reset(vcpu);

@state_rip@
position p;
@@
  struct vcpu_svm {
  ...
- ulong nmi_iret_rip@p;
+ struct svm_nmi nmi;
  ...
  };

@state_step@
position p;
@@
  struct vcpu_svm {
  ...
- bool nmi_singlestep@p;
- u64 nmi_singlestep_guest_rflags;
  ...
  };

@declared@
type T;
identifier fn = {disable_nmi_singlestep, svm_nmi_blocked};
parameter list params;
position p;
@@
- T fn@p(params);

@include@
position p;
@@
+ #include "nmi.h"
+
  struct vcpu_svm@p { ... };

@setup@
//# place: svm_hardware_setup: {vgif=false} svm_nmi_hardware_setup !vgif=false
position p;
@@
  svm_set_cpu_caps@p();
+ svm_nmi_hardware_setup();

@announce@
//# place: svm_set_cpu_caps: !kvm_finalize_cpu_caps {nested_vnmi_setup}
position p;
@@
  if (vgif)
	kvm_cpu_cap_set@p(X86_FEATURE_VGIF);
+ nested_vnmi_setup();

@cpuid@
//# place: svm_vcpu_after_set_cpuid: svm_nmi_after_set_cpuid !X86_FEATURE_VNMI
position p;
@@
  svm->vgif_enabled@p = vgif && guest_cpuid_has(vcpu, X86_FEATURE_VGIF);
+ svm_nmi_after_set_cpuid(vcpu);

@cpuid_caps@
//# place: svm_vcpu_after_set_cpuid: svm_nmi_after_set_cpuid !X86_FEATURE_VNMI
identifier fn;
position p;
@@
- fn@p(vcpu, X86_FEATURE_VNMI);
+ svm_nmi_after_set_cpuid(vcpu);

@cpuid_end@
position p;
@@
  if (is_sev_guest(vcpu))
	sev_vcpu_after_set_cpuid@p(svm);
+ svm_nmi_after_set_cpuid(vcpu);

@aborted@
//# place: svm_complete_interrupts: nmi_injected=false {svm_nmi_delivery_aborted} {SVM_EXITINTINFO_TYPE_EXEPT}
position p;
@@
- vcpu->arch.nmi_injected@p = true;
+ svm_nmi_delivery_aborted(vcpu);

@new@
//# place: svm_complete_interrupts: nmi_injected=false redelivery=false {svm_nmi_delivery_aborted}
parameter list params;
position p;
@@
  svm_complete_interrupts@p(params)
  {
	...
	vcpu->arch.nmi_injected = false;
+	svm->nmi.redelivery = false;
	...
  }
