// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes a program from a seed: some operations, and for each kind of event some
 * bodies of handlers, which are operations followed by a return.
 */
#include "fuzz.h"

#define SYSCALL_JUMP	"\xff\xe3"	/* jmp *%rbx */

/* A step of splitmix64; a stream for each use, so that none disturbs another. */
static uint64_t next_random(struct fuzz_random *random)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void fuzz_seed(struct fuzz_random *random, uint64_t seed, uint64_t stream)
{
	random->state = seed * 0x632be59bd9b4e019ull;
	random->state = next_random(random) ^ stream;
	next_random(random);
}

uint32_t fuzz_below(struct fuzz_random *random, uint32_t limit)
{
	return (next_random(random) >> 32) * limit >> 32;
}

uint64_t fuzz_trap_flag(void)
{
	return fuzz_does(STEPS) ? RFLAGS_TF : 0;
}

uint64_t fuzz_flags(struct fuzz_writer *writer)
{
	uint64_t flags = RFLAGS_START;

	if (fuzz_one_in(&writer->random, 2))
		flags |= RFLAGS_IF;
	if (fuzz_one_in(&writer->random, 4))
		flags |= RFLAGS_CF | RFLAGS_OF;
	if (fuzz_one_in(&writer->random, 3) && (writer->program->with & WITH_STEPS))
		flags |= fuzz_trap_flag();
	return flags;
}

struct fuzz_insn *fuzz_emit(struct fuzz_writer *writer, enum insn_kind kind,
			    uint32_t arg, int stack, const char *bytes,
			    unsigned int len)
{
	struct fuzz_program *program = writer->program;
	struct fuzz_insn *insn = &program->insn[program->nr];

	TEST_ASSERT(program->nr + 1 < FUZZ_MAX_INSNS &&
		    program->code_size + len <= FUZZ_CODE_SIZE, "program too long");
	*insn = (struct fuzz_insn) {
		.kind = kind, .len = len, .arg = arg, .stack = stack,
		.op = program->nr_ops, .address = FUZZ_CODE + program->code_size,
	};
	memcpy(program->code + program->code_size, bytes, len);
	program->code_size += len;
	program->nr++;
	return insn;
}

void fuzz_begin_op(struct fuzz_writer *writer, const char *name)
{
	struct fuzz_program *program = writer->program;

	program->op[program->nr_ops] = (struct fuzz_op_name) {
		.name = name, .first = program->nr, .code = program->code_size,
	};
}

/* One that is left out was written all the same, for the random numbers. */
void fuzz_end_op(struct fuzz_writer *writer)
{
	struct fuzz_program *program = writer->program;
	struct fuzz_op_name *op = &program->op[program->nr_ops];
	const uint64_t *omit = writer->omit->ops;

	if (omit[program->nr_ops / 64] >> program->nr_ops % 64 & 1) {
		program->nr = op->first;
		program->code_size = op->code;
	}
	if (program->nr_ops < FUZZ_MAX_OPS - 1)
		program->nr_ops++;
}

static void emit_ops(struct fuzz_writer *writer, unsigned int nr)
{
	while (nr--)
		fuzz_emit_random_op(writer);
}

/*
 * The common ones in different shapes, the rare ones in one or two. The last one does
 * nothing of its own: handlers that cause what they handle come to an end.
 */
static void emit_bodies(struct fuzz_writer *writer, unsigned int vector)
{
	unsigned int nr = vector == V_NMI ? 4 : vector == V_LEAVE ? 1 : 2, i;
	struct fuzz_program *program = writer->program;
	uint16_t *body = program->body[vector];

	for (i = 0; i < nr; i++) {
		body[i] = program->nr;
		emit_ops(writer, fuzz_below(&writer->random, vector == V_NMI ? 3 : 2));
		fuzz_emit_return(writer, vector, vector * 4 + i);
	}
	for (; i < FUZZ_BODIES - 1; i++)
		body[i] = body[i % nr];
	body[i] = program->nr;
	fuzz_emit_plain_return(writer, vector);
}

void fuzz_generate(struct fuzz_program *program, uint64_t seed, uint32_t with,
		   const struct fuzz_omit *omit)
{
	struct fuzz_writer writer = { .program = program, .omit = omit };
	unsigned int v;

	memset(program, 0, offsetof(struct fuzz_program, insn));
	program->seed = seed;
	program->with = with;
	fuzz_seed(&writer.random, seed, 1);

	for (v = 0; v < NR_FUZZ_VECTORS; v++) {
		program->entry[v] = program->nr;
		program->insn[program->nr++] = (struct fuzz_insn) {
			.kind = I_ENTRY, .arg = v,
			.address = FUZZ_STUBS + v * FUZZ_STUB_SIZE,
		};
	}
	program->at_syscall = program->nr;
	fuzz_emit(&writer, I_AFTER_SYSCALL, 0, 0, SYSCALL_JUMP, 2);

	program->start = program->nr;
	fuzz_emit_start(&writer);
	emit_ops(&writer, 4 + fuzz_below(&writer.random, 9));
	fuzz_emit(&writer, I_END, 0, 0, FUZZ_OUT, 2);

	writer.in_body = true;
	for (v = 0; v < NR_FUZZ_VECTORS; v++)
		emit_bodies(&writer, v);
}
