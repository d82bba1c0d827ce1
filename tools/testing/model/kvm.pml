/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kvm.ko and the world around one vCPU: x86.c as far as NMIs go, with the names
 * of its functions, and everything that can happen to a vCPU between two of its
 * instructions.
 *
 * NMIs arrive without end, so there are two in flight and a third as often as can
 * be.  Whatever can go wrong may do so any number of times.  The verifier's states
 * are finite for all that.
 *
 * A path (the files that include this one) defines what kvm.ko calls in a vendor
 * module and what the CPU does by itself:
 *
 *   create() reset()		a new vCPU; INIT
 *   get_nmi_mask() set_nmi_mask() nmi_allowed() inject_nmi() enable_nmi_window()
 *   delivery_aborted() cancel()
 *   before_entry() after_exit() handle_exit() host_timer() moved()
 *   cpu_injects() cpu_took_nmi() cpu_nmi_interrupted() cpu_boundary() cpu_stepped()
 *   cpu_iret_begins() cpu_iret_retired() cpu_iret_exits()
 *   forget()			clear its own scratch
 *
 * and, if it has the hooks by which kvm.ko hands NMIs over before an entry (since 6.4):
 *
 *   HAND_OVER()			set_vnmi_pending()
 *   handed			is_vnmi_pending()
 *   vcpu_load()			user space is about to look at a vCPU
 *   GOES_FIRST() goes_first	in interrupt_allowed(): that NMI keeps an IRQ back
 *   rest()			its share of the property at_rest
 */
byte nmi_pending;
bool nmi_injected;
bool exc;			/* vcpu->arch.exception, pending or injected */
bool req_event;			/* KVM_REQ_EVENT */
bool halted;
bool kick;			/* an IPI waits for the VM entry, and makes an exit */
bool reenter;			/* EXIT_FASTPATH_REENTER_GUEST */
mtype interrupted = NONE;	/* what vectoring was at the last exit */
mtype event = NONE;		/* to be injected: EVENTINJ, VM-entry interruption info */

/* Results and scratch: of no meaning from one step of vcpu.pml to the next */
bool nmi_mask;
byte allowed;
#define BUSY	2		/* -EBUSY */
byte limit;
bool can_inject;
bool busy;

/* What differs in nothing that matters shall be one state. */
inline clear_scratch()
{
	nmi_mask = false;
	allowed = 0;
	limit = 0;
	can_inject = false;
	busy = false;
	was = 0;
	reenter = false;
	interrupted = NONE;
	forget()
}

#ifndef HAND_OVER
#define handed			false
#define goes_first		false
#define GOES_FIRST()		skip
#define vcpu_load()		skip
#define HAND_OVER()		skip
#else
#define HANDS_OVER
#endif

/*
 * An NMI that has just come is vcpu->arch.nmi_queued.  @enters: the vCPU is about to enter
 * the guest, user space does not look.
 */
inline process_nmi(queued, enters)
{
	limit = 2;
	get_nmi_mask();
	if
	:: nmi_mask || nmi_injected -> limit = 1
	:: else
	fi;
	/* No other third NMI collapses than that of a CPU. */
	must(once, limit == ((blocked || nmi_injected) -> 1 : 2) || mask_may_lag);
	if
	:: handed -> limit--
	:: else
	fi;
	nmi_pending = nmi_pending + queued;
	if
	:: nmi_pending > limit -> nmi_pending = limit
	:: else
	fi;
	owed = nmi_pending + nmi_injected + handed;
	if
	:: true -> req_event = true
#ifdef HANDS_OVER
	:: enters ->
		HAND_OVER();
		if
		:: nmi_pending > 0 -> req_event = true
		:: else
		fi
#endif
	fi
}

/* kvm_check_and_inject_events() */
inline inject_events()
{
	can_inject = !exc && !nmi_injected;
	busy = false;
	req_event = false;
	if
	:: exc -> event = EXC
	:: !exc && nmi_injected -> inject_nmi()
	:: else
	fi;
	if
	:: nmi_pending > 0 && !can_inject -> busy = true
	:: nmi_pending > 0 && can_inject ->
		nmi_allowed();
		if
		:: allowed == BUSY -> busy = true
		:: allowed == 1 ->
			nmi_pending--;
			nmi_injected = true;
			inject_nmi();
			can_inject = false
		:: else
		fi;
		if
		:: nmi_pending > 0 && !busy -> enable_nmi_window()
		:: else
		fi
	:: else
	fi;
	/* An interrupt may be there. */
	GOES_FIRST();
	if
	:: can_inject && !busy && irqs_open && !goes_first ->
		must(order, !deliverable);
		event = IRQ
	:: !can_inject && !busy -> busy = true
	:: true
	fi;
	/* req_immediate_exit */
	if
	:: busy ->
		req_event = true;
		kick = true
	:: else
	fi
}

