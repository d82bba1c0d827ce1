// SPDX-License-Identifier: GPL-2.0-only
/*
 * An instruction in an interrupt shadow does what it always does, although an
 * NMI waits after it.
 *
 * User space puts the vCPU before the instruction, into the shadow, and
 * makes an NMI pending. The instruction stores flags, loads them, transfers
 * control, faults, or is completed by KVM. Events are logged in the order in
 * which their handlers start: the NMI, taken at the first instruction of what
 * the shadowed one led to, comes first.
 *
 * A wrong implementation that steps over the instruction shows its TF in what
 * the instruction stores, loses the trap with the TF that is pushed away and
 * delivers late, or gets in the way of what it has to emulate.
 */
#include "nmi_events.h"
#include "nmi_pages.h"
#include "nmi_user_mode.h"

enum { STAGE_PORT_OUT = STAGE_OWN };

#define NR_STEPS	2
#define NO_PAGE		0x7fff00000000ul

extern char shadow_end[];
static uint32_t nr_dbs;
static uint64_t dr6_seen[EVENT_LOG_SIZE];
static uint64_t fixup;	/* where to go on after a fault, 0: do not care */
static struct event_regs home;	/* where from user mode */

static void guest(void)
{
	guest_warm_up();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
}

static void on_event(struct event_regs *regs)
{
	if (regs->vector == DB_VECTOR) {
		dr6_seen[nr_dbs++ % EVENT_LOG_SIZE] = read_dr6();
		write_dr6(DR6_NONE);
		if (nr_dbs == NR_STEPS)
			regs->rflags &= ~RFLAGS_TF;
	} else if (regs->cs & 3) {
		regs->rip = home.rip;
		regs->cs = home.cs;
		regs->rflags = RFLAGS_FIXED;
		regs->rsp = home.rsp;
		regs->ss = home.ss;
	} else if (regs->vector != NMI_VECTOR && fixup) {
		regs->rip = fixup;
	}
}

/* name: the instruction; name_next: what stands after it */
#define PAYLOAD(name, insn, behind)					\
	extern char name[], name##_next[];				\
	asm(".pushsection .text\n"					\
	    #name ": " insn "\n"					\
	    #name "_next: " behind "\n"					\
	    "jmp shadow_end\n"						\
	    ".popsection")

asm(".pushsection .text\n"
	"shadow_end:" ASM_STAGE(STAGE_END)
	".popsection");

/*
 * Run one instruction from a stop: RIP and RFLAGS are given, what else it needs
 * the caller writes in between.
 */
static struct kvm_vcpu *stop_at(char *insn, uint64_t rflags, struct kvm_regs *regs)
{
	struct kvm_vcpu *vcpu;

	require_shadow_tracked(rflags);
	vcpu = create_vm(guest, on_event);
	run_to(vcpu, STAGE_READY);
	finish_stage(vcpu);
	sync_global_to_guest(vcpu->vm, fixup);

	put_in_shadow(vcpu, KVM_X86_SHADOW_INT_MOV_SS);

	vcpu_regs_get(vcpu, regs);
	regs->rip = (uint64_t)insn;
	regs->rflags = rflags;
	return vcpu;
}

static void write_stack(struct kvm_vcpu *vcpu, struct kvm_regs *regs, uint64_t value)
{
	regs->rsp -= sizeof(value);
	*(uint64_t *)addr_gva2hva(vcpu->vm, regs->rsp) = value;
}

static void run_insn(struct kvm_vcpu *vcpu, struct kvm_regs *regs)
{
	vcpu_regs_set(vcpu, regs);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	vcpu_regs_get(vcpu, regs);
	sync_global_from_guest(vcpu->vm, dr6_seen);
}

static struct kvm_vcpu *run_shadowed(char *insn, uint64_t rflags, struct kvm_regs *regs)
{
	struct kvm_vcpu *vcpu = stop_at(insn, rflags, regs);

