// SPDX-License-Identifier: GPL-2.0-only
/*
 * When the model takes which event, and when NMIs are masked.
 *
 * At each boundary: traps, then SMI, then NMI, then IRQ. An IRET unmasks NMIs. The
 * paths differ lawfully in this:
 *
 *   SVM vNMI   An IRET that faults leaves NMIs masked, by the words of the manual.
 *		Two NMIs that meet in an interrupt shadow or in SMM are one.
 *   soft vNMI  The IRET is not seen. What ends the masking is the return to the
 *		interrupted instruction, if it had IRQs off and RF clear and
 *		nobody debugs the guest; an exit with IRQs on; or, if an NMI
 *		waits and no debugger holds events back, IRQs that are on. Of
 *		exits that nobody asked for the model does not know: it goes
 *		on both ways where one may have been seen.
 */
#include "nmi_events.h"
#include "fuzz.h"

static enum nmi_path path(void)
{
	static int known = -1;

	if (known < 0)
		known = nmi_path();
	return known;
}

static bool irq_window(struct fuzz_model *m)
{
	return (m->rflags & RFLAGS_IF) && m->shadow == NO_SHADOW;
}

void fuzz_nmi_unmask_by_iret(struct fuzz_model *m)
{
	if (path() != VMX_SOFT)
		m->masked = NO;
}

void fuzz_iret_faulted(struct fuzz_model *m)
{
	if (path() == SVM_IRET || path() == VMX_VIRTUAL_NMIS)
		m->masked = NO;
}

/* A fault may exit, and what the exit shows of a shadow that ends is open. */
void fuzz_fault_seen(struct fuzz_model *m)
{
	if (path() == VMX_SOFT && m->masked == YES && (m->rflags & RFLAGS_IF))
		m->masked = MAYBE;
}

/* KVM looks at the guest, at an exit that is certain. */
void fuzz_seen_by_kvm(struct fuzz_model *m)
{
	if (path() == VMX_SOFT && m->masked != NO && irq_window(m) && !m->in_smm)
		m->masked = NO;
}

/* What is sent by the local APIC makes KVM look at all that waits. */
void fuzz_asks_kvm(struct fuzz_model *m)
{
	fuzz_seen_by_kvm(m);
	m->shadow_unseen = false;
}

/* One is in service and one waits; if none is in service two may wait. */
void fuzz_send_nmi(struct fuzz_model *m)
{
	unsigned int limit = m->masked == NO && !m->in_smm ? 2 : 1;

	/* How many there are in the end depends. */
	if (m->masked == MAYBE && m->pending)
		m->at = AT_LIMIT;
	m->pending = m->pending < limit ? m->pending + 1 : limit;
}

static bool back_at_return(struct fuzz_model *m)
{
	return m->watching && m->ip == m->return_ip && m->rsp == m->return_rsp &&
	       m->cs == m->return_cs;
}

static void look_for_soft_window(struct fuzz_model *m)
{
	if (m->masked == NO || m->in_smm)
		return;
	if (back_at_return(m) && m->shadow != MOV_SS_SHADOW)
		m->masked = (m->rflags & RFLAGS_RF) || m->held_back ? MAYBE : NO;
	else if (irq_window(m))
		m->masked = m->pending && !m->halted && !m->held_back ? NO : MAYBE;

	/* Nobody looks while the guest halts: the IRQ that wakes it, or the timer. */
	if (m->halted && m->pending && m->masked != NO)
		m->at = AT_LIMIT;
}

static void take_nmi(struct fuzz_model *m)
{
	m->pending--;
	m->masked = YES;
	m->watching = !(m->rflags & RFLAGS_IF);
	m->return_ip = m->ip;
	m->return_rsp = m->rsp;
	m->return_cs = m->cs;
	fuzz_deliver(m, V_NMI, 0, false);
}

static void take_trap(struct fuzz_model *m)
{
	/* Of breakpoints the last ones are shown, BS stays until it is cleared. */
	m->dr6 = (m->dr6 & ~0xfull) | m->trap;
	m->trap = 0;
	fuzz_deliver(m, V_DB, 0, false);
}

