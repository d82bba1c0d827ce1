/// KVM: nSVM: Forget that L1 injected an NMI when L2 exits
///
/// An NMI that L1 injects into L2 is L1's to track. If its delivery exits to L1,
/// the note that it was L1's survived, and the next NMI that KVM injected into L1
/// itself did not block NMIs.
//# files: svm/nested.c
//# matches: forget 6.1=1

@forget@
symbol vcpu, svm, true, false;
position p;
@@
  svm->vcpu.arch.nmi_injected@p = false;
+ svm->nmi_l1_to_l2 = false;
