// SPDX-License-Identifier: GPL-2.0-only
/* What the tests of soft vNMI share, see nmi_soft.h. */
#include "nmi_soft.h"

bool soft_exact(void)
{
	char value[8];

	return !vendor_param("soft_vnmi_exact", value, sizeof(value)) ||
	       value[0] == 'Y';
}

void require_exact(void)
{
	if (!soft_exact())
		skip("soft_vnmi_exact is off");
}

unsigned int soft_steps(void)
{
	char value[16];

	if (!vendor_param("soft_vnmi_steps", value, sizeof(value)))
		return 0;
	return atoi(value);
}

#define STEPS_PARAM	"/sys/module/kvm_intel/parameters/soft_vnmi_steps"

static char steps_before[16];

static void write_steps(const char *steps)
{
	int fd = open(STEPS_PARAM, O_WRONLY);

	TEST_ASSERT(fd >= 0 && write(fd, steps, strlen(steps)) == (ssize_t)strlen(steps),
		    STEPS_PARAM ": %s", strerror(errno));
	close(fd);
}

static void restore_steps(void)
{
	write_steps(steps_before);
}

void soft_no_search(void)
{
	if (!soft_searches())
		return;

	snprintf(steps_before, sizeof(steps_before), "%u", soft_steps());
	write_steps("0");
	atexit(restore_steps);
}

bool soft_searches(void)
{
	return soft_steps() && cpu_has_monitor_trap_flag();
}

void require_no_search(void)
{
	if (soft_searches())
		skip("the IRET of an exception in the handler may open NMIs: soft_vnmi_steps is on");
}

unsigned int soft_timeout_ms(void)
{
	char value[16];

	if (!vendor_param("soft_vnmi_timeout_ms", value, sizeof(value)))
		return 0;
	return atoi(value);
}

void guest_open(void)
{
	asm volatile("sti; nop\n\t"
		     ".globl guest_open_next\n"
		     "guest_open_next: nop; cli" : : : "memory");
}

void check_came_at_return(struct kvm_vcpu *vcpu)
{
	const struct event_log *log = read_log(vcpu);

	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(nmi_nr(log, 2)->rip, nmi_nr(log, 1)->rip);
	CHECK_EQ(nmi_nr(log, 2)->rsp, nmi_nr(log, 1)->rsp);
	CHECK_EQ(nmi_nr(log, 2)->rflags, nmi_nr(log, 1)->rflags);
}

void check_came_at_return_after_cut(struct kvm_vcpu *vcpu)
{
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	if (cut_deliveries_push_rf())
		skip("Bochs 3.0 pushes RF with an NMI whose delivery takes an EPT violation: it returns past the breakpoint");
	check_came_at_return(vcpu);
}

void check_came_in_irq_window(struct kvm_vcpu *vcpu)
{
	const struct event_log *log = read_log(vcpu);

	CHECK_EQ(log->nr_nmis, 2);
	CHECK_EQ(nmi_nr(log, 2)->rip, (uint64_t)guest_open_next);
}

void check_came_by_search(struct kvm_vcpu *vcpu)
{
	if (soft_searches())
		check_came_at_return(vcpu);
	else
		check_came_in_irq_window(vcpu);
}

void check_timed_out(unsigned int waited_ms, unsigned int late_ms)
{
	unsigned int ms = soft_timeout_ms();

	printf("waited %u ms\n", waited_ms);
	CHECK(waited_ms >= ms * 9 / 10 && waited_ms <= ms + patience(late_ms),
	      "waited %u ms, the timeout is %u", waited_ms, ms);
}

int open_kernel_log(void)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);

	TEST_ASSERT(log >= 0 && lseek(log, 0, SEEK_END) >= 0, "/dev/kmsg");
	return log;
}

/* One read is one message. */
unsigned int kernel_messages(int log, const char *about)
{
	unsigned int nr = 0;
	char message[1024];
	ssize_t n;

	while ((n = read(log, message, sizeof(message) - 1)) > 0) {
		message[n] = 0;
		message[strcspn(message, "\n")] = 0;
		if (strstr(message, about)) {
			printf("kernel log: %s\n", message);
			nr++;
		}
	}
	return nr;
}

unsigned int nmi_messages(int log)
{
	return kernel_messages(log, "NMI");
}

uint64_t tsc_khz_of(struct kvm_vcpu *vcpu)
{
	int khz = __vcpu_ioctl(vcpu, KVM_GET_TSC_KHZ, NULL);

	TEST_ASSERT(khz > 0, "KVM_GET_TSC_KHZ");
	return khz;
}
