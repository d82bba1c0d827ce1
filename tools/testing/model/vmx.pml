/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * arch/x86/kvm/vmx/nmi.c: what virtual NMIs and soft vNMI share.
 *
 * Not modelled: SMM, nested virtualization, vm86 real mode, CPUs that have the monitor
 * trap flag.
 */

#define enters_again		again	/* vmx_vcpu_run() does */

/* struct vmx_nmi, struct loaded_vmcs */
bool enter;
bool nmi_owned;			/* nmi.owned */
bool again;
bool timer;
bool known_unmasked;

/* The VMCS */
bool irq_window;

inline look_again()
{
	timer = false;
	req_event = true;
	kick = true
}

inline next_boundary_wait()
{
	irq_window = true;
	timer = true
}

inline before_entry()
{
	if
	:: enter -> vmx_nmi_enter()
	:: else
	fi
}

inline deliver()
{
	nmi_allowed();
	if
	:: allowed == 1 ->
		nmi_pending--;
		nmi_injected = true;
		inject_nmi()
	:: else -> enable_nmi_window()
	fi
}

/* Where there is a choice, may_reenter() may say no. */
inline own_exit()
{
	if
	:: true ->
		nmi_owned = true;
		enter = true;
		if
		:: nmi_pending > 0 -> req_event = true
		:: else
		fi
	:: !req_event && nmi_pending < 2 ->
		nmi_injected = false;
		exc = false;
		if
		:: nmi_pending > 0 -> deliver()
		:: else
		fi;
		before_entry();
		again = true
	fi
}

inline cancel()
{
	vectoring = event;
	event = NONE;
	complete_interrupts()
}
