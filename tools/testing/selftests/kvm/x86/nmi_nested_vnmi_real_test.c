// SPDX-License-Identifier: GPL-2.0-only
/*
 * An IRET that KVM emulates, in a guest of a guest: it is L2's latch that opens,
 * where L1 uses vNMI for it. The emulator does IRET in real mode only, and KVM can
 * be told to emulate one by a prefix and a parameter of kvm.ko.
 *
 * A wrong implementation does not hear of that IRET and leaves L2 masked, or takes
 * it for one of L1's and lets an NMI into L1's handler.
 */
#include "nmi_nested_svm.h"

#define STAGE_L2_EXITED	STAGE_OWN
#define STAGE_L2_HANDLER 6
_Static_assert(STAGE_L2_HANDLER == STAGE_OWN + 1, "as below");

#define CODE	0x1000
#define COUNT	0x600
#define STACK	0x4000

#define STR(x)	__stringify(x)

/* L2: an IRET with the prefix before it, then the target; and a handler. */
extern char real_code[], real_open[], real_handler[], real_handler_stops[], real_end[];
asm(".pushsection .rodata\n"
    ".code16\n"
    "real_code:\n"
    "	pushf; push %cs; push $(real_open - real_code)\n"
    "	ud2; .ascii \"kvm\"\n"
    "	iret\n"
    "real_open:\n"
    "	nop\n"
    "	vmmcall\n"
    "real_handler:\n"
    "	push %bp; mov %sp, %bp; push %ax\n"
    "	incw " STR(COUNT) "\n"
    "	mov 2(%bp), %ax; mov %ax, " STR(COUNT) "+2\n"
    "	pop %ax; pop %bp\n"
    "	iret\n"
    "real_handler_stops:\n"
    "	push %eax\n"
    ASM_STAGE(STAGE_L2_HANDLER)
    "	pop %eax\n"
    "	jmp real_handler\n"
    "real_end:\n"
    ".code64\n"
    ".popsection\n");

static void set_real(struct vmcb_seg *segment, uint64_t base, uint16_t attrib)
{
	*segment = (struct vmcb_seg) {
		.selector = base >> 4, .base = base, .limit = 0xffff,
		.attrib = attrib | SVM_SELECTOR_S_MASK | SVM_SELECTOR_P_MASK,
	};
}

static void run_l2_in_real_mode(void)
{
	struct vmcb_save_area *save = &l1_svm->vmcb->save;

	prepare_l2();
	save->cr0 = X86_CR0_ET;
	save->cr4 = 0;
	save->efer = EFER_SVME;
	save->rip = 0;
	save->rsp = STACK;
	save->idtr = (struct vmcb_seg) { .limit = 0x3ff };
	set_real(&save->cs, CODE, 11);
	set_real(&save->ss, 0, 3);
	set_real(&save->ds, 0, 3);
	set_real(&save->es, 0, 3);
	run_l2();
}

static void l1(void)
{
	run_l2_in_real_mode();
	guest_stage(STAGE_L2_EXITED);
	stgi();
	guest_stage(STAGE_END);
}

static void l1_takes_nmis(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void on_nmi(struct event_regs *regs)
{
	if (guest_log.nr_nmis > 1)
		return;
	run_l2_in_real_mode();
	guest_stage(STAGE_L2_EXITED);
	stgi();
	guest_stage(STAGE_HANDLER_END);
}

static const struct l2_start start = {
	.int_ctl = V_NMI_ENABLE | V_NMI | V_NMI_MASK,
};

static struct kvm_vcpu *create(void (*guest)(void),
			       void (*on_event)(struct event_regs *regs), char *handler)
{
	const uint16_t vector[2] = { handler - real_code, CODE >> 4 };
	struct kvm_vcpu *vcpu;

	if (force_emulation(1) < 0)
		skip("kvm.ko does not take force_emulation_prefix");
	vcpu = create_l1(guest, &start, on_event);
	memcpy(addr_gpa2hva(vcpu->vm, CODE), real_code, real_end - real_code);
	memcpy(addr_gpa2hva(vcpu->vm, 4 * NMI_VECTOR), vector, sizeof(vector));
	return vcpu;
}

/* The V_NMI came where the IRET returned to, and its own IRET opened L2 again. */
static void check_l2(struct kvm_vcpu *vcpu)
{
	const uint16_t *count = addr_gpa2hva(vcpu->vm, COUNT);
	const struct l2_exit *exit = read_exits(vcpu, 1);

	CHECK_EQ(exit->code, SVM_EXIT_VMMCALL);
	CHECK_EQ(exit->int_ctl & V_NMI_STATE, 0);
	CHECK_EQ(count[0], 1);
	CHECK_EQ(count[1], real_open - real_code);
}

static void unmasks_l2(void)
{
	struct kvm_vcpu *vcpu = create(l1, NULL, real_handler);

	run_to(vcpu, STAGE_L2_EXITED);
	check_l2(vcpu);
	run_to(vcpu, STAGE_END);
}

static void not_l1(void)
{
	struct kvm_vcpu *vcpu = create(l1_takes_nmis, on_nmi, real_handler);

	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_L2_EXITED);
	check_l2(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
}

/* The last thing that was emulated is an IRET, and L2 is in its handler since. */
static struct kvm_vcpu *run_to_l2_handler(void (*guest)(void),
					  void (*on_event)(struct event_regs *regs))
{
	struct kvm_vcpu *vcpu = create(guest, on_event, real_handler_stops);

	if (guest == l1_takes_nmis) {
		run_to(vcpu, STAGE_READY);
		send_nmi(vcpu);
	}
	run_to(vcpu, STAGE_L2_HANDLER);
	CHECK_EQ(saved_vnmi_bits(vcpu), V_NMI_MASK);
	return vcpu;
}

static void written_back(void)
{
	struct kvm_vcpu *vcpu = run_to_l2_handler(l1, NULL);
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.masked, 0);
	vcpu_events_set(vcpu, &events);
	CHECK_EQ(saved_vnmi_bits(vcpu), V_NMI_MASK);
	run_to(vcpu, STAGE_L2_EXITED);
	check_l2(vcpu);
	run_to(vcpu, STAGE_END);
}

static void unmasks_l1(void)
{
	struct kvm_vcpu *vcpu = run_to_l2_handler(l1_takes_nmis, on_nmi);
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.masked, 1);
	events.nmi.masked = 0;
	vcpu_events_set(vcpu, &events);
	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.masked, 0);
	CHECK_EQ(saved_vnmi_bits(vcpu), V_NMI_MASK);
}

static const struct test_case cases[] = {
	{ "an emulated IRET of L2 in real mode unmasks L2", unmasks_l2 },
	{ "it does not unblock L1's handler", not_l1 },
	{ "events written back in L2's NMI handler leave it masked", written_back },
	{ "events that unmask L1 there unmask L1, not L2", unmasks_l1 },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM) || !kvm_cpu_has(FEATURE_VNMI))
		return skip_all("this KVM offers no vNMI to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
