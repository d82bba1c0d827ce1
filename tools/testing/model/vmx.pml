/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * arch/x86/kvm/vmx/nmi.c: what virtual NMIs and soft vNMI share.
 *
 * Not modelled: SMM, nested virtualization, vm86 real mode.
 */

/* struct vmx_nmi, struct loaded_vmcs */
bool enter;
bool nmi_reenter;		/* nmi.reenter */
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

inline wait_for_end_of_sti()
{
	irq_window = true;
	timer = true
}

inline vmx_nmi_reenter()
{
	nmi_reenter = true;
	enter = true
}

/* Where there is a choice, can_deliver() may say no. */
inline deliver()
{
	nmi_reenter = false;
	if
	:: nmi_pending == 0 -> skip
	:: nmi_pending > 0 ->
		nmi_allowed();
		if
		:: true ->
			req_event = true;
			kick = true
		:: event == NONE ->
			if
			:: allowed == 1 ->
				nmi_pending--;
				nmi_injected = true;
				inject_nmi()
			:: else
			fi;
			if
			:: nmi_pending > 0 -> enable_nmi_window()
			:: else
			fi
		fi
	fi
}

inline before_entry()
{
	if
	:: enter -> vmx_nmi_enter()
	:: else
	fi
}

inline cancel()
{
	vectoring = event;
	event = NONE;
	complete_interrupts()
}
