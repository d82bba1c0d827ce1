/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SVM, IRET window: arch/x86/kvm/svm/nmi.c and iret_window.c on a CPU without
 * vNMI.  The latch is in svm.pml.
 */
#define LATCH_OF_L2		false
#define L2_IN_PLAY		false
#define IRET_FAULT_UNBLOCKS	true
#define TASKS			true	/* IRET may be a task switch */
#define iret_may_switch		(depth == 1 && step_lent != STEP_IRET)
#define iret_must_switch	(step_lent == STEP_TASK_SWITCH)
#define STEPS_TRAP		(step_lent != STEP_TASK_SWITCH)
#define faults_exit		(step_lent != STEP_NONE)
#define window_at_iret		(at_iret[depth] && depth == window_at)
#define iret_has_faulted	(state == NMI_RETIRING && tried)
#define EXC_LEVELS		2	/* exceptions in handlers */
#define may_nest		false
#define may_stay_halted		(!deliverable)
#define mask_may_lag		false
#define late_max		0

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
	:: nmi_mask && state == NMI_OPEN -> iret_window_block()
	:: !nmi_mask && state != NMI_OPEN -> iret_window_open()
	fi
}

inline nmi_allowed()
{
	if
	:: !nmi_injected && event != NONE -> allowed = BUSY
	:: else -> allowed = (state == NMI_OPEN && shadow == 0)
	fi
}

inline inject_nmi()
{
	event = NMI;
	iret_window_block()
}

inline enable_nmi_window()
{
	if
	:: state == NMI_BLOCKED -> skip
	:: else -> iret_window_wait()
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
	:: state == NMI_RETIRING -> iret_window_open()
	:: else
	fi
}

inline create()
{
	state = NMI_OPEN;
	intercept_iret = false;
	step = false;
	ready = false;
	window_at = 0;
	tried = false;
	svm_nmi_update()
}

inline reset()
{
	iret_window_open()
}

/* iret_window.c: what needs more than the latch */

/* Where there is a choice user space may be debugging the guest. */

inline deliver()
{
	ready = false;
	if
	:: nmi_pending == 0 -> skip
	:: nmi_pending > 0 ->
		nmi_allowed();
		if
		:: true ->
			req_event = true;
			kick = true
		:: event == NONE && allowed == 1 ->
			nmi_pending--;
			nmi_injected = true;
			inject_nmi();
			if
			:: nmi_pending > 0 -> enable_nmi_window()
			:: else
			fi
		fi
	fi
}

inline svm_nmi_enter()
{
	if
	:: state == NMI_RETIRING && (event != NONE || !window_at_iret) ->
		iret_is_not_next()
	:: !(state == NMI_RETIRING && (event != NONE || !window_at_iret)) && ready ->
		deliver()
	:: else
	fi;
	if
	:: step && event != NONE ->
		ask_again();
		kick = true
	:: step && event == NONE -> step_lend()
	:: else
	fi
}

inline reenter_at_iret()
{
	intercept_iret = false;
	iret_intercepted();
	if
	:: nmi_pending > 0 -> iret_window_wait()
	:: else
	fi;
	reenter = true
}

inline reenter_after_step()
{
	owned = false;
	ready = (nmi_pending > 0);
	set_open();
	reenter = true
}

inline svm_nmi_exit()
{
	stepped = false;
	if
	:: exit == IRET && state == NMI_BLOCKED -> reenter_at_iret()
	:: true ->
		if
		:: step_lent != STEP_NONE -> step_take_back()
		:: else
		fi;
		if
		:: stepped && owned -> reenter_after_step()
		:: true ->
			if
			:: step -> ask_again()
			:: else
			fi;
			if
			:: state == NMI_RETIRING -> look_for_iret()
			:: else
			fi;
			svm_nmi_update()
		fi
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
	complete_interrupts();
	if
	:: in_play -> svm_nmi_exit()
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

/* The IRET intercept comes in front of everything that IRET does, but its fetch. */
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
	:: iret_unseen && state == NMI_RETIRING && window_at_iret -> blocked = true
	:: else
	fi;
	must(at_rest, !tf && step_lent == STEP_NONE && event == NONE);
	get_nmi_mask();
	must(at_rest, nmi_mask == (blocked || nmi_injected))
}

inline forget()
{
	stepped = false;
	if
	:: state != NMI_RETIRING ->
		window_at = 0;
		tried = false
	:: else
	fi
}

#include "vcpu.pml"
