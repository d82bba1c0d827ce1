/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random programs for a guest and its host, and a model that says what they do.
 *
 *   fuzz.c     runs a program in both, and shortens one that fails
 *   program.c  makes a program from a seed: instructions with addresses
 *   ops.c      the operations that programs consist of
 *   model.c    executes instructions by the manuals' words
 *   events.c   when the model takes which event; NMI blocking
 *   machine.c  the VM that runs the same program
 *   run.c      from stop to stop
 *   host.c     what the host does where the guest stops for it
 *   guest.S    the guest's handlers: log the event, go on in the program
 *   report.c   says how the two differ
 *   parts.c    what is left out on this machine
 *
 * The guest stops for the host at an OUT, at HLT, in SMM and after INIT. The model
 * runs to its next stop, then the VM does, and both have to be in the same place
 * with the same events after them. Then the host does something to both.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "nmi_test.h"
#include "fuzz_layout.h"

/* --- programs ----------------------------------------------------------- */

/* What kinds of things a program may contain. */
enum {
	WITH_STEPS	= 1 << 0,	/* RFLAGS.TF */
	WITH_SHADOWS	= 1 << 1,
	WITH_FAULTS	= 1 << 2,
	WITH_IRQS	= 1 << 3,
	WITH_HALTS	= 1 << 4,
	WITH_MODES	= 1 << 5,	/* user mode, 32-bit code */
	WITH_STATE	= 1 << 6,	/* save, restore, entries given up, lost pages */
	WITH_SMM	= 1 << 7,
	WITH_INIT	= 1 << 8,
	WITH_DEBUG	= 1 << 9,	/* debug registers, debugged by user space */
	WITH_ASYNC	= 1 << 10,	/* NMIs by another thread */
	WITH_ALL	= (1 << 11) - 1,
};

/* By which the guest stops: an OUT of EAX to STAGE_PORT. */
#define FUZZ_OUT	"\xe7\xf1"
_Static_assert(STAGE_PORT == 0xf1, "as above");

enum insn_kind {
	I_PLAIN,	/* nothing but its stack effect */
	I_ENTRY,	/* of a handler: log, then on to the body */
	I_EXIT,		/* makes the CPU exit to KVM, otherwise plain */
	I_STOP,		/* OUT: the host's turn */
	I_END,		/* the same, the last one */
	I_SEND_NMI, I_SEND_IRQ,
	LAST_EXIT = I_SEND_IRQ,
	I_STI, I_CLI, I_MOV_SS, I_HLT,
	I_STORE,	/* POP or MOV of arg to a slot */
	I_PUSHF, I_POPF,
	I_INT3, I_INT_N,
	I_FAULT,	/* raises the exception in arg */
	I_IRET,
	/* Of a handler, on its own frame, which is the last one. */
	I_FRAME_FLAGS, I_FRAME_SKIP, I_FRAME_MOVE, I_FRAME_LEAVE,
	I_FRAME_CS_HIGH, I_FRAME_SS_HIGH,	/* byte arg of the selector */
	I_MAKE_FRAME,	/* the last push of a frame made by hand, arg MADE() */
	I_SET_RSP,
	I_TO_64BIT,	/* a far jump to what follows */
	I_SYSCALL, I_AFTER_SYSCALL,
	I_WRITE_DR0, I_READ_DR6, I_WRITE_DR6, I_WRITE_DR7,
	I_WATCHED,	/* writes where DR0 points to */
};

/* Flags, segments and size of a frame that is made by hand. */
#define MADE(flags, cs, ss, size) ((flags) | (cs) << 20 | (ss) << 24 | (uint32_t)(size) << 26)

struct fuzz_insn {
	uint8_t kind, len, op;
	int8_t stack;		/* added to RSP */
	uint32_t arg, address;
};

enum fuzz_cs { CS_KERNEL, CS_COMPAT, CS_USER, NR_CS };
enum fuzz_ss { SS_KERNEL, SS_USER, SS_NULL, NR_SS };
extern const uint16_t fuzz_cs[NR_CS], fuzz_ss[NR_SS];

#define FUZZ_MAX_INSNS	900
#define FUZZ_MAX_OPS	120	/* operations; the host's stops are counted apart */
#define FUZZ_MAX_FRAMES	24

/* What I_STORE stores, beside the number of the slot. */
enum { STORE_STACK = 0x100, STORE_R11 = 0x200, STORE_DR6 = 0x300 };

/* A named part of the program that can be left out. */
struct fuzz_op_name {
	const char *name;
	uint16_t first, code;		/* where it begins, as insn and as code */
};

struct fuzz_program {
	uint64_t seed;
	uint32_t with;
	uint16_t nr, nr_ops, nr_slots, code_size;
	uint16_t start, at_syscall, entry[NR_FUZZ_VECTORS], body[NR_FUZZ_VECTORS][FUZZ_BODIES];
	struct fuzz_insn insn[FUZZ_MAX_INSNS];
	struct fuzz_op_name op[FUZZ_MAX_OPS];
	uint8_t code[FUZZ_CODE_SIZE];
};

