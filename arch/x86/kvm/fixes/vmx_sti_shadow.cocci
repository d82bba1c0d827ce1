/// KVM: VMX: Wait with the monitor trap flag for the end of an STI shadow
///
/// If an NMI is held back by STI, exit after the next instruction where the CPU can, and
/// do not rely on the IRQ window. That window never opens if the instruction in the
/// shadow is CLI: the NMI then comes when the guest turns IRQs on again, if it ever does.
/// An NMI window is no way out: the CPU may open it while STI still blocks the injection.
/// The IRQ window stays for the HLT in a shadow, whose exit ends the shadow before the
/// monitor trap flag makes one.
///
/// Seen with nmi_shadow_test in Bochs 3.0: the NMI between STI and CLI does not come. With
/// this patch it comes right after CLI.
//# files: vmx/vmx.c
//# until: vmx/nmi.cocci
//# matches: wait 1 over 1

@wait@
//# place: vmx_enable_nmi_window: {CPU_BASED_MONITOR_TRAP_FLAG} {vmx_enable_irq_window} CPU_BASED_NMI_WINDOW_EXITING
symbol vcpu, enable_vnmi;
position p;
@@
  vmx_enable_nmi_window@p(struct kvm_vcpu *vcpu)
  {
+	bool sti = vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_STI;
+	bool mtf = vmcs_config.cpu_based_exec_ctrl & CPU_BASED_MONITOR_TRAP_FLAG;
+
+	/* CLI in the shadow of STI closes the IRQ window before it opens. */
	if (
-	    !enable_vnmi || vmcs_read32(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_STI
+	    !enable_vnmi || sti
	   ) {
+		if (sti && mtf)
+			exec_controls_setbit(to_vmx(vcpu), CPU_BASED_MONITOR_TRAP_FLAG);
		vmx_enable_irq_window(vcpu);
		return;
	}
	...
  }

@over@
//# place: handle_monitor_trap: GUEST_PENDING_DBG_EXCEPTIONS CPU_BASED_MONITOR_TRAP_FLAG KVM_REQ_EVENT return
position p;
@@
  handle_monitor_trap@p(struct kvm_vcpu *vcpu)
  {
+	unsigned long due = vmcs_readl(GUEST_PENDING_DBG_EXCEPTIONS);
+
+	exec_controls_clearbit(to_vmx(vcpu), CPU_BASED_MONITOR_TRAP_FLAG);
+	/* A #DB of the same instruction comes first, or an NMI would take its place. */
+	if (!(due & (BIT(12) | DR6_BUS_LOCK | DR6_BS | DR6_RTM)))
+		kvm_make_request(KVM_REQ_EVENT, vcpu);
	return 1;
  }
