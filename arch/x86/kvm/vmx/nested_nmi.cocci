/// KVM: nVMX: Hand NMIs of L2 and for L1 to the NMI code
///
/// Nested VMX touches NMI state where L2 is entered, where it exits, and where an
/// NMI makes it exit, and gets it wrong: blocking of NMIs for L1 outlives entries
/// that end it and forgets those that begin it, an NMI that L1 injects blocks where
/// it must not, the NMI window comes after the NMI, and an NMI that waits while L2
/// exits is looked at by nobody. On a VMCS without virtual NMIs the blocking bit of
/// L1's VMCS is not the CPU's to track. And when an NMI makes L2 exit, a second one
/// that came with it was dropped.
//# files: vmx/nested.c
//# matches: load 1 restore 1 save 1 left_l2 1 iret_faulted 1 due 1 exit_to_l1 1

@load@
//# place: prepare_vmcs02_early: {VM_ENTRY_INTR_INFO_FIELD} {vmx_nmi_load_vmcs12} !GUEST_INTERRUPTIBILITY_INFO
symbol vcpu, vmx, vmcs12, true, nmi_known_unmasked, guest_interruptibility_info;
position p;
@@
- vmcs_write32@p(GUEST_INTERRUPTIBILITY_INFO,
-		vmcs12->guest_interruptibility_info);
- vmx->loaded_vmcs->nmi_known_unmasked =
-	!(vmcs12->guest_interruptibility_info & GUEST_INTR_STATE_NMI);
+ vmx_nmi_load_vmcs12(vmx);

@restore@
//# place: prepare_vmcs02_early: {vmx_nmi_load_vmcs12} {VM_ENTRY_INTR_INFO_FIELD,0} {vmx_nmi_restore_vmcs12}
position p;
@@
  vmcs_write32@p(VM_ENTRY_INTR_INFO_FIELD, 0);
+ vmx_nmi_restore_vmcs12(vmx);

@save@
//# place: sync_vmcs02_to_vmcs12: vmx_nmi_save_vmcs12 guest_activity_state
position p;
@@
  vmcs12->guest_interruptibility_info =
-	vmcs_read32@p(GUEST_INTERRUPTIBILITY_INFO);
+	vmx_nmi_save_vmcs12(vmx);

@left_l2@
//# place: nested_vmx_vmexit|__nested_vmx_vmexit: {prepare_vmcs12} kvm_clear_interrupt_queue vmx_switch_vmcs vmx_nmi_left_l2 {load_vmcs12_host_state}
symbol vm_exit_reason, vmcs01;
position p;
@@
  kvm_clear_interrupt_queue(vcpu);
  vmx_switch_vmcs@p(vcpu, &vmx->vmcs01);
+ vmx_nmi_left_l2(vcpu, vm_exit_reason);

@iret_faulted@
//# place: nested_vmx_inject_exception_vmexit: vmx_nmi_iret_faulted INTR_INFO_UNBLOCK_NMI nested_vmx_vmexit
statement S;
position p;
@@
- if (!(vmcs12->idt_vectoring_info_field & VECTORING_INFO_VALID_MASK) &&
-     vmx_get_nmi_mask@p(vcpu))
+ if (vmx_nmi_iret_faulted(vcpu))
	S

@due@
//# place: vmx_check_nested_events: vmx_nmi_due {nested_exit_on_nmi}
statement S;
position p;
@@
- if (vcpu->arch.nmi_pending && !vmx_nmi_blocked@p(vcpu))
+ if (vmx_nmi_due(vcpu))
	S

@exit_to_l1@
//# place: vmx_check_nested_events: vmx_nmi_due {nested_exit_on_nmi} {vmx_nmi_exit_to_l1} kvm_cpu_has_interrupt
position p;
@@
- nested_vmx_vmexit(vcpu, EXIT_REASON_EXCEPTION_NMI,
-		  NMI_VECTOR | INTR_TYPE_NMI_INTR |
-		  INTR_INFO_VALID_MASK, 0);
- vcpu->arch.nmi_pending = 0;
- vmx_set_nmi_mask@p(vcpu, true);
+ vmx_nmi_exit_to_l1(vcpu);