/* Operations and stops that are left out, to find a shorter program. */
struct fuzz_omit {
	uint64_t ops[2], stops;
};

struct fuzz_random {
	uint64_t state;
};

void fuzz_seed(struct fuzz_random *random, uint64_t seed, uint64_t stream);
uint32_t fuzz_below(struct fuzz_random *random, uint32_t limit);
static inline bool fuzz_one_in(struct fuzz_random *random, uint32_t n)
{
	return !fuzz_below(random, n);
}

void fuzz_generate(struct fuzz_program *program, uint64_t seed, uint32_t with,
		   const struct fuzz_omit *omit);

/* Of use to the operations only. */
struct fuzz_writer {
	struct fuzz_program *program;
	const struct fuzz_omit *omit;
	struct fuzz_random random;
	bool in_body;
	enum { CODE_KERNEL, CODE_USER, CODE_COMPAT } mode;
};

struct fuzz_insn *fuzz_emit(struct fuzz_writer *writer, enum insn_kind kind,
			    uint32_t arg, int stack, const char *bytes,
			    unsigned int len);
uint64_t fuzz_trap_flag(void);	/* RFLAGS.TF, if it is not left out here */
uint64_t fuzz_flags(struct fuzz_writer *writer);
void fuzz_emit_random_op(struct fuzz_writer *writer);
void fuzz_emit_start(struct fuzz_writer *writer);
void fuzz_begin_op(struct fuzz_writer *writer, const char *name);
void fuzz_end_op(struct fuzz_writer *writer);
void fuzz_emit_return(struct fuzz_writer *writer, unsigned int vector,
		      unsigned int body);
void fuzz_emit_plain_return(struct fuzz_writer *writer, unsigned int vector);

/* --- the model ---------------------------------------------------------- */

struct fuzz_event {
	uint64_t vector, error, rip, cs, rflags, rsp, ss, extra;
};

/* What the guest has logged, and where it is. */
struct fuzz_seen {
	uint64_t rip, rsp, rflags;
	uint32_t nr_events;
	const struct fuzz_event *event;
	const uint64_t *slot;
};

/* Is it so? Soft vNMI lets open whether it has noticed. */
enum fuzz_truth { NO, YES, MAYBE };

enum fuzz_shadow { NO_SHADOW, STI_SHADOW, MOV_SS_SHADOW };

/* Where a model has stopped. */
enum fuzz_stop {
	AT_OUT, AT_END, AT_HALT, AT_SMM, AT_RESET,
	AT_LIMIT,	/* what comes cannot be foretold; no difference */
};

struct fuzz_frame {
	uint64_t rflags, rsp, address, dr6;
	uint32_t error;
	uint16_t ip;
	uint8_t cs, ss, cs_high, ss_high;	/* of selectors that are spoilt */
};

struct fuzz_model {
	const struct fuzz_program *program;
	uint64_t rsp, rflags, dr6, dr7, slot[FUZZ_SLOTS];
	uint64_t dr6_read, r11;
	uint16_t ip;			/* next instruction, by number */
	uint16_t after_syscall;
	uint8_t cs, ss, shadow, nr_frames;
	uint8_t count[NR_FUZZ_VECTORS];
	struct fuzz_frame frame[FUZZ_MAX_FRAMES];
	uint32_t budget;

	uint8_t masked;			/* enum fuzz_truth */
	uint8_t pending;
	bool irq, smi, init, in_smm, halted;
	bool in_service;		/* an IRQ whose handler has not sent EOI */
	uint8_t smm_masked;		/* what RSM puts back */
	bool held_back;			/* by a debugger: SMIs, NMIs and IRQs */
	const struct fuzz_seen *follow;	/* an NMI comes where it did there */
	uint64_t trap;			/* causes of a #DB that is due, as in DR6 */

	/* A shadow holds an NMI back; nobody has seen its end, but a timer. */
	bool held_in_shadow, shadow_unseen, by_timer;

	/* Soft vNMI: the return address is watched. */
	bool watching;
	uint16_t return_ip;
	uint64_t return_rsp;
	uint8_t return_cs;

	uint8_t at;			/* enum fuzz_stop */
	uint64_t stop_rip, stop_rsp, stop_rflags;
	uint32_t nr_stops, nr_events;	/* events since the last stop */
	struct fuzz_event event[FUZZ_LOG_SIZE];
};

#define FUZZ_MAX_MODELS	8

/* All that may be going on. */
struct fuzz_models {
	unsigned int nr;
	struct fuzz_model model[FUZZ_MAX_MODELS];
};

