/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VMX, soft vNMI: arch/x86/kvm/vmx/nmi.c, soft_vnmi.c and return_breakpoint.c on a
 * VMCS without virtual NMIs.  The CPU knows nothing of NMI blocking, and would
 * keep the host from its own NMIs if it were told to inject one.
 *
 * Time is counted in instructions.  Handlers keep IRQs off, the one guess that
 * soft vNMI has to make.
 */
#define IF_MATTERS
#define IRET_FAULT_UNBLOCKS	true
#define iret_may_switch		false
#define iret_must_switch	false
#define faults_exit		false
#define iret_has_faulted	false
#define EXC_LEVELS		2	/* exceptions in handlers */
#define may_nest		timed_out
#define may_stay_halted		(nmi_pending == 0 || timer)
#define mask_may_lag		(soft_nmi_blocked || timed_out)

#define TIMEOUT			2	/* soft_vnmi_timeout_ms */
#define TIMER			1	/* POLL_NS */
#define MAX_MISSES		2

/* At once with IRQs on, and back where the NMI came unless that was given up. */
#define back_home		(at_spot && depth == home)
#define at_address		(elsewhere || (at_spot && depth == home))
#define late_max		(((if_on && depth == 0) || (exact && back_home && !silent && !excused)) -> 0 : TIMEOUT)

#include "guest.pml"

/* struct vmx_nmi, struct loaded_vmcs */
bool soft_nmi_blocked;
bool waiting;
byte waited;			/* waited_ns */
byte ran;			/* ktime_get() - mark */

/* struct return_breakpoint; where it is, as a depth */
bool armed;
byte home;
bool lent;
bool pass;
byte misses;

/* The CPU and the guest */
mtype = { NMI_AS_EXCEPTION };
bool as_exception;		/* what is injected */
bool at_spot;			/* RIP at depth `home` is that of the breakpoint */
bool elsewhere;			/* so is RIP here, on another stack */
bool silent;			/* RFLAGS.RF, restored by IRET */
bool rf;			/* RFLAGS.RF, ours */
bool fired;
bool returned;
bool was_lent;
bool owned;			/* the exit is not the guest's, nor an interrupt's */

/* Ghosts */
bool timed_out;
bool exact;			/* the return is to be found at once */
bool excused;			/* the breakpoint is not to be had for this entry */

#include "kvm.pml"
#include "vmx.pml"

/* The CPU */

inline cpu_injects()
{
	must(host, event != NMI || as_exception);
	must(unseen, !rf)
}

inline cpu_took_nmi()
{
	timed_out = false;
	elsewhere = false
}

inline cpu_nmi_interrupted()
{
	vectoring = NMI_AS_EXCEPTION
}

inline cpu_iret_begins() { skip }
inline cpu_iret_exits() { skip }

/* The handler returns where it came from, or does not. */
inline cpu_iret_retired()
{
	at_spot = false;
	if
	:: exact && depth == home ->
		at_spot = true;
		silent = false
	:: exact && depth == home ->
		at_spot = true;
		silent = true
	:: true
	fi;
	elsewhere = false;
	returned = true
}

inline cpu_stepped()
{
	if
	:: soft_nmi_blocked && waited + ran < TIMEOUT + 1 -> ran++
	:: else
	fi;
	/* Code after the interrupted instruction may lead there again. */
	if
	:: !returned && depth == home && exact -> at_spot = false
	:: !returned && depth == home && exact ->
		at_spot = true;
		silent = false
	:: else
	fi;
	returned = false;
	elsewhere = false;
	rf = false
}

inline cpu_boundary()
{
	/* An NMI that waits has its clock running. */
	must(bounded, !(nmi_pending > 0 && soft_nmi_blocked) || waiting || kick);
	must(bounded, !waiting || waited + ran <= TIMEOUT);
	if
	:: lent && !rf && back_home && !silent ->
		exit = DB;
		fired = true
	:: lent && !rf && depth > home && elsewhere ->
		exit = DB;
		fired = true
	:: lent && !rf && depth > home && !elsewhere ->
		elsewhere = true;
		exit = DB;
		fired = true
	:: lent && !rf && depth > home && !elsewhere -> skip
	:: else
	fi;
	if
	:: exit == NONE && irq_window && irqs_open -> exit = IRQ_WINDOW
	:: else
	fi;
	if
	:: exit == NONE && timer && waiting && waited + ran >= TIMEOUT -> look_again()
	:: exit == NONE && timer && !waiting && late >= TIMER && shadow == 0 -> look_again()
	:: else
	fi
}

