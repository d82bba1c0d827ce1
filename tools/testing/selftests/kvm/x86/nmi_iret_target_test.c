// SPDX-License-Identifier: GPL-2.0-only
/*
 * A second NMI comes right after the first handler's IRET, wherever that leads:
 * to the IRET itself, to user mode, to code of another size.
 *
 * The first NMI's handler stops, the host sends the second NMI, and the handler
 * returns through a frame that names the target. The second NMI's frame has to
 * repeat it: the guest has not got any further.
 *
 * A wrong implementation takes an IRET that leaves RIP as it is for one that has
 * not run, runs on at the target, or shows flags of its own there.
 */
#include "nmi_events.h"
#include "nmi_pages.h"
#include "nmi_user_mode.h"

/* In the GDT, after the segments of user mode. */
#define CODE32		0x38
#define CODE16		0x40
#define DATA16		0x48

#define LOW_PAGE	0x1000ul	/* below KVM_UTIL_MIN_VADDR */

extern char low_target[], target_end[];
static struct event_regs target;	/* of the first NMI's IRET */
uint32_t nr_direct_nmis;	/* those that the handlers below have taken */

static void guest(void)
{
	guest_warm_up();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

/* From wherever the target was, go on in the kernel. */
static void go_home(struct event_regs *regs)
{
	regs->rip = (uint64_t)target_end;
	regs->cs = guest_log.event[0].cs;
	regs->ss = guest_log.event[0].ss;
	regs->rsp = guest_log.event[0].rsp;
	regs->rflags = RFLAGS_FIXED;
}

static void on_event(struct event_regs *regs)
{
	if (regs->vector == DB_VECTOR)
		go_home(regs);
	if (regs->vector != NMI_VECTOR)
		return;
	if (guest_log.nr_nmis == 2 && !(target.rflags & RFLAGS_TF))
		go_home(regs);
	if (guest_log.nr_nmis + nr_direct_nmis > 1)
		return;

	guest_stage(STAGE_HANDLER);
	if (target.rip) {
		regs->rip = target.rip;
		regs->cs = target.cs;
		regs->ss = target.ss;
		regs->rsp = target.rsp;
		regs->rflags = target.rflags;
	}
}

/* What user mode and code of other sizes execute, and where all ends. */
asm(".pushsection .text\n"
	"low_target: nop\n nop\n nop\n nop\n"
	"target_end:" ASM_STAGE(STAGE_END)
	".popsection");

static struct kvm_vcpu *create_target_vm(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event);

	add_user_segments(vcpu);
	set_descriptor(vcpu, CODE32, 0x00cf9b000000ffff);
	set_descriptor(vcpu, CODE16, 0x008f9b000000ffff);
	set_descriptor(vcpu, DATA16, 0x000f93000000ffff);
	return vcpu;
}

static void run_with_target(struct kvm_vcpu *vcpu, bool second_nmi)
{
	sync_global_to_guest(vcpu->vm, target);
	run_through_handler(vcpu, second_nmi);
}

static void check_target(struct kvm_vcpu *vcpu)
{
	const struct event_regs *nmi;

	run_with_target(vcpu, true);
	nmi = nmi_nr(read_log(vcpu), 2);
	CHECK_EQ(nmi->rip, target.rip);
	CHECK_EQ(nmi->cs, target.cs);
	CHECK_EQ(nmi->ss, target.ss);
	CHECK_EQ(nmi->rsp, target.rsp);
	CHECK_EQ(nmi->rflags, target.rflags);
}

/* A user page for code, with its stack at the end. */
static void aim_at_user_mode(struct kvm_vcpu *vcpu, uint64_t rflags)
{
	memcpy(map_user_page(vcpu, USER_PAGE), low_target, target_end - low_target);
	set_rsp0(vcpu, guest_stack_top(0));

	target = (struct event_regs) {
		.rip = USER_PAGE, .cs = USER_CS, .ss = USER_SS,
		.rsp = USER_PAGE + getpagesize(), .rflags = rflags,
	};
}

static void user_mode(void)
{
	struct kvm_vcpu *vcpu = create_target_vm();

	aim_at_user_mode(vcpu, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_CF);
	check_target(vcpu);
	CHECK_EQ(read_log(vcpu)->nr, 2);
}

/*
 * A CPU traps after the first instruction in user mode, Bochs before it.
 * Where it does for a lone NMI it has to for two.
 */
