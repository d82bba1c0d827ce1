/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vNMI for L1, emulated: arch/x86/kvm/svm/nested_vnmi.c with the latch of
 * latch.c applied to L2.  The guest here is L2.  L1 is part of the world: it
 * sets V_NMI, injects again what an exit has interrupted, and has a latch and
 * NMIs of its own.
 *
 * Not modelled: GIF, SMM, and vNMI that the CPU has.
 */
#define LATCH_OF_L2		true
/* nested_vnmi_in_play() */
#define L2_IN_PLAY		(v_nmi || state != NMI_OPEN || l1_state != NMI_OPEN || event == NMI)
#define IRET_FAULT_UNBLOCKS	false	/* by the manual */
#define TASKS			true
#define iret_may_switch		(depth == 1 && lent != STEP_IRET)
#define iret_must_switch	(lent == STEP_TASK_SWITCH)
#define STEPS_TRAP		(lent != STEP_TASK_SWITCH)
#define faults_exit		(lent != LOAN_NONE)
#define latch_at_iret		(at_iret[depth] && depth == latch_at)
#define iret_has_faulted	false
#define EXC_LEVELS		2
#define may_nest		false
#define may_stay_halted		true
#define mask_may_lag		false
#define late_max		0
#define irqs_open		false	/* they make L2 exit */
#define EMULATOR_SET_NMI_MASK	emulator_set_nmi_mask

#include "guest.pml"
#include "svm.pml"
#include "kvm.pml"

/* struct svm_nmi: L1's latch; state, above, is L2's */
mtype l1_state = NMI_OPEN;
bool l1_blocked;		/* ghost */
bool to_l1;			/* L2 is to be left */

/* nested.ctl, which is what L1 reads in its VMCB when L2 has exited */
bool v_nmi;
bool v_nmi_mask;
mtype event_of_l1 = NONE;	/* EVENTINJ that L1 writes */
bool nested_run_pending;

/* nested_vnmi.c */

inline l1_goes_first()
{
	busy = (nested_run_pending && nmi_pending > 0 && l1_state == NMI_OPEN)
}

inline inject_into_l2()
{
	must(order, !nested_run_pending || nmi_pending == 0 || l1_state != NMI_OPEN);
	event = NMI;
	v_nmi = false;
	latch_move(LATCH_NMI)
}

inline emulate_vnmi()
{
	boundary_is_free = (event == NONE);
	if
	:: event == NMI -> latch_move(LATCH_NMI)
	:: else
	fi;
	l1_goes_first();
	if
	:: state == NMI_RETIRING -> want = WANT_STEP
	:: state == NMI_OPEN && v_nmi && !busy && !boundary_is_free -> kick = true
	:: state == NMI_OPEN && v_nmi && !busy && boundary_is_free && shadow != 0 -> want = WANT_STEP
	:: state == NMI_OPEN && v_nmi && !busy && boundary_is_free && shadow == 0 -> inject_into_l2()
	:: else
	fi;
	intercept_iret = (state == NMI_BLOCKED)
}

inline sync_masked()
{
	v_nmi_mask = (state != NMI_OPEN)
}

inline nested_vnmi_unmask()
{
	latch_open();
	intercept_iret = false;
	v_nmi_mask = false
}

inline svm_nmi_enter_l2()
{
	if
	:: l1_state == NMI_RETIRING -> l1_state = NMI_BLOCKED
	:: else
	fi;
	state = (v_nmi_mask -> NMI_BLOCKED : NMI_OPEN);
	nmi_rearm()
}

inline svm_nmi_leave_l2()
{
	if
	:: l1_state == NMI_RETIRING -> l1_state = NMI_BLOCKED
	:: else
	fi;
	state = NMI_OPEN;
	/* A delivery that was interrupted has not masked NMIs. */
	if
	:: nmi_injected -> v_nmi_mask = false
	:: else
	fi;
	nmi_want(WANT_NOTHING)
}

/* nmi.c: NMIs for L1 make L2 exit, what is injected again is L2's. */

inline nmi_allowed()
{
	if
	:: nested_run_pending || l1_state == NMI_OPEN -> allowed = BUSY
	:: else -> allowed = 0
	fi
}

