/// KVM: SVM: Show in debugfs where each vCPU stands with its NMIs
///
/// The first vCPU of a VM makes a file in the VM's debugfs folder, which goes away with
/// the folder.
//# files: svm/svm.c
//# matches: create 1

@create@
//# place: svm_vcpu_create: svm_switch_vmcb nmi_debugfs_create !goto
symbol svm, vcpu, false;
position p;
@@
  svm->guest_state_loaded@p = false;
+ nmi_debugfs_create(vcpu);
