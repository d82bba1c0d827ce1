// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest moves between a host with vNMI and one without, in any NMI state, and
 * does not notice. The two hosts are this one: between saving and restoring, the
 * vendor module is loaded anew with the other setting of its parameter vnmi.
 *
 * A wrong implementation leaves part of the state in the VMCB bits that only one
 * side has, or reads a mask that the other side keeps elsewhere.
 */
#include "nmi_test.h"

static const char *destination;

static void load_module(const char *parameters)
{
	char command[64];

	snprintf(command, sizeof(command), "reload-module %s", parameters);
	TEST_ASSERT(!system(command), "%s", command);
}

static void load_destination(void)
{
	load_module(destination);
}

static struct kvm_vcpu *move(struct kvm_vcpu *vcpu)
{
	return migrate_while(vcpu, load_destination);
}

/* --- guest --------------------------------------------------------------- */

static void guest(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

/* --- host ---------------------------------------------------------------- */

static struct kvm_vcpu *run_to_ready(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, stop_in_first_handler);

	run_to(vcpu, STAGE_READY);
	return vcpu;
}

static struct kvm_vcpu *run_to_handler(void)
{
	struct kvm_vcpu *vcpu = run_to_ready();

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	return vcpu;
}

static void run_on(struct kvm_vcpu *vcpu, unsigned int nr)
{
	run_to(vcpu, STAGE_END);
	check_nmis_at_stop(vcpu, nr);
}

static void pending(void)
{
	struct kvm_vcpu *vcpu = run_to_ready();

	send_nmi(vcpu);
	vcpu = move(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	run_to(vcpu, STAGE_HANDLER_END);
	run_on(vcpu, 1);
}

static void injected(void)
{
	struct kvm_vcpu *vcpu = run_to_ready();

	finish_stage(vcpu);
	send_nmi(vcpu);
	enter_and_give_up(vcpu);
	vcpu = move(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	run_on(vcpu, 2);
}

static void masked(void)
{
	struct kvm_vcpu *vcpu = move(run_to_handler());

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_on(vcpu, 2);
}

static void masked_and_pending(void)
{
	struct kvm_vcpu *vcpu = run_to_handler();

	send_nmi(vcpu);
	vcpu = move(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_on(vcpu, 2);
}

/* Back in the same handler; the NMI waits all the time. */
static void there_and_back(void)
{
	struct kvm_vcpu *vcpu = run_to_handler();

	send_nmi(vcpu);
	vcpu = move(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	destination = destination[5] == '0' ? "vnmi=1" : "vnmi=0";
	vcpu = move(vcpu);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_on(vcpu, 2);
}

static void between(const char *from, const char *to, void (*run)(void))
{
	limit_case(60);
	load_module(from);
	destination = to;
	run();
}

#define BOTH_WAYS(state)						\
	static void state##_to_vnmi(void)				\
	{								\
		between("vnmi=0", "vnmi=1", state);			\
	}								\
									\
	static void state##_from_vnmi(void)				\
	{								\
		between("vnmi=1", "vnmi=0", state);			\
	}

BOTH_WAYS(pending)
BOTH_WAYS(injected)
BOTH_WAYS(masked)
BOTH_WAYS(masked_and_pending)
BOTH_WAYS(there_and_back)

static const struct test_case cases[] = {
	{ "a pending NMI moves to a host with vNMI", pending_to_vnmi },
	{ "a pending NMI moves to a host without vNMI", pending_from_vnmi },
	{ "an NMI that was to be injected moves to a host with vNMI", injected_to_vnmi },
	{ "an NMI that was to be injected moves to a host without vNMI",
	  injected_from_vnmi },
	{ "a handler moves to a host with vNMI, still blocked", masked_to_vnmi },
	{ "a handler moves to a host without vNMI, still blocked", masked_from_vnmi },
	{ "a handler moves to a host with vNMI while another NMI waits",
	  masked_and_pending_to_vnmi },
	{ "a handler moves to a host without vNMI while another NMI waits",
	  masked_and_pending_from_vnmi },
	{ "a handler for whose end an NMI waits moves to vNMI and back",
	  there_and_back_to_vnmi },
	{ "a handler for whose end an NMI waits moves from vNMI and back",
	  there_and_back_from_vnmi },
};

int main(void)
{
	int status;

	if (nmi_path() != SVM_VNMI)
		return skip_all("the vendor module does not use vNMI here");
	if (system("command -v reload-module >/dev/null"))
		return skip_all("the vendor module can only be changed on an emulated host");
	status = run_cases(cases, ARRAY_SIZE(cases));
	load_module("");
	return status;
}
