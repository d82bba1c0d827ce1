// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations that random programs consist of, as code and as what the model
 * makes of it. Handlers preserve the registers that an operation uses between its
 * instructions; R15 holds the stack segment.
 */
#include "nmi_events.h"
#include "fuzz.h"

#define EMIT(kind, arg, stack, bytes)					\
	fuzz_emit(w, kind, arg, stack, bytes, sizeof(bytes) - 1)

/* An opcode and a 32-bit number after it. */
#define EMIT32(kind, arg, stack, bytes, value)				\
	emit32(w, kind, arg, stack, bytes, sizeof(bytes) - 1, value)

static void emit32(struct fuzz_writer *w, enum insn_kind kind, uint32_t arg,
		   int stack, const char *bytes, unsigned int len, uint32_t value)
{
	char insn[16];

	memcpy(insn, bytes, len);
	memcpy(insn + len, &value, sizeof(value));
	fuzz_emit(w, kind, arg, stack, insn, len + sizeof(value));
}

static uint32_t here(struct fuzz_writer *w)
{
	return FUZZ_CODE + w->program->code_size;
}

/* What a push and a pop move RSP by. */
static int word(struct fuzz_writer *w)
{
	return w->mode == CODE_COMPAT ? 4 : 8;
}

static void push(struct fuzz_writer *w, uint32_t value)
{
	EMIT32(I_PLAIN, 0, -word(w), "\x68", value);
}

static void store(struct fuzz_writer *w, uint32_t source)
{
	uint32_t slot = w->program->nr_slots, address = FUZZ_SLOT_BASE + slot * 8;

	if (slot + 1 < FUZZ_SLOTS)
		w->program->nr_slots++;
	if (source == STORE_STACK)
		EMIT32(I_STORE, source | slot, word(w), "\x8f\x04\x25", address);
	else if (source == STORE_R11)
		EMIT32(I_STORE, source | slot, 0, "\x4c\x89\x1c\x25", address);
	else
		EMIT32(I_STORE, source | slot, 0, "\x48\x89\x04\x25", address);
}

/* --- operations ----------------------------------------------------------- */

static void op_nop(struct fuzz_writer *w)
{
	EMIT(I_PLAIN, 0, 0, "\x90");
	EMIT(I_PLAIN, 0, 0, "\x8d\x5b\x01");		/* lea 1(%rbx), %ebx */
}

static void op_stop(struct fuzz_writer *w)
{
	EMIT(I_STOP, 0, 0, FUZZ_OUT);
}

static void op_cpuid(struct fuzz_writer *w)
{
	EMIT(I_EXIT, 0, 0, "\x0f\xa2");
}

static void write_icr(struct fuzz_writer *w, enum insn_kind kind, uint32_t icr)
{
	EMIT32(I_PLAIN, 0, 0, "\xb9", 0x830);		/* mov to ECX, EAX, EDX */
	EMIT32(I_PLAIN, 0, 0, "\xb8", icr);
	EMIT32(I_PLAIN, 0, 0, "\xba", 0);
	EMIT(kind, 0, 0, "\x0f\x30");			/* wrmsr */
}

static void op_send_nmi(struct fuzz_writer *w)
{
	write_icr(w, I_SEND_NMI, APIC_DM_NMI | APIC_INT_ASSERT);
}

static void op_send_irq(struct fuzz_writer *w)
{
	write_icr(w, I_SEND_IRQ, APIC_DM_FIXED | APIC_INT_ASSERT | FUZZ_IRQ);
}

static void op_pushf(struct fuzz_writer *w)
{
	EMIT(I_PUSHF, 0, -word(w), "\x9c");
	store(w, STORE_STACK);
}

static void popf(struct fuzz_writer *w, uint32_t flags)
{
	push(w, flags);
	EMIT(I_POPF, flags, word(w), "\x9d");
}

static void op_popf(struct fuzz_writer *w)
{
	popf(w, fuzz_flags(w));
}

static void op_sti(struct fuzz_writer *w)
{
	EMIT(I_STI, 0, 0, "\xfb");
}

