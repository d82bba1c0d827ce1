// SPDX-License-Identifier: GPL-2.0-only
/* A vCPU that sleeps in HLT, which only another thread can wake. */
#include <pthread.h>

#include "nmi_test.h"

#define LOOK_US		1000

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
		usleep(LOOK_US);
}

static void *send_nmi_when_halted(void *vm)
{
	wait_until_vcpu_sleeps();
	send_nmi_by_msi(vm, 0);
	return NULL;
}

void run_over_halt_at(struct kvm_vcpu *vcpu, uint32_t stage, const char *name,
		      const char *file, int line)
{
	pthread_t sender;

	TEST_ASSERT(!pthread_create(&sender, NULL, send_nmi_when_halted, vcpu->vm),
		    "no thread");
	run_to_at(vcpu, stage, name, file, line);
	pthread_join(sender, NULL);
}
