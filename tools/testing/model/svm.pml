/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An AMD CPU, and arch/x86/kvm/svm/latch.c and loan.c: what the IRET window
 * of L1 and the emulated vNMI of L2 share.  One latch; which of the two it is
 * decides LATCH_OF_L2.
 *
 * Not modelled: GIF, SMM, SEV, and STEP_SHADOW_POPS, _SYSCALL and _SYSRET, what kind of
 * instruction is under the step.
 */

/* enum nmi_state */
mtype = { NMI_OPEN, NMI_BLOCKED, NMI_RETIRING };

/* enum latch_event */
mtype = { LATCH_NMI, LATCH_IRET, LATCH_NOT_NEXT, LATCH_END, LATCH_FORGET };

/* enum nmi_want */
mtype = { WANT_NOTHING, WANT_VNMI, WANT_STEP };

/* enum nmi_loan */
mtype = { LOAN_NONE, LOAN_VNMI, LOAN_FIRST_VNMI, LOAN_HELD_VNMI, STEP_IRET, STEP_TASK_SWITCH, STEP_SHADOW };

/* struct nmi_latch; where the intercepted IRET is, as a depth */
mtype state = NMI_OPEN;
byte latch_at;
bool tried;

/* struct svm_nmi */
bool enter;
bool in_play;
bool owned;
mtype want = WANT_NOTHING;
mtype lent = LOAN_NONE;

/* The VMCB */
bool intercept_iret;
bool tf;			/* ours, in RFLAGS */

bool stepped;

/* The CPU knows nothing of NMI blocking. */
inline cpu_took_nmi() { skip }
inline cpu_nmi_interrupted() { skip }
inline host_timer() { skip }
inline moved() { skip }
inline cpu_iret_begins() { skip }
inline cpu_iret_retired() { skip }
inline cpu_iret_exits() { skip }

/* EVENTINJ under TF: the frame in the guest's memory would show it. */
inline cpu_injects()
{
	must(unseen, !tf)
}

/* #DB after an instruction that was stepped, or what is taken before it. */
inline cpu_stepped()
{
	if
	:: tf && exit == NONE && STEPS_TRAP -> exit = DB
	:: tf && exit == NONE -> exit = INTR
	:: else
	fi
}

/* latch.h */

inline nmi_rearm()
{
	enter = L2_IN_PLAY || state == NMI_RETIRING || want != WANT_NOTHING;
	in_play = enter || state == NMI_BLOCKED
}

inline nmi_want(what)
{
	want = what;
	nmi_rearm()
}

inline nmi_ask_again()
{
	if
	:: nmi_pending > 0 -> req_event = true
	:: else
	fi
}

/* latch.c */

/* The intercept for L2's latch is lent by emulate_vnmi(). */
inline latch_move(what)
{
	if
	:: what == LATCH_NMI -> state = NMI_BLOCKED
	:: what == LATCH_IRET -> state = NMI_RETIRING
	:: what == LATCH_NOT_NEXT -> state = (state == NMI_OPEN -> NMI_OPEN : NMI_BLOCKED)
	:: what == LATCH_END || what == LATCH_FORGET -> state = NMI_OPEN
	fi;
	intercept_iret = (LATCH_OF_L2 -> intercept_iret : state == NMI_BLOCKED);
	nmi_want(WANT_NOTHING)
}

inline latch_open()
{
	latch_move(LATCH_END);
	nmi_ask_again()
}

inline iret_intercepted()
{
	latch_at = depth;
	tried = false;
	latch_move(LATCH_IRET)
}

inline iret_faulted()
{
	if
	:: LATCH_OF_L2 -> latch_move(LATCH_NOT_NEXT)
	:: else -> latch_open()
	fi
}

inline iret_is_not_next()
{
	if
	:: event == EXC && tried -> iret_faulted()
	:: else -> latch_move(LATCH_NOT_NEXT)
	fi
}

/* An exit in RETIRING: has the IRET retired, faulted, or is it still ahead? */
inline look_for_iret()
{
	if
	:: stepped || !latch_at_iret -> latch_open()
	:: !stepped && latch_at_iret && vectoring == EXC -> iret_faulted()
	:: else -> tried = (exit == TASK_SWITCH || exit == FAULT)
	fi
}

/* loan.c */

inline step_lend()
{
	if
	:: state != NMI_RETIRING -> lent = STEP_SHADOW
	:: state == NMI_RETIRING -> lent = STEP_IRET
	:: state == NMI_RETIRING && depth == 1 && TASKS -> lent = STEP_TASK_SWITCH
	fi;
	tf = (lent != STEP_TASK_SWITCH)
}

inline step_take_back()
{
	stepped = (exit == DB);
	tf = false;
	if
	/* The guest has a cause of its own for this #DB. */
	:: exit == DB && depth < EXC_LEVELS -> owned = false
	/* An exception that is intercepted without the step as well. */
	:: exit == FAULT -> owned = false
	:: true -> owned = (exit == DB || exit == FAULT)
	fi
}

inline loan_make()
{
	step_lend()
}

inline loan_return()
{
	stepped = false;
	owned = false;
	if
	:: lent != LOAN_NONE -> step_take_back()
	:: else
	fi;
	lent = LOAN_NONE
}

/* nmi.c */

inline nmi_want_again()
{
	nmi_want(WANT_NOTHING);
	nmi_ask_again()
}

inline svm_nmi_cancel()
{
	if
	:: want != WANT_NOTHING -> nmi_want_again()
	:: else
	fi
}

inline iret_interception()
{
	intercept_iret = (LATCH_OF_L2 && intercept_iret);
	iret_intercepted();
	nmi_ask_again()
}

/* svm_nmi_handle_exit(), the exit handlers, svm_nmi_task_switch() */
inline handle_svm_exit()
{
	if
	:: exit == IRET -> iret_interception()
	/* The guest's own #DB. */
	:: exit == DB && !owned ->
		exc = true;
		req_event = true
	/* Given to the guest, or, if it is not only the step's, repaired. */
	:: exit == FAULT ->
		exc = true;
		exc_unblocks = at_iret[depth] && IRET_FAULT_UNBLOCKS;
		shadow = 0;
		req_event = true
	:: exit == FAULT && !owned -> skip
	:: exit == TASK_SWITCH && interrupted == NMI ->
		nmi_injected = false;
		take_nmi()
	:: exit == TASK_SWITCH && interrupted == NONE ->
		pop();
		blocked = false;
		task_switched();
		if
		:: nmi_pending > 0 -> req_event = true
		:: else
		fi
	:: exit == TASK_SWITCH && interrupted == NONE ->
		exc = true;
		exc_unblocks = IRET_FAULT_UNBLOCKS;
		req_event = true
	:: exit == NPF && interrupted == NONE && at_iret[depth] -> emulate_iret()
	:: exit == NPF -> skip
	:: exit == HLT -> halted = true
	:: else
	fi;
	owned = false
}