static void op_cli(struct fuzz_writer *w)
{
	EMIT(I_CLI, 0, 0, "\xfa");
}

static void op_sti_cli(struct fuzz_writer *w)
{
	op_sti(w);
	op_cli(w);
}

static void op_mov_ss(struct fuzz_writer *w)
{
	EMIT(I_MOV_SS, 0, 0, "\x41\x8e\xd7");		/* mov %r15d, %ss */
}

static void op_hlt(struct fuzz_writer *w)
{
	EMIT(I_HLT, 0, 0, "\xf4");
}

static void op_sti_hlt(struct fuzz_writer *w)
{
	op_sti(w);
	op_hlt(w);
}

static void op_int3(struct fuzz_writer *w)
{
	EMIT(I_INT3, 0, 0, "\xcc");
}

static void op_int_n(struct fuzz_writer *w)
{
	EMIT(I_INT_N, V_INT, 0, "\xcd\x61");
}

static void op_ud2(struct fuzz_writer *w)
{
	EMIT(I_FAULT, V_UD, 0, "\x0f\x0b");
}

static void op_bad_segment(struct fuzz_writer *w)
{
	EMIT32(I_PLAIN, 0, 0, "\xb9", FUZZ_BAD);
	EMIT(I_FAULT, V_GP, 0, "\x8e\xd9");		/* mov %ecx, %ds */
}

static void op_no_page(struct fuzz_writer *w)
{
	EMIT32(I_PLAIN, 0, 0, "\xb9", FUZZ_NOWHERE);
	EMIT(I_FAULT, V_PF, 0, "\x8b\x01");		/* mov (%rcx), %eax */
}

/* An IRET to the instruction after it. */
static void iret(struct fuzz_writer *w, uint32_t flags, enum fuzz_cs cs,
		 enum fuzz_ss ss, bool same_stack)
{
	if (w->mode == CODE_COMPAT) {
		push(w, flags);
		push(w, FUZZ_CS_COMPAT);
		EMIT32(I_MAKE_FRAME, MADE(flags, cs, ss, 12), -4, "\x68", here(w) + 6);
		EMIT(I_IRET, 0, 0, "\xcf");
		return;
	}
	if (same_stack)
		EMIT(I_PLAIN, 0, 0, "\x48\x89\xe1");	/* mov %rsp, %rcx */
	else
		EMIT32(I_PLAIN, 0, 0, "\xb9", FUZZ_STACK_USER);
	push(w, fuzz_ss[ss]);
	EMIT(I_PLAIN, 0, -8, "\x51");			/* push %rcx */
	push(w, flags);
	push(w, fuzz_cs[cs]);
	EMIT32(I_MAKE_FRAME, MADE(flags, cs, ss, 40), -8, "\x68", here(w) + 7);
	EMIT(I_IRET, 0, 0, "\x48\xcf");
}

static void op_iret(struct fuzz_writer *w)
{
	static const uint8_t cs[] = { CS_KERNEL, CS_USER, CS_COMPAT };

	iret(w, fuzz_flags(w), cs[w->mode],
	     w->mode == CODE_USER ? SS_USER : SS_KERNEL, true);
}

static void syscall_(struct fuzz_writer *w)
{
	EMIT32(I_PLAIN, 0, 0, "\xbb", here(w) + 7);	/* mov to EBX: go on there */
	EMIT(I_SYSCALL, 0, 0, "\x0f\x05");
}

static void op_syscall(struct fuzz_writer *w)
{
	syscall_(w);
	store(w, STORE_R11);
}

static void emit_inner_op(struct fuzz_writer *w);

static void op_user(struct fuzz_writer *w)
{
	unsigned int nr = 1 + fuzz_below(&w->random, 3);

	iret(w, fuzz_flags(w), CS_USER, SS_USER, false);
	w->mode = CODE_USER;
	while (nr--)
		emit_inner_op(w);
	if (fuzz_one_in(&w->random, 2)) {
		EMIT(I_INT_N, V_LEAVE, 0, "\xcd\x62");
	} else {
		syscall_(w);
		EMIT32(I_SET_RSP, FUZZ_STACK, 0, "\xbc", FUZZ_STACK);
	}
	w->mode = CODE_KERNEL;
}

