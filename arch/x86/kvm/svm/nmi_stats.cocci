/// KVM: SVM: Show NMI state and counts in debugfs
///
/// The first vCPU of a VM makes a file in the VM's debugfs folder. Counting begins
/// when the file is opened and ends with the last vCPU that is counted.
//# files: svm/svm.c
//# matches: create 1 free 1

@create@
//# place: svm_vcpu_create: svm_switch_vmcb nmi_stats_create !goto
symbol svm, vcpu, false;
position p;
@@
  svm->guest_state_loaded@p = false;
+ nmi_stats_create(vcpu);

@free@
//# place: svm_vcpu_free: svm_leave_nested nmi_stats_free
position p;
@@
  svm_leave_nested(vcpu);
  svm_free_nested@p(svm);
+ nmi_stats_free(vcpu);
