/// KVM: nVMX: Lose no NMI when L2 exits
///
/// Two NMIs can be pending. If one makes L2 exit, count it instead of forgetting both: L1
/// has to get the other one when its handler ends.
///
/// Look at a pending NMI after any exit of L2. The window for it was asked for in the VMCS
/// of L2. Without a request nobody asks for one in L1's, and the NMI waits until
/// something else, maybe the next NMI, makes KVM look for events.
///
/// Seen with nmi_nested_vmx_test in Bochs: of two NMIs sent while L2 runs L1 gets one,
/// and one that waits while L2 exits out of its handler does not come in L1. With this
/// patch both come, the last one at once: that such an exit leaves NMIs blocked for L1 is
/// not known to KVM, which is another matter.
//# files: vmx/nested.c
//# until: vmx/nested_nmi.cocci
//# matches: count 1 left_l2 1

@count@
//# place: vmx_check_nested_events: {nested_vmx_vmexit} {nmi_pending--} {vmx_set_nmi_mask} kvm_cpu_has_interrupt
symbol vcpu, true;
position p;
@@
- vcpu->arch.nmi_pending = 0;
+ vcpu->arch.nmi_pending--;
  vmx_set_nmi_mask@p(vcpu, true);

@left_l2@
//# place: nested_vmx_vmexit|__nested_vmx_vmexit: {prepare_vmcs12} kvm_clear_interrupt_queue vmx_switch_vmcs nmi_pending {load_vmcs12_host_state}
symbol vmx, vmcs01;
position p;
@@
  kvm_clear_interrupt_queue(vcpu);
  vmx_switch_vmcs@p(vcpu, &vmx->vmcs01);
+
+ if (vcpu->arch.nmi_pending)
+	kvm_make_request(KVM_REQ_EVENT, vcpu);
