// SPDX-License-Identifier: GPL-2.0-only
/* Has KVM emulate instructions that a CPU would execute. */
#include "nmi_test.h"

int force_emulation(int value)
{
	FILE *f = fopen("/sys/module/kvm/parameters/force_emulation_prefix", "r+");
	int before = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%d", &before) != 1)
		before = -1;
	rewind(f);
	if (fprintf(f, "%d", value) < 0 || fclose(f))
		return -1;
	return before;
}