static void op_compat(struct fuzz_writer *w)
{
	unsigned int nr = 1 + fuzz_below(&w->random, 3);
	char far_jump[7] = "\xea\0\0\0\0\x08";
	uint32_t next;

	iret(w, fuzz_flags(w), CS_COMPAT, SS_KERNEL, true);
	w->mode = CODE_COMPAT;
	while (nr--)
		emit_inner_op(w);
	w->mode = CODE_KERNEL;
	next = here(w) + sizeof(far_jump);
	memcpy(far_jump + 1, &next, sizeof(next));
	fuzz_emit(w, I_TO_64BIT, 0, 0, far_jump, sizeof(far_jump));
}

static void op_read_dr6(struct fuzz_writer *w)
{
	EMIT(I_READ_DR6, 0, 0, "\x0f\x21\xf0");
	store(w, STORE_DR6);
}

static void op_write_dr6(struct fuzz_writer *w)
{
	uint32_t dr6 = DR6_NONE | (fuzz_one_in(&w->random, 2) ? 0 : DR6_BS);

	EMIT32(I_PLAIN, 0, 0, "\xb8", dr6);
	EMIT(I_WRITE_DR6, dr6, 0, "\x0f\x23\xf0");
}

static void op_watch(struct fuzz_writer *w)
{
	uint32_t dr7 = fuzz_one_in(&w->random, 4) ? DR7_NONE : DR7_L0_WRITE4;

	EMIT32(I_PLAIN, 0, 0, "\xb8", FUZZ_WATCHED);
	EMIT(I_WRITE_DR0, 0, 0, "\x0f\x23\xc0");
	EMIT32(I_PLAIN, 0, 0, "\xb8", dr7);
	if (fuzz_does(WATCH))
		EMIT(I_WRITE_DR7, dr7, 0, "\x0f\x23\xf8");
}

static void op_write_watched(struct fuzz_writer *w)
{
	EMIT32(I_WATCHED, 0, 0, "\x89\x04\x25", FUZZ_WATCHED);
}

/* --- which one ------------------------------------------------------------ */

enum { KERNEL = 1 << CODE_KERNEL, USER = 1 << CODE_USER, COMPAT = 1 << CODE_COMPAT,
       ANYWHERE = KERNEL | USER | COMPAT, NOT_IN_BODY = 8 };

static const struct op {
	const char *name;
	void (*emit)(struct fuzz_writer *w);
	uint32_t with;		/* only in programs with this; 0: in all */
	uint8_t where, weight;
} ops[] = {
	{ "nop; lea", op_nop, 0, ANYWHERE, 1 },
	{ "out", op_stop, 0, ANYWHERE, 6 },
	{ "cpuid", op_cpuid, 0, ANYWHERE, 1 },
	{ "send NMI", op_send_nmi, 0, KERNEL | COMPAT, 3 },
	{ "pushf; pop", op_pushf, 0, ANYWHERE, 2 },
	{ "push; popf", op_popf, 0, ANYWHERE, 2 },
	{ "int3", op_int3, 0, ANYWHERE, 1 },
	{ "int n", op_int_n, 0, ANYWHERE, 1 },
	{ "iret to next", op_iret, 0, ANYWHERE, 3 },
	{ "sti", op_sti, WITH_SHADOWS, ANYWHERE, 1 },
	{ "cli", op_cli, WITH_SHADOWS, ANYWHERE, 1 },
	{ "sti; cli", op_sti_cli, WITH_SHADOWS, ANYWHERE, 1 },
	{ "mov ss", op_mov_ss, WITH_SHADOWS, KERNEL, 2 },
	{ "send IRQ", op_send_irq, WITH_IRQS, KERNEL | COMPAT, 4 },
	{ "hlt", op_hlt, WITH_HALTS, KERNEL | COMPAT, 2 },
	{ "sti; hlt", op_sti_hlt, WITH_HALTS, KERNEL | COMPAT, 3 },
	{ "ud2", op_ud2, WITH_FAULTS, ANYWHERE, 1 },
	{ "mov ds with #GP", op_bad_segment, WITH_FAULTS, ANYWHERE, 1 },
	{ "mov with #PF", op_no_page, WITH_FAULTS, ANYWHERE, 1 },
	{ "syscall", op_syscall, WITH_MODES, KERNEL | NOT_IN_BODY, 2 },
	{ "user mode", op_user, WITH_MODES, KERNEL | NOT_IN_BODY, 4 },
	{ "32-bit code", op_compat, WITH_MODES, KERNEL, 4 },
	{ "mov from dr6", op_read_dr6, WITH_DEBUG, KERNEL, 2 },
	{ "mov to dr6", op_write_dr6, WITH_DEBUG, KERNEL, 1 },
	{ "mov to dr0, dr7", op_watch, WITH_DEBUG, KERNEL, 3 },
	{ "mov to watched", op_write_watched, WITH_DEBUG, KERNEL, 4 },
};

