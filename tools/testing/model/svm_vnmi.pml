/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SVM, vNMI: arch/x86/kvm/svm/nmi.c and vnmi.c on a CPU that delivers NMIs by
 * itself.  V_NMI is one latch; two NMIs that meet where none can be taken are one.
 *
 * Not modelled: GIF, SMM, nested virtualization.
 */
#define IRET_FAULT_UNBLOCKS	false	/* by the manual */
#define iret_may_switch		(depth == 1)	/* IRET may be a task switch */
#define iret_must_switch	false
#define faults_exit		false
#define iret_has_faulted	false
#define EXC_LEVELS		2	/* exceptions in handlers */
#define may_nest		false
#define may_stay_halted		(!deliverable)
#define mask_may_lag		false
#define late_max		0

#define HAND_OVER()		svm_nmi_hand_over()
#define GOES_FIRST()		svm_nmi_goes_first()
#define vcpu_load()		svm_nmi_vcpu_load()
bool handed;			/* struct svm_nmi, as are those below */
bool goes_first;		/* scratch */

#include "guest.pml"
#include "kvm.pml"

/* struct svm_nmi */
bool enter;
bool in_play;
mtype = { WANT_NOTHING, WANT_VNMI };
mtype want = WANT_NOTHING;
mtype = { LOAN_NONE, LOAN_VNMI };
mtype lent = LOAN_NONE;

/* int_ctl of the VMCB */
bool v_nmi;
bool v_nmi_mask;

/* The CPU */

inline cpu_injects() { skip }
inline host_timer() { skip }
inline moved() { skip }
inline cpu_iret_begins() { skip }
inline cpu_iret_exits() { skip }
inline cpu_stepped() { skip }

inline cpu_took_nmi()
{
	v_nmi_mask = true
}

/* An exit during the delivery leaves V_NMI_MASK clear. */
inline cpu_nmi_interrupted()
{
	v_nmi_mask = false
}

inline cpu_iret_retired()
{
	v_nmi_mask = false
}

inline cpu_boundary()
{
	if
	:: v_nmi && !v_nmi_mask && shadow == 0 ->
		v_nmi = false;
		if
		:: true ->
			take_nmi();
			cpu_took_nmi()
		:: true ->
			exit = NPF;
			vectoring = NMI;
			cpu_nmi_interrupted()
		:: true ->
			exit = TASK_SWITCH;
			vectoring = NMI;
			cpu_nmi_interrupted()
		fi
	:: v_nmi && !v_nmi_mask && shadow == 0 && kick -> exit = INTR
	:: else
	fi
}

/* latch.h */

inline nmi_rearm()
{
	enter = (want != WANT_NOTHING || handed);
	in_play = enter
}

inline nmi_want(what)
{
	want = what;
	nmi_rearm()
}

inline nmi_want_again()
{
	nmi_want(WANT_NOTHING);
	if
	:: nmi_pending > 0 -> req_event = true
	:: else
	fi
}

/* loan.c */

inline vnmi_lend()
{
	if
	:: v_nmi_mask || shadow != 0 ->
		/* Two become one only where the CPU would not take the first. */
		must(once, nmi_pending == 1 || blocked || shadow != 0);
		owed = owed - (nmi_pending - 1);
		nmi_pending = 1
	:: else
	fi;
	lent = LOAN_VNMI;
	v_nmi = true
}

inline vnmi_take_back()
{
	lent = LOAN_NONE;
	if
	:: v_nmi -> v_nmi = false
	:: else -> nmi_pending--
	fi
}

/* vnmi.c; only kvm.ko since 6.4 asks for it */

inline svm_nmi_hand_over()
{
	if
	:: nmi_pending > 0 && !handed ->
		nmi_pending--;
		handed = true;
		nmi_rearm()
	:: else
	fi
}

inline svm_nmi_goes_first()
{
	goes_first = handed && !v_nmi_mask
}

inline vnmi_take_handed()
{
	handed = false;
	nmi_pending++;
	nmi_rearm()
}

/* nmi.c */

inline svm_nmi_vcpu_load()
{
	if
	:: handed ->
		vnmi_take_handed();
		req_event = true
	:: else
	fi
}

inline get_nmi_mask()
{
	nmi_mask = v_nmi_mask
}

inline set_nmi_mask()
{
	if
	:: nmi_mask != v_nmi_mask ->
		v_nmi_mask = nmi_mask;
		nmi_want_again()
	:: else
	fi
}

inline nmi_allowed()
{
	allowed = (!v_nmi_mask && shadow == 0)
}

inline inject_nmi()
{
	event = NMI
}

inline enable_nmi_window()
{
	nmi_want(WANT_VNMI)
}

inline delivery_aborted()
{
	nmi_injected = true;
	v_nmi_mask = true
}

inline svm_nmi_task_switch()
{
	v_nmi_mask = false;
	nmi_want_again()
}

inline create()
{
	v_nmi = false;
	handed = false;
	v_nmi_mask = false;
	nmi_want(WANT_NOTHING)
}

/* init_vmcb() has cleared the mask. */
inline reset()
{
	handed = false;
	nmi_want(WANT_NOTHING);
	v_nmi_mask = false
}

inline svm_nmi_cancel()
{
	if
	:: want != WANT_NOTHING -> nmi_want_again()
	:: else
	fi
}

inline svm_nmi_enter()
{
	if
	:: handed ->
		vnmi_take_handed();
		nmi_want(WANT_VNMI)
	:: else
	fi;
	if
	:: want == WANT_VNMI && nmi_pending > 0 -> vnmi_lend()
	:: else
	fi
}

inline svm_nmi_exit()
{
	if
	:: lent == LOAN_VNMI -> vnmi_take_back()
	:: else
	fi;
	if
	:: want != WANT_NOTHING && !(nmi_pending > 0 && v_nmi_mask) -> nmi_want_again()
	:: else
	fi;
	nmi_rearm()
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
	if
	:: in_play -> svm_nmi_exit()
	:: else
	fi;
	complete_interrupts()
}

inline cancel()
{
	vectoring = event;
	event = NONE;
	svm_nmi_cancel();
	complete_interrupts()
}

inline handle_exit()
{
	if
	:: exit == FAULT ->
		exc = true;
		req_event = true
	:: exit == FAULT -> skip
	:: exit == TASK_SWITCH && interrupted == NMI ->
		nmi_injected = false;
		take_nmi()
	:: exit == TASK_SWITCH && interrupted == NONE ->
		pop();
		blocked = false;
		svm_nmi_task_switch()
	:: exit == TASK_SWITCH && interrupted == NONE ->
		exc = true;
		req_event = true
	:: exit == NPF && interrupted == NONE && at_iret[depth] -> emulate_iret()
	:: exit == NPF -> skip
	:: exit == HLT -> halted = true
	:: else
	fi
}

inline rest()
{
	must(at_rest, !v_nmi && lent == LOAN_NONE && event == NONE);
	must(at_rest, v_nmi_mask == (blocked || nmi_injected))
}

inline forget()
{
	goes_first = false
}

#include "vcpu.pml"
