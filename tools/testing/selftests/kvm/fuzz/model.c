// SPDX-License-Identifier: GPL-2.0-only
/*
 * Executes the instructions of a random program by the words of the manuals. Of
 * memory it knows frames and pushed flags, of registers those that events show.
 */
#include "nmi_events.h"
#include "fuzz.h"

#define BUDGET		3000	/* instructions, handlers included */
#define STATUS_FLAGS	(RFLAGS_CF | RFLAGS_OF)		/* those that programs use */

const uint16_t fuzz_cs[NR_CS] = { FUZZ_CS, FUZZ_CS_COMPAT, FUZZ_CS_USER };
const uint16_t fuzz_ss[NR_SS] = { FUZZ_SS, FUZZ_SS_USER, 0 };

bool fuzz_ran[FUZZ_MAX_INSNS], fuzz_shadowed[FUZZ_MAX_INSNS];

static const struct fuzz_insn *insn_of(struct fuzz_model *m)
{
	return &m->program->insn[m->ip];
}

/* The model has lost its way, or what comes is not ours to tell. */
static void give_up(struct fuzz_model *m)
{
	m->at = AT_LIMIT;
}

static struct fuzz_frame *push_frame(struct fuzz_model *m)
{
	if (m->nr_frames == FUZZ_MAX_FRAMES) {
		give_up(m);
		return &m->frame[m->nr_frames - 1];
	}
	return &m->frame[m->nr_frames++];
}

/* What RSP points to has to be the last thing pushed. */
static struct fuzz_frame *top_frame(struct fuzz_model *m)
{
	if (!m->nr_frames)
		give_up(m);
	return &m->frame[m->nr_frames ? m->nr_frames - 1 : 0];
}

static struct fuzz_frame *pop_frame(struct fuzz_model *m)
{
	struct fuzz_frame *frame = top_frame(m);

	if (frame->address != m->rsp)
		give_up(m);
	if (m->nr_frames)
		m->nr_frames--;
	return frame;
}

/* Before a word of a frame that is being copied, or after one but the last. */
static bool in_frame_copy(struct fuzz_model *m)
{
	const struct fuzz_insn *insn = insn_of(m);

	return (insn->arg && (insn->kind == I_PLAIN || insn->kind == I_FRAME_MOVE)) ||
	       (m->ip && insn[-1].arg && insn[-1].kind == I_PLAIN);
}

/* Through the gate of a vector: to 64-bit code of CPL 0 with IRQs off. */
void fuzz_deliver(struct fuzz_model *m, unsigned int vector, uint64_t error, bool fault)
{
	static const bool has_error[NR_FUZZ_VECTORS] = {
		[V_NP] = true, [V_SS] = true, [V_GP] = true, [V_PF] = true,
	};
	uint64_t rflags = m->rflags | (fault ? RFLAGS_RF : 0);
	struct fuzz_frame *frame = push_frame(m);
	uint64_t rsp = m->cs == CS_USER ? FUZZ_STACK_0 : m->rsp & ~0xfull;

	/* A handler of the same kind may come, and leave its own frame in the page. */
	if (in_frame_copy(m))
		give_up(m);
	*frame = (struct fuzz_frame) {
		.rflags = rflags, .rsp = m->rsp, .address = rsp - 40, .ip = m->ip,
		.cs = m->cs, .ss = m->ss, .dr6 = m->dr6_read, .error = error,
	};
	m->rsp = rsp - 40 - (has_error[vector] ? 8 : 0);
	m->rflags &= ~(RFLAGS_TF | RFLAGS_IF | RFLAGS_RF);
	m->ip = m->program->entry[vector];
	/* Without a change of stacks SS stays. */
	if (m->cs == CS_USER)
		m->ss = SS_NULL;
	m->cs = CS_KERNEL;
	m->shadow = NO_SHADOW;
	m->halted = false;
}

/* An event is logged when its handler gets to it; another one may come before. */
static void log_event(struct fuzz_model *m, unsigned int vector)
{
	const struct fuzz_frame *frame = top_frame(m);

	if (m->nr_events == FUZZ_LOG_SIZE) {
		give_up(m);
		return;
	}
	m->event[m->nr_events++] = (struct fuzz_event) {
		.vector = vector, .error = frame->error,
		.rip = m->program->insn[frame->ip].address,
		.cs = fuzz_cs[frame->cs], .rflags = frame->rflags,
		.rsp = frame->rsp, .ss = fuzz_ss[frame->ss],
		.extra = vector == V_DB ? m->dr6 :
			 vector == V_PF ? FUZZ_NOWHERE : 0,
	};
}

