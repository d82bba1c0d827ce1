/// KVM: SVM: Take over vNMI from kernels that have it
///
/// Since 6.4 the distribution's module uses vNMI by itself: common code hands NMIs
/// over through two hooks, and nested.c passes the bits of L2 on. vnmi.c and
/// nested_vnmi.c do all of that, so the hooks are theirs and the rest goes. An IRQ is not
/// injected while an NMI is handed over that comes before it.
//# files: svm/svm.c svm/svm.h svm/nested.c svm/sev.c
//# matches: functions 0 6.12+=7 hooks 0 6.12+=1 own_variable 0 6.12+=1 own_parameter 0 6.12+=1
//# matches: declared_parameter 0 6.12+=1 enabled 0 6.12+=1 hooks_off 0 6.12+=1
//# matches: announced 0 6.12+=1 initialized 0 6.12+=1 reset_fields 0 6.12+=1
//# matches: fields 0 6.12+=1 nested 0 6.12+=2 sync_bits 0 6.12+=1 checked 0 6.12+=1
//# matches: nmi_complete 0 6.12=1 nmi_complete_returns 0 7.3+=1 irq_waits 0 6.12+=1
//# gone: svm_is_vnmi_pending svm_set_vnmi_pending is_vnmi_enabled nested_vnmi_enabled

@functions@
symbol svm_nmi_handed_over, svm_nmi_hand_over;
symbol svm_x86_ops, svm_is_vnmi_pending, svm_set_vnmi_pending, is_vnmi_pending, set_vnmi_pending;
symbol vcpu, svm, vnmi, vgif, true, false, control, mask, ret;
type T;
identifier fn = {
	svm_is_vnmi_pending, svm_set_vnmi_pending, svm_set_iret_intercept,
	svm_clr_iret_intercept, nested_vnmi_enabled, get_vnmi_vmcb_l1, is_vnmi_enabled
};
parameter list params;
position p;
@@
- T fn@p(params) { ... }

@hooks@
identifier ops;
position p;
@@
  struct kvm_x86_ops ops@p = {
- .is_vnmi_pending = svm_is_vnmi_pending,
- .set_vnmi_pending = svm_set_vnmi_pending,
+ .is_vnmi_pending = svm_nmi_handed_over,
+ .set_vnmi_pending = svm_nmi_hand_over,
  };

@irq_waits@
//# place: svm_interrupt_allowed: svm_interrupt_blocked svm_nmi_goes_first -EBUSY|nested_run_pending
position p;
@@
- if (svm_interrupt_blocked@p(vcpu))
+ if (svm_interrupt_blocked(vcpu) ||
+     (unlikely(svm->nmi.handed) && svm_nmi_goes_first(svm)))
	return 0;

@own_variable@
identifier v = {vnmi};
expression E;
position p;
@@
- bool v@p = E;

@own_parameter@
declarer name module_param;
identifier v = {vnmi};
type t;
position p;
@@
- module_param@p(v, t, 0444);

@declared_parameter@
identifier v = {vnmi};
position p;
@@
- extern bool v@p;

@enabled@
statement S;
position p;
@@
- vnmi@p = vgif && vnmi && boot_cpu_has(X86_FEATURE_VNMI);
- if (vnmi) S

@hooks_off@
position p;
@@
- if (!vnmi@p) {
-	svm_x86_ops.is_vnmi_pending = NULL;
-	svm_x86_ops.set_vnmi_pending = NULL;
- }

@announced@
position p;
@@
- if (vnmi)
-	kvm_cpu_cap_set@p(X86_FEATURE_VNMI);

@initialized@
position p;
@@
- if (vnmi)
-	svm->vmcb->control.int_ctl |= V_NMI_ENABLE_MASK@p;

@reset_fields@
position p;
@@
- svm->nmi_masked@p = false;
- svm->awaiting_iret_completion = false;

@fields@
position p;
@@
  struct vcpu_svm {
  ...
- bool nmi_masked@p;
- bool awaiting_iret_completion;
  ...
  };

@nested@
statement S;
position p;
@@
- if (vnmi@p) S

@sync_bits@
statement S;
position p;
@@
- if (nested_vnmi_enabled@p(svm)) S

@checked@
position p;
@@
- if (CC((control->int_ctl & V_NMI_ENABLE_MASK@p) &&
-	 !vmcb12_is_intercept(control, INTERCEPT_NMI))) {
-	return false;
- }

@nmi_complete@
//# place: sev_handle_vmgexit: {SVM_VMGEXIT_NMI_COMPLETE} {iret_interception(vcpu)} {SVM_VMGEXIT_AP_HLT_LOOP}
position p;
@@
- ++vcpu->stat.nmi_window_exits;
- svm->nmi_masked@p = false;
- kvm_make_request(KVM_REQ_EVENT, vcpu);
- ret = 1;
+ ret = iret_interception(vcpu);

@nmi_complete_returns@
position p;
@@
- ++vcpu->stat.nmi_window_exits;
- svm->nmi_masked@p = false;
- kvm_make_request(KVM_REQ_EVENT, vcpu);
- return 1;
+ return iret_interception(vcpu);
