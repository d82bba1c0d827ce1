// SPDX-License-Identifier: GPL-2.0-only
/* Runs the VM from stop to stop, and says where it is. */
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "fuzz.h"

/* To get from a stop into HLT; twice as long each time that it was too short. */
#define FIRST_WAIT_NS	1000000

/* Where a difference is known already, a host that is slow counts less. */
#define PATIENCE_S	10
#define HASTE_S		1

static timer_t timer;

static void on_signal(int signal)
{
}

/* A signal that is taken in KVM_RUN only, and a timer that sends it. */
static void init_signal(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct sigaction act = { .sa_handler = on_signal };
	static bool done;
	sigset_t usr1;

	if (done)
		return;
	done = true;
	sigaction(SIGUSR1, &act, NULL);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer))
		FAIL("timer_create: %s", strerror(errno));
}

void fuzz_accept_signal(struct fuzz_machine *machine)
{
	struct {
		struct kvm_signal_mask head;
		uint64_t set;
	} __attribute__((packed)) mask = { .head.len = 8 };

	init_signal();
	FUZZ_IOCTL(machine->vcpu, KVM_SET_SIGNAL_MASK, &mask);
}

static void forget_signal(void)
{
	struct timespec now = { };
	sigset_t usr1;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	while (sigtimedwait(&usr1, NULL, &now) > 0)
		;
}

void fuzz_complete(struct fuzz_machine *machine)
{
	if (machine->completed)
		return;
	machine->run->immediate_exit = 1;
	if (ioctl(machine->vcpu, KVM_RUN, NULL) != -1 || errno != EINTR)
		FAIL("KVM_RUN did not end at once");
	machine->run->immediate_exit = 0;
	machine->completed = true;
}

void fuzz_give_up_entry(struct fuzz_machine *machine)
{
	fuzz_complete(machine);
	raise(SIGUSR1);
	if (ioctl(machine->vcpu, KVM_RUN, NULL) != -1 || errno != EINTR)
		FAIL("KVM_RUN did not find the signal");
	forget_signal();
}

void fuzz_send_msi(struct fuzz_machine *machine, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_GPA, .data = data };

	FUZZ_IOCTL(machine->vm, KVM_SIGNAL_MSI, &msi);
}

static bool is_halted(struct fuzz_machine *machine)
{
	struct kvm_mp_state state;

	FUZZ_IOCTL(machine->vcpu, KVM_GET_MP_STATE, &state);
	return state.mp_state == KVM_MP_STATE_HALTED;
}

/* A vCPU that is halted, or hangs, stays in KVM_RUN until the timer takes it out. */
static int run_until_signal(struct fuzz_machine *machine, bool may_halt, bool in_haste)
{
	uint64_t last = (in_haste ? HASTE_S : patience(PATIENCE_S)) * 1000000000ull;
	uint64_t wait = may_halt ? FIRST_WAIT_NS : last;
	struct itimerspec never = { };
	unsigned int halted = 0;
	int r, error;

	do {
		struct itimerspec in = {
			.it_value = { .tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000 },
		};

		timer_settime(timer, 0, &in, NULL);
		r = ioctl(machine->vcpu, KVM_RUN, NULL);
		error = errno;
		timer_settime(timer, 0, &never, NULL);
		forget_signal();
		wait *= 2;
		/* The first signals may come before a look at what wakes it. */
		halted = is_halted(machine) ? halted + 1 : 0;
	} while (r < 0 && error == EINTR && halted < 4 && wait <= last);
	errno = error;
	return r;
}

static bool at_stop(struct fuzz_machine *machine)
{
	return machine->run->exit_reason == KVM_EXIT_IO &&
	       machine->run->io.port == STAGE_PORT;
}

void fuzz_say_why(struct fuzz_machine *machine)
{
	struct kvm_run *run = machine->run;

	switch (run->exit_reason) {
	case KVM_EXIT_INTR:
		printf("the guest came to no stop in time, rip 0x%llx\n",
		       run->s.regs.regs.rip);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		printf("KVM internal error, suberror %u\n", run->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		printf("VM entry failed, hardware reason 0x%llx\n",
		       run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		printf("unexpected exit: %s\n", exit_reason_str(run->exit_reason));
	}
}

/* Which of the places with an OUT it is. */
static enum fuzz_stop stop_of(struct fuzz_machine *machine)
{
	if (machine->run->flags & KVM_RUN_X86_SMM)
		return AT_SMM;
	if (machine->run->s.regs.regs.rip == (FUZZ_RESET & 0xffff))
		return AT_RESET;
	return AT_OUT;
}

static void *send_late_nmi(void *arg)
{
	struct fuzz_machine *machine = arg;
	struct timespec in = { .tv_nsec = machine->late_ns };

	nanosleep(&in, NULL);
	fuzz_send_msi(machine, APIC_DM_NMI);
	return NULL;
}

/* Another thread sends an NMI, wherever the guest is by then. */
static int run_with_late_nmi(struct fuzz_machine *machine, bool in_haste)
{
	pthread_t thread;
	int r, error;

	if (pthread_create(&thread, NULL, send_late_nmi, machine))
		FAIL("pthread_create: %s", strerror(errno));
	r = run_until_signal(machine, true, in_haste);
	error = errno;
	pthread_join(thread, NULL);
	machine->late_ns = 0;
	errno = error;
	return r;
}

bool fuzz_run_machine(struct fuzz_machine *machine, bool may_halt, enum fuzz_stop *at,
		      bool in_haste)
{
	int r = machine->late_ns ? run_with_late_nmi(machine, in_haste) :
				   run_until_signal(machine, may_halt, in_haste);

	machine->completed = true;
	if (r < 0 && errno == EINTR) {
		*at = AT_HALT;
		FUZZ_IOCTL(machine->vcpu, KVM_GET_REGS, &machine->run->s.regs.regs);
		return is_halted(machine);
	}
	if (r < 0)
		FAIL("KVM_RUN: %s", strerror(errno));
	if (!at_stop(machine))
		return false;
	machine->completed = false;
	*at = stop_of(machine);
	return true;
}

void fuzz_look(struct fuzz_machine *machine, struct fuzz_seen *seen)
{
	struct kvm_regs *regs = &machine->run->s.regs.regs;
	uint32_t *nr = (uint32_t *)(machine->memory + FUZZ_LOG_NR);

	*seen = (struct fuzz_seen) {
		.rip = regs->rip, .rsp = regs->rsp, .rflags = regs->rflags,
		.nr_events = min_t(uint32_t, *nr, FUZZ_LOG_SIZE), .event = (void *)(machine->memory + FUZZ_LOG),
		.slot = (void *)(machine->memory + FUZZ_SLOT_BASE),
	};
	*nr = 0;
}
