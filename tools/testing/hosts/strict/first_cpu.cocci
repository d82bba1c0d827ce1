/// target/i386/tcg: Reset IGNNE only where it is set
///
/// Whenever a CPU loads an FPU state, cpu_set_fpus() has IGNNE of the first CPU reset, in hflags2:
/// a read and a write, from another thread and without a lock. The first CPU loses what it changes
/// there in between: HF2_NPT_MASK at VMRUN, and a guest's page tables are taken for physical
/// addresses; HF2_GIF_MASK, and interrupts come where they must not, or none any more. Two CPUs
/// that switch tasks and run guests meet that once in some 20 minutes.
///
/// IGNNE is set by a write to port F0h, which no system does that is younger than thirty years.
//# files: target/i386/tcg/system/fpu_helper.c
//# matches: ignne 1

@ignne@
//# place: cpu_clear_ignne: first_cpu HF2_IGNNE_MASK {HF2_IGNNE_MASK}
symbol env, hflags2;
position p;
@@
- env->hflags2@p &= ~HF2_IGNNE_MASK;
+ if (env->hflags2 & HF2_IGNNE_MASK) {
+	env->hflags2 &= ~HF2_IGNNE_MASK;
+ }
