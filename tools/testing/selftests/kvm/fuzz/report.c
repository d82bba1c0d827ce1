// SPDX-License-Identifier: GPL-2.0-only
/* Compares the VM with a model, and prints programs and differences for people. */
#include "fuzz.h"

static const char *const vector_names[NR_FUZZ_VECTORS] = {
	[V_DB] = "#DB", [V_NMI] = "NMI", [V_BP] = "#BP", [V_UD] = "#UD",
	[V_NP] = "#NP", [V_SS] = "#SS", [V_GP] = "#GP", [V_PF] = "#PF",
	[V_INT] = "INT n", [V_IRQ] = "IRQ", [V_LEAVE] = "INT n (leave user mode)",
};

static const char *const stop_names[] = {
	[AT_OUT] = "OUT", [AT_END] = "the last OUT", [AT_HALT] = "HLT",
	[AT_SMM] = "SMM", [AT_RESET] = "the reset vector",
};

/* Flags that the model does not tell are the same on both sides. */
static uint64_t known_flags(void)
{
	return fuzz_does(RF_IN_FRAMES) ? ~0ull : ~(uint64_t)RFLAGS_RF;
}

static bool same_event(const struct fuzz_event *a, const struct fuzz_event *b)
{
	return a->vector == b->vector && a->error == b->error && a->rip == b->rip &&
	       a->cs == b->cs && !((a->rflags ^ b->rflags) & known_flags()) &&
	       a->rsp == b->rsp && a->ss == b->ss && a->extra == b->extra;
}

static void print_event(const char *who, unsigned int nr, const struct fuzz_event *e)
{
	printf("  %s %u: %s at 0x%lx, rflags 0x%lx, rsp 0x%lx, cs 0x%lx, ss 0x%lx",
	       who, nr, e->vector < NR_FUZZ_VECTORS ? vector_names[e->vector] : "?",
	       e->rip, e->rflags, e->rsp, e->cs, e->ss);
	if (e->error)
		printf(", error 0x%lx", e->error);
	if (e->vector == V_DB || e->vector == V_PF)
		printf(", %s 0x%lx", e->vector == V_DB ? "dr6" : "cr2", e->extra);
	printf("\n");
}

static bool same_events(const struct fuzz_model *m, const struct fuzz_seen *seen)
{
	unsigned int i;

	if (m->nr_events != seen->nr_events)
		return false;
	for (i = 0; i < m->nr_events; i++)
		if (!same_event(&m->event[i], &seen->event[i]))
			return false;
	return true;
}

static void print_events(const struct fuzz_model *m, const struct fuzz_seen *seen)
{
	unsigned int i;

	for (i = 0; i < m->nr_events; i++)
		print_event("expected event", i + 1, &m->event[i]);
	for (i = 0; i < seen->nr_events; i++)
		print_event("     got event", i + 1, &seen->event[i]);
}

static bool same_place(const struct fuzz_model *m, const struct fuzz_seen *seen,
		       enum fuzz_stop at)
{
	if (at != m->at && !(at == AT_OUT && m->at == AT_END))
		return false;
	if (at == AT_SMM || at == AT_RESET)
		return true;
	return m->stop_rip == seen->rip && m->stop_rsp == seen->rsp &&
	       !((m->stop_rflags ^ seen->rflags) & known_flags());
}

static bool same_slots(const struct fuzz_model *m, const struct fuzz_seen *seen,
		       bool print)
{
	unsigned int i;
	bool same = true;

	for (i = 0; i < m->program->nr_slots; i++) {
		if (!((m->slot[i] ^ seen->slot[i]) & known_flags()))
			continue;
		same = false;
		if (print)
			printf("  value %u stored by the guest: 0x%lx, expected 0x%lx\n",
			       i, seen->slot[i], m->slot[i]);
	}
	return same;
}

static bool has_shadow(const struct fuzz_program *program, uint64_t address)
{
	unsigned int ip;

	for (ip = 0; ip < program->nr; ip++)
		if (fuzz_shadowed[ip] && program->insn[ip].address == address)
			return true;
	return false;
}

