// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest cannot tell from its own flags, traps and debug registers whether NMIs
 * interrupt it, wherever they do.
 *
 * The guest runs a fixed sequence over and over: it stores, loads and checks
 * flags in and out of interrupt shadows, raises exceptions, enters and leaves
 * user mode, and single-steps itself. Everything it sees on the way is noted, by
 * its exception handlers, too. A dry run gives the notes to expect; then another
 * vCPU sends NMIs at random times, and each further run has to give the same
 * ones. Every fourth NMI's handler sends one more, which then is due at the
 * handler's IRET.
 *
 * The sequence itself is tested by the dry run only: what the guest notes may be
 * peculiar to an emulated CPU, but NMIs must not change it.
 *
 * A wrong implementation makes a difference in any of the ways in which the tests
 * of single situations do, loses an NMI, or nests one.
 */
#include "nmi_events.h"
#include "nmi_pages.h"
#include "nmi_sender.h"
#include "nmi_user_mode.h"

enum { STAGE_DIFFERENT = STAGE_OWN };

#define NR_NMIS		100000
#define MAX_NOTES	4096

#define INT_VECTOR	0x61
#define RFLAGS_STATUS	0x8d5ul		/* CF PF AF ZF SF OF */

void stress_sequence(void);
extern char stress_syscall[], stress_user[], stress_user_end[];

/* Used by the sequence. */
uint64_t notes[MAX_NOTES], *next_note = notes;
uint64_t kernel_rsp;
uint8_t written[64];

static uint64_t expected[MAX_NOTES];
static uint64_t nr_expected, different;
static uint64_t dr7 = DR7_NONE;
static uint64_t noted_flags = ~0ull;

static void note(uint64_t value)
{
	*next_note++ = value;
}

