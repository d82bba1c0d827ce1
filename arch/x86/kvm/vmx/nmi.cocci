/// KVM: VMX: Move guest NMI handling to files of its own
///
/// Injection, blocking and windows of guest NMIs move from vmx.c to nmi.c,
/// virtual_nmis.c (where the CPU tracks blocking) and soft_vnmi.c (where it
/// does not). vmx.c keeps one call before each entry, after a flag of the
/// vCPU, and one after each exit, after that and the existing "NMIs are
/// known to be open" flag of the VMCS, and calls where an NMI leaves the
/// beaten track: an aborted delivery, an entry called off, a task gate,
/// INIT and RESET.
///
/// An exit that has only opened a window goes straight back into the guest with
/// the NMI that waited for it.
///
/// One rule now decides for all exits whether an IRET did not retire, so the
/// handlers of EPT violations, PML-full and notify exits lose theirs.
//# files: vmx/vmx.c vmx/vmx.h vmx/vmcs.h
//# matches: take_out 9 pml_full 1 recover 2
//# matches: reenter 1 7.3+=0 reenter_no_xsave 0 7.3+=1
//# matches: enter 1 exit 1 soft_exit 1 aborted 1 cancel 1 task_gate 1
//# matches: create 1 7.3+=0 create_vt 0 7.3+=1 free 1 reset 1 load 1 put 1 keep_mov_dr 1 host_event 1 fastpath 1
//# matches: vmcs_state 1 soft_state 1 vcpu_state 1 declared 3 include 1
//# gone: vmx_enable_nmi_window vmx_inject_nmi vmx_get_nmi_mask vmx_set_nmi_mask
//# gone: vmx_nmi_blocked vmx_nmi_allowed handle_nmi_window handle_monitor_trap vmx_recover_nmi_blocking

@take_out@
symbol vcpu, vmx, cpu, gpa, intr_info, true, false, enable_vnmi;
type T;
identifier fn = {
	vmx_enable_nmi_window, vmx_inject_nmi, vmx_get_nmi_mask, vmx_set_nmi_mask,
	vmx_nmi_blocked, vmx_nmi_allowed, handle_nmi_window, handle_monitor_trap, vmx_recover_nmi_blocking
};
parameter list params;
position p;
@@
- T fn@p(params) { ... }

