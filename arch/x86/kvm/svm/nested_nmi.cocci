/// KVM: nSVM: Hand NMIs of nested guests to the NMI code
///
/// vNMI is offered to L1: its bits are checked at VMRUN, taken over when L2 is
/// entered, and L2's halted state asks for a pending one. Where the CPU has vNMI
/// the bits come back from the VMCB that ran L2.
///
/// An NMI that L1 injects into L2 is L1's to track. If its delivery exits to L1,
/// the note that it was L1's survived, and the next NMI that KVM injected into L1
/// itself did not block NMIs; svm_nmi_leave_l2() clears it.
//# files: svm/nested.c
//# matches: enter 1 leave 1 7.3+=0 leave_early 0 7.3+=1 leave_for_good 1 check 1 sync 1 halted 1

@enter@
//# place: nested_vmcb02_prepare_control: virt_ext|misc_ctl2 recalc_intercepts|nested_vmcb02_recalc_intercepts svm_nmi_enter_l2 !virt_ext
symbol vcpu, svm, true, false, control, mask, svm_leave_nested, svm_nested_ops, leave_nested, has_events;
identifier recalc = {recalc_intercepts, nested_vmcb02_recalc_intercepts};
parameter list params;
position p;
@@
  nested_vmcb02_prepare_control@p(params)
  {
	...
	recalc(svm);
+	svm_nmi_enter_l2(svm);
  }

@leave@
//# place: nested_svm_vmexit: !vmcb12->control.int_ctl svm_nmi_leave_l2 leave_guest_mode
position p;
@@
+ svm_nmi_leave_l2(svm);
  leave_guest_mode@p(vcpu);
  svm->nested.vmcb12_gpa = 0;

@leave_early@
//# place: nested_svm_vmexit: svm_nmi_leave_l2 nested_svm_vmexit_update_vmcb12 leave_guest_mode
statement S;
position p;
@@
+ svm_nmi_leave_l2(svm);
  if (nested_svm_vmexit_update_vmcb12@p(vcpu)) S

@leave_for_good@
position p;
@@
  svm->nested.vmcb12_gpa = INVALID_GPA;
+ svm_nmi_leave_l2(svm);
  leave_guest_mode@p(vcpu);

@check@
//# place: __nested_vmcb_check_controls|nested_vmcb_check_controls: nested_vnmi_valid SVM_NESTED_CTL_NP_ENABLE|SVM_MISC_ENABLE_NP
position p;
@@
  if (CC(control->asid@p == 0))
	return false;
+
+ if (CC(!nested_vnmi_valid(vcpu, control)))
+	return false;

@sync@
//# place: nested_sync_control_from_vmcb02: nested_vnmi_vmcb02_bits !mask= nested.ctl.int_ctl&=~mask
position p;
@@
- mask@p = V_IRQ_MASK | V_TPR_MASK;
+ mask = V_IRQ_MASK | V_TPR_MASK | nested_vnmi_vmcb02_bits(svm);

@halted@
position p;
@@
  struct kvm_x86_nested_ops svm_nested_ops = {
  .leave_nested = svm_leave_nested@p,
+ .has_events = nested_vnmi_has_events,
  };