static bool fits(const struct op *op, struct fuzz_writer *w)
{
	return !(op->with & ~w->program->with) && (op->where >> w->mode & 1) &&
	       !(w->in_body && (op->where & NOT_IN_BODY));
}

static const struct op *random_op(struct fuzz_writer *w)
{
	unsigned int i, sum = 0, choice;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		sum += fits(&ops[i], w) ? ops[i].weight : 0;
	choice = fuzz_below(&w->random, sum);
	for (i = 0; ; i++) {
		if (!fits(&ops[i], w))
			continue;
		if (choice < ops[i].weight)
			return &ops[i];
		choice -= ops[i].weight;
	}
}

static void emit_inner_op(struct fuzz_writer *w)
{
	const struct op *op;

	do
		op = random_op(w);
	while (op->emit == op_user || op->emit == op_compat);
	op->emit(w);
}

void fuzz_emit_random_op(struct fuzz_writer *w)
{
	const struct op *op = random_op(w);

	fuzz_begin_op(w, op->name);
	op->emit(w);
	fuzz_end_op(w);
}

/* Begins with an IRET: Bochs 2.7 may have kept NMIs blocked until then. */
void fuzz_emit_start(struct fuzz_writer *w)
{
	EMIT32(I_PLAIN, 0, 0, "\x41\xbf", FUZZ_SS);	/* mov to R15D */
	iret(w, RFLAGS_START, CS_KERNEL, SS_KERNEL, true);
	op_stop(w);
}

/* --- returns of handlers ---------------------------------------------------- */

static void write_frame(struct fuzz_writer *w, enum insn_kind kind, uint32_t arg,
			uint8_t offset, uint32_t value)
{
	char insn[5] = { 0x48, 0xc7, 0x44, 0x24, offset };

	emit32(w, kind, arg, 0, insn, sizeof(insn), value);
}

static void skip_fault(struct fuzz_writer *w)
{
	EMIT(I_PLAIN, 0, 0, "\x48\x8b\x44\x24\x40");	/* mov 64(%rsp), %rax */
	EMIT(I_PLAIN, 0, 0, "\x48\x8d\x40\x02");	/* lea 2(%rax), %rax */
	EMIT(I_FRAME_SKIP, 0, 0, "\x48\x89\x44\x24\x40");
}

static void move_frame(struct fuzz_writer *w, uint32_t to)
{
	unsigned int i;

	for (i = 0; i < 5; i++) {
		char load[5] = { 0x48, 0x8b, 0x44, 0x24, FUZZ_FRAME_OFFSET + 8 * i };

		fuzz_emit(w, I_PLAIN, 0, 0, load, sizeof(load));
		EMIT32(i == 4 ? I_FRAME_MOVE : I_PLAIN, to, 0, "\x48\x89\x04\x25",
		       to + 8 * i);
	}
}

