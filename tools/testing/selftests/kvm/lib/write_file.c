// SPDX-License-Identifier: GPL-2.0-only
/* Tells the kernel something through sysfs or tracefs. */
#include "nmi_test.h"

void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text),
		    "%s: %s", path, strerror(errno));
	close(fd);
}