	run_insn(vcpu, regs);
	return vcpu;
}

/* --- instructions that store flags ------------------------------------- */

PAYLOAD(pushf64, "pushfq", "pop %rbx");
PAYLOAD(pushf16, "pushfw", "xor %ebx, %ebx\n pop %bx");

static void check_pushf(char *insn, char *next, uint64_t rflags)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = run_shadowed(insn, rflags, &regs);
	CHECK_EQ(regs.rbx, rflags);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, next });
}

static void pushf(void)
{
	check_pushf(pushf64, pushf64_next, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_CF);
}

static void pushf_16bit(void)
{
	check_pushf(pushf16, pushf16_next, RFLAGS_FIXED | RFLAGS_DF);
}

/* The trap of the guest's own step comes first, at the same boundary. */
static void pushf_stepped(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = run_shadowed(pushf64, RFLAGS_FIXED | RFLAGS_TF, &regs);
	CHECK_EQ(regs.rbx, RFLAGS_FIXED | RFLAGS_TF);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_1 },
		     { DB_VECTOR, pushf64_next, RFLAGS_TF },
		     { DB_VECTOR, pushf64_next + 1, RFLAGS_TF });
	CHECK_EQ(dr6_seen[0], DR6_NONE | DR6_BS);
}

#define INT_VECTOR	0x61
PAYLOAD(int_n, "int $0x61", "nop");
PAYLOAD(int_3, "int3", "nop");

/* Both vectors have #BP's handler. */
static void check_int(char *insn, char *next)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = stop_at(insn, RFLAGS_FIXED | RFLAGS_CF, &regs);
	set_gate(vcpu, INT_VECTOR, event_entry_3, INTERRUPT_GATE, 0);
	run_insn(vcpu, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_3 }, { BP_VECTOR, next });
	CHECK_EQ(only_event(vcpu, BP_VECTOR)->rflags, RFLAGS_FIXED | RFLAGS_CF);
}

static void int_n_pushes(void)
{
	check_int(int_n, int_n_next);
}

static void int_3_pushes(void)
{
	check_int(int_3, int_3_next);
}

PAYLOAD(int_1, ".byte 0xf1", "nop");

static void int_1_pushes(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	if (on_qemu_tcg())
		skip("QEMU TCG takes INT1 for an undefined opcode");
	vcpu = run_shadowed(int_1, RFLAGS_FIXED | RFLAGS_CF, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_1 }, { DB_VECTOR, int_1_next });
	CHECK_EQ(dr6_seen[0], DR6_NONE);
}

extern char syscall_target[];
PAYLOAD(syscall64, "syscall", "ud2\n syscall_target: nop");

static void check_syscall(uint64_t flags, uint64_t masked)
{
	/* QEMU TCG looks for arithmetic flags where it does not keep them. */
	uint64_t kept = ~(masked | (on_qemu_tcg() ? RFLAGS_CF : 0));
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = stop_at(syscall64, flags, &regs);
	enable_syscall(vcpu, syscall_target, masked);
	run_insn(vcpu, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, syscall_target });
	CHECK_EQ(regs.r11, flags);
	CHECK_EQ(regs.rcx, (uint64_t)syscall64_next);
	CHECK_EQ(nmi_nr(read_log(vcpu), 1)->rflags & (kept | masked), flags & kept);
}

static void syscall_saves(void)
{
	check_syscall(RFLAGS_FIXED | RFLAGS_DF | RFLAGS_CF, RFLAGS_DF);
}

/* As kernels do; the step has to trap all the same. */
static void syscall_masks_tf(void)
{
	check_syscall(RFLAGS_FIXED | RFLAGS_CF, RFLAGS_DF | RFLAGS_TF);
}

static void syscall_stepped(void)
{
	if (on_bochs())
		skip("Bochs traps at SYSCALL's target although TF is masked there");
	check_syscall(RFLAGS_FIXED | RFLAGS_TF, RFLAGS_TF);
}