inline inject_nmi()
{
	event = NMI;
	nmi_rearm()
}

inline enable_nmi_window() { skip }

inline delivery_aborted()
{
	nmi_injected = true
}

/* Only user space calls it while L2 runs, with what it has read or not. */
inline set_nmi_mask()
{
	if
	:: nmi_mask && l1_state != NMI_OPEN -> skip
	:: !nmi_mask && l1_state == NMI_OPEN -> skip
	:: nmi_mask && l1_state == NMI_OPEN -> l1_state = NMI_BLOCKED
	:: !nmi_mask && l1_state != NMI_OPEN -> l1_state = NMI_OPEN
	fi;
	nmi_rearm()
}

inline emulator_set_nmi_mask()
{
	nested_vnmi_unmask()
}

/* svm_nmi_task_switch() */
inline task_switched()
{
	nested_vnmi_unmask()
}

inline check_nested_events()
{
	to_l1 = (nmi_pending > 0 && l1_state == NMI_OPEN && !nested_run_pending)
}

/* nmi.c again */

inline svm_nmi_enter()
{
	if
	:: state == NMI_RETIRING && (event != NONE || !latch_at_iret) -> iret_is_not_next()
	:: else
	fi;
	emulate_vnmi();
	if
	:: want == WANT_STEP && event != NONE ->
		nmi_want_again();
		kick = true
	:: want == WANT_STEP && event == NONE -> loan_make()
	:: else
	fi
}

inline entry_is_over()
{
	loan_return();
	if
	:: want != WANT_NOTHING -> nmi_want_again()
	:: else
	fi;
	if
	:: state == NMI_RETIRING -> look_for_iret()
	:: else
	fi;
	sync_masked();
	nmi_rearm()
}

inline svm_nmi_exit()
{
	if
	:: enter -> entry_is_over()
	:: else
	fi
}

inline cpu_boundary()
{
	/* NMIs for L1 do not wait for L2. */
	must(bounded, nmi_pending == 0 || l1_state != NMI_OPEN || kick);
	if
	:: intercept_iret && at_iret[depth] && !kick -> exit = IRET
	:: intercept_iret && at_iret[depth] && !kick -> exit = NPF
	:: else
	fi
}

/* #VMEXIT from L2: what did not complete is for L1 to inject again. */
inline nested_vmexit()
{
	svm_nmi_leave_l2();
	if
	:: exc -> event_of_l1 = EXC
	:: nmi_injected -> event_of_l1 = NMI
	:: else
	fi;
	exc = false;
	nmi_injected = false;
	halted = false
}

/* What L1 does between #VMEXIT and VMRUN. */
inline l1_runs()
{
	must(once, owed == v_nmi + (event_of_l1 == NMI));
	must(at_rest, v_nmi_mask == blocked);
	must(at_rest, (l1_state != NMI_OPEN) == l1_blocked);
	if
	/* An NMI for L2: one waits at most. */
	:: owed == 0 ->
		v_nmi = true;
		owed = 1
	/* It takes its own NMI, or ends its handler. */
	:: nmi_pending > 0 && l1_state == NMI_OPEN ->
		nmi_pending--;
		l1_state = NMI_BLOCKED;
		l1_blocked = true
	:: l1_state != NMI_OPEN ->
		l1_state = NMI_OPEN;
		l1_blocked = false
	/* Its IRET is intercepted, and then comes VMRUN: it was not the next. */
	:: l1_state == NMI_BLOCKED -> l1_state = NMI_RETIRING
	:: true
	fi
}

inline vmrun()
{
	nested_run_pending = true;
	req_event = true;
	exc = (event_of_l1 == EXC);
	event = (event_of_l1 == NMI -> NMI : NONE);
	from_l1 = (event == NMI);
	intercept_iret = false;
	svm_nmi_enter_l2();
	event_of_l1 = NONE
}

inline forget()
{
	stepped = false;
	boundary_is_free = false;
	to_l1 = false;
	if
	:: state != NMI_RETIRING ->
		latch_at = 0;
		tried = false
	:: else
	fi
}

