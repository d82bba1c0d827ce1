/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest, what it is entitled to, and the properties.
 *
 * The guest is a stack of contexts: the code that NMIs interrupt, handlers of
 * NMIs and of exceptions.  At each boundary the verifier tries every kind of
 * instruction: one that changes nothing, IRET and its faults, an exception, STI,
 * MOV SS, CLI, HLT.  Handlers run with IRQs off.
 *
 * Ghosts are what an observer with a look into both the guest and KVM knows.
 * No decision of the modelled code reads them.
 */

/* Each is 0 forever, and names what was violated: must(once, owed > 0) */
bool once;	/* an accepted NMI is delivered exactly once */
bool nesting;	/* none between a handler's entry and the end of its IRET */
bool order;	/* at one boundary: exception, NMI, IRQ */
bool unseen;	/* the guest does not see the mechanism */
bool at_rest;	/* outside VM entry all state is in KVM's fields */
bool bounded;	/* a pending NMI does not wait once its window is open */
bool host;	/* the host's own NMIs are not blocked, entries do not fail */

#define must(property, condition)	assert((condition) || property)

/* The deepest: an NMI in an exception in an NMI in code. */
#define LEVELS		(EXC_LEVELS + 2)

/* Events */
mtype = { NONE, NMI, EXC, IRQ };

/* Exits */
mtype = { INTR, HLT, FAULT, NPF, IRET, DB, TASK_SWITCH, NMI_WINDOW, IRQ_WINDOW };

/* Interrupt shadows, for `shadow` */
#define STI		1
#define MOV_SS		2

bool at_iret[LEVELS];		/* that context's next instruction is its IRET */
byte depth;
byte shadow;
byte was;			/* scratch: the shadow before an instruction */
#ifdef IF_MATTERS
bool if_on = true;		/* of the interrupted code */
#else
#define if_on	true
#endif
mtype exit = NONE;
mtype vectoring = NONE;		/* the event whose delivery the exit interrupted */

/* Ghosts */
bool blocked;			/* NMIs are, by the architecture */
byte owed;			/* accepted and not yet delivered */
byte late;			/* instructions for which one waited in vain */
bool exc_unblocks;		/* the exception that KVM injects is IRET's fault */
bool iret_unseen;		/* an IRET ran and no exit has shown it */

#ifndef irqs_open
#define irqs_open	(if_on && depth == 0 && shadow == 0)
#endif
#define deliverable	(owed > 0 && !blocked && shadow == 0)

/* Handlers that never return: the deepest takes the place of its like. */
inline push()
{
	depth = (depth < LEVELS - 1 -> depth + 1 : depth);
	at_iret[depth] = false;
	shadow = 0
}

inline pop()
{
	at_iret[depth] = false;
	depth--
}

/* The CPU enters the guest's NMI handler. */
inline take_nmi()
{
	must(nesting, !blocked || may_nest);
	must(once, owed > 0);
	must(order, shadow == 0 && !exc);
	owed--;
	late = 0;
	blocked = true;
	push()
}

/* An exception of the guest's own, as far as nothing intercepts it. */
inline raise()
{
	if
	:: faults_exit -> exit = FAULT
	:: else -> push()
	fi
}

/*
 * IRET of whatever handler it is.  It may fault; the fault goes to the guest,
 * with or without an exit in between, or KVM repairs it and the IRET runs again.
 */
inline iret()
{
	cpu_iret_begins();
	if
	:: iret_may_switch -> exit = TASK_SWITCH
	:: !iret_must_switch ->
		pop();
		blocked = false;
		iret_unseen = true;
		cpu_iret_retired()
	:: !iret_must_switch && depth < EXC_LEVELS && !faults_exit ->
		blocked = blocked && !IRET_FAULT_UNBLOCKS;
		iret_unseen = true;
		push()
	:: !iret_must_switch && depth < EXC_LEVELS && !faults_exit ->
		blocked = blocked && !IRET_FAULT_UNBLOCKS;
		exit = NPF;
		vectoring = EXC
	:: !iret_must_switch && depth < EXC_LEVELS ->
		cpu_iret_exits();
		exit = FAULT
	:: !iret_must_switch ->
		cpu_iret_exits();
		exit = NPF
	fi
}

inline other_instruction()
{
	was = shadow;
	if
	:: depth < EXC_LEVELS && (depth == 1 || shadow != 0) ->
		raise();
		if
		:: exit == FAULT -> shadow = was
		:: else
		fi
	:: true -> shadow = 0
	:: depth > 0 ->
		at_iret[depth] = true
	:: depth == 0 && was == 0 -> shadow = MOV_SS
#ifdef IF_MATTERS
	:: depth == 0 && was == 0 && !if_on ->
		if_on = true;
		shadow = STI
	:: depth == 0 && if_on ->
		if_on = false;
		shadow = 0
#endif
	:: depth == 0 ->
		shadow = 0;
		exit = HLT
	fi
}

inline instruction()
{
	if
	:: deliverable ->
		late++;
		must(bounded, late <= late_max)
	:: else
	fi;
	if
	:: at_iret[depth] -> iret()
	:: else -> other_instruction()
	fi
}
