/// KVM: nVMX: Hand NMIs of L2 and for L1 to the NMI code
///
/// Three places of nested VMX touch NMI state and get it wrong at the edges. An
/// NMI that L1 injects into L2 blocks NMIs although the interruptibility state
/// that L1 wrote does not say so. On a VMCS without virtual NMIs the blocking
/// bit of L1's VMCS is not the CPU's to track. And when an NMI makes L2 exit, a
/// second one that came with it was dropped.
//# files: vmx/nested.c
//# matches: load 1 save 1 exit_to_l1 1

@load@
//# place: prepare_vmcs02_early: {VM_ENTRY_INTR_INFO_FIELD} {vmx_nmi_load_vmcs12} !GUEST_INTERRUPTIBILITY_INFO
symbol vcpu, vmx, vmcs12, true, nmi_known_unmasked, guest_interruptibility_info;
position p;
@@
- vmcs_write32@p(GUEST_INTERRUPTIBILITY_INFO,
-		vmcs12->guest_interruptibility_info);
- vmx->loaded_vmcs->nmi_known_unmasked =
-	!(vmcs12->guest_interruptibility_info & GUEST_INTR_STATE_NMI);
+ vmx_nmi_load_vmcs12(vmx, vmcs12->guest_interruptibility_info);

@save@
//# place: sync_vmcs02_to_vmcs12: vmx_nmi_save_vmcs12 guest_activity_state
position p;
@@
  vmcs12->guest_interruptibility_info =
-	vmcs_read32@p(GUEST_INTERRUPTIBILITY_INFO);
+	vmx_nmi_save_vmcs12(vmx);

@exit_to_l1@
//# place: vmx_check_nested_events: {nested_exit_on_nmi} {nested_vmx_vmexit} {vmx_nmi_exited_to_l1}
position p;
@@
- vcpu->arch.nmi_pending = 0;
- vmx_set_nmi_mask@p(vcpu, true);
+ vmx_nmi_exited_to_l1(vcpu);
