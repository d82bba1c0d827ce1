// SPDX-License-Identifier: GPL-2.0-only
/* The module's trace events of one run, in an instance of their own. */
#include <sys/stat.h>

#include "nmi_test.h"

#define TRACEFS		"/sys/kernel/tracing"

static char instance[64];

void trace_begin(void)
{
	char path[128];

	snprintf(instance, sizeof(instance), TRACEFS "/instances/nmi_test-%d", getpid());
	if (mkdir(instance, 0700))
		skip("%s: %s", instance, strerror(errno));
	snprintf(path, sizeof(path), "%s/events/kvm_nmi/enable", instance);
	write_file(path, "1");
}

void trace_end(const char *event, char *text, size_t size)
{
	char path[128], line[512] = "", *found;
	FILE *f;

	snprintf(path, sizeof(path), "%s/events/kvm_nmi/enable", instance);
	write_file(path, "0");
	snprintf(path, sizeof(path), "%s/trace", instance);
	f = fopen(path, "r");
	TEST_ASSERT(f, "%s: %s", path, strerror(errno));
	text[0] = 0;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		found = strstr(line, event);
		if (found)
			snprintf(text, size, "%s", found);
	}
	fclose(f);
	rmdir(instance);
}