/* Both may be: one more model has NMIs masked, this one has not. */
static void fork_model(struct fuzz_models *models, struct fuzz_model *m)
{
	if (models->nr == FUZZ_MAX_MODELS) {
		m->at = AT_LIMIT;
		return;
	}
	m->masked = YES;
	models->model[models->nr++] = *m;
	m->masked = NO;
}

/*
 * An NMI that another thread sends comes at a boundary that only the VM knows. What
 * the model knows is whether one may come there.
 */
static void look_for_late_nmi(struct fuzz_model *m)
{
	const struct fuzz_seen *seen = m->follow;
	const struct fuzz_event *next;

	if (!seen || m->masked == YES || m->nr_events >= seen->nr_events)
		return;
	next = &seen->event[m->nr_events];
	if (next->vector != V_NMI || next->rsp != m->rsp ||
	    next->rip != m->program->insn[m->ip].address)
		return;
	m->pending++;
	m->masked = NO;
	m->follow = NULL;
}

/* Without the monitor trap flag, for soft vNMI any shadow, and STI's with virtual NMIs. */
static bool shadow_may_end_unseen(struct fuzz_model *m)
{
	bool held = path() == VMX_SOFT ? m->shadow != NO_SHADOW :
		    path() == VMX_VIRTUAL_NMIS && m->shadow == STI_SHADOW;

	return held && !cpu_has_monitor_trap_flag();
}

/*
 * Its end is seen by an IRQ window. An instruction that turns IRQs off in the shadow, such
 * as INT3, leaves only a timer: the NMI may come at once, when IRQs are on, or anywhere in
 * between; that is followed no further (fuzz_run_program()).
 */
static void look_for_shadow_that_ends_unseen(struct fuzz_models *models,
					     struct fuzz_model *m)
{
	if (irq_window(m)) {
		m->shadow_unseen = false;
	} else if (m->held_in_shadow && !m->shadow) {
		if (models->nr == FUZZ_MAX_MODELS) {
			m->at = AT_LIMIT;
			return;
		}
		m->held_in_shadow = false;
		models->model[models->nr] = *m;
		models->model[models->nr].by_timer = true;
		models->model[models->nr++].shadow_unseen = true;
	}
	m->held_in_shadow = shadow_may_end_unseen(m) && m->pending && m->masked == NO;
}

static bool nmi_is_due(struct fuzz_models *models, struct fuzz_model *m)
{
	look_for_shadow_that_ends_unseen(models, m);
	if (m->in_smm || m->shadow || m->held_back || m->shadow_unseen)
		return false;
	look_for_late_nmi(m);
	if (!m->pending)
		return false;
	if (m->masked == MAYBE)
		fork_model(models, m);
	return m->masked == NO;
}

/* At a boundary. Returns false where the guest stops for the host. */
bool fuzz_take_events(struct fuzz_models *models, struct fuzz_model *m)
{
	while (m->at != AT_LIMIT) {
		if (path() == VMX_SOFT)
			look_for_soft_window(m);
		if (m->at == AT_LIMIT)
			break;
		fuzz_shadowed[m->ip] |= m->shadow;
		/* V_NMI, which meets the shadow, is one; a debugger keeps them from it. */
		if (path() == SVM_VNMI && m->shadow && !m->held_back && m->pending > 1)
			m->pending = 1;

		if (m->trap) {
			take_trap(m);
		} else if (m->init) {
			m->at = AT_RESET;
			return false;
		} else if (m->smi && !m->in_smm && !m->held_back) {
			m->smi = false;
			m->in_smm = true;
			if (path() == SVM_VNMI && m->pending > 1)
				m->pending = 1;
			m->smm_masked = m->masked;
			m->at = AT_SMM;
			return false;
		} else if (nmi_is_due(models, m)) {
			take_nmi(m);
		} else if (m->irq && !m->in_service && irq_window(m) && !m->held_back) {
			m->irq = false;
			m->in_service = true;
			fuzz_deliver(m, V_IRQ, 0, false);
		} else if (m->halted) {
			/* Whether what waits there wakes the CPU is not told here. */
			m->at = m->held_back || (m->follow && m->masked != NO) ?
				AT_LIMIT : AT_HALT;
			return false;
		} else {
			return true;
		}
	}
	return false;
}