/* Loads and stores of flags, with DF as well as without. */
asm(".pushsection .text\n"
	/* Keeps all registers but RAX, and flags. */
	".macro note_rax\n"
	"push %rcx\n"
	"mov next_note, %rcx\n"
	"mov %rax, (%rcx)\n"
	"lea 8(%rcx), %rcx\n"
	"mov %rcx, next_note\n"
	"pop %rcx\n"
	".endm\n"
	".macro note_flags\n"
	"pushfq\n"
	"pop %rax\n"
	"note_rax\n"
	".endm\n"
	".macro load_flags value\n"
	"push $\\value\n"
	"popfq\n"
	".endm\n"
	".macro shadow\n"
	"mov %ebx, %ss\n"
	".endm\n"
	/* To the same stack: what IRETQ pops is above it. */
	".macro iret_with flags, before=\n"
	"mov %rsp, %rax\n"
	"push %rbx\n"
	"push %rax\n"
	"push $\\flags\n"
	"mov %cs, %eax\n"
	"push %rax\n"
	"push $1f\n"
	"\\before\n"
	"iretq\n"
	"1:\n"
	".endm\n"
	".macro step_on\n"
	"pushfq\n"
	"orq $0x100, (%rsp)\n"
	"popfq\n"
	".endm\n"
	".macro step_off\n"
	"pushfq\n"
	"andq $~0x100, (%rsp)\n"
	"popfq\n"
	".endm\n"

	".globl stress_sequence\n"
	"stress_sequence:\n"
	"push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
	"mov %ss, %ebx\n"

	".irp flags, 0x2, 0x3, 0x402, 0x803, 0x4d7, 0x40002, 0x4002\n"
	"load_flags \\flags\n"
	"note_flags\n"
	".endr\n"
	"load_flags 0x2\n"

	"sti\n note_flags\n cli\n note_flags\n"
	"sti\n cli\n note_flags\n"
	"sti\n pushfq\n cli\n pop %rax\n note_rax\n"
	"sti\n nop\n cli\n note_flags\n"

	".irp flags, 0x2, 0x403\n"
	"load_flags \\flags\n"
	"shadow\n pushfq\n pop %rax\n note_rax\n"
	"shadow\n int3\n"
	"shadow\n int $0x61\n"
	"int3\n int $0x61\n"
	"shadow\n syscall\n"
	"syscall\n"
	"sti\n syscall\n cli\n"
	"shadow\n cpuid\n"
	"mov %ss, %ebx\n"			/* CPUID has taken RBX */
	"iret_with \\flags\n note_flags\n"
	"iret_with \\flags, shadow\n note_flags\n"
	"push $\\flags\n shadow\n popfq\n note_flags\n"
	"iret_with 0x102\n nop\n step_off\n note_flags\n"
	"iret_with 0x102, shadow\n nop\n step_off\n note_flags\n"
	".endr\n"
	"load_flags 0x2\n"

	/* What stepping gets to see, in the kernel. */
	"step_on\n nop\n nop\n step_off\n"
	"step_on\n pushfq\n pop %rax\n step_off\n note_rax\n"
	"step_on\n int3\n nop\n step_off\n"
	"step_on\n int $0x61\n step_off\n"
	"step_on\n shadow\n nop\n nop\n step_off\n"
	"step_on\n shadow\n pushfq\n pop %rax\n step_off\n note_rax\n"
	"step_on\n sti\n nop\n cli\n step_off\n"
	"step_on\n syscall\n step_off\n"
	"step_on\n iret_with 0x102\n nop\n step_off\n"
	"step_on\n iret_with 0x2\n nop\n note_flags\n"
	"step_on\n load_flags 0x2\n nop\n note_flags\n"

	/* Exceptions; R12 is where a handler goes on. */
	"mov $1f, %r12\n ud2\n 1: note_flags\n"
	"mov $1f, %r12\n shadow\n ud2\n 1: note_flags\n"
	"mov $0xfff8, %eax\n mov $1f, %r12\n mov %eax, %ds\n 1: note_flags\n"
	"mov $0xfff8, %eax\n mov $1f, %r12\n shadow\n mov %eax, %ds\n 1: note_flags\n"
	"mov $1f, %r12\n mov %eax, 0x7fff00000000\n 1: note_flags\n"
	"mov $1f, %r12\n shadow\n mov %eax, 0x7fff00000000\n 1: note_flags\n"
	"step_on\n mov $1f, %r12\n ud2\n 1: step_off\n"

	/* Debug registers, and what makes a guest hold them. */
	"mov $0xffff0ff2, %eax\n mov %rax, %dr6\n mov %dr6, %rax\n note_rax\n"
	"shadow\n mov %dr6, %rax\n note_rax\n"
	"mov $0xffff0ff0, %eax\n shadow\n mov %rax, %dr6\n mov %dr6, %rax\n note_rax\n"

	/* A string, one write of which may be watched. */
	"mov $written, %edi\n mov $64, %ecx\n mov $0x5a, %eax\n rep stosb\n"
	"mov $written, %edi\n mov $64, %ecx\n mov $0xa5, %eax\n shadow\n rep stosb\n"
	"movb $1, written\n shadow\n movb $2, written\n"
	"movzbl written, %eax\n note_rax\n movzbl written+63, %eax\n note_rax\n"

	/* User mode, by SYSRET and by IRET, stepped or not, and back by SYSCALL. */
	".irp flags, 0x202, 0x203, 0x302\n"
	"mov %rsp, kernel_rsp\n"
	"mov $1f, %r13\n"
	"mov $0x10000000, %ecx\n"		/* USER_PAGE */
	"mov $\\flags, %r11d\n"
	"mov $0x10001000, %esp\n"
	"sysretq\n"
	"1: note_rax\n"
	"mov $1f, %r13\n"
	"push $0x2b\n push $0x10001000\n push $\\flags\n push $0x33\n push $0x10000000\n"
	"iretq\n"
	"1: note_rax\n"
	".endr\n"
	"xor %r13d, %r13d\n"
	"load_flags 0x2\n"

	"pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
	"ret\n"

	/* From user mode if R13 has an address to go on at. */
	"stress_syscall:\n"
	"test %r13, %r13\n"
	"jnz 2f\n"
	"push %rax\n mov %r11, %rax\n note_rax\n pop %rax\n"
	"jmp *%rcx\n"
	"2: mov kernel_rsp, %rsp\n"
	"jmp *%r13\n"

	"stress_user:\n"
	"nop\n"
	"pushfq\n pop %rax\n"
	"nop\n"
	"syscall\n"
	"stress_user_end:\n"
	".popsection");