@pml_full@
identifier qual;
position p;
@@
  handle_pml_full@p(struct kvm_vcpu *vcpu)
  {
-	unsigned long qual;
	trace_kvm_pml_full(vcpu->vcpu_id);
-	qual = vmx_get_exit_qual(vcpu);
-	if (!(to_vmx(vcpu)->idt_vectoring_info & VECTORING_INFO_VALID_MASK) &&
-	    enable_vnmi &&
-	    (qual & INTR_INFO_UNBLOCK_NMI))
-		vmcs_set_bits(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
	return 1;
  }

@recover@
identifier qual;
expression E;
position p;
@@
- if (E && (qual & INTR_INFO_UNBLOCK_NMI))
-	vmcs_set_bits@p(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);

@enter@
//# place: vmx_vcpu_run: !emulation_required vmx_nmi_enter vmx_vcpu_enter_exit
position p;
@@
- if (unlikely(!enable_vnmi &&
-	      vmx->loaded_vmcs->soft_vnmi_blocked))
-	vmx->loaded_vmcs->entry_time = ktime_get@p();
+ if (unlikely(vmx->nmi.enter))
+	vmx_nmi_enter(vmx);

@reenter@
//# place: vmx_vcpu_run: vmx_nmi_enter {HOST_CR4} nmi_reenter kvm_load_guest_xsave_state vmx_update_hv_timer vmx_vcpu_enter_exit
position p;
@@
+ nmi_reenter:
  kvm_load_guest_xsave_state@p(vcpu);

@reenter_no_xsave@
//# place: vmx_vcpu_run: vmx_nmi_enter {HOST_CR4} nmi_reenter pt_guest_enter vmx_update_hv_timer vmx_vcpu_enter_exit
position p;
@@
+ nmi_reenter:
  pt_guest_enter@p(vmx);

@exit@
//# place: vmx_vcpu_run: vmx_vcpu_enter_exit vmx_nmi_exit nmi_reenter vmx_complete_interrupts vmx_exit_handlers_fastpath
position p;
@@
- vmx_recover_nmi_blocking@p(vmx);
+ if (unlikely(vmx_nmi_exit_due(vmx->loaded_vmcs, &vmx->nmi)) && vmx_nmi_exit(vcpu))
+	goto nmi_reenter;

@soft_exit@
statement S;
position p;
@@
- if (unlikely(!enable_vnmi@p &&
-	      vmx->loaded_vmcs->soft_vnmi_blocked)) S

@aborted@
//# place: __vmx_complete_interrupts: nmi_injected=false {vmx_nmi_delivery_aborted} {INTR_TYPE_SOFT_EXCEPTION}
position p;
@@
- vcpu->arch.nmi_injected = true;
- vmx_set_nmi_mask@p(vcpu, false);
+ vmx_nmi_delivery_aborted(vcpu);

@cancel@
//# place: vmx_cancel_injection: vmx_nmi_cancel __vmx_complete_interrupts
symbol vcpu;
expression list args;
position p;
@@
+ vmx_nmi_cancel(vcpu);
  __vmx_complete_interrupts@p(vcpu, vmcs_read32(VM_ENTRY_INTR_INFO_FIELD), args);

@task_gate@
//# place: handle_task_switch: {INTR_TYPE_NMI_INTR} {vmx_nmi_took_task_gate} {INTR_TYPE_EXT_INTR} kvm_task_switch
position p;
@@
- vcpu->arch.nmi_injected = false;
- vmx_set_nmi_mask@p(vcpu, true);
+ vmx_nmi_took_task_gate(vcpu);

@create@
//# place: vmx_vcpu_create: vmx_nmi_create !return allocate_vpid
position p;
@@
  INIT_LIST_HEAD@p(&vmx->pi_wakeup_list);
+ vmx_nmi_create(vcpu);

@create_vt@
position p;
@@
  INIT_LIST_HEAD@p(&vmx->vt.pi_wakeup_list);
+ vmx_nmi_create(vcpu);

@free@
//# place: vmx_vcpu_free: nested_vmx_free_vcpu vmx_nmi_free free_loaded_vmcs
position p;
@@
  nested_vmx_free_vcpu@p(vcpu);
+ vmx_nmi_free(vcpu);

@reset@
//# place: vmx_vcpu_reset: !GUEST_INTERRUPTIBILITY_INFO vmx_nmi_reset GUEST_INTERRUPTIBILITY_INFO,0
position p;
@@
+ vmx_nmi_reset(vcpu);
  vmcs_write32@p(GUEST_INTERRUPTIBILITY_INFO, 0);

@load@
//# place: vmx_vcpu_load: vmx_vcpu_load_vmcs vmx_nmi_vcpu_load
position p;
@@
  vmx_vcpu_pi_load@p(vcpu, cpu);
+ vmx_nmi_vcpu_load(vcpu);

@put@
//# place: vmx_vcpu_put: vmx_nmi_vcpu_put vmx_prepare_switch_to_host
position p;
@@
+ vmx_nmi_vcpu_put(vcpu);
  vmx_vcpu_pi_put@p(vcpu);

@vmcs_state@
position p;
@@
  struct loaded_vmcs {
  ...
  bool nmi_known_unmasked@p;
+ /* NMIs are blocked; without virtual NMIs the CPU does not know */
+ bool soft_nmi_blocked;
  ...
  };

@soft_state@
position p;
@@
  struct loaded_vmcs {
  ...
- int soft_vnmi_blocked@p;
- ktime_t entry_time;
- s64 vnmi_blocked_time;
  ...
  };

@vcpu_state@
position p;
@@
  struct vcpu_vmx {
  ...
  struct loaded_vmcs *loaded_vmcs@p;
+ struct vmx_nmi nmi;
  ...
  };

@declared@
type T;
identifier fn = {vmx_nmi_blocked, vmx_get_nmi_mask, vmx_set_nmi_mask};
parameter list params;
position p;
@@
- T fn@p(params);

@include@
position p;
@@
+ #include "nmi.h"
+
  struct vcpu_vmx@p { ... };

@keep_mov_dr@
//# place: handle_dr: nmi.ret.armed {CPU_BASED_MOV_DR_EXITING} {KVM_DEBUGREG_WONT_EXIT}
position p;
@@
- if (vcpu->guest_debug == 0)
+ if (vcpu->guest_debug == 0 && !to_vmx(vcpu)->nmi.ret.armed)
  {
	exec_controls_clearbit@p(to_vmx(vcpu), CPU_BASED_MOV_DR_EXITING);
	...
  }

@host_event@
//# place: handle_exception_nmi: vmx_get_intr_info is_nmi vmx_nmi_host_event is_nm_fault
position p;
@@
  if (is_machine_check(intr_info) || is_nmi@p(intr_info))
-	return 1;
+	return vmx_nmi_host_event(vcpu);

@fastpath@
//# place: vmx_exit_handlers_fastpath: {EXIT_REASON_MSR_WRITE} {default} {nmi.owned}
identifier fn = {handle_fastpath_set_msr_irqoff, handle_fastpath_wrmsr};
expression E;
position p;
@@
  switch (E) {
  case EXIT_REASON_MSR_WRITE:
	return fn@p(vcpu);
  ...
  default:
-	return EXIT_FASTPATH_NONE;
+	return to_vmx(vcpu)->nmi.owned ? EXIT_FASTPATH_EXIT_HANDLED : EXIT_FASTPATH_NONE;
  }
