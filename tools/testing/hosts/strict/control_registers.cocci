/// target/i386/tcg: Intercept reads of the control register that is read
///
/// What MOV reads is added to the number of the intercept, unless that is 0: SVM_EXIT_READ_CR0 is.
/// A hypervisor that intercepts reads of CR0 gets an exit by its code for each of the others, too,
/// and with decode assists gives the guest CR0 for CR2: Linux, while it sets MTRRs and has CR0.CD
/// on, did not survive the next page fault.
//# files: target/i386/tcg/decode-new.c.inc
//# matches: read 2

@read@
symbol decode, e, op, n;
position p;
@@
- if (decode->e.intercept)
+ if (decode->e.has_intercept)
  {
	decode->e.intercept@p += op->n;
  }
