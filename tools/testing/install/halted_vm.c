// SPDX-License-Identifier: GPL-2.0-only
/*
 * A virtual machine that is there: it has run up to a HLT, says so, and stays
 * until it is killed.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define HLT		0xf4
#define LAST_PAGE	0xfffff000u	/* with the reset vector */
#define PAGE		4096
#define RESET_VECTOR	0xff0

static long checked(const char *what, long result)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
	return result;
}

int main(void)
{
	int kvm = checked("/dev/kvm", open("/dev/kvm", O_RDWR));
	int vm = checked("KVM_CREATE_VM", ioctl(kvm, KVM_CREATE_VM, 0));
	int vcpu = checked("KVM_CREATE_VCPU", ioctl(vm, KVM_CREATE_VCPU, 0));
	long size = checked("KVM_GET_VCPU_MMAP_SIZE", ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = LAST_PAGE,
		.memory_size = PAGE,
		.userspace_addr = (unsigned long)page,
	};

	page[RESET_VECTOR] = HLT;
	checked("KVM_SET_USER_MEMORY_REGION", ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	checked("KVM_RUN", ioctl(vcpu, KVM_RUN, 0));
	if (run->exit_reason != KVM_EXIT_HLT) {
		fprintf(stderr, "the guest's exit is %u, expected its HLT\n", run->exit_reason);
		return 1;
	}
	close(kvm);	/* the machine itself is to be what holds the module */
	puts("running");
	fflush(stdout);
	pause();
	return 0;
}