/* --- instructions that load flags -------------------------------------- */

PAYLOAD(popf64, "popfq", "nop\n nop\n pushfq\n pop %rbx");

static struct kvm_vcpu *run_popf(uint64_t popped, struct kvm_regs *regs)
{
	struct kvm_vcpu *vcpu = stop_at(popf64, RFLAGS_FIXED | RFLAGS_CF, regs);

	write_stack(vcpu, regs, popped);
	run_insn(vcpu, regs);
	return vcpu;
}

static void popf(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = run_popf(RFLAGS_FIXED | RFLAGS_OF, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, popf64_next });
	CHECK_EQ(regs.rbx, RFLAGS_FIXED | RFLAGS_OF);
}

static void popf_sets_tf(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = run_popf(RFLAGS_FIXED | RFLAGS_TF, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, popf64_next, RFLAGS_TF },
		     { DB_VECTOR, popf64_next + 1, RFLAGS_TF },
		     { DB_VECTOR, popf64_next + 2, RFLAGS_TF });
	CHECK_EQ(regs.rbx, RFLAGS_FIXED);
}

PAYLOAD(iret64, "iretq", "nop\n nop\n pushfq\n pop %rbx");

static struct kvm_vcpu *run_iret(uint64_t popped, struct kvm_regs *regs)
{
	struct kvm_vcpu *vcpu = stop_at(iret64, RFLAGS_FIXED | RFLAGS_CF, regs);
	uint64_t rsp = regs->rsp;
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	write_stack(vcpu, regs, sregs.ds.selector);
	write_stack(vcpu, regs, rsp);
	write_stack(vcpu, regs, popped);
	write_stack(vcpu, regs, sregs.cs.selector);
	write_stack(vcpu, regs, (uint64_t)iret64_next);
	run_insn(vcpu, regs);
	return vcpu;
}

static void iret(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = run_iret(RFLAGS_FIXED | RFLAGS_OF, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, iret64_next });
	CHECK_EQ(regs.rbx, RFLAGS_FIXED | RFLAGS_OF);
}

static void iret_sets_tf(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = run_iret(RFLAGS_FIXED | RFLAGS_TF, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, iret64_next, RFLAGS_TF },
		     { DB_VECTOR, iret64_next + 1, RFLAGS_TF },
		     { DB_VECTOR, iret64_next + 2, RFLAGS_TF });
}

PAYLOAD(sysret64, "sysretq", "ud2");

#define USER_FLAGS	(RFLAGS_FIXED | RFLAGS_IF | RFLAGS_OF)

/* Where the guest's stack is not to be used, or is user mode's. */
static void give_handlers_stacks(struct kvm_vcpu *vcpu)
{
	set_ist(vcpu, 1, guest_stack_top(0));
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
	set_ist(vcpu, 2, guest_stack_top(1));
	set_gate(vcpu, PF_VECTOR, event_entry_14, INTERRUPT_GATE, 2);
}

/* The user's page does not exist: whatever comes first shows what SYSRET loaded. */
static void sysret(void)
{
	/* QEMU looks at the TF that SYSRET loads, so nothing traps there. */
	bool stepped = on_qemu_tcg() || (on_strict_cpu() && nmi_path() != SVM_VNMI);
	uint64_t vector = stepped ? PF_VECTOR : NMI_VECTOR;
	struct kvm_sregs sregs;
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = stop_at(sysret64, RFLAGS_FIXED | RFLAGS_CF, &regs);
	enable_syscall(vcpu, syscall_target, RFLAGS_DF);
	vcpu_sregs_get(vcpu, &sregs);
	home.rip = (uint64_t)shadow_end;
	home.cs = sregs.cs.selector;
	home.ss = sregs.ds.selector;
	home.rsp = regs.rsp;
	sync_global_to_guest(vcpu->vm, home);
	give_handlers_stacks(vcpu);
	regs.rcx = NO_PAGE;
	regs.r11 = USER_FLAGS;
	run_insn(vcpu, &regs);

	if (vector == NMI_VECTOR)
		CHECK_EVENTS(vcpu, { NMI_VECTOR, (char *)NO_PAGE });
	else
		CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_14 },
			     { PF_VECTOR, (char *)NO_PAGE, RFLAGS_RF });
	CHECK_EQ(only_event(vcpu, vector)->rflags & ~RFLAGS_RF, USER_FLAGS);
	CHECK_EQ(only_event(vcpu, vector)->cs, USER_CS);
}

