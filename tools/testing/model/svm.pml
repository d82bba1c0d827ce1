/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An AMD CPU, and arch/x86/kvm/svm/iret_window.c and step.c: what the IRET window
 * of L1 and the emulated vNMI of L2 share.  One latch; which of the two it is
 * decides LATCH_OF_L2.
 *
 * Not modelled: GIF, SMM, SEV, and STEP_SHADOW_POPS, what kind of instruction is
 * under the step.
 */

/* enum nmi_state */
mtype = { NMI_OPEN, NMI_BLOCKED, NMI_RETIRING };

/* enum nmi_step */
mtype = { STEP_NONE, STEP_IRET, STEP_TASK_SWITCH, STEP_SHADOW };

/* struct iret_window; where the intercepted IRET is, as a depth */
mtype state = NMI_OPEN;
byte window_at;
bool tried;

/* struct svm_nmi */
bool enter;
bool in_play;
bool owned;
bool ready;
bool step;
mtype step_lent = STEP_NONE;

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

/* #DB behind an instruction that was stepped, or what is taken in front of it. */
inline cpu_stepped()
{
	if
	:: tf && exit == NONE && STEPS_TRAP -> exit = DB
	:: tf && exit == NONE -> exit = INTR
	:: else
	fi
}

/* iret_window.c */

inline svm_nmi_update()
{
	enter = L2_IN_PLAY || state == NMI_RETIRING || step || ready;
	in_play = enter || state == NMI_BLOCKED
}

/* That for L2's latch is lent by emulate_vnmi(). */
#define without_iret_intercept	(intercept_iret && LATCH_OF_L2)

inline iret_window_block()
{
	state = NMI_BLOCKED;
	intercept_iret = intercept_iret || !LATCH_OF_L2;
	step = false;
	svm_nmi_update()
}

inline set_open()
{
	if
	:: state == NMI_BLOCKED -> intercept_iret = without_iret_intercept
	:: else
	fi;
	state = NMI_OPEN;
	step = false;
	svm_nmi_update()
}

inline iret_window_open()
{
	set_open();
	if
	:: nmi_pending > 0 -> req_event = true
	:: else
	fi
}

inline iret_window_wait()
{
	step = true;
	svm_nmi_update()
}

inline ask_again()
{
	step = false;
	ready = false;
	if
	:: nmi_pending > 0 -> req_event = true
	:: else
	fi
}

inline svm_nmi_cancel()
{
	if
	:: step || ready -> ask_again()
	:: else
	fi
}

inline iret_intercepted()
{
	state = NMI_RETIRING;
	window_at = depth;
	tried = false;
	enter = true
}

inline iret_interception()
{
	intercept_iret = without_iret_intercept;
	iret_intercepted();
	if
	:: nmi_pending > 0 -> req_event = true
	:: else
	fi
}

inline iret_faulted()
{
	if
	:: LATCH_OF_L2 -> iret_window_block()
	:: else -> iret_window_open()
	fi
}

inline iret_is_not_next()
{
	if
	:: event == EXC && tried -> iret_faulted()
	:: else -> iret_window_block()
	fi
}

/* step.c */

inline step_lend()
{
	if
	:: state != NMI_RETIRING -> step_lent = STEP_SHADOW
	:: state == NMI_RETIRING -> step_lent = STEP_IRET
	:: state == NMI_RETIRING && depth == 1 && TASKS -> step_lent = STEP_TASK_SWITCH
	fi;
	tf = (step_lent != STEP_TASK_SWITCH)
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
	fi;
	step_lent = STEP_NONE
}

/* iret_window.c again: has the IRET retired, faulted, or is it still ahead? */
inline look_for_iret()
{
	if
	:: stepped || !window_at_iret -> iret_window_open()
	:: !stepped && window_at_iret && interrupted == EXC -> iret_faulted()
	:: else -> tried = (exit == TASK_SWITCH || exit == FAULT)
	fi
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
