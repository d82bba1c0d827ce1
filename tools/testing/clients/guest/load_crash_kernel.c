// SPDX-License-Identifier: GPL-2.0-only
/*
 * load_crash_kernel KERNEL INITRD CMDLINE: what kexec -p does, for a guest that has nothing
 * but busybox.
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int kernel, initrd;

	if (argc != 4) {
		fprintf(stderr, "usage: load_crash_kernel KERNEL INITRD CMDLINE\n");
		return 2;
	}
	kernel = open(argv[1], O_RDONLY);
	initrd = open(argv[2], O_RDONLY);
	if (kernel < 0 || initrd < 0) {
		perror("load_crash_kernel: open");
		return 1;
	}
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3], KEXEC_FILE_ON_CRASH)) {
		perror("load_crash_kernel: kexec_file_load");
		return 1;
	}
	return 0;
}