static void on_nmi(void)
{
	if (guest_nmi_came() == OTHER_VCPU && nmis_sent % 4 == 0)
		guest_send_nmi_to_self();
}

static void on_event(struct event_regs *regs)
{
	if (regs->vector == NMI_VECTOR) {
		on_nmi();
		return;
	}

	note(regs->vector);
	note(regs->error);
	note(regs->rip);
	note(regs->rsp);
	note(regs->rflags & noted_flags);
	if (regs->vector == DB_VECTOR) {
		note(read_dr6());
		write_dr6(DR6_NONE);
	} else if (regs->vector != BP_VECTOR) {
		regs->rip = regs->r12;
	}
}

static uint64_t run_sequence(void)
{
	next_note = notes;
	stress_sequence();
	return next_note - notes;
}

static void compare(uint64_t nr)
{
	uint64_t i;

	for (i = 0; i < nr_expected && i < nr; i++)
		if (notes[i] != expected[i])
			break;
	if (i == nr_expected && i == nr)
		return;
	different = i;
	guest_stage(STAGE_DIFFERENT);
}

static void guest(void)
{
	uint64_t i;

	x2apic_enable();
	if (dr7 != DR7_NONE)
		asm volatile("mov %0, %%dr0; mov %1, %%dr7"
			     : : "r"(written), "r"(dr7) : "memory");

	/* The first run maps what it touches. */
	run_sequence();
	nr_expected = run_sequence();
	GUEST_ASSERT(nr_expected < MAX_NOTES);
	for (i = 0; i < nr_expected; i++)
		expected[i] = notes[i];
	compare(run_sequence());

	guest_stage(STAGE_READY);
	while (!guest_all_nmis_came())
		compare(run_sequence());
	guest_stage(STAGE_END);
}

static void set_up_user_mode(struct kvm_vcpu *vcpu)
{
	memcpy(map_user_page(vcpu, USER_PAGE), stress_user, stress_user_end - stress_user);
	set_rsp0(vcpu, vm_vaddr_alloc_page(vcpu->vm) + getpagesize());
	add_user_segments(vcpu);
	/* QEMU TCG loses DF and the status flags at SYSCALL, masked or not. */
	enable_syscall(vcpu, stress_syscall,
		       RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_STATUS);
}

static void fail_different(struct kvm_vcpu *vcpu)
{
	uint64_t i;

	sync_global_from_guest(vcpu->vm, notes);
	sync_global_from_guest(vcpu->vm, expected);
	sync_global_from_guest(vcpu->vm, different);
	for (i = different < 8 ? 0 : different - 8; i < different + 8; i++)
		printf("note %lu: 0x%lx, expected 0x%lx\n", i, notes[i], expected[i]);
	FAIL("note %lu differs after %u NMIs", different, read_log(vcpu)->nr_nmis);
}

static void stress(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest, on_event);
	uint32_t stage;

	/* RF differs on QEMU TCG, depending on who delivers the exception. */
	if (on_qemu_tcg())
		noted_flags = ~RFLAGS_RF;
	sync_global_to_guest(vcpu->vm, noted_flags);
	sync_global_to_guest(vcpu->vm, dr7);
	set_gate(vcpu, INT_VECTOR, event_entry_3, INTERRUPT_GATE, 0);
	set_up_user_mode(vcpu);
	set_ist(vcpu, 1, vm_vaddr_alloc_page(vcpu->vm) + getpagesize());
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);

	stage = next_stage(vcpu);
	if (stage == STAGE_READY) {
		start_sender(vcpu, worth_sending(NR_NMIS));
		stage = next_stage(vcpu);
	}
	if (stage == STAGE_DIFFERENT)
		fail_different(vcpu);
	CHECK_EQ(stage, STAGE_END);
	end_sender();
}

static void without_watchpoint(void)
{
	stress();
}

static void with_watchpoint(void)
{
	if (on_qemu_tcg())
		skip("QEMU TCG aborts at a watchpoint that hits while #DB is intercepted");
	dr7 = DR7_L0_WRITE;
	stress();
}

static const struct test_case cases[] = {
	{ "NMIs change nothing that a guest notes", without_watchpoint },
	{ "nor do they with a watchpoint set", with_watchpoint },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