/* Writes the second byte of a selector in the frame, which is 0 otherwise. */
static void spoil(struct fuzz_writer *w, bool cs, uint8_t value)
{
	char insn[5] = { 0xc6, 0x44, 0x24, cs ? 9 : 33, value };	/* movb */

	fuzz_emit(w, cs ? I_FRAME_CS_HIGH : I_FRAME_SS_HIGH, value, 0, insn,
		  sizeof(insn));
}

static void bad_iret(struct fuzz_writer *w)
{
	bool cs = fuzz_below(&w->random, 3);

	fuzz_begin_op(w, cs ? "iret to a bad code segment" : "iret to a bad stack segment");
	spoil(w, cs, fuzz_one_in(&w->random, 2) ? FUZZ_ABSENT : FUZZ_BEYOND);
	EMIT(I_IRET, 0, 0, "\x48\xcf");
	spoil(w, cs, 0);
	fuzz_end_op(w);
}

static void emit_pops(struct fuzz_writer *w)
{
	static const char pop[] = "\x5f\x5e\x5b\x5a\x59\x58";
	unsigned int i;

	for (i = 0; i < 6; i++)
		fuzz_emit(w, I_PLAIN, 0, 8, &pop[i], 1);
}

static void set_frame_flags(struct fuzz_writer *w, uint32_t flags)
{
	write_frame(w, I_FRAME_FLAGS, flags, FUZZ_FRAME_OFFSET + 16, flags);
}

/* What every handler of this kind has to do to its frame. */
static void lead_on(struct fuzz_writer *w, unsigned int vector)
{
	if (vector >= V_UD && vector <= V_PF) {
		skip_fault(w);
		set_frame_flags(w, RFLAGS_START);	/* RF is not for what is next */
	}
	if (vector == V_LEAVE) {
		write_frame(w, I_PLAIN, 0, FUZZ_FRAME_OFFSET + 8, FUZZ_CS);
		write_frame(w, I_PLAIN, 0, FUZZ_FRAME_OFFSET + 24, FUZZ_STACK);
		write_frame(w, I_FRAME_LEAVE, 0, FUZZ_FRAME_OFFSET + 32, FUZZ_SS);
	}
}

void fuzz_emit_plain_return(struct fuzz_writer *w, unsigned int vector)
{
	lead_on(w, vector);
	if (vector == V_DB)
		set_frame_flags(w, RFLAGS_START);
	emit_pops(w);
	EMIT(I_PLAIN, 0, 16, "\x48\x8d\x64\x24\x10");	/* lea 16(%rsp), %rsp */
	EMIT(I_IRET, 0, 0, "\x48\xcf");
}

void fuzz_emit_return(struct fuzz_writer *w, unsigned int vector, unsigned int body)
{
	uint32_t with = w->program->with, frame = FUZZ_FRAMES + body * 4096;
	bool moved = vector == V_NMI && (with & WITH_STATE) && fuzz_one_in(&w->random, 2);

	lead_on(w, vector);
	if (!fuzz_one_in(&w->random, vector == V_DB ? 4 : 2)) {
		fuzz_begin_op(w, "flags of the frame");
		set_frame_flags(w, fuzz_flags(w));
		fuzz_end_op(w);
	}
	if (moved) {
		move_frame(w, frame);
		op_stop(w);
	}
	emit_pops(w);
	if (moved)
		EMIT32(I_SET_RSP, frame, 0, "\xbc", frame);
	else
		EMIT(I_PLAIN, 0, 16, "\x48\x8d\x64\x24\x10"); /* lea 16(%rsp), %rsp */

	if ((with & WITH_FAULTS) && vector == V_NMI && fuzz_one_in(&w->random, 2))
		bad_iret(w);
	if ((with & WITH_STEPS) && fuzz_one_in(&w->random, 4)) {
		fuzz_begin_op(w, "step over iret");
		popf(w, RFLAGS_START | fuzz_trap_flag());
		fuzz_end_op(w);
	} else if ((with & WITH_SHADOWS) && fuzz_one_in(&w->random, 4)) {
		fuzz_begin_op(w, "iret in a shadow");
		op_mov_ss(w);
		fuzz_end_op(w);
	}
	EMIT(I_IRET, 0, 0, "\x48\xcf");
}