/* Of the instructions, since the start: which ran, which had an interrupt shadow. */
extern bool fuzz_ran[FUZZ_MAX_INSNS], fuzz_shadowed[FUZZ_MAX_INSNS];

void fuzz_start(struct fuzz_models *models, const struct fuzz_program *program);
void fuzz_restart_models(struct fuzz_models *models);

/* To the next stop. With what the VM has done: one NMI is on its way meanwhile. */
void fuzz_run_models(struct fuzz_models *models, const struct fuzz_seen *follow);

/* Of use to the model's own files only. */
void fuzz_execute(struct fuzz_model *model);
void fuzz_deliver(struct fuzz_model *model, unsigned int vector,
		  uint64_t error, bool fault);
bool fuzz_take_events(struct fuzz_models *models, struct fuzz_model *model);
void fuzz_nmi_unmask_by_iret(struct fuzz_model *model);
void fuzz_iret_faulted(struct fuzz_model *model);
void fuzz_seen_by_kvm(struct fuzz_model *model);
void fuzz_asks_kvm(struct fuzz_model *model);
void fuzz_fault_seen(struct fuzz_model *model);
void fuzz_send_nmi(struct fuzz_model *model);

/* --- the VM ------------------------------------------------------------- */

enum fuzz_say { SAY_NOTHING, SAY_DIFFERENCE, SAY_ALL };

struct fuzz_machine {
	int vm, vcpu;
	char *memory;
	struct kvm_run *run;
	size_t run_size;
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;
	bool completed;			/* the OUT of the stop */
	uint32_t late_ns;		/* an NMI comes so long after the next entry */
};

void fuzz_create_machine(struct fuzz_machine *machine);
void fuzz_destroy_machine(struct fuzz_machine *machine);
void fuzz_load_program(struct fuzz_machine *machine, const struct fuzz_program *program);
void fuzz_ioctl(int fd, unsigned long request, void *arg, const char *name);
#define FUZZ_IOCTL(fd, request, arg) fuzz_ioctl(fd, request, arg, #request)

/* Run to the next stop; false if it comes to none; then it can be said why. */
bool fuzz_run_machine(struct fuzz_machine *machine, bool may_halt, enum fuzz_stop *at,
		      bool in_haste);
void fuzz_say_why(struct fuzz_machine *machine);
void fuzz_complete(struct fuzz_machine *machine);

/* Of a new vCPU, first. */
void fuzz_accept_signal(struct fuzz_machine *machine);

void fuzz_send_msi(struct fuzz_machine *machine, uint32_t data);

/* Let KVM_RUN prepare an entry and then find a signal. */
void fuzz_give_up_entry(struct fuzz_machine *machine);

/* Into a fresh VM with the same memory. */
void fuzz_migrate(struct fuzz_machine *machine);

/* After INIT: to the start of the program again. */
void fuzz_restart(struct fuzz_machine *machine, const struct fuzz_program *program);
void fuzz_lose_pages(struct fuzz_machine *machine, uint64_t address, uint64_t size);

void fuzz_look(struct fuzz_machine *machine, struct fuzz_seen *seen);

/* --- both at once -------------------------------------------------------- */

/* What the host does at a stop. */
void fuzz_act(struct fuzz_machine *machine, struct fuzz_models *models,
	      uint32_t stop, bool print);

/* Has the VM come to where this model is, and seen the same? Says where not. */
bool fuzz_same(const struct fuzz_model *model, const struct fuzz_seen *seen,
	       enum fuzz_stop at, bool print);
void fuzz_print_program(const struct fuzz_program *program);

/* The vector if the first difference is an NMI or IRQ in an interrupt shadow, or -1. */
int fuzz_in_shadow(const struct fuzz_model *model, const struct fuzz_seen *seen);

/*
 * Runs one program; true if VM and model agree as far as the model can tell, which
 * is to the end for those that are counted here.
 */
extern unsigned long fuzz_nr_ended;
extern int fuzz_shadow_lost_to;	/* in the last program, if it failed by that: vector */
bool fuzz_run_program(uint64_t seed, uint32_t with, const struct fuzz_omit *omit,
		      enum fuzz_say say);

/* Finds what can be left out, and prints the rest with what happens. */
void fuzz_report(uint64_t seed, uint32_t with);

/* --- what this machine can do --------------------------------------------- */

/* Parts of programs that are left out here; each has a name and a reason. */
enum fuzz_part {
	STEP_MOV_SS, STEP_STI, STEPS, STEP_ICR, STI_AGAIN, EXIT_IN_SHADOW, ABSENT_SS,
	SYSCALL_FLAGS, WATCH, RF_IN_FRAMES, LOST_PAGES, SOFT_SHADOW, SMM, AT_SOME_TIME,
	NR_FUZZ_PARTS
};

bool fuzz_does(enum fuzz_part part);
const char *fuzz_left_out(enum fuzz_part part);

#endif
