// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the host does where the guest stops for it, to the VM and to all models. An
 * action that a model cannot follow here is not done. Which one comes is decided by
 * the seed and the number of the stop alone.
 */
#include "fuzz.h"

#define LATE_NS		300000	/* about what a guest takes from stop to stop */

struct place {
	struct fuzz_machine *machine;
	struct fuzz_models *models;
	struct fuzz_random random;
};

#define FOR_EACH_MODEL(m, place)					\
	for (m = (place)->models->model;				\
	     m < (place)->models->model + (place)->models->nr; m++)

static bool all_at_out(struct place *p)
{
	struct fuzz_model *m;

	FOR_EACH_MODEL(m, p)
		if (m->at != AT_OUT)
			return false;
	return true;
}

static bool none_maybe_masked(struct place *p)
{
	struct fuzz_model *m;

	FOR_EACH_MODEL(m, p)
		if (m->masked == MAYBE || m->masked != p->models->model[0].masked)
			return false;
	return true;
}

/* Halted and masked: nobody says what a CPU does with an NMI that has to wait. */
static bool may_send(struct place *p)
{
	struct fuzz_model *m;

	FOR_EACH_MODEL(m, p)
		if (m->at == AT_HALT && m->masked != NO)
			return false;
	return true;
}

static bool send_with(struct place *p, void (*send)(struct fuzz_machine *machine))
{
	struct fuzz_model *m;

	if (!may_send(p))
		return false;
	send(p->machine);
	FOR_EACH_MODEL(m, p)
		fuzz_send_nmi(m);
	return true;
}

static void by_ioctl(struct fuzz_machine *machine)
{
	FUZZ_IOCTL(machine->vcpu, KVM_NMI, NULL);
}

static void by_msi(struct fuzz_machine *machine)
{
	fuzz_send_msi(machine, APIC_DM_NMI);
}

static bool act_nmi(struct place *p)
{
	return send_with(p, by_ioctl);
}

static bool act_msi(struct place *p)
{
	return send_with(p, by_msi);
}

/* How many of them arrive depends on what is masked when. */
static bool act_two_nmis(struct place *p)
{
	return none_maybe_masked(p) && act_nmi(p) && act_msi(p);
}

static bool act_three_nmis(struct place *p)
{
	return act_two_nmis(p) && act_nmi(p);
}

static bool act_late_nmi(struct place *p)
{
	fuzz_complete(p->machine);
	return act_nmi(p);
}

/* By another thread, while the guest runs. */
static bool act_nmi_at_some_time(struct place *p)
{
	if (!fuzz_does(AT_SOME_TIME) || p->models->nr > 1 ||
	    p->models->model[0].pending || !may_send(p))
		return false;
	p->machine->late_ns = 1 + fuzz_below(&p->random, LATE_NS);
	return true;
}

static bool act_irq(struct place *p)
{
	struct fuzz_model *m;

	FOR_EACH_MODEL(m, p)
		if (m->in_smm)
			return false;
	fuzz_send_msi(p->machine, FUZZ_IRQ);
	FOR_EACH_MODEL(m, p)
		m->irq = true;
	return true;
}

/*
 * What an entry was about to inject when it was given up comes before all else:
 * nothing holds it back, and an SMI finds the guest in its handler.
 */
static bool event_on_its_way(struct place *p)
{
	struct kvm_vcpu_events events;

	FUZZ_IOCTL(p->machine->vcpu, KVM_GET_VCPU_EVENTS, &events);
	return events.nmi.injected || events.interrupt.injected;
}

/* --- the next instruction gets a shadow --------------------------------------- */

static bool set_shadow(struct place *p, enum fuzz_shadow shadow)
{
	struct kvm_vcpu_events events;
	struct fuzz_model *m;

	FOR_EACH_MODEL(m, p) {
		bool irqs_on = m->rflags & RFLAGS_IF;

		if (m->at != AT_OUT || m->trap || m->smi || (m->rflags & RFLAGS_TF) ||
		    m->program->insn[m->ip].kind == I_MOV_SS)
			return false;
		if (!irqs_on && (shadow == STI_SHADOW || !fuzz_does(SOFT_SHADOW)))
			return false;
	}
	if (event_on_its_way(p))
		return false;
	fuzz_complete(p->machine);
	FUZZ_IOCTL(p->machine->vcpu, KVM_GET_VCPU_EVENTS, &events);
	events.interrupt.shadow = shadow == STI_SHADOW ? KVM_X86_SHADOW_INT_STI :
							 KVM_X86_SHADOW_INT_MOV_SS;
	events.flags = KVM_VCPUEVENT_VALID_SHADOW;
	FUZZ_IOCTL(p->machine->vcpu, KVM_SET_VCPU_EVENTS, &events);
	FOR_EACH_MODEL(m, p)
		m->shadow = shadow;
	return true;
}

