/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the NMI selftests share: test cases and their results, a VM whose guest
 * logs every event it takes, and the little protocol between guest and host.
 *
 * A guest reports progress by writing a stage number to a port. The host runs
 * the vCPU to a stage, looks, sends something, and runs on. Between two stages
 * nothing else may end KVM_RUN: any other exit fails the case and is decoded.
 * Where the guest stops is therefore exact, and so are the claims made about
 * the instruction at which an NMI arrives.
 */
#ifndef NMI_TEST_H
#define NMI_TEST_H

#include <stdbool.h>
#include <stdint.h>

#include "compat.h"
#include "stage_port.h"

/* --- cases and results ------------------------------------------------- */

/*
 * Each case runs in a process of its own, so a case that dies or hangs takes
 * nothing with it. The claim is what the TAP line says; no other case of the test
 * has the same.
 */
struct test_case {
	const char *claim;
	void (*run)(void);
};

int run_cases(const struct test_case *cases, unsigned int nr);

/* For a test that has nothing to look at on this machine. */
int skip_all(const char *reason);

/* Both end the case at once. The reason is printed with the TAP line. */
void __attribute__((noreturn, format(printf, 1, 2))) skip(const char *fmt, ...);
void __attribute__((noreturn, format(printf, 3, 4)))
fail_at(const char *file, int line, const char *fmt, ...);

/*
 * For a case that needs more than the usual five seconds. A limit is given for a
 * machine that does nothing else; where its clock goes on while the machine does
 * something else, the case has more, and so it has while its guest takes events.
 * NMI_TEST_PATIENCE in the environment is for kernels that are slower: it multiplies
 * all limits.
 */
#define CASE_SECONDS	5
void limit_case(unsigned int seconds);

/* NMI_TEST_LONG in the environment: what comes at random is to come many times. */
bool long_run(void);
unsigned int patience(unsigned int seconds);

/* Of a clock that only goes forward. */
uint64_t now_ns(void);

#define FAIL(fmt, ...) fail_at(__FILE__, __LINE__, fmt, ##__VA_ARGS__)

/*
 * A case without a check cannot fail and does not pass. With NMI_TEST_WRONG set
 * in the environment every check expects the opposite, so that each case can be
 * seen to fail.
 */
bool holds(bool condition);

