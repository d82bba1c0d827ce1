/// KVM: SVM: Keep the TF that an IRET out of an NMI handler has popped
///
/// When the step over an IRET is over, take what IRET has popped into RFLAGS for the
/// guest's. TF and RF were put back to what they had been within the handler, so a
/// guest that steps through the code that the NMI interrupted stopped stepping when
/// another NMI waited for that IRET.
///
/// Seen with nmi_iret_flags_test in QEMU's emulation of SVM: the guest gets no #DB for
/// the instructions after its IRET. With this patch it does. A guest that steps the IRET
/// itself, with TF set in its NMI handler, still loses that one #DB.
//# files: svm/svm.c
//# until: svm/nmi.cocci
//# matches: hflags 1 6.12+=0 fields 0 6.12+=1

@hflags@
symbol vcpu, svm;
expression E;
position p;
@@
  if ((vcpu->arch.hflags & HF_IRET_MASK@p) && E) {
+	svm->nmi_singlestep_guest_rflags = svm->vmcb->save.rflags;
	...
  }

@fields@
//# place: svm_complete_interrupts: {awaiting_iret_completion=false} {nmi_singlestep_guest_rflags=svm->vmcb->save.rflags}
symbol false;
position p;
@@
  svm->awaiting_iret_completion@p = false;
  svm->nmi_masked = false;
+ svm->nmi_singlestep_guest_rflags = svm->vmcb->save.rflags;
