/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one process: a vCPU's thread, from outside through an entry, some of the
 * guest's instructions and an exit, over and over.
 *
 * A path in which a vendor module's vcpu_run() enters the guest again by itself says
 * by enters_again that this is what has just come about.
 *
 * LIVELOCK is for the search for entries and exits that lead nowhere: cycles in
 * which the guest executes nothing, and nothing comes from outside either.
 */
#ifndef enters_again
#define enters_again	false
#endif

#ifndef LIVELOCK
#define progress_world		outside
#define progress_exit		exited
#define progress_instruction	executed
#endif

active proctype vcpu()
{
	atomic {
		create();
		goto outside
	};

outside:
	atomic {
		exit = NONE;
		kick = false;
		rest();
		must(once, owed == nmi_pending + nmi_injected + handed);
		iret_unseen = false;
		clear_scratch();
		if
		:: true ->
			world();
			goto progress_world
		:: halted ->
			wake();
			goto progress_world
		:: !halted
		fi;

		/* vcpu_enter_guest() */
		if
		:: req_event -> inject_events()
		:: else
		fi;
		if
		:: true ->
			/* cancelled: a signal, a request, a page table to load */
			cancel();
			goto progress_world
		:: true
		fi;
		goto entry
	};

entry:
	atomic {
		before_entry();
		goto vmrun
	};

vmrun:
	atomic {
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
		reenter = false;
		after_exit();
		if
		:: enters_again ->
			exit = NONE;
			goto vmrun
		/* kvm_vcpu_exit_request(), perhaps for an NMI that has just come */
		:: reenter -> goto progress_world
		:: reenter && req_event -> goto outside
		:: reenter && !req_event ->
			exit = NONE;
			goto entry
		:: !reenter && !enters_again ->
			handle_exit();
			goto outside
		fi
	}
}
