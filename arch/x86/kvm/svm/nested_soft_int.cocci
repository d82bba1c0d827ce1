/// KVM: nSVM: Inject again what L1 has injected into L2 without decoding it
///
/// A CPU without NextRIP wants RIP after the INT n, INT3 or INTO whose event is
/// injected. L1 sees to that before VMRUN. If an exit to L0 interrupts the delivery,
/// L0 injects the event again, and took it for one of its own: it looked for the
/// instruction at RIP, found another one, and dropped the event. An NMI that waited
/// for the end of the INT n then came where its handler should have begun.
//# files: svm/svm.c svm/svm.h
//# matches: state 1 note 1 again 1

@state@
symbol vcpu, svm, emul_type, nrips, old_rip, true, false;
position p;
@@
  struct vcpu_svm {
  ...
  bool soft_int_injected@p;
+ bool soft_int_again;
  ...
  };

@note@
//# place: svm_complete_interrupts: soft_int_injected=svm->soft_int_injected exit_int_info soft_int_again soft_int_injected=false
position p;
@@
+ if (!(svm->vmcb->control.exit_int_info & SVM_EXITINTINFO_VALID))
+	soft_int_injected = false;
+ svm->soft_int_again = soft_int_injected;
  svm->soft_int_injected@p = false;

@again@
//# place: svm_update_soft_interrupt_rip: soft_int_again !kvm_rip_write __svm_skip_emulated_instruction
parameter list params;
position p;
@@
  svm_update_soft_interrupt_rip@p(params)
  {
	...
	struct vcpu_svm *svm = to_svm(vcpu);
+
+	if (svm->soft_int_old_rip != svm->soft_int_next_rip)
+		svm->soft_int_again = false;
+	if (svm->soft_int_again && is_guest_mode(vcpu) &&
+	    old_rip == svm->soft_int_old_rip) {
+		svm->soft_int_injected = true;
+		return 0;
+	}
	...
  }