#ifndef LIVELOCK
#define progress_world		outside
#define progress_l1		l1
#define progress_exit		exited
#define progress_instruction	executed
#endif

bool boundary_is_free;
bool from_l1;			/* L1's EVENTINJ is in place */

active proctype vcpu()
{
l1:
	atomic {
		clear_scratch();
		if
		:: true ->
			l1_runs();
			goto progress_l1
		:: nmi_pending == 0 ->
			nmi_pending = 1;
			goto progress_l1
		:: true ->
			vmrun();
			goto progress_world
		fi
	};

outside:
	atomic {
		exit = NONE;
		kick = false;
		must(at_rest, !tf && lent == LOAN_NONE && (event == NONE || from_l1));
		must(at_rest, v_nmi_mask == (blocked || nmi_injected));
		must(at_rest, (l1_state != NMI_OPEN) == l1_blocked);
		must(once, owed == v_nmi + nmi_injected + from_l1);
		iret_unseen = false;
		clear_scratch();
		if
		:: nmi_pending == 0 && !nested_run_pending ->
			/* An NMI for L1. */
			nmi_pending = 1;
			req_event = true;
			halted = false;
			goto progress_world
		/* KVM_SET_VCPU_EVENTS */
		:: !nested_run_pending ->
			if
			:: nmi_mask = (l1_state != NMI_OPEN)
			:: nmi_mask = (l1_state == NMI_OPEN)
			fi;
			set_nmi_mask();
			l1_blocked = nmi_mask;
			nmi_mask = false;
			req_event = true;
			goto progress_world
		/* KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE on a new vCPU */
		:: !nested_run_pending ->
			want = WANT_NOTHING;
			svm_nmi_enter_l2();
			req_event = true;
			goto progress_world
		:: halted && !nested_run_pending ->
			/* nested_vnmi_has_events() */
			if
			:: v_nmi && !v_nmi_mask -> halted = false
			:: else -> must(bounded, !deliverable)
			fi;
			goto progress_world
		:: !halted
		fi;

		if
		:: req_event ->
			check_nested_events();
			if
			:: to_l1 ->
				nested_vmexit();
				goto progress_l1
			:: else
			fi;
			if
			:: event == NONE -> inject_events()
			:: event != NONE ->
				/* VMRUN with EVENTINJ; an NMI for L1 waits for its end. */
				req_event = (nmi_pending > 0);
				kick = (nmi_pending > 0)
			fi
		:: else
		fi;
		if
		:: !nested_run_pending ->
			/* cancelled */
			vectoring = event;
			event = NONE;
			svm_nmi_cancel();
			complete_interrupts();
			goto progress_world
		:: true
		fi;
		if
		:: enter -> svm_nmi_enter()
		:: else
		fi;
		from_l1 = false;
		deliver_event();
		clear_scratch();
		if
		:: exit != NONE -> goto progress_exit
		:: else -> goto boundary
		fi
	};

boundary:
	atomic {
		cpu_boundary();
		if
		:: exit == NONE && kick -> exit = INTR
		:: else
		fi;
		if
		:: exit == NPF -> goto progress_exit
		:: exit != NONE && exit != NPF -> goto exited
		:: exit == NONE ->
			exit = INTR;
			goto progress_exit
		:: exit == NONE ->
			instruction();
			cpu_stepped();
			clear_scratch();
			goto progress_instruction
		fi
	};

#ifdef LIVELOCK
progress_l1:
	goto l1;
progress_world:
	goto outside;
progress_exit:
	goto exited;
progress_instruction:
	goto executed;
#endif

executed:
	atomic {
		if
		:: exit == NONE -> goto boundary
		:: else -> goto exited
		fi
	};

exited:
	atomic {
		if
		:: in_play -> svm_nmi_exit()
		:: else
		fi;
		nested_run_pending = false;
		complete_interrupts();
		if
		/* L1 intercepts this one. */
		:: (exit == INTR || exit == HLT || exit == NPF || exit == FAULT || exit == IRET) && !owned ->
			nested_vmexit();
			goto l1
		:: true ->
			handle_svm_exit();
			goto outside
		fi
	}
}