/* User space has moved the guest. */
inline moved()
{
	elsewhere = false;
	at_spot = at_spot && depth != home
}

/* return_breakpoint.c */

inline return_breakpoint_arm()
{
	exact = !(if_on && depth == 0);
	at_spot = true;
	armed = !(if_on && depth == 0);
	home = (depth < LEVELS - 1 -> depth : LEVELS);
	lent = false;
	misses = 0;
	pass = false
}

inline return_breakpoint_enter()
{
	rf = pass && event == NONE && at_address;
	pass = false;
	excused = false;
	if
	:: armed ->
		lent = true;
		pass = rf
	:: !armed -> rf = false
	/* The guest uses all slots, or user space some. */
	:: true ->
		rf = false;
		excused = true
	fi
}

inline return_breakpoint_take_back()
{
	lent = false
}

inline end_pass()
{
	if
	:: pass && at_address -> rf = false
	:: else -> pass = false
	fi
}

inline return_breakpoint_exit()
{
	was_lent = lent;
	returned = false;
	if
	:: armed ->
		if
		:: was_lent ->
			return_breakpoint_take_back();
			end_pass()
		:: else
		fi;
		if
		:: vectoring == NONE ->
			returned = (at_spot && depth == home);
			if
			:: was_lent && fired ->
				if
				:: true -> owned = true
				/* The guest has a cause of its own. */
				:: depth < EXC_LEVELS
				fi;
				if
				:: !returned ->
					pass = true;
					misses++;
					armed = (misses < MAX_MISSES);
					exact = armed
				:: else
				fi
			:: else
			fi
		:: else
		fi
	:: else
	fi;
	fired = false
}

/* soft_vnmi.c */

inline soft_vnmi_count_time()
{
	waited = (waited + ran > TIMEOUT -> TIMEOUT : waited + ran);
	ran = 0
}

inline soft_vnmi_block()
{
	soft_nmi_blocked = true;
	known_unmasked = false;
	enter = true;
	waiting = false;
	waited = 0;
	ran = 0
}

inline end_blocking()
{
	soft_nmi_blocked = false;
	armed = false;
	waiting = false
}

inline soft_vnmi_unblock()
{
	if
	:: nmi_pending > 0 -> req_event = true
	:: else
	fi;
	end_blocking()
}

inline soft_vnmi_blocked()
{
	if
	:: soft_nmi_blocked && !waiting && halted && nmi_pending > 0 -> soft_vnmi_wait()
	:: else
	fi;
	if
	:: soft_nmi_blocked && irqs_open && event == NONE -> soft_vnmi_unblock()
	:: else
	fi;
	if
	:: soft_nmi_blocked && waiting && halted -> timer = true
	:: else
	fi;
	if
	:: soft_nmi_blocked && (waiting || (!armed && nmi_pending > 0)) && waited >= TIMEOUT ->
		timed_out = true;
		soft_vnmi_unblock()
	:: else
	fi
}

/* Halted time counts; the timer wakes the vCPU. */
inline host_timer()
{
	if
	:: timer ->
		if
		:: waiting && halted -> waited = TIMEOUT
		:: else
		fi;
		look_again()
	:: else
	fi
}

inline soft_vnmi_wait()
{
	if
	:: !waiting ->
		waiting = true;
		waited = (armed -> 0 : waited);
		ran = 0
	:: else
	fi;
	timer = true;
	irq_window = true
}

inline soft_vnmi_enter()
{
	if
	:: soft_nmi_blocked ->
		enter = true;
		as_exception = (event == NMI);
		return_breakpoint_enter();
		ran = 0
	:: else
	fi
}

inline took_irq_window()
{
	if
	:: exit == IRQ_WINDOW && nmi_pending > 0 ->
		irq_window = false;
		owned = true
	/* An interrupt waits for it as well. */
	:: true
	fi
}

