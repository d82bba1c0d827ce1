/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SVM, IRET window: arch/x86/kvm/svm/nmi.c on a CPU without vNMI.  The latch is in
 * svm.pml.
 */
#define LATCH_OF_L2		false
#define L2_IN_PLAY		false
#define IRET_FAULT_UNBLOCKS	true
#define TASKS			true	/* IRET may be a task switch */
#define iret_may_switch		(depth == 1 && lent != STEP_IRET)
#define iret_must_switch	(lent == STEP_TASK_SWITCH)
#define STEPS_TRAP		(lent != STEP_TASK_SWITCH)
#define faults_exit		(lent != LOAN_NONE)
#define latch_at_iret		(at_iret[depth] && depth == latch_at)
#define iret_has_faulted	(state == NMI_RETIRING && tried)
#define EXC_LEVELS		2	/* exceptions in handlers */
#define may_nest		false
#define may_stay_halted		(!deliverable)
#define mask_may_lag		false
#define late_max		0
#define enters_again		again	/* svm_vcpu_run() does */

bool again;
bool delivered;

#include "guest.pml"
#include "svm.pml"
#include "kvm.pml"

/* nmi.c */

inline get_nmi_mask()
{
	nmi_mask = (state != NMI_OPEN)
}

inline set_nmi_mask()
{
	if
	:: nmi_mask == (state != NMI_OPEN) -> skip
	:: nmi_mask && state == NMI_OPEN -> latch_move(LATCH_NMI)
	:: !nmi_mask && state != NMI_OPEN -> latch_open()
	fi
}

inline nmi_allowed()
{
	allowed = (state == NMI_OPEN && shadow == 0)
}

inline inject_nmi()
{
	event = NMI;
	latch_move(LATCH_NMI)
}

inline enable_nmi_window()
{
	if
	:: state == NMI_BLOCKED -> skip
	:: else -> nmi_want(WANT_STEP)
	fi
}

inline delivery_aborted()
{
	nmi_injected = true
}

/* svm_nmi_task_switch() */
inline task_switched()
{
	if
	:: state == NMI_RETIRING -> latch_open()
	:: else
	fi
}

inline create()
{
	state = NMI_OPEN;
	intercept_iret = false;
	latch_at = 0;
	tried = false;
	nmi_want(WANT_NOTHING)
}

inline reset()
{
	latch_open()
}

/* Where there is a choice user space may be debugging the guest. */

inline svm_nmi_enter()
{
	if
	:: state == NMI_RETIRING && (event != NONE || !latch_at_iret) ->
		iret_is_not_next()
	:: else
	fi;
	if
	:: want == WANT_STEP && event != NONE ->
		nmi_want_again();
		kick = true
	:: want == WANT_STEP && event == NONE -> loan_make()
	:: else
	fi
}

inline reenter_at_iret()
{
	iret_intercepted();
	if
	:: nmi_pending > 0 ->
		want = WANT_STEP;
		loan_make()
	:: else
	fi;
	again = true
}

inline deliver()
{
	delivered = false;
	if
	:: nmi_pending == 0 -> skip
	:: nmi_pending > 0 ->
		nmi_injected = false;
		nmi_allowed();
		if
		:: true		/* an SMI waits */
		:: allowed == 1 ->
			nmi_pending--;
			nmi_injected = true;
			inject_nmi();
			if
			:: nmi_pending > 0 -> enable_nmi_window()
			:: else
			fi;
			delivered = true
		fi
	fi
}

inline reenter_after_step()
{
	latch_move(LATCH_END);
	deliver();
	if
	:: delivered ->
		owned = false;
		again = true
	:: else -> nmi_ask_again()
	fi
}

inline entry_is_over()
{
	loan_return();
	if
	:: stepped && owned -> reenter_after_step()
	:: true
	fi;
	if
	:: again
	:: else ->
		if
		:: want != WANT_NOTHING -> nmi_want_again()
		:: else
		fi;
		if
		:: state == NMI_RETIRING -> look_for_iret()
		:: else
		fi;
		nmi_rearm()
	fi
}

inline svm_nmi_exit()
{
	if
	:: exit == IRET && state == NMI_BLOCKED -> reenter_at_iret()
	:: enter -> entry_is_over()
	:: !enter
	fi
}

/* svm.c */

inline before_entry()
{
	if
	:: enter -> svm_nmi_enter()
	:: else
	fi
}

inline after_exit()
{
	again = false;
	if
	:: in_play -> svm_nmi_exit()
	:: else
	fi;
	if
	:: !again -> complete_interrupts()
	:: else
	fi
}

inline handle_exit()
{
	handle_svm_exit()
}

inline cancel()
{
	vectoring = event;
	event = NONE;
	svm_nmi_cancel();
	complete_interrupts()
}

/* The IRET intercept comes before everything that IRET does, but its fetch. */
inline cpu_boundary()
{
	if
	:: intercept_iret && at_iret[depth] && !kick -> exit = IRET
	:: intercept_iret && at_iret[depth] && !kick -> exit = NPF
	:: else
	fi
}

/*
 * An IRET that nobody waits for retires or faults without an exit, and the next
 * exit finds the vCPU at the same IRET on the same stack: the fault was repaired
 * by the guest, or it is the handler of something else.  Nothing tells this from
 * an IRET that has not run, and NMIs are taken to be blocked for one instruction,
 * that IRET.
 */
inline rest()
{
	if
	:: iret_unseen && state == NMI_RETIRING && latch_at_iret -> blocked = true
	:: else
	fi;
	must(at_rest, !tf && lent == LOAN_NONE && event == NONE);
	get_nmi_mask();
	must(at_rest, nmi_mask == (blocked || nmi_injected))
}

inline forget()
{
	stepped = false;
	again = false;
	delivered = false;
	if
	:: state != NMI_RETIRING ->
		latch_at = 0;
		tried = false
	:: else
	fi
}

#include "vcpu.pml"