/* --- instructions that fault -------------------------------------------- */

PAYLOAD(load_bad_segment, "mov %ecx, %ds", "nop");
PAYLOAD(touch_nothing, "mov %eax, (%rcx)", "nop");
PAYLOAD(pushf_nowhere, "pushfq", "nop");

#define BAD_SELECTOR	0xfff8
#define PF_PRESENT	1
#define PF_WRITE	2

static void check_fault(char *insn, char *next, uint64_t vector, char *entry,
			uint64_t rcx, uint64_t error)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	fixup = (uint64_t)next;
	vcpu = stop_at(insn, RFLAGS_FIXED | RFLAGS_CF, &regs);
	regs.rcx = rcx;
	run_insn(vcpu, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, entry, 0 }, { vector, insn, RFLAGS_RF });
	CHECK_EQ(only_event(vcpu, vector)->error, error);
}

static void segment_faults(void)
{
	check_fault(load_bad_segment, load_bad_segment_next, GP_VECTOR,
		    event_entry_13, BAD_SELECTOR, BAD_SELECTOR);
}

static void check_cr2(struct kvm_vcpu *vcpu, uint64_t cr2)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	CHECK_EQ(sregs.cr2, cr2);
}

static void page_faults(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	fixup = (uint64_t)touch_nothing_next;
	vcpu = stop_at(touch_nothing, RFLAGS_FIXED, &regs);
	regs.rcx = NO_PAGE;
	run_insn(vcpu, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_14 },
		     { PF_VECTOR, touch_nothing, RFLAGS_RF });
	CHECK_EQ(only_event(vcpu, PF_VECTOR)->error, PF_WRITE);
	check_cr2(vcpu, NO_PAGE);
}

/* The fault handlers need a stack of their own where the guest's is away. */
static void pushf_faults(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;
	uint64_t stack;

	fixup = (uint64_t)shadow_end;
	vcpu = stop_at(pushf_nowhere, RFLAGS_FIXED, &regs);
	stack = vm_vaddr_alloc_page(vcpu->vm) + getpagesize();
	set_ist(vcpu, 1, stack);
	set_gate(vcpu, PF_VECTOR, event_entry_14, INTERRUPT_GATE, 1);
	regs.rsp = NO_PAGE + 8;
	run_insn(vcpu, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_14 },
		     { PF_VECTOR, pushf_nowhere, RFLAGS_RF });
	CHECK_EQ(only_event(vcpu, PF_VECTOR)->error, PF_WRITE);
	check_cr2(vcpu, NO_PAGE);
}

/* --- instructions that KVM completes ------------------------------------ */

PAYLOAD(cpuid_in_shadow, "cpuid", "nop");
PAYLOAD(rdmsr_in_shadow, "rdmsr", "nop");
PAYLOAD(out_in_shadow, "out %eax, $" __stringify(STAGE_PORT), "nop");
PAYLOAD(mov_from_dr, "mov %dr6, %rbx", "nop");
PAYLOAD(mov_to_dr, "mov %rbx, %dr6", "mov %dr6, %rcx");
PAYLOAD(rep_stos, "rep stosb", "nop");

static void cpuid_completes(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = run_shadowed(cpuid_in_shadow, RFLAGS_FIXED, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, cpuid_in_shadow_next });
}