/*
 * svm_complete_interrupts(), __vmx_complete_interrupts().  The local APIC is not
 * modelled: an interrupt whose delivery was interrupted may or may not come again.
 */
inline complete_interrupts()
{
	nmi_injected = false;
	exc = false;
	if
	:: vectoring == NMI -> delivery_aborted()
	:: vectoring == EXC -> exc = true
	:: else
	fi;
	if
	:: vectoring != NONE -> req_event = true
	:: else
	fi;
	interrupted = vectoring;
	vectoring = NONE
}

/* Where the emulator is not told apart from user space. */
#ifndef EMULATOR_SET_NMI_MASK
#define EMULATOR_SET_NMI_MASK	set_nmi_mask
#endif

/* KVM does the IRET itself after an exit, as in real mode. */
inline emulate_iret()
{
	pop();
	blocked = false;
	nmi_mask = false;
	EMULATOR_SET_NMI_MASK()
}

/* VMRUN, VM entry: the event first, which an exit may interrupt. */
inline deliver_event()
{
	if
	:: event == EXC && exc_unblocks -> blocked = false
	:: else
	fi;
	exc_unblocks = false;
	if
	:: event == NONE
	:: event != NONE ->
		cpu_injects();
		exit = NPF;
		vectoring = event
	:: event == NMI ->
		cpu_injects();
		take_nmi();
		cpu_took_nmi()
	/* The gate of the NMI is a task gate. */
	:: event == NMI && depth == 0 ->
		cpu_injects();
		exit = TASK_SWITCH;
		vectoring = NMI
	:: event == EXC ->
		cpu_injects();
		exc = false;
		push()
	:: event == IRQ ->
		cpu_injects();
		shadow = 0
	fi;
	if
	:: vectoring == NMI -> cpu_nmi_interrupted()
	:: else
	fi;
	event = NONE
}

/* What user space and other CPUs do to a vCPU that is not running. */
inline world()
{
	if
	/* KVM_NMI, the local APIC, an MSI, the PIT */
	:: !halted -> process_nmi(1, true)
	:: halted ->
		vcpu_load();
		process_nmi(1, false);
		halted = false		/* KVM_REQ_NMI alone does that */
#ifdef HANDS_OVER
	/* An interrupt */
	:: true -> req_event = true
#endif
	:: true -> host_timer()
	/*
	 * An exception from user space; not before what is injected again.
	 * After a fault of IRET that KVM has repaired it is the IRET's.
	 */
	:: depth < EXC_LEVELS && !exc && !nmi_injected && !halted ->
		vcpu_load();
		exc = true;
		exc_unblocks = iret_has_faulted && IRET_FAULT_UNBLOCKS;
		req_event = true
	/* User space moves the guest: the IRET is not next any more. */
	:: !exc ->
		vcpu_load();
		at_iret[depth] = false;
		moved()
	/* KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS on a new vCPU */
	:: true ->
		vcpu_load();
		process_nmi(0, false);
		get_nmi_mask();
		create();
		exc_unblocks = false;
		set_nmi_mask();
		req_event = true
	/* INIT */
	:: true ->
		do
		:: depth > 0 -> pop()
		:: else -> break
		od;
#ifdef IF_MATTERS
		if_on = false;
#endif
		shadow = 0;
		exc = false;
		exc_unblocks = false;
		nmi_injected = false;
		nmi_pending = 0;
		halted = false;
		blocked = false;
		owed = 0;
		late = 0;
		reset();
		get_nmi_mask();
		must(at_rest, !nmi_mask);
		req_event = true
	fi
}

/* kvm_vcpu_has_events() */
inline wake()
{
	allowed = 0;
	if
	:: nmi_pending > 0 -> nmi_allowed()
	:: else
	fi;
	if
	:: allowed == 1 || exc -> halted = false
	:: allowed != 1 && !exc && irqs_open -> halted = false
	/* There is none. */
	:: allowed != 1 && !exc -> must(bounded, may_stay_halted)
	fi
}
