/// KVM: VMX: Let the timeout of soft vNMI deliver the NMI
///
/// When an NMI has waited for a second, look at it again: without a request nobody did
/// before something else, like an IRQ window, made KVM look for events. In a guest that
/// runs with IRQs off, which is whom the timeout is for, nothing does.
///
/// And do not take the blocking bit of the VMCS for the guest's. Without virtual NMIs it
/// is the CPU's own: injecting an NMI sets it as delivering one does, and it stays until
/// the guest's IRET. So it held the NMI that the timeout had set free.
///
/// Seen with nmi_soft_exact_test in Bochs and kvm_intel.vnmi=0: of NMIs sent one after the
/// other to a guest with IRQs off the first one comes and no other, though "Breaking out
/// of NMI-blocked state" is in the log. With this patch one comes each second.
//# files: vmx/vmx.c
//# until: vmx/nmi.cocci
//# matches: timeout 1 blocked 1

@timeout@
//# place: __vmx_handle_exit: {vnmi_blocked_time>1000000000LL} {soft_vnmi_blocked=0} {KVM_REQ_EVENT} EXIT_FASTPATH_NONE
symbol vmx, vcpu;
expression list es;
position p;
@@
  printk@p(es);
  vmx->loaded_vmcs->soft_vnmi_blocked = 0;
+ kvm_make_request(KVM_REQ_EVENT, vcpu);

@blocked@
//# place: vmx_nmi_blocked: soft_vnmi_blocked GUEST_INTERRUPTIBILITY_INFO enable_vnmi GUEST_INTR_STATE_NMI
symbol vcpu, enable_vnmi;
position p;
@@
  return (vmcs_read32@p(GUEST_INTERRUPTIBILITY_INFO) &
	  (GUEST_INTR_STATE_MOV_SS | GUEST_INTR_STATE_STI |
-	   GUEST_INTR_STATE_NMI
+	   (enable_vnmi ? GUEST_INTR_STATE_NMI : 0)
	  ));
