// SPDX-License-Identifier: GPL-2.0-only
/* What emulates this machine, if anything does. */
#include "nmi_test.h"

static bool bios_version_begins(const char *with)
{
	FILE *f = fopen("/sys/class/dmi/id/bios_version", "r");
	char version[64] = "";
	bool begins;

	begins = f && fgets(version, sizeof(version), f) &&
		 !strncmp(version, with, strlen(with));
	if (f)
		fclose(f);
	return begins;
}

bool tsc_counts_instructions(void)
{
	return bios_version_begins("Bochs");
}

bool on_bochs_2_7(void)
{
	return bios_version_begins("Bochs 2.7");
}

bool on_qemu_tcg(void)
{
	static const char brand[] = "QEMU TCG";
	uint32_t max, text[4];

	cpuid(0x40000000, &max, &text[0], &text[1], &text[2]);
	if (!memcmp(text, "TCGTCGTCGTCG", 12))
		return true;

	/* A host inside such a one runs on KVM, and sees the name of its CPU. */
	cpuid(0x80000002, &text[0], &text[1], &text[2], &text[3]);
	return !memcmp(text, brand, strlen(brand));
}