static bool act_sti_shadow(struct place *p)
{
	return set_shadow(p, STI_SHADOW);
}

static bool act_mov_ss_shadow(struct place *p)
{
	return set_shadow(p, MOV_SS_SHADOW);
}

static bool act_shadow_nmi(struct place *p)
{
	return none_maybe_masked(p) && set_shadow(p, MOV_SS_SHADOW) && act_nmi(p);
}

static bool act_shadow_nmi_irq(struct place *p)
{
	return act_shadow_nmi(p) && act_irq(p);
}

static bool act_sti_nmi(struct place *p)
{
	return none_maybe_masked(p) && set_shadow(p, STI_SHADOW) && act_msi(p);
}

/* --- state --------------------------------------------------------------------- */

/*
 * kvm.ko before 6.4 saves two pending NMIs as one; from 6.4 on it makes a request of a
 * pending one that it restores, which ends HLT although NMIs are masked. A debugger
 * is not saved.
 */
static bool saves_whole(struct place *p)
{
	struct fuzz_model *m;

	FOR_EACH_MODEL(m, p)
		if (m->pending > 1 || (m->halted && m->pending) || m->held_back)
			return false;
	return true;
}

static bool act_migrate(struct place *p)
{
	struct fuzz_model *m;

	if (!saves_whole(p))
		return false;
	fuzz_complete(p->machine);
	fuzz_migrate(p->machine);
	FOR_EACH_MODEL(m, p)
		m->watching = false;
	return true;
}

static bool act_get_set(struct place *p)
{
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;

	if (!saves_whole(p))
		return false;
	fuzz_complete(p->machine);
	FUZZ_IOCTL(p->machine->vcpu, KVM_GET_VCPU_EVENTS, &events);
	FUZZ_IOCTL(p->machine->vcpu, KVM_SET_VCPU_EVENTS, &events);
	FUZZ_IOCTL(p->machine->vcpu, KVM_GET_DEBUGREGS, &debugregs);
	FUZZ_IOCTL(p->machine->vcpu, KVM_SET_DEBUGREGS, &debugregs);
	return true;
}

static bool act_give_up_entry(struct place *p)
{
	if (!all_at_out(p))
		return false;
	fuzz_give_up_entry(p->machine);
	return true;
}

static bool act_nmi_given_up(struct place *p)
{
	return all_at_out(p) && act_nmi(p) && act_give_up_entry(p);
}

static bool act_lose_pages(struct place *p)
{
	bool all = fuzz_one_in(&p->random, 2);

	if (!fuzz_does(LOST_PAGES))
		return false;
	fuzz_lose_pages(p->machine, all ? 0 : FUZZ_FRAMES,
			all ? FUZZ_MEMORY : 4096 * 4 * NR_FUZZ_VECTORS);
	return true;
}

static bool act_nmi_on_lost_pages(struct place *p)
{
	return act_nmi(p) && act_lose_pages(p);
}

/* User space takes back what waits. kvm.ko's request outlives the NMI, and ends HLT. */
static bool act_take_back(struct place *p)
{
	struct kvm_vcpu_events events;
	struct fuzz_model *m;

	FOR_EACH_MODEL(m, p)
		if (m->halted && m->pending)
			return false;
	fuzz_complete(p->machine);
	FUZZ_IOCTL(p->machine->vcpu, KVM_GET_VCPU_EVENTS, &events);
	if (events.nmi.injected)
		return false;
	events.nmi.pending = 0;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	FUZZ_IOCTL(p->machine->vcpu, KVM_SET_VCPU_EVENTS, &events);
	FOR_EACH_MODEL(m, p)
		m->pending = 0;
	return true;
}

/* --- other modes ----------------------------------------------------------------- */

static bool act_smi(struct place *p)
{
	struct fuzz_model *m;

	if (!fuzz_does(SMM) || !all_at_out(p))
		return false;
	FOR_EACH_MODEL(m, p)
		if (m->shadow || m->held_back)
			return false;
	if (event_on_its_way(p))
		return false;
	FUZZ_IOCTL(p->machine->vcpu, KVM_SMI, NULL);
	FOR_EACH_MODEL(m, p)
		m->smi = true;
	return true;
}

static bool act_smi_nmi(struct place *p)
{
	return none_maybe_masked(p) && act_smi(p) && act_nmi(p);
}

