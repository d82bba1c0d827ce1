/// KVM: SVM: Inject nothing else after an INT3 that is injected again
///
/// An INT3 or INTO whose delivery an exit has interrupted is injected again after KVM
/// has stepped over the instruction. That empties common code's queue of exceptions, so
/// that an SMI, NMI or IRQ which waits finds nothing in its way, and is injected into the
/// same entry. An IRQ took the place of the #BP in EVENTINJ, and its frame led into the
/// shadow of an STI; the guest executed the INT3 after it. Say that the exception is
/// injected, as it is.
///
/// Seen with nmi_order_test on a CPU with NextRIP, which QEMU's emulation of SVM is not
/// without changes.
//# files: svm/svm.c
//# matches: still_injected 1

@still_injected@
//# place: svm_inject_exception: svm_update_soft_interrupt_rip event_inj_err injected=true
symbol svm, ex, true;
expression E;
position p;
@@
  svm->vmcb->control.event_inj_err@p = E;
+ ex->injected = true;