inline soft_vnmi_exit()
{
	if
	:: vectoring == NMI_AS_EXCEPTION -> vectoring = NMI
	:: else
	fi;
	if
	:: !soft_nmi_blocked -> known_unmasked = true
	:: soft_nmi_blocked ->
		return_breakpoint_exit();
		if
		:: vectoring == NONE && !returned && irqs_open -> took_irq_window()
		:: else
		fi;
		if
		:: vectoring == NONE && (returned || irqs_open) && owned -> end_blocking()
		:: vectoring == NONE && (returned || irqs_open) && !owned -> soft_vnmi_unblock()
		:: else -> soft_vnmi_count_time()
		fi
	fi
}

/* nmi.c */

inline get_nmi_mask()
{
	nmi_mask = soft_nmi_blocked
}

inline set_nmi_mask()
{
	if
	:: nmi_mask && !soft_nmi_blocked -> soft_vnmi_block()
	:: !nmi_mask && soft_nmi_blocked -> soft_vnmi_unblock()
	:: else
	fi
}

inline nmi_allowed()
{
	soft_vnmi_blocked();
	allowed = (!soft_nmi_blocked && shadow == 0)
}

inline soft_vnmi_inject()
{
	return_breakpoint_arm();
	soft_vnmi_block()
}

inline inject_nmi()
{
	known_unmasked = false;
	soft_vnmi_inject();
	event = NMI
}

inline enable_nmi_window()
{
	if
	:: soft_nmi_blocked -> soft_vnmi_wait()
	:: else -> next_boundary_wait()
	fi
}

inline vmx_nmi_enter()
{
	enter = false;
	nmi_owned = false;
	soft_vnmi_enter()
}

inline delivery_aborted()
{
	nmi_injected = true;
	soft_nmi_blocked = false;
	armed = false
}

inline vmx_nmi_took_task_gate()
{
	nmi_injected = false;
	soft_vnmi_inject()
}

/* The clock starts anew on a new vCPU. */
inline create()
{
	soft_nmi_blocked = false;
	known_unmasked = false;
	waiting = false;
	armed = false;
	exact = false;
	timer = false;
	irq_window = false;
	enter = false;
	nmi_owned = false;
	late = 0
}

inline reset()
{
	nmi_owned = false;
	known_unmasked = false;
	soft_vnmi_unblock()
}

/* vmx.c */

inline after_exit()
{
	again = false;
	owned = false;
	as_exception = false;
	if
	:: !known_unmasked -> soft_vnmi_exit()
	:: else
	fi;
	if
	:: owned -> own_exit()
	:: else
	fi;
	if
	:: !again -> complete_interrupts()
	:: else
	fi
}

inline handle_exit()
{
	if
	:: exit == DB && !nmi_owned ->
		exc = true;
		req_event = true
	:: exit == IRQ_WINDOW && !nmi_owned ->
		irq_window = false;
		req_event = true
	:: exit == FAULT ->
		exc = true;
		exc_unblocks = at_iret[depth];
		req_event = true
	:: exit == FAULT -> skip
	:: exit == TASK_SWITCH ->
		vmx_nmi_took_task_gate();
		take_nmi();
		cpu_took_nmi()
	:: exit == NPF && interrupted == NONE && at_iret[depth] -> emulate_iret()
	:: exit == NPF -> skip
	:: exit == HLT -> halted = true
	:: else
	fi
}

inline forget()
{
	owned = false;
	returned = false;
	was_lent = false;
	if
	:: !soft_nmi_blocked ->
		exact = false;
		excused = false;
		at_spot = false;
		elsewhere = false;
		silent = false;
		home = 0;
		misses = 0;
		pass = false
	:: else
	fi;
	if
	:: !waiting ->
		waited = 0;
		ran = 0
	:: else
	fi
}

inline rest()
{
	must(at_rest, event == NONE && !lent && !rf);
	/* It may hold longer than the architecture's, never shorter. */
	must(at_rest, !blocked || soft_nmi_blocked || timed_out || nmi_injected)
}

#include "vcpu.pml"