/* A handler up to its body; nothing in between can be interrupted. */
static void enter_handler(struct fuzz_model *m, unsigned int vector)
{
	/*
	 * The steps over what all handlers share are of no interest, nor where in
	 * there an IRQ comes: IRQs are on if a handler in front has changed flags.
	 */
	if ((m->rflags & RFLAGS_TF) || (m->irq && (m->rflags & RFLAGS_IF)))
		give_up(m);
	log_event(m, vector);
	m->rsp = top_frame(m)->address - FUZZ_FRAME_OFFSET;
	m->rflags = RFLAGS_START;
	if (vector == V_DB)
		m->dr6 = DR6_NONE;
	if (vector == V_IRQ)
		m->in_service = false;
	m->ip = m->program->body[vector][m->count[vector]++ % FUZZ_BODIES];
	fuzz_seen_by_kvm(m);
}

static void fault(struct fuzz_model *m, unsigned int vector, uint64_t error)
{
	fuzz_fault_seen(m);
	fuzz_deliver(m, vector, error, true);
}

static void raise_fault(struct fuzz_model *m, unsigned int vector)
{
	switch (vector) {
	case V_GP:
		fault(m, vector, FUZZ_BAD);
		break;
	case V_PF:
		fault(m, vector, m->cs == CS_USER ? 4 : 0);
		break;
	default:
		fault(m, vector, 0);
	}
}

/* An IRET unmasks NMIs when it is done; see fuzz_iret_faulted() for the rest. */
static bool iret(struct fuzz_model *m)
{
	struct fuzz_frame *frame = top_frame(m);

	if (frame->address != m->rsp)
		give_up(m);
	if (frame->cs_high) {
		fuzz_iret_faulted(m);
		fault(m, frame->cs_high == FUZZ_ABSENT ? V_NP : V_GP,
		      (fuzz_cs[frame->cs] & ~3) | frame->cs_high << 8);
		return false;
	}
	if (frame->ss_high) {
		fuzz_iret_faulted(m);
		fault(m, frame->ss_high != FUZZ_ABSENT ? V_GP :
			 fuzz_does(ABSENT_SS) ? V_SS : V_NP,
		      (fuzz_ss[frame->ss] & ~3) | frame->ss_high << 8);
		return false;
	}
	m->nr_frames -= !!m->nr_frames;
	m->rsp = frame->rsp;
	m->rflags = frame->rflags;
	m->ip = frame->ip;
	m->cs = frame->cs;
	m->ss = frame->ss;
	m->dr6_read = frame->dr6;
	fuzz_nmi_unmask_by_iret(m);
	return true;
}

static void make_frame(struct fuzz_model *m, uint32_t made)
{
	unsigned int size = made >> 26;

	*push_frame(m) = (struct fuzz_frame) {
		.rflags = made & 0xfffff, .address = m->rsp,
		.rsp = (made >> 20 & 15) == CS_USER && m->cs != CS_USER ?
		       FUZZ_STACK_USER : m->rsp + size,
		.cs = made >> 20 & 15, .ss = made >> 24 & 3, .ip = m->ip + 2,
		.dr6 = m->dr6_read,
	};
}

static void store(struct fuzz_model *m, const struct fuzz_insn *insn)
{
	uint64_t *slot = &m->slot[insn->arg & 0xff];

	switch (insn->arg & ~0xff) {
	case STORE_STACK:
		/* RSP is after the POP by now. */
		m->rsp -= insn->stack;
		*slot = pop_frame(m)->rflags;
		m->rsp += insn->stack;
		break;
	case STORE_R11:
		*slot = m->r11;
		break;
	default:
		*slot = m->dr6_read;
	}
}

/* A handler changes the frame that it is going to return through. */
static void change_frame(struct fuzz_model *m, const struct fuzz_insn *insn)
{
	struct fuzz_frame *frame = top_frame(m);
	unsigned int i;

	switch (insn->kind) {
	case I_FRAME_FLAGS:
		frame->rflags = insn->arg;
		break;
	case I_FRAME_SKIP:
		frame->ip++;
		break;
	case I_FRAME_MOVE:
		/* A handler in a handler of the same kind takes its page away. */
		for (i = 0; i < m->nr_frames; i++)
			if (m->frame[i].address == insn->arg)
				give_up(m);
		frame->address = insn->arg;
		break;
	case I_FRAME_LEAVE:
		frame->cs = CS_KERNEL;
		frame->ss = SS_KERNEL;
		frame->rsp = FUZZ_STACK;
		break;
	case I_FRAME_CS_HIGH:
		frame->cs_high = insn->arg;
		break;
	default:
		frame->ss_high = insn->arg;
	}
}

static void syscall_(struct fuzz_model *m)
{
	/* Whether the trap of the step comes is not asked here. */
	if (m->rflags & RFLAGS_TF)
		give_up(m);
	m->after_syscall = m->ip;
	m->r11 = m->rflags & ~(uint64_t)RFLAGS_RF;
	m->rflags &= ~(uint64_t)(FUZZ_SYSCALL_MASK | RFLAGS_RF);
	if (!fuzz_does(SYSCALL_FLAGS))
		m->rflags &= ~(uint64_t)STATUS_FLAGS;
	m->ip = m->program->at_syscall;
	m->cs = CS_KERNEL;
	m->ss = SS_KERNEL;
}

