// SPDX-License-Identifier: GPL-2.0-only
/* A vCPU between two entries: its state saved and restored, or an entry given up. */
#include <signal.h>

#include "nmi_test.h"

struct kvm_vcpu *migrate_while(struct kvm_vcpu *vcpu, void (*meanwhile)(void))
{
	struct kvm_x86_state *state = vcpu_save_state(vcpu);
	struct kvm_vm *vm = vcpu->vm;

	kvm_vm_release(vm);
	if (meanwhile)
		meanwhile();
	vcpu = vm_recreate_with_one_vcpu(vm);
	vcpu_load_state(vcpu, state);
	kvm_x86_state_cleanup(state);
	return vcpu;
}

static void on_signal(int signal)
{
}

void enter_and_give_up(struct kvm_vcpu *vcpu)
{
	struct {
		struct kvm_signal_mask head;
		uint64_t set;
	} __attribute__((packed)) mask = { .head.len = 8 };
	struct sigaction act = { .sa_handler = on_signal };
	sigset_t usr1;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigaction(SIGUSR1, &act, NULL);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	raise(SIGUSR1);

	vcpu_ioctl(vcpu, KVM_SET_SIGNAL_MASK, &mask.head);
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EINTR, "no EINTR");
	sigwaitinfo(&usr1, NULL);
}