static uint64_t first_step_of_user_mode(bool second_nmi)
{
	struct kvm_vcpu *vcpu = create_target_vm();

	aim_at_user_mode(vcpu, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF);
	if (second_nmi)
		check_target(vcpu);
	else
		run_with_target(vcpu, false);
	CHECK_EQ(read_log(vcpu)->nr, second_nmi ? 3 : 2);
	return only_event(vcpu, DB_VECTOR)->rip;
}

static void user_mode_stepped(void)
{
	uint64_t rip = first_step_of_user_mode(false);

	CHECK_EQ(first_step_of_user_mode(true), rip);
}

static void aim_at_segment(struct kvm_vcpu *vcpu, uint64_t cs, uint64_t ss)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vcpu_sregs_get(vcpu, &sregs);
	vcpu_regs_get(vcpu, &regs);
	target = (struct event_regs) {
		.rip = (uint64_t)low_target, .cs = cs, .rsp = regs.rsp - 0x400,
		.ss = ss ?: sregs.ds.selector, .rflags = RFLAGS_FIXED | RFLAGS_CF,
	};
}

static void code_of_32_bits(void)
{
	struct kvm_vcpu *vcpu = create_target_vm();

	aim_at_segment(vcpu, CODE32, 0);
	check_target(vcpu);
}

static void code_of_16_bits(void)
{
	struct kvm_vcpu *vcpu = create_target_vm();
	uint64_t page = vm_vaddr_alloc_page(vcpu->vm);

	/* IP has 16 bits. */
	virt_map(vcpu->vm, LOW_PAGE, addr_gva2gpa(vcpu->vm, page), 1);
	memcpy(addr_gva2hva(vcpu->vm, page), low_target, target_end - low_target);
	aim_at_segment(vcpu, CODE16, DATA16);
	target.rip = LOW_PAGE;
	check_target(vcpu);
}

/*
 * The IRET is alone in the handler. Below the NMI's frame it finds another one
 * that leads back to it; the stack is what differs.
 */
extern char iret_to_itself[], iret_again[];
asm(".pushsection .text\n"
	"iret_to_itself:\n"
	"incl nr_direct_nmis\n"
	"cmpl $1, nr_direct_nmis\n"
	"jne event_entry_2\n"
	"push %rax\n"
	ASM_STAGE(STAGE_HANDLER)
	"pop %rax\n"
	"push 32(%rsp)\n"		/* SS */
	"lea 8(%rsp), %rcx\n"
	"push %rcx\n"
	"push $2\n"			/* RFLAGS_FIXED */
	"push 32(%rsp)\n"		/* CS */
	"push $iret_again\n"
	"iret_again: iretq\n"
	".popsection");

static void itself(void)
{
	struct kvm_vcpu *vcpu = create_target_vm();

	set_gate(vcpu, NMI_VECTOR, iret_to_itself, INTERRUPT_GATE, 0);
	run_with_target(vcpu, true);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, iret_again });
}

/* The same with the same stack: nothing tells the two IRETs apart. */
extern char iret_for_ever[], iret_same[];
asm(".pushsection .text\n"
	"iret_for_ever:\n"
	"incl nr_direct_nmis\n"
	"cmpl $1, nr_direct_nmis\n"
	"jne event_entry_2\n"
	ASM_STAGE(STAGE_HANDLER)
	"movq $iret_same, (%rsp)\n"
	"mov %rsp, 24(%rsp)\n"
	"iret_same: iretq\n"
	".popsection");

/* What the second NMI interrupts would never end. */
static void on_event_break_out(struct event_regs *regs)
{
	if (regs->vector == NMI_VECTOR)
		regs->rip = (uint64_t)target_end;
}

static void itself_for_ever(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event_break_out);

	set_gate(vcpu, NMI_VECTOR, iret_for_ever, INTERRUPT_GATE, 0);
	run_with_target(vcpu, true);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, iret_same });
}

static const struct test_case cases[] = {
	{ "to user mode", user_mode },
	{ "to user mode that is single-stepped", user_mode_stepped },
	{ "to 32-bit code", code_of_32_bits },
	{ "to 16-bit code with a 16-bit stack", code_of_16_bits },
	{ "to the IRET itself", itself },
	{ "to the IRET itself and the same stack", itself_for_ever },
};

int main(void)
{
	if (nmi_path() == VMX_SOFT)
		return skip_all("soft vNMI does not see the IRET");
	return run_cases(cases, ARRAY_SIZE(cases));
}