#define CHECK(condition, fmt, ...)					\
	do {								\
		if (!holds(condition))					\
			FAIL("not true: %s: " fmt, #condition, ##__VA_ARGS__); \
	} while (0)

#define CHECK_EQ(got, want)						\
	do {								\
		uint64_t got_ = (got), want_ = (want);			\
									\
		if (!holds(got_ == want_))				\
			FAIL("%s is 0x%lx, expected %s = 0x%lx",	\
			     #got, got_, #want, want_);			\
	} while (0)

/* --- the four ways NMIs reach a guest ---------------------------------- */

enum nmi_path { VMX_VIRTUAL_NMIS, VMX_SOFT, SVM_VNMI, SVM_IRET };

enum nmi_path nmi_path(void);

/* There are others that serve /dev/kvm, and promise nothing of what is tested. */
bool vendor_module_loaded(void);

/* Reads a parameter of the loaded vendor module; false when it has none. */
bool vendor_param(const char *name, char *value, size_t size);

/*
 * Software that has to guess the end of blocking cannot see the IRET of a guest
 * that keeps IRQs off, unless it sets a breakpoint there (soft_vnmi_exact).
 */
void require_window_with_irqs_off(void);

/*
 * Without an NMI window nothing makes an exit at the end of an interrupt shadow but
 * the monitor trap flag or, with IRQs on, an IRQ window. Where the CPU has no such flag
 * soft vNMI looks again after some microseconds.
 */
bool shadow_tracked_by_timer(void);
bool cpu_has_monitor_trap_flag(void);

/* Of the vendor module: is the parameter Y? */
bool param_is_yes(const char *name);
void require_shadow_tracked(uint64_t rflags);

/* For promises about the IRET itself, which only hardware keeps. */
void require_iret_tracked(void);

bool kernel_is_at_least(unsigned int major, unsigned int minor);

/*
 * Bochs 2.7 sets blocking at a VM entry that asks for it, but does not clear it
 * at one that does not: only an IRET in a guest does. With virtual NMIs nothing
 * can be seen there that ends blocking by other means.
 */
bool blocking_cleared_at_entry(void);
void require_blocking_cleared_at_entry(void);

/* --- emulated machines --------------------------------------------------- */

/*
 * The machine that runs this is emulated by QEMU without KVM, whose CPU differs
 * from the manual's in places. A case that meets one of them says which.
 */
bool on_qemu_tcg(void);

/* The one of "make strict-cpu", which has none of these. */
bool on_strict_cpu(void);

/* Time is there what is executed, and figures repeat. */
bool on_bochs(void);
bool on_bochs_2_7(void);

/*
 * From version 10 on QEMU pushes RF with each NMI that is injected. read_log() has
 * taken it from NMIs' frames there, and nmi_flags() does from a frame's flags.
 */
bool nmis_push_rf(void);
uint64_t nmi_flags(uint64_t rflags);

/*
 * Bochs 3.0 pushes RF with an event whose delivery an EPT violation has cut in two,
 * see guest_start. A CPU does not.
 */
bool cut_deliveries_push_rf(void);

/*
 * A guest's breakpoint counts at the very instruction at which the guest is entered,
 * and an interrupt shadow for it. Before version 10 QEMU had neither.
 */
bool breakpoints_armed_at_entry(void);
bool shadow_survives_entry(void);

/* --- shared by guest and host ------------------------------------------ */

#define RFLAGS_FIXED	0x00002
#define RFLAGS_CF	0x00001
#define RFLAGS_TF	0x00100
#define RFLAGS_IF	0x00200
#define RFLAGS_DF	0x00400
#define RFLAGS_OF	0x00800
#define RFLAGS_RF	0x10000
#define RFLAGS_AC	0x40000

#define IRQ_VECTOR	0x60
#define EVENT_LOG_SIZE	64

struct event_regs {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
	uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

struct event_log {
	uint32_t nr;			/* events of all vectors */
	uint32_t nr_nmis;
	uint32_t in_nmi;
	struct event_regs event[EVENT_LOG_SIZE];
};

extern struct event_log guest_log;
extern uint64_t guest_tss;

/* --- guest side --------------------------------------------------------- */

/* Where handlers begin, by vector. */
extern char event_entry_1[], event_entry_2[], event_entry_3[], event_entry_6[];
extern char event_entry_13[], event_entry_14[], event_entry_0x60[];

/* Where the NMI handler returns and ends; an NMI up to there is a nested one. */
extern char event_iret_2[], event_end_2[];

/* What handlers call, a test's own part of them. */
extern void (*guest_on_event)(struct event_regs *regs);

/* Of use there: the first NMI's handler stops at STAGE_HANDLER and STAGE_HANDLER_END. */
void stop_in_first_handler(struct event_regs *regs);

static inline void guest_stage(uint32_t stage)
{
	asm volatile("outl %0, %1" : : "a"(stage), "N"(STAGE_PORT) : "memory");
}

/* Report a stage; what arrives there arrives at guest_stop_next with RBX 0. */
uint64_t guest_stop(uint32_t stage, uint64_t rflags);
extern char guest_stop_next[];

static inline void guest_irqs_on(void)
{
	asm volatile("sti; nop" : : : "memory");
}

static inline void guest_irqs_off(void)
{
	asm volatile("cli" : : : "memory");
}

/*
 * For loops with IRQs off. Bochs 2.7 enters a guest whose IF is 0 with the host's
 * interrupts held back, until the guest's next CLI: a plain loop would never be
 * left there, neither by a timer nor by a signal.
 */
static inline void guest_spin_irqs_off(void)
{
	asm volatile("cli; pause" : : : "memory");
}

/* An IRET to the next instruction, for what only an IRET ends. */
static inline void guest_iret(void)
{
	asm volatile("mov %%ss, %%eax; mov %%rsp, %%rcx\n\t"
		     "push %%rax; push %%rcx; pushf\n\t"
		     "mov %%cs, %%eax; push %%rax; push $1f; iretq\n\t"
		     "1:" : : : "rax", "rcx", "memory", "cc");
}

/* --- host side ---------------------------------------------------------- */

/*
 * A VM with one vCPU whose guest logs exceptions, NMIs and IRQ_VECTOR and then
 * calls on_event (may be NULL), still inside the handler.
 */
struct kvm_vcpu *create_vm(void (*guest)(void),
			   void (*on_event)(struct event_regs *regs));

/* Prepare a further vCPU of such a VM to take events. */
void init_events(struct kvm_vcpu *vcpu, void (*on_event)(struct event_regs *regs));

enum gate { INTERRUPT_GATE = 14, TRAP_GATE = 15 };

void set_gate(struct kvm_vcpu *vcpu, int vector, void *entry, enum gate gate,
	      int ist);
/* An entry of the GDT. */
void set_descriptor(struct kvm_vcpu *vcpu, uint16_t selector, uint64_t value);
/* Of two stacks that no delivery is the first to touch. */
uint64_t guest_stack_top(int i);

void set_ist(struct kvm_vcpu *vcpu, int ist, uint64_t stack_top);
void set_rsp0(struct kvm_vcpu *vcpu, uint64_t stack_top);
void set_rflags(struct kvm_vcpu *vcpu, uint64_t rflags);

/* As if the last instruction had been MOV SS or STI: KVM_X86_SHADOW_INT_... */
void put_in_shadow(struct kvm_vcpu *vcpu, uint8_t shadow);

/*
 * Have KVM emulate instructions with a prefix, UD2 and "kvm", or no longer. Returns
 * what it did before; -1 if this kvm.ko cannot. run_cases() puts back what there was.
 */
int force_emulation(int value);

void send_nmi(struct kvm_vcpu *vcpu);

/* An MSI in NMI mode, the way to reach a vCPU that is running. */
void send_nmi_by_msi(struct kvm_vm *vm, uint8_t apic_id);

/*
 * For another thread, while the first one is in KVM_RUN: wait until its vCPU has
 * halted, however long that takes.
 */
void wait_until_vcpu_sleeps(void);

/* Run until the guest reports a stage; run_to() also says which it must be. */
uint32_t next_stage(struct kvm_vcpu *vcpu);
void run_to_at(struct kvm_vcpu *vcpu, uint32_t stage, const char *name,
	       const char *file, int line);
#define run_to(vcpu, stage) run_to_at(vcpu, stage, #stage, __FILE__, __LINE__)

/* The same while another thread sends an NMI when the vCPU has halted. */
void run_over_halt_at(struct kvm_vcpu *vcpu, uint32_t stage, const char *name,
		      const char *file, int line);
#define run_over_halt(vcpu, stage) run_over_halt_at(vcpu, stage, #stage, __FILE__, __LINE__)

/* To STAGE_HANDLER_END: an NMI at STAGE_READY, and one in its handler. */
void run_to_handlers_end(struct kvm_vcpu *vcpu);

/* From STAGE_READY to STAGE_END: an NMI at the first, perhaps one in its handler. */
void run_through_handler(struct kvm_vcpu *vcpu, bool second_nmi);

/* Finish the OUT of the stage just reported: RIP is then after it. */
void finish_stage(struct kvm_vcpu *vcpu);

/* Unexpected end of KVM_RUN: say what and where, and fail. */
void __attribute__((noreturn)) fail_on_exit(struct kvm_vcpu *vcpu);

const struct event_log *read_log(struct kvm_vcpu *vcpu);
const struct event_regs *nmi_nr(const struct event_log *log, unsigned int nr);

/* So many NMIs and nothing else came, each where guest_stop() has stopped. */
void check_nmis_at_stop(struct kvm_vcpu *vcpu, unsigned int nr);

/*
 * With NMI_TEST_LOG set in the environment a case prints what its guest has seen,
 * the same on any host that delivers NMIs as this one does: at each stage the
 * events since the last one. For a guest with handlers of its own log_line() does.
 */
void log_stage(struct kvm_vcpu *vcpu, uint32_t stage);
void __attribute__((format(printf, 1, 2))) log_line(const char *fmt, ...);

/* The flags of a frame by which hosts may be told apart. */
uint64_t logged_flags(uint64_t rflags);

/* A number that KVM counts for the vCPU, by its name. */
uint64_t vcpu_stat(struct kvm_vcpu *vcpu, const char *name);

/* Exits of the vCPU up to now, without those for the host's own interrupts. */
uint64_t exits_of(struct kvm_vcpu *vcpu);

/*
 * The module's trace events in between, with KVM's entries and exits; of the last one of
 * a name ("kvm_nmi_inject: ") the text from there on, "" if there is none, and how many
 * there were. trace_find() stops recording as well, but more may be looked for. Skips
 * where there is no tracing.
 */
void trace_begin(void);
/* KVM's exits that the filter lets through, and nothing else, instead. */
void trace_exits(const char *filter);
unsigned int trace_find(const char *event, char *text, size_t size);
unsigned int trace_end(const char *event, char *text, size_t size);

/* What a case has left that did not get to its trace_end(). */
void trace_discard(pid_t pid);

/* To a file by which the kernel is told something. */
void write_file(const char *path, const char *text);

/*
 * Move the vCPU to a fresh VM, by what user space can save and restore. Between
 * the two, while there is no VM, meanwhile() runs if there is one.
 */
struct kvm_vcpu *migrate_while(struct kvm_vcpu *vcpu, void (*meanwhile)(void));

static inline struct kvm_vcpu *migrate(struct kvm_vcpu *vcpu)
{
	return migrate_while(vcpu, NULL);
}

/* Let KVM_RUN find a signal when it has prepared the entry. */
void enter_and_give_up(struct kvm_vcpu *vcpu);

#endif