/* One #DB for the one instruction, at its end, and the NMI at the #DB's handler. */
static void cpuid_stepped(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = run_shadowed(cpuid_in_shadow, RFLAGS_FIXED | RFLAGS_TF, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_1 },
		     { DB_VECTOR, cpuid_in_shadow_next, RFLAGS_TF },
		     { DB_VECTOR, cpuid_in_shadow_next + 1, RFLAGS_TF });
	CHECK_EQ(dr6_seen[0], DR6_NONE | DR6_BS);
}

static void rdmsr_completes(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = stop_at(rdmsr_in_shadow, RFLAGS_FIXED, &regs);
	regs.rcx = MSR_IA32_APICBASE;
	run_insn(vcpu, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, rdmsr_in_shadow_next });
}

static void out_completes(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = stop_at(out_in_shadow, RFLAGS_FIXED, &regs);
	regs.rax = STAGE_PORT_OUT;
	vcpu_regs_set(vcpu, &regs);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_PORT_OUT);
	run_to(vcpu, STAGE_END);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, out_in_shadow_next });
}

static void set_dr6(struct kvm_vcpu *vcpu, uint64_t dr6)
{
	struct kvm_debugregs debugregs;

	vcpu_debugregs_get(vcpu, &debugregs);
	debugregs.dr6 = dr6;
	vcpu_debugregs_set(vcpu, &debugregs);
}

static void dr6_reads(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = stop_at(mov_from_dr, RFLAGS_FIXED, &regs);
	set_dr6(vcpu, DR6_NONE | DR6_B0);
	run_insn(vcpu, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, mov_from_dr_next });
	CHECK_EQ(regs.rbx, DR6_NONE | DR6_B0);
}

static void dr6_writes(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = stop_at(mov_to_dr, RFLAGS_FIXED, &regs);
	regs.rbx = DR6_NONE | DR6_BS;
	run_insn(vcpu, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, mov_to_dr_next });
	CHECK_EQ(regs.rcx, DR6_NONE | DR6_BS);
}

#define STRING_SIZE	16

static void string_is_whole(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;
	uint64_t page;
	char *data;
	int i;

	vcpu = stop_at(rep_stos, RFLAGS_FIXED, &regs);
	page = vm_vaddr_alloc_page(vcpu->vm);
	data = addr_gva2hva(vcpu->vm, page);
	memset(data, 0, STRING_SIZE + 1);
	regs.rdi = page;
	regs.rcx = STRING_SIZE;
	regs.rax = 'x';
	run_insn(vcpu, &regs);

	for (i = 0; i < STRING_SIZE; i++)
		CHECK_EQ(data[i], 'x');
	CHECK_EQ(data[STRING_SIZE], 0);
	CHECK_EQ(read_log(vcpu)->nr, 1);
}

/* --- where and what a breakpoint watches ----------------------------------- */

/* RIP 0 is an address like any other; what runs there ends at shadow_end. */
extern char low_nop[], low_pushf[], low_end[];
asm(".pushsection .text\n"
	"low_nop: nop; nop; nop; movabs $shadow_end, %rax; jmp *%rax\n"
	"low_pushf: pushfq; pop %rbx; nop; movabs $shadow_end, %rax; jmp *%rax\n"
	"low_end:\n"
	".popsection");

static struct kvm_vcpu *run_at_0(char *insn, char *end, struct kvm_regs *regs)
{
	struct kvm_vcpu *vcpu = stop_at(NULL, RFLAGS_FIXED | RFLAGS_CF, regs);
	uint64_t page = vm_vaddr_alloc_page(vcpu->vm);

	virt_map(vcpu->vm, 0, addr_gva2gpa(vcpu->vm, page), 1);
	memcpy(addr_gva2hva(vcpu->vm, page), insn, end - insn);
	run_insn(vcpu, regs);
	return vcpu;
}

static void nop_at_0(void)
{
	struct kvm_regs regs;

	CHECK_EVENTS(run_at_0(low_nop, low_pushf, &regs), { NMI_VECTOR, (char *)1 });
}

