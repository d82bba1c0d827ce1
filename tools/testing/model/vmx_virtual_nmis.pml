/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VMX with virtual NMIs: arch/x86/kvm/vmx/nmi.c and virtual_nmis.c.  The CPU tracks blocking in the
 * VMCS and makes NMI-window exits.
 *
 * Not modelled: SMM, nested virtualization, vm86 real mode.
 */
#define IF_MATTERS
#define IRET_FAULT_UNBLOCKS	true
#define iret_may_switch		(depth == 1)	/* IRET may be a task switch */
#define iret_must_switch	false
#define faults_exit		false
#define iret_has_faulted	iret_fault
#define EXC_LEVELS		2	/* exceptions in handlers */
#define may_nest		false
#define may_stay_halted		(!deliverable)
#define mask_may_lag		false
#define late_max		TIMER	/* after an STI shadow with IRQs off */

#define TIMER			1	/* POLL_NS, in instructions */

#include "guest.pml"
#include "kvm.pml"
#include "vmx.pml"

/* struct vmx_nmi */
bool iret_fault;

/* The VMCS */
bool blocking_by_nmi;
bool nmi_window;

bool unblocking_due_to_iret;	/* bit 12 of what the exit reports */
bool was_blocking;
bool did_not_retire;

/* The CPU */

/* VM entry fails if it is to inject an NMI that is blocked. */
inline cpu_injects()
{
	must(host, event != NMI || (!blocking_by_nmi && shadow == 0))
}

inline cpu_took_nmi()
{
	blocking_by_nmi = true
}

/* Blocking stays behind when the delivery exits. */
inline cpu_nmi_interrupted()
{
	blocking_by_nmi = true
}

/* IRET drops the blocking before anything of it can fault. */
inline cpu_iret_begins()
{
	was_blocking = blocking_by_nmi;
	blocking_by_nmi = false
}

inline cpu_iret_exits()
{
	unblocking_due_to_iret = was_blocking
}

inline cpu_iret_retired() { skip }
inline cpu_stepped() { skip }
inline moved() { skip }

/*
 * The NMI window may open although STI still blocks injection.  Windows come in
 * front of an interrupt of the host.
 */
inline cpu_boundary()
{
	if
	:: nmi_window && !blocking_by_nmi && shadow != MOV_SS -> exit = NMI_WINDOW
	:: nmi_window && !blocking_by_nmi && shadow == STI -> skip
	:: !(nmi_window && !blocking_by_nmi && shadow != MOV_SS) &&
	   irq_window && irqs_open -> exit = IRQ_WINDOW
	:: else
	fi;
	/* "sti; cli" in a loop could hide from the timer; chance is on its side. */
	if
	:: exit == NONE && timer && late >= TIMER && shadow == 0 -> look_again()
	:: else
	fi
}

/* nmi.c */

/* The timer fires early, seen from the guest. */
inline host_timer()
{
	if
	:: timer -> look_again()
	:: else
	fi
}

/* virtual_nmis.c */

inline virtual_nmis_set_blocking(blocking)
{
	known_unmasked = !(blocking);
	blocking_by_nmi = blocking
}

inline get_nmi_mask()
{
	nmi_mask = !known_unmasked && blocking_by_nmi
}

inline set_nmi_mask()
{
	if
	:: nmi_mask != blocking_by_nmi ->
		if
		:: !nmi_mask && nmi_pending > 0 -> req_event = true
		:: else
		fi;
		virtual_nmis_set_blocking(nmi_mask)
	:: else
	fi
}

inline nmi_allowed()
{
	allowed = (!blocking_by_nmi && shadow == 0)
}

inline inject_nmi()
{
	known_unmasked = false;
	event = NMI
}

inline enable_nmi_window()
{
	if
	:: shadow != STI -> nmi_window = true
	:: else -> next_boundary_wait()
	fi
}

/* What is not an exception has the bit as well: EPT violations, PML, notify. */
inline iret_did_not_retire()
{
	did_not_retire = vectoring == NONE && unblocking_due_to_iret;
	if
	:: did_not_retire && exit == FAULT ->
		iret_fault = true;
		enter = true
	:: else
	fi
}

inline vmx_nmi_exit()
{
	iret_did_not_retire();
	if
	:: did_not_retire -> virtual_nmis_set_blocking(true)
	:: !did_not_retire && blocking_by_nmi -> skip
	:: !did_not_retire && !blocking_by_nmi ->
		known_unmasked = true;
		if
		:: exit == NMI_WINDOW ->
			nmi_window = false;
			own_exit()
		:: else
		fi
	fi
}

inline virtual_nmis_enter()
{
	if
	:: event == EXC -> virtual_nmis_set_blocking(false)
	:: else
	fi;
	iret_fault = false
}

inline vmx_nmi_enter()
{
	enter = false;
	nmi_owned = false;
	if
	:: iret_fault -> virtual_nmis_enter()
	:: else
	fi
}

inline delivery_aborted()
{
	nmi_injected = true;
	virtual_nmis_set_blocking(false)
}

inline vmx_nmi_took_task_gate()
{
	nmi_injected = false;
	virtual_nmis_set_blocking(true)
}

inline create()
{
	blocking_by_nmi = false;
	known_unmasked = false;
	nmi_window = false;
	irq_window = false;
	timer = false;
	enter = false;
	nmi_owned = false;
	iret_fault = false
}

/* vmx_vcpu_reset() has cleared the interruptibility state. */
inline reset()
{
	blocking_by_nmi = false;
	iret_fault = false;
	nmi_owned = false;
	known_unmasked = true
}

/* vmx.c */

inline after_exit()
{
	again = false;
	/* Undefined while an event is delivered: the worse of the two. */
	unblocking_due_to_iret = unblocking_due_to_iret || vectoring != NONE;
	if
	:: !known_unmasked -> vmx_nmi_exit()
	:: else
	fi;
	unblocking_due_to_iret = false;
	if
	:: !again -> complete_interrupts()
	:: else
	fi
}

inline handle_exit()
{
	if
	:: exit == NMI_WINDOW && !nmi_owned ->
		/* handle_nmi_window() */
		nmi_window = false;
		req_event = true
	:: exit == IRQ_WINDOW ->
		irq_window = false;
		req_event = true
	:: exit == FAULT ->
		exc = true;
		exc_unblocks = at_iret[depth];
		req_event = true
	:: exit == FAULT -> skip
	:: exit == TASK_SWITCH && interrupted == NMI ->
		vmx_nmi_took_task_gate();
		take_nmi()
	:: exit == TASK_SWITCH && interrupted == NONE ->
		/* The CPU has ended the blocking already. */
		blocked = false;
		if
		:: true -> pop()
		:: true ->
			exc = true;
			req_event = true
		fi
	:: exit == NPF && interrupted == NONE && at_iret[depth] -> emulate_iret()
	:: exit == NPF -> skip
	:: exit == HLT -> halted = true
	:: else
	fi
}

inline rest()
{
	must(at_rest, event == NONE);
	must(at_rest, blocking_by_nmi == blocked);
	must(at_rest, !(known_unmasked && blocking_by_nmi))
}

inline forget()
{
	was_blocking = false;
	did_not_retire = false
}

#include "vcpu.pml"
