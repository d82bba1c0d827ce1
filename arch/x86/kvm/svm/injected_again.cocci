/// KVM: SVM: Inject nothing else after an INT3 that is injected again
///
/// An INT3 or INTO whose delivery an exit has interrupted is injected again after KVM
/// has stepped over the instruction. That empties common code's queue of exceptions, so
/// that an IRQ or SMI which waits finds nothing in its way, and is injected into the
/// same entry. The IRQ took the place of the #BP in EVENTINJ, and its frame led into the
/// shadow of an STI; the guest executed the INT3 after it.
///
/// Seen with nmi_order_test on a CPU with NextRIP, which QEMU's emulation of SVM is not
/// without changes.
//# files: svm/svm.c
//# matches: irq 1 smi 1

@irq@
//# place: svm_interrupt_allowed: svm_interrupt_blocked {SVM_EVTINJ_VALID} nested_exit_on_intr
symbol vcpu, svm, for_injection;
position p;
@@
  if (svm_interrupt_blocked@p(vcpu))
	return 0;
+
+ if (for_injection && !vcpu->arch.interrupt.injected) {
+	if (svm->vmcb->control.event_inj & SVM_EVTINJ_VALID)
+		return -EBUSY;
+ }

@smi@
//# place: svm_smi_allowed: svm_smi_blocked SVM_EVTINJ_VALID nested_exit_on_smi
position p;
@@
  if (svm_smi_blocked@p(vcpu))
	return 0;
+
+ if (for_injection && (svm->vmcb->control.event_inj & SVM_EVTINJ_VALID))
+	return -EBUSY;