static void pushf_at_0(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = run_at_0(low_pushf, low_end, &regs);
	CHECK_EQ(regs.rbx, RFLAGS_FIXED | RFLAGS_CF);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, (char *)1 });
}

/* SMAP keeps the kernel from data in pages of user mode, and not from code there. */
extern char user_int[], user_int_end[];
asm(".pushsection .text\n"
	"user_int: int $0x61; nop; movabs $shadow_end, %rax; jmp *%rax\n"
	"user_int_end:\n"
	".popsection");

static struct kvm_vcpu *stop_with_smap_at(char *insn, uint64_t rflags, struct kvm_regs *regs)
{
	struct kvm_sregs sregs;
	struct kvm_vcpu *vcpu;

	if (!kvm_cpu_has(X86_FEATURE_SMAP))
		skip("the CPU has no SMAP");
	vcpu = stop_at(insn, rflags, regs);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr4 |= X86_CR4_SMAP;
	vcpu_sregs_set(vcpu, &sregs);
	return vcpu;
}

static void int_n_with_smap(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = stop_with_smap_at((char *)USER_PAGE, RFLAGS_FIXED | RFLAGS_CF, &regs);
	memcpy(map_user_page(vcpu, USER_PAGE), user_int, user_int_end - user_int);
	set_gate(vcpu, INT_VECTOR, event_entry_3, INTERRUPT_GATE, 0);
	run_insn(vcpu, &regs);
	CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_3 }, { BP_VECTOR, (char *)USER_PAGE + 2 });
}

static void check_pushf_with_smap(uint64_t rflags, bool faults)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;
	uint64_t *page;

	fixup = (uint64_t)shadow_end;
	vcpu = stop_with_smap_at(pushf_nowhere, rflags, &regs);
	give_handlers_stacks(vcpu);
	page = map_user_page(vcpu, USER_PAGE);
	*page = 0;
	regs.rsp = USER_PAGE + sizeof(*page);
	run_insn(vcpu, &regs);
	CHECK_EQ(*page, faults ? 0 : rflags);
	if (faults) {
		CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_14 },
			     { PF_VECTOR, pushf_nowhere, RFLAGS_RF });
		CHECK_EQ(only_event(vcpu, PF_VECTOR)->error, PF_PRESENT | PF_WRITE);
		check_cr2(vcpu, USER_PAGE);
	} else {
		CHECK_EVENTS(vcpu, { NMI_VECTOR, pushf_nowhere_next });
	}
}

static void pushf_with_smap(void)
{
	check_pushf_with_smap(RFLAGS_FIXED | RFLAGS_CF, true);
}

static void pushf_with_smap_and_ac(void)
{
	check_pushf_with_smap(RFLAGS_FIXED | RFLAGS_AC, false);
}

static void set_breakpoint(struct kvm_vcpu *vcpu, uint64_t address, uint64_t dr7)
{
	struct kvm_debugregs debugregs;

	vcpu_debugregs_get(vcpu, &debugregs);
	debugregs.db[0] = address;
	debugregs.dr7 = dr7;
	vcpu_debugregs_set(vcpu, &debugregs);
}

PAYLOAD(watched_pushf, "pushfq", "nop");
PAYLOAD(watched_popf, "popfq", "nop");

static void check_watched(char *insn, char *next, int64_t offset, uint64_t dr7, bool hits)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vcpu = stop_at(insn, RFLAGS_FIXED, &regs);
	/* Frames are aligned, and begin below what is popped: no push of theirs hits. */
	regs.rsp = (regs.rsp & ~15ull) + 8;
	write_stack(vcpu, &regs, RFLAGS_FIXED | RFLAGS_OF);
	set_breakpoint(vcpu, regs.rsp + offset, dr7);
	run_insn(vcpu, &regs);
	if (hits) {
		CHECK_EVENTS(vcpu, { NMI_VECTOR, event_entry_1 }, { DB_VECTOR, next });
		CHECK_EQ(dr6_seen[0], DR6_NONE | DR6_B0);
	} else {
		CHECK_EVENTS(vcpu, { NMI_VECTOR, next });
	}
}