int fuzz_in_shadow(const struct fuzz_model *m, const struct fuzz_seen *seen)
{
	const struct fuzz_event *e = seen->event, *end = e + seen->nr_events;
	unsigned int i = 0;

	for (; e < end && i < m->nr_events && same_event(&m->event[i], e); e++)
		i++;
	if (e == end || !has_shadow(m->program, e->rip) ||
	    (e->vector != V_NMI && e->vector != V_IRQ))
		return -1;
	return e->vector;
}

bool fuzz_same(const struct fuzz_model *m, const struct fuzz_seen *seen,
	       enum fuzz_stop at, bool print)
{
	bool events = same_events(m, seen), place = same_place(m, seen, at);
	bool slots = same_slots(m, seen, print);

	if (print && !events)
		print_events(m, seen);
	if (print && !place)
		printf("  the guest is at %s, rip 0x%lx, rsp 0x%lx, rflags 0x%lx\n"
		       "  expected at %s, rip 0x%lx, rsp 0x%lx, rflags 0x%lx\n",
		       stop_names[at], seen->rip, seen->rsp, seen->rflags,
		       stop_names[m->at], m->stop_rip, m->stop_rsp, m->stop_rflags);
	return events && place && slots;
}

/* --- programs ---------------------------------------------------------------------- */

static const char *const kind_names[] = {
	[I_EXIT] = "exit", [I_STOP] = "out (stop)", [I_END] = "out (end)",
	[I_SEND_NMI] = "wrmsr: NMI", [I_SEND_IRQ] = "wrmsr: IRQ", [I_STI] = "sti",
	[I_CLI] = "cli", [I_MOV_SS] = "mov ss", [I_HLT] = "hlt", [I_STORE] = "store",
	[I_PUSHF] = "pushf", [I_POPF] = "popf", [I_INT3] = "int3", [I_INT_N] = "int n",
	[I_FAULT] = "fault", [I_IRET] = "iret", [I_FRAME_FLAGS] = "flags of frame",
	[I_FRAME_SKIP] = "skip fault", [I_FRAME_MOVE] = "frame copied",
	[I_FRAME_LEAVE] = "frame leads to kernel", [I_FRAME_CS_HIGH] = "high byte of cs",
	[I_FRAME_SS_HIGH] = "high byte of ss",
	[I_MAKE_FRAME] = "frame made", [I_SET_RSP] = "mov rsp",
	[I_TO_64BIT] = "ljmp", [I_SYSCALL] = "syscall", [I_AFTER_SYSCALL] = "jmp rbx",
	[I_READ_DR6] = "mov from dr6", [I_WRITE_DR6] = "mov to dr6",
	[I_WRITE_DR7] = "mov to dr7", [I_WATCHED] = "watched write",
};

static void print_heading(const struct fuzz_program *program, unsigned int ip)
{
	unsigned int v, i;

	if (ip == program->start)
		printf("  program:\n");
	for (v = 0; v < NR_FUZZ_VECTORS; v++)
		for (i = 0; i < FUZZ_BODIES; i++)
			if (program->body[v][i] == ip) {
				printf("  handler of %s, event %u:\n", vector_names[v], i + 1);
				return;
			}
}

/* What has run of it. */
void fuzz_print_program(const struct fuzz_program *program)
{
	unsigned int ip;

	for (ip = program->at_syscall; ip < program->nr; ip++) {
		const struct fuzz_insn *insn = &program->insn[ip];
		const char *name = insn->kind < ARRAY_SIZE(kind_names) ?
				   kind_names[insn->kind] : NULL;

		if (fuzz_ran[ip])
			print_heading(program, ip);
		if (!fuzz_ran[ip] || !name)
			continue;
		printf("    0x%x %s", insn->address, name);
		if (insn->arg)
			printf(" 0x%x", insn->arg);
		printf("\n");
	}
}