/* To the reset vector, from where it is sent to the program's start. */
static bool act_init(struct place *p)
{
	struct fuzz_model *m;

	FOR_EACH_MODEL(m, p)
		if (m->trap || m->in_smm || m->smi || m->held_back)
			return false;
	fuzz_send_msi(p->machine, APIC_DM_INIT);
	FOR_EACH_MODEL(m, p)
		m->init = true;
	return true;
}

static bool act_nmi_init(struct place *p)
{
	return act_nmi(p) && act_init(p);
}

/* A debugger that holds events back, until it goes away again. */
static bool act_debug(struct place *p)
{
	struct kvm_guest_debug debug = { };
	struct fuzz_model *m;

	if (!all_at_out(p) || event_on_its_way(p))
		return false;
	FOR_EACH_MODEL(m, p)
		m->held_back = !m->held_back;
	if (p->models->model[0].held_back)
		debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ;
	FUZZ_IOCTL(p->machine->vcpu, KVM_SET_GUEST_DEBUG, &debug);
	return true;
}

static bool act_debug_nmi(struct place *p)
{
	return act_debug(p) && act_nmi(p);
}

/* --- which one ------------------------------------------------------------------- */

static const struct {
	const char *name;
	bool (*act)(struct place *p);
	uint32_t with;
	unsigned int weight;
} actions[] = {
	{ "KVM_NMI", act_nmi, 0, 8 },
	{ "MSI in NMI mode", act_msi, 0, 4 },
	{ "two NMIs", act_two_nmis, 0, 2 },
	{ "three NMIs", act_three_nmis, 0, 1 },
	{ "KVM_NMI after the OUT", act_late_nmi, 0, 2 },
	{ "IRQ", act_irq, WITH_IRQS, 5 },
	{ "STI shadow", act_sti_shadow, WITH_SHADOWS, 1 },
	{ "MOV SS shadow", act_mov_ss_shadow, WITH_SHADOWS, 1 },
	{ "MOV SS shadow, KVM_NMI", act_shadow_nmi, WITH_SHADOWS, 6 },
	{ "STI shadow, MSI in NMI mode", act_sti_nmi, WITH_SHADOWS, 4 },
	{ "MOV SS shadow, KVM_NMI, IRQ", act_shadow_nmi_irq, WITH_SHADOWS | WITH_IRQS, 4 },
	{ "migration", act_migrate, WITH_STATE, 1 },
	{ "get and set state", act_get_set, WITH_STATE, 3 },
	{ "entry given up", act_give_up_entry, WITH_STATE, 2 },
	{ "KVM_NMI, entry given up", act_nmi_given_up, WITH_STATE, 2 },
	{ "lost pages", act_lose_pages, WITH_STATE, 2 },
	{ "KVM_NMI, lost pages", act_nmi_on_lost_pages, WITH_STATE, 3 },
	{ "pending NMI taken back", act_take_back, WITH_STATE, 1 },
	{ "NMI at some time", act_nmi_at_some_time, WITH_ASYNC, 8 },
	{ "SMI", act_smi, WITH_SMM, 4 },
	{ "SMI and KVM_NMI", act_smi_nmi, WITH_SMM, 4 },
	{ "INIT", act_init, WITH_INIT, 1 },
	{ "KVM_NMI, INIT", act_nmi_init, WITH_INIT, 1 },
	{ "debugger", act_debug, WITH_DEBUG, 3 },
	{ "debugger, KVM_NMI", act_debug_nmi, WITH_DEBUG, 3 },
};

static unsigned int random_action(struct fuzz_random *random, uint32_t with)
{
	unsigned int i, sum = 0, choice;

	for (i = 0; i < ARRAY_SIZE(actions); i++)
		sum += actions[i].with & ~with ? 0 : actions[i].weight;
	choice = fuzz_below(random, sum);
	for (i = 0; ; i++) {
		if (actions[i].with & ~with)
			continue;
		if (choice < actions[i].weight)
			return i;
		choice -= actions[i].weight;
	}
}

void fuzz_act(struct fuzz_machine *machine, struct fuzz_models *models,
	      uint32_t stop, bool print)
{
	const struct fuzz_program *program = models->model[0].program;
	struct place p = { .machine = machine, .models = models };
	bool done, woken = models->model[0].at != AT_HALT;
	unsigned int nr, i;

	fuzz_seed(&p.random, program->seed, 1000 + stop);
	/* An NMI that comes at some time is the last thing to be done, and so is INIT. */
	nr = fuzz_below(&p.random, 3);
	for (; nr && !machine->late_ns && !models->model[0].init; nr--) {
		i = random_action(&p.random, program->with);
		done = actions[i].act(&p);
		woken |= done;
		if (print && done)
			printf("  host: %s\n", actions[i].name);
	}
	if (!woken && !act_nmi(&p))
		act_irq(&p);
}