static void pushf_watched(void)
{
	check_watched(watched_pushf, watched_pushf_next, -8, DR7_L0_WRITE4, true);
}

static void pushf_last_byte_watched(void)
{
	check_watched(watched_pushf, watched_pushf_next, -1, DR7_L0_WRITE, true);
}

static void pushf_beside_watched(void)
{
	check_watched(watched_pushf, watched_pushf_next, 0, DR7_L0_WRITE, false);
}

static void popf_watched(void)
{
	check_watched(watched_popf, watched_popf_next, 0, DR7_L0_ACCESS, true);
}

static void popf_watched_for_writes(void)
{
	check_watched(watched_popf, watched_popf_next, 0, DR7_L0_WRITE, false);
}

static const struct test_case cases[] = {
	{ "PUSHF in the shadow pushes the guest's flags", pushf },
	{ "a 16-bit PUSHF does, too", pushf_16bit },
	{ "PUSHF pushes TF, and traps before the NMI, when the guest steps itself", pushf_stepped },
	{ "INT n pushes the guest's flags, then the NMI comes", int_n_pushes },
	{ "INT3 pushes the guest's flags, then the NMI comes", int_3_pushes },
	{ "INT1 pushes the guest's flags and leaves DR6, then the NMI comes", int_1_pushes },
	{ "SYSCALL saves the guest's flags, then the NMI comes", syscall_saves },
	{ "SYSCALL that masks TF does so, too", syscall_masks_tf },
	{ "SYSCALL that the guest steps saves TF, masks it and does not trap", syscall_stepped },
	{ "POPF loads what it pops", popf },
	{ "POPF that sets TF starts stepping after the NMI", popf_sets_tf },
	{ "IRET loads what it pops", iret },
	{ "IRET that sets TF starts stepping after the NMI", iret_sets_tf },
	{ "SYSRET loads the flags it is given", sysret },
	{ "#GP shows its error code and the guest's flags, then the NMI comes", segment_faults },
	{ "#PF shows its error code, CR2 and the guest's flags, then the NMI comes", page_faults },
	{ "PUSHF that takes #PF shows error code, CR2 and flags", pushf_faults },
	{ "CPUID completes before the NMI", cpuid_completes },
	{ "CPUID that the guest steps traps once, then the NMI comes", cpuid_stepped },
	{ "RDMSR completes before the NMI", rdmsr_completes },
	{ "OUT completes before the NMI", out_completes },
	{ "MOV from DR6 reads the guest's DR6", dr6_reads },
	{ "MOV to DR6 writes the guest's DR6", dr6_writes },
	{ "REP STOS stores everything, and the NMI comes once", string_is_whole },
	{ "NOP at RIP 0 is stepped unseen", nop_at_0 },
	{ "PUSHF at RIP 0 pushes the guest's flags", pushf_at_0 },
	{ "with SMAP INT n in a page of user mode is executed, then the NMI comes", int_n_with_smap },
	{ "with SMAP PUSHF into such a page faults, then the NMI comes", pushf_with_smap },
	{ "with SMAP and AC set PUSHF into such a page pushes the guest's flags", pushf_with_smap_and_ac },
	{ "PUSHF hits a breakpoint on what it pushes, then the NMI comes", pushf_watched },
	{ "PUSHF hits one on the last byte of it", pushf_last_byte_watched },
	{ "PUSHF hits none on the byte above", pushf_beside_watched },
	{ "POPF hits a breakpoint on reads of what it pops, then the NMI comes", popf_watched },
	{ "POPF hits none on writes", popf_watched_for_writes },
};

int main(void)
{
	return run_cases(cases, ARRAY_SIZE(cases));
}