/* Everything but faults and traps. Returns false if a handler has begun. */
static bool complete(struct fuzz_model *m, const struct fuzz_insn *insn)
{
	switch (insn->kind) {
	case I_EXIT: case I_STOP: case I_END:
		fuzz_seen_by_kvm(m);
		break;
	case I_SEND_NMI:
		fuzz_asks_kvm(m);
		if (m->follow)
			give_up(m);	/* which one comes is not told */
		fuzz_send_nmi(m);
		break;
	case I_SEND_IRQ:
		if ((m->rflags & RFLAGS_TF) && !fuzz_does(STEP_ICR))
			give_up(m);
		fuzz_asks_kvm(m);
		m->irq = true;
		break;
	case I_STI:
		if ((m->rflags & RFLAGS_TF) && !fuzz_does(STEP_STI))
			give_up(m);
		if (!(m->rflags & RFLAGS_IF) || !fuzz_does(STI_AGAIN))
			m->shadow = STI_SHADOW;
		m->rflags |= RFLAGS_IF;
		break;
	case I_CLI:
		m->rflags &= ~(uint64_t)RFLAGS_IF;
		break;
	case I_MOV_SS:
		m->ss = SS_KERNEL;
		if ((m->rflags & RFLAGS_TF) && !fuzz_does(STEP_MOV_SS))
			give_up(m);
		m->shadow = MOV_SS_SHADOW;
		break;
	case I_HLT:
		m->halted = true;
		break;
	case I_PUSHF:
		*push_frame(m) = (struct fuzz_frame) {
			.rflags = m->rflags, .address = m->rsp,
		};
		break;
	case I_POPF:
		m->rflags = insn->arg;
		break;
	case I_STORE:
		store(m, insn);
		break;
	case I_INT3:
		fuzz_deliver(m, V_BP, 0, false);
		return false;
	case I_INT_N:
		fuzz_deliver(m, insn->arg, 0, false);
		return false;
	case I_MAKE_FRAME:
		m->ip--;
		make_frame(m, insn->arg);
		m->ip++;
		break;
	case I_SET_RSP:
		m->rsp = insn->arg;
		break;
	case I_TO_64BIT:
		m->cs = CS_KERNEL;
		break;
	case I_SYSCALL:
		syscall_(m);
		break;
	case I_AFTER_SYSCALL:
		m->ip = m->after_syscall;
		break;
	case I_READ_DR6:
		m->dr6_read = m->dr6;
		break;
	case I_WRITE_DR6:
		m->dr6 = insn->arg;
		break;
	case I_WRITE_DR7:
		m->dr7 = insn->arg;
		break;
	case I_WATCHED:
		if (m->dr7 & 1)
			m->trap |= DR6_B0;
		break;
	case I_FRAME_FLAGS ... I_FRAME_SS_HIGH:
		change_frame(m, insn);
		break;
	default:
		break;
	}
	return true;
}

static bool is_mov_dr(const struct fuzz_insn *insn)
{
	return insn->kind == I_WRITE_DR0 || insn->kind == I_READ_DR6 ||
	       insn->kind == I_WRITE_DR6 || insn->kind == I_WRITE_DR7;
}

/* One instruction, up to and including a fault that it raises. */
void fuzz_execute(struct fuzz_model *m)
{
	const struct fuzz_insn *insn = insn_of(m);
	bool step = m->rflags & RFLAGS_TF;

	fuzz_ran[m->ip] = true;
	if (++m->budget > BUDGET)
		give_up(m);
	if (insn->kind == I_ENTRY) {
		enter_handler(m, insn->arg);
		return;
	}

	if (insn->kind == I_FAULT) {
		raise_fault(m, insn->arg);
		return;
	}
	if (insn->kind == I_IRET) {
		m->shadow = NO_SHADOW;
		if (!iret(m))
			return;
	} else {
		/* What makes an exit is looked at with the shadow still there. */
		uint8_t shadow = m->shadow;

		m->rflags &= ~(uint64_t)RFLAGS_RF;
		m->rsp += insn->stack;
		m->ip++;
		if (shadow && is_mov_dr(insn) && !fuzz_does(EXIT_IN_SHADOW))
			give_up(m);
		if (insn->kind > LAST_EXIT)
			m->shadow = NO_SHADOW;
		if (!complete(m, insn))
			return;
		if (insn->kind <= LAST_EXIT)
			m->shadow = NO_SHADOW;
		if (shadow && m->shadow)
			give_up(m);	/* whether a second one counts depends */
	}
	if (step && m->shadow != MOV_SS_SHADOW)
		m->trap |= DR6_BS;
	if (m->trap)
		m->halted = false;
}