/* Go on from a stop. */
static void leave_stop(struct fuzz_model *m)
{
	m->nr_events = 0;
	m->shadow_unseen = m->by_timer = false;
	if (m->at == AT_SMM) {
		m->in_smm = false;
		m->masked = m->smm_masked;
	}
	m->at = AT_OUT;
}

static void note_place(struct fuzz_model *m)
{
	m->nr_stops++;
	m->stop_rip = m->program->insn[m->ip].address;
	m->stop_rsp = m->rsp;
	m->stop_rflags = m->rflags;
}

/* The VM is stopped in the middle of the OUT, the model is after it. */
static void stop_at_out(struct fuzz_model *m, unsigned int kind)
{
	note_place(m);
	fuzz_execute(m);
	if (m->at != AT_LIMIT)
		m->at = kind == I_END ? AT_END : AT_OUT;
}

static void run(struct fuzz_models *models, struct fuzz_model *m)
{
	while (fuzz_take_events(models, m)) {
		unsigned int kind = m->program->insn[m->ip].kind;

		if (kind == I_STOP || kind == I_END) {
			stop_at_out(m, kind);
			return;
		}
		fuzz_execute(m);
		if (m->at == AT_LIMIT)
			return;
	}
	note_place(m);
}

/* A handler's first instructions, up to its body, are one for the model. */
static bool came_in_stub(const struct fuzz_seen *seen)
{
	const struct fuzz_event *e, *end = seen->event + seen->nr_events;

	for (e = seen->event; e < end; e++)
		if (e->vector == V_NMI && e->rip > FUZZ_STUBS &&
		    e->rip < FUZZ_STUBS + 4096 &&
		    (e->rip % FUZZ_STUB_SIZE || e->rip >= FUZZ_STUBS_END))
			return true;
	return false;
}

void fuzz_run_models(struct fuzz_models *models, const struct fuzz_seen *follow)
{
	unsigned int i;

	for (i = 0; i < models->nr; i++) {
		leave_stop(&models->model[i]);
		models->model[i].follow = follow;
	}
	/* There may be more of them at the end. */
	for (i = 0; i < models->nr; i++) {
		struct fuzz_model *m = &models->model[i];

		run(models, m);
		if (m->follow && came_in_stub(follow))
			m->at = AT_LIMIT;
		else if (m->follow)
			fuzz_send_nmi(m);	/* it came last of all */
		m->follow = NULL;
	}
}

static void restart(struct fuzz_model *m)
{
	m->ip = m->program->start;
	m->rsp = FUZZ_STACK;
	m->rflags = RFLAGS_START;
	m->dr6 = DR6_NONE;
	m->dr7 = DR7_NONE;
	m->cs = CS_KERNEL;
	m->ss = SS_KERNEL;
	m->shadow = NO_SHADOW;
	m->nr_frames = 0;
	m->masked = NO;
	m->pending = 0;
	m->watching = m->irq = m->in_service = m->init = m->halted = false;
	m->held_in_shadow = m->shadow_unseen = m->by_timer = false;
}

/* The machine that INIT has stopped goes to the start of the program. */
void fuzz_restart_models(struct fuzz_models *models)
{
	unsigned int i;

	for (i = 0; i < models->nr; i++)
		restart(&models->model[i]);
}

void fuzz_start(struct fuzz_models *models, const struct fuzz_program *program)
{
	struct fuzz_model *m = &models->model[0];

	models->nr = 1;
	memset(m, 0, offsetof(struct fuzz_model, event));
	memset(fuzz_ran, 0, sizeof(fuzz_ran));
	memset(fuzz_shadowed, 0, sizeof(fuzz_shadowed));
	m->program = program;
	restart(m);
}
