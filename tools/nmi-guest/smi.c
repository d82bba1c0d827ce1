// SPDX-License-Identifier: GPL-2.0-only
/*
 * SMIs, where the firmware has a handler for sure: ACPI's tables name a command that
 * makes it switch to ACPI mode, which SCI_EN then shows.
 */

#include "guest.h"

#define SMM	"SDM 3: NMI Handling While in SMM; APM 2: Exceptions and Interrupts in SMM"
#define SCI_EN	1

static unsigned int inside, smis;

static void need_smi(void)
{
	if (acpi.problem)
		skip(acpi.problem);
	if (!acpi.smi_cmd || !acpi.acpi_enable || !acpi.acpi_disable || !acpi.pm1a_cnt)
		skip("ACPI's tables name no command for an SMI");
}

static void smi(void)
{
	int enabled = inw(acpi.pm1a_cnt) & SCI_EN;

	outb(acpi.smi_cmd, enabled ? acpi.acpi_disable : acpi.acpi_enable);
	for (int i = 0; i < 1000 && (inw(acpi.pm1a_cnt) & SCI_EN) == enabled; i++)
		delay_us(100);
	smis += (inw(acpi.pm1a_cnt) & SCI_EN) != enabled;
}

static int nmi_first;

static void hook(struct regs *regs)
{
	(void)regs;
	if (cpus[0].nmis > 1)
		return;
	if (nmi_first) {
		send_nmi();
		settle();
	}
	smi();
	if (!nmi_first)
		send_nmi();
	settle();
	inside = cpus[0].nmis;
}

static void in_handler(int first)
{
	need_smi();
	nmi_first = first;
	smis = 0;
	set_hook(VECTOR_NMI, hook);
	send_nmi();
	settle();
	if (smis != 1)
		skip("the firmware did not answer an SMI");
	CHECK_EQ(inside, 1);
	CHECK_EQ(event(1)->rip, event(0)->rip);
	check_nr(2);
}

static void stays_blocked(void)
{
	in_handler(0);
}

static void pending_survives(void)
{
	in_handler(1);
}

static void stays_open(void)
{
	need_smi();
	smis = 0;
	smi();
	if (smis != 1)
		skip("the firmware did not answer an SMI");
	send_nmi();
	settle();
	check_nr(1);
}

const struct claim smi_claims[] = {
	{ "NMIs are open after an SMI if they were before", stays_open, SMM },
	{ "an SMI in the handler leaves NMIs blocked until the IRET", stays_blocked, SMM },
	{ "an NMI that waits in the handler survives an SMI, and comes after the IRET", pending_survives, SMM },
	{ }
};
