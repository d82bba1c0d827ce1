/// target/i386/tcg: Deliver an interrupt that VMRUN injects once
///
/// VMRUN delivers it at once, and leaves exception_index at its vector. If the CPU's loop is left
/// for another reason than #VMEXIT or an interrupt, say because another thread wants something of
/// it or, with -icount, because its budget is used up, cpu_handle_exception() finds the vector there
/// and delivers it again, whatever RFLAGS.IF is by then. Linux in a guest that is a hypervisor itself
/// was found waiting for a lock that its timer's interrupt had interrupted itself with.
//# files: target/i386/tcg/system/svm_helper.c
//# matches: injected 1

@injected@
//# place: helper_vmrun: {SVM_EVTINJ_TYPE_INTR} {do_interrupt_x86_hardirq} {exception_index=-1} {SVM_EVTINJ_TYPE_NMI}
symbol cs, env, vector;
position p;
@@
  do_interrupt_x86_hardirq@p(env, vector, 1);
+ cs->exception_index = -1;
  break;
