// SPDX-License-Identifier: GPL-2.0-only
/* How time passes on this machine, and how long a test has patience with it. */
#include <stdio.h>

#include "nmi_test.h"

/* How much slower than alone an emulated host may be, for what else its machine does. */
#define SHARE		6

#define MS		1000	/* us */

bool tsc_counts_instructions(void)
{
	FILE *f = fopen("/sys/class/dmi/id/bios_version", "r");
	char version[8] = "";
	bool bochs;

	bochs = f && fgets(version, sizeof(version), f) &&
		!strncmp(version, "Bochs", 5);
	if (f)
		fclose(f);
	return bochs;
}

unsigned int patience(unsigned int seconds)
{
	const char *given = getenv("NMI_TEST_PATIENCE");
	static unsigned int times;

	if (!times) {
		times = given ? strtoul(given, NULL, 0) : 1;
		if (!tsc_counts_instructions())
			times *= SHARE;
	}
	return seconds * times;
}

/* The state is the first letter behind the name, which may hold anything. */
static char state_of_first_thread(void)
{
	char text[256] = "", *end;
	FILE *f = fopen("/proc/self/stat", "r");

	TEST_ASSERT(f && fgets(text, sizeof(text), f), "/proc/self/stat");
	fclose(f);
	end = strrchr(text, ')');
	return end ? end[2] : 0;
}

void wait_until_vcpu_sleeps(void)
{
	while (state_of_first_thread() != 'S')
		usleep(MS);
}
