// SPDX-License-Identifier: GPL-2.0-only
/*
 * SVM as the manual has it and not kinder. Sections are those of the AMD64 Architecture
 * Programmer's Manual, volume 2.
 *
 * Where the manual promises something the CPU does it. Where it leaves something
 * undefined the CPU answers with rubbish, which $KVM_NMI_STRICT_SEED decides. Software
 * that breaks a rule ends the machine with status 125 and one line that says which.
 * $KVM_NMI_STRICT_LAX names rules, separated by commas, that are not to hold: a test has
 * to fail then.
 */
#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "cpu.h"
#include "exec/address-spaces.h"
#include "exec/cpu_ldst.h"
#include "exec/helper-proto.h"
#include "tcg/helper-tcg.h"
#include "tcg/seg_helper.h"
#include "tcg/strict.h"

#define STATUS_VIOLATION	125
#define MAX_CPUS		16

/* The VMCB up to its last field that is known here. */
#define VMCB_BYTES		0x698

/* Offsets in it that QEMU has no name for. */
#define VMCB_CLEAN		0x0c0
#define VMCB_NEXT_RIP		0x0c8

#define V_NMI			(1u << 11)
#define V_NMI_MASK		(1u << 12)
#define V_NMI_ENABLE		(1u << 26)
#define INTERCEPT_NMI		(1ull << (SVM_EXIT_NMI - SVM_EXIT_INTR))
#define EVENT_RESERVED		0x7ffff000u

struct field {
	uint8_t clean;		/* number of the bit that stands for it, 15.15.3 */
	uint16_t offset;
	uint8_t bytes;
	const char *name;
};

static const struct field fields[] = {
	{ 0, 0x000, 2, "intercept_cr_read" },
	{ 0, 0x002, 2, "intercept_cr_write" },
	{ 0, 0x004, 2, "intercept_dr_read" },
	{ 0, 0x006, 2, "intercept_dr_write" },
	{ 0, 0x008, 4, "intercept_exceptions" },
	{ 0, 0x00c, 8, "intercepts" },
	{ 0, 0x014, 4, "intercepts_5" },
	{ 0, 0x03c, 2, "pause_filter_threshold" },
	{ 0, 0x03e, 2, "pause_filter_count" },
	{ 0, 0x050, 8, "tsc_offset" },
	{ 1, 0x040, 8, "iopm_base_pa" },
	{ 1, 0x048, 8, "msrpm_base_pa" },
	{ 2, 0x058, 4, "asid" },
	{ 3, 0x060, 4, "int_ctl" },
	{ 3, 0x064, 4, "int_vector" },
	{ 4, 0x0b0, 8, "nested_cr3" },
	{ 4, 0x668, 8, "g_pat" },
	{ 5, 0x4d0, 8, "efer" },
	{ 5, 0x548, 8, "cr4" },
	{ 5, 0x550, 8, "cr3" },
	{ 5, 0x558, 8, "cr0" },
	{ 6, 0x560, 8, "dr7" },
	{ 6, 0x568, 8, "dr6" },
	{ 7, 0x464, 4, "gdtr.limit" },
	{ 7, 0x468, 8, "gdtr.base" },
	{ 7, 0x484, 4, "idtr.limit" },
	{ 7, 0x488, 8, "idtr.base" },
	{ 8, 0x400, 8, "es" },
	{ 8, 0x408, 8, "es.base" },
	{ 8, 0x410, 8, "cs" },
	{ 8, 0x418, 8, "cs.base" },
	{ 8, 0x420, 8, "ss" },
	{ 8, 0x428, 8, "ss.base" },
	{ 8, 0x430, 8, "ds" },
	{ 8, 0x438, 8, "ds.base" },
	{ 8, 0x4cb, 1, "cpl" },
	{ 9, 0x640, 8, "cr2" },
	{ 10, 0x670, 8, "dbgctl" },
	{ 10, 0x678, 8, "br_from" },
	{ 10, 0x680, 8, "br_to" },
	{ 10, 0x688, 8, "last_excp_from" },
	{ 10, 0x690, 8, "last_excp_to" },
	{ 11, 0x098, 8, "avic_apic_bar" },
	{ 11, 0x0e0, 8, "avic_backing_page" },
	{ 11, 0x0f0, 8, "avic_logical_table" },
	{ 11, 0x0f8, 8, "avic_physical_table" },
	{ 12, 0x5e0, 8, "s_cet" },
	{ 12, 0x5e8, 8, "ssp" },
	{ 12, 0x5f0, 8, "isst_addr" },
};

/* What a CPU may keep of a VMCB that it has run. */
struct copy {
	uint64_t address;
	uint8_t bytes[VMCB_BYTES];
};

static struct cpu {
	GHashTable *copies;	/* by address */
	uint64_t vmrun_rip;
	uint64_t rubbish;
	bool own_vnmi;		/* the NMI in delivery is a V_NMI, not injected */
} cpus[MAX_CPUS];

/* On which CPU a VMCB ran last, by its address; one more than the number. */
static GHashTable *last_cpu;
static QemuMutex last_cpu_lock;

static uint64_t seed;
static const char *lax;

static void __attribute__((constructor)) strict_init(void)
{
	const char *given = getenv("KVM_NMI_STRICT_SEED");

	seed = given ? g_ascii_strtoull(given, NULL, 0) : 1;
	lax = getenv("KVM_NMI_STRICT_LAX") ?: "";
	qemu_mutex_init(&last_cpu_lock);
	last_cpu = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
}

static bool holds(const char *rule)
{
	g_auto(GStrv) names = NULL;

	if (!*lax)
		return true;
	names = g_strsplit(lax, ",", 0);
	return !g_strv_contains((const char *const *)names, rule);
}

static bool has(CPUX86State *env, uint32_t feature)
{
	return env->features[FEAT_SVM] & feature;
}

static struct cpu *cpu_of(CPUX86State *env)
{
	struct cpu *cpu = &cpus[env_cpu(env)->cpu_index % MAX_CPUS];

	if (!cpu->copies) {
		cpu->copies = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
		cpu->rubbish = (seed + 1) * 0x9e3779b97f4a7c15ull + env_cpu(env)->cpu_index;
	}
	return cpu;
}

static G_NORETURN G_GNUC_PRINTF(3, 4)
void violation(CPUX86State *env, const char *rule, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "strict: %s: ", rule);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "; VMRUN at rip 0x%" PRIx64 " of CPU %d, VMCB 0x%" PRIx64 "\n",
		cpu_of(env)->vmrun_rip, env_cpu(env)->cpu_index, (uint64_t)env->vm_vmcb);
	fflush(stderr);
	/* Its other threads go on until then: they must not see half of it gone. */
	_exit(STATUS_VIOLATION);
}

/* Xorshift: repeats with the seed, and no bit of it means anything. */
static uint64_t rubbish(CPUX86State *env)
{
	struct cpu *cpu = cpu_of(env);

	cpu->rubbish ^= cpu->rubbish << 13;
	cpu->rubbish ^= cpu->rubbish >> 7;
	cpu->rubbish ^= cpu->rubbish << 17;
	return cpu->rubbish;
}

static void store(CPUX86State *env, unsigned int offset, uint64_t value)
{
	x86_stq_phys(env_cpu(env), env->vm_vmcb + offset, value);
}

static uint32_t event_inj(CPUX86State *env)
{
	return x86_ldl_phys(env_cpu(env),
			    env->vm_vmcb + offsetof(struct vmcb, control.event_inj));
}

static void read_vmcb(CPUX86State *env, uint8_t *bytes)
{
	address_space_read(env_cpu(env)->as, env->vm_vmcb, MEMTXATTRS_UNSPECIFIED, bytes,
			   VMCB_BYTES);
}

static uint64_t value_of(const uint8_t *vmcb, const struct field *field)
{
	uint64_t value = 0;

	memcpy(&value, vmcb + field->offset, field->bytes);
	return value;
}

/*
 * 15.15: a field whose clean bit is set may come from the CPU's copy. What software has
 * changed without taking the bit away is not what the guest runs with. The copy is that
 * of the CPU where the VMCB ran last, and of nothing that lay at this address before.
 */
static void check_clean_bits(CPUX86State *env)
{
	struct cpu *cpu = cpu_of(env);
	uint64_t address = env->vm_vmcb;
	uint8_t now[VMCB_BYTES];
	struct copy *copy;
	uint32_t clean;
	int before;

	qemu_mutex_lock(&last_cpu_lock);
	before = GPOINTER_TO_INT(g_hash_table_lookup(last_cpu, &address)) - 1;
	g_hash_table_insert(last_cpu, g_memdup2(&address, sizeof(address)),
			    GINT_TO_POINTER(env_cpu(env)->cpu_index + 1));
	qemu_mutex_unlock(&last_cpu_lock);

	clean = x86_ldl_phys(env_cpu(env), address + VMCB_CLEAN);
	if (!clean || !holds("clean"))
		return;
	copy = g_hash_table_lookup(cpu->copies, &address);
	if (!copy || before != env_cpu(env)->cpu_index) {
		if (before < 0)
			violation(env, "clean", "clean bits 0x%x of a VMCB that has not run yet",
				  clean);
		violation(env, "clean", "clean bits 0x%x of a VMCB that ran on CPU %d last",
			  clean, before);
	}
	read_vmcb(env, now);
	for (int i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field *field = &fields[i];

		if ((clean & (1u << field->clean)) &&
		    memcmp(now + field->offset, copy->bytes + field->offset, field->bytes))
			violation(env, "clean", "%s is 0x%" PRIx64 " and was 0x%" PRIx64
				  ", but clean bit %d is set", field->name, value_of(now, field),
				  value_of(copy->bytes, field), field->clean);
	}
}

/* VMRUN has its address and has changed nothing yet. */
void strict_vmrun(CPUX86State *env)
{
	uint32_t event = event_inj(env);

	cpu_of(env)->vmrun_rip = env->eip;
	cpu_of(env)->own_vnmi = false;
	if (has(env, CPUID_SVM_VMCBCLEAN))
		check_clean_bits(env);
	/* 15.20: reserved, should be zero. */
	if ((event & SVM_EVTINJ_VALID) && (event & EVENT_RESERVED) && holds("eventinj"))
		violation(env, "eventinj", "reserved bits in event_inj 0x%x", event);
}

/* What makes VMRUN fail beside what QEMU checks itself. */
void strict_check_vmrun(CPUX86State *env, uintptr_t retaddr)
{
	hwaddr address = env->vm_vmcb + offsetof(struct vmcb, control.int_ctl);
	uint32_t int_ctl = x86_ldl_phys(env_cpu(env), address);

	/* 15.21.10 */
	if (has(env, CPUID_SVM_VNMI) && (int_ctl & V_NMI_ENABLE) &&
	    !(env->intercept & INTERCEPT_NMI) && holds("vnmi-intercept"))
		cpu_vmexit(env, SVM_EXIT_ERR, 0, retaddr);
}

static bool vnmi_enabled(CPUX86State *env)
{
	return has(env, CPUID_SVM_VNMI) && (env->int_ctl & V_NMI_ENABLE);
}

/* Other threads set bits in the same word; without the lock theirs may be lost. */
void strict_request(CPUX86State *env, int which)
{
	bql_lock();
	env_cpu(env)->interrupt_request |= which;
	bql_unlock();
}

/* VMRUN has loaded the guest's int_ctl. */
void strict_load_interrupts(CPUX86State *env)
{
	uint32_t event = event_inj(env);

	if (!vnmi_enabled(env))
		return;
	if (env->int_ctl & V_NMI)
		strict_request(env, STRICT_INTERRUPT_VNMI);
	/* 15.21.10: one that is injected masks NMIs as well. */
	if ((event & SVM_EVTINJ_VALID) &&
	    (event & SVM_EVTINJ_TYPE_MASK) == SVM_EVTINJ_TYPE_NMI && holds("vnmi-inject"))
		env->int_ctl |= V_NMI_MASK;
}

/*
 * 15.20: the return address of an injected INTn, INT3 or INTO is NextRIP, where the CPU
 * has it.
 */
bool strict_pushes_next_rip(CPUX86State *env, int vector)
{
	return has(env, CPUID_SVM_NRIPSAVE) &&
	       (vector == EXCP03_INT3 || vector == EXCP04_INTO);
}

target_ulong strict_return_rip(CPUX86State *env)
{
	if (!has(env, CPUID_SVM_NRIPSAVE) || !holds("nextrip-inject"))
		return env->eip;
	return x86_ldq_phys(env_cpu(env), env->vm_vmcb + VMCB_NEXT_RIP);
}

struct instruction {
	uint64_t next;
	uint8_t opcode[2];
	int bytes;
	bool modrm;
	bool wide_address;
	bool short_address;
};

static uint8_t fetch(CPUX86State *env, struct instruction *insn)
{
	uint64_t address = insn->next++;

	insn->bytes++;
	if (!(env->hflags & HF_CS64_MASK))
		return cpu_ldub_code(env, (uint32_t)(env->segs[R_CS].base + (uint32_t)address));
	return cpu_ldub_code(env, address);
}

/* What a ModRM byte has behind it. */
static void fetch_modrm(CPUX86State *env, struct instruction *insn)
{
	uint8_t modrm = fetch(env, insn), mod = modrm >> 6, rm = modrm & 7;
	int displacement = mod == 1 ? 1 : 0;

	if (mod == 3)
		return;
	if (insn->short_address) {
		if (mod == 2 || (mod == 0 && rm == 6))
			displacement = 2;
	} else {
		if (rm == 4)
			rm = fetch(env, insn) & 7;
		if (mod == 2 || (mod == 0 && rm == 5))
			displacement = 4;
	}
	while (displacement--)
		fetch(env, insn);
}

/*
 * The instruction at CS:RIP, one of those that can be intercepted. Nothing else is known
 * here: what is not must not be taken for something else.
 */
static void decode(CPUX86State *env, struct instruction *insn)
{
	bool code64 = env->hflags & HF_CS64_MASK, code32 = env->hflags & HF_CS32_MASK;
	bool other_address = false;
	uint8_t byte;

	*insn = (struct instruction) { .next = env->eip };
	for (;;) {
		byte = fetch(env, insn);
		if (byte == 0x67)
			other_address = true;
		else if (byte != 0x66 && byte != 0xf0 && byte != 0xf2 && byte != 0xf3 &&
			 (byte & 0xe7) != 0x26 && byte != 0x64 && byte != 0x65 &&
			 !(code64 && (byte & 0xf0) == 0x40))
			break;
	}
	insn->short_address = !code64 && code32 == other_address;
	insn->opcode[0] = byte;
	switch (byte) {
	case 0x0f:
		insn->opcode[1] = fetch(env, insn);
		switch (insn->opcode[1]) {
		case 0x00: case 0x01:			/* LLDT, LGDT, INVLPG, VMRUN and others */
			fetch_modrm(env, insn);
			return;
		case 0x20 ... 0x23:			/* MOV CR, MOV DR: always of a register */
			fetch(env, insn);
			return;
		case 0x06: case 0x08: case 0x09:	/* CLTS, INVD, WBINVD */
		case 0x30 ... 0x33:			/* WRMSR, RDTSC, RDMSR, RDPMC */
		case 0xa2: case 0xaa:			/* CPUID, RSM */
			return;
		}
		break;
	case 0xcd: case 0xe4 ... 0xe7:			/* INT, IN, OUT with a number */
		fetch(env, insn);
		return;
	case 0x6c ... 0x6f:				/* INS, OUTS */
	case 0x90:					/* PAUSE */
	case 0x9c: case 0x9d:				/* PUSHF, POPF */
	case 0xcc: case 0xce: case 0xcf: case 0xf1:	/* INT3, INTO, IRET, INT1 */
	case 0xec ... 0xef: case 0xf4:			/* IN, OUT, HLT */
		return;
	}
	violation(env, "emulator",
		  "cannot tell how long the instruction %02x %02x at 0x%" PRIx64 " is",
		  insn->opcode[0], insn->opcode[1], (uint64_t)env->eip);
}

static uint64_t next_rip(CPUX86State *env)
{
	struct instruction insn;

	decode(env, &insn);
	return env->hflags & HF_CS64_MASK ? insn.next : (uint32_t)insn.next;
}

/*
 * 15.7.1: intercepts of an instruction, and the exceptions of INT3 and INTO (BOUND's
 * is one, too, but QEMU's CPU cannot be asked which instruction raised it).
 */
static bool is_instruction(uint64_t code)
{
	switch (code) {
	case SVM_EXIT_READ_CR0 ... SVM_EXIT_WRITE_DR7 + 8:
	case SVM_EXIT_CR0_SEL_WRITE ... SVM_EXIT_MSR:
	case SVM_EXIT_VMRUN ... SVM_EXIT_XSETBV + 1:
		return true;
	case SVM_EXIT_EXCP_BASE + EXCP03_INT3:
	case SVM_EXIT_EXCP_BASE + EXCP04_INTO:
		return true;
	}
	return false;
}

/* Appendix C: which exits say something in EXITINFO1, and in EXITINFO2. */
static bool has_info_1(uint64_t code)
{
	switch (code) {
	case SVM_EXIT_EXCP_BASE ... SVM_EXIT_EXCP_BASE + 31:
		return exception_has_error_code(code - SVM_EXIT_EXCP_BASE);
	case SVM_EXIT_IOIO:
	case SVM_EXIT_MSR:
	case SVM_EXIT_TASK_SWITCH:
	case SVM_EXIT_NPF:
	case SVM_EXIT_SMI:
		return true;
	}
	return false;
}

static bool has_info_2(uint64_t code)
{
	return code == SVM_EXIT_EXCP_BASE + EXCP0E_PAGE || code == SVM_EXIT_IOIO ||
	       code == SVM_EXIT_TASK_SWITCH || code == SVM_EXIT_NPF;
}

/* A #VMEXIT begins: RIP is that of the guest, and the reason is in the VMCB. */
void strict_vmexit(CPUX86State *env, uint64_t code)
{
	if (has(env, CPUID_SVM_NRIPSAVE) && holds("nextrip"))
		store(env, VMCB_NEXT_RIP, is_instruction(code) ? next_rip(env) : 0);
	if (!holds("rubbish"))
		return;
	if (!has_info_1(code))
		store(env, offsetof(struct vmcb, control.exit_info_1), rubbish(env));
	if (!has_info_2(code))
		store(env, offsetof(struct vmcb, control.exit_info_2), rubbish(env));
}

/* Next the guest's state goes into the VMCB. */
void strict_before_vmexit(CPUX86State *env)
{
	uint32_t event = event_inj(env);

	env_cpu(env)->interrupt_request &= ~STRICT_INTERRUPT_VNMI;
	if (!vnmi_enabled(env) || !(event & SVM_EVTINJ_VALID) ||
	    (event & SVM_EVTINJ_TYPE_MASK) != SVM_EVTINJ_TYPE_NMI)
		return;
	/*
	 * 15.21.10: an exit while the V_NMI is delivered takes the mask back. Of an NMI
	 * that was injected it does not say.
	 */
	if (holds("vnmi-abort") && (cpu_of(env)->own_vnmi || (rubbish(env) & 1)))
		env->int_ctl &= ~V_NMI_MASK;
	cpu_of(env)->own_vnmi = false;
}

/* All that the exit saves is in the VMCB: what the CPU keeps is the same. */
void strict_after_vmexit(CPUX86State *env)
{
	CPUState *cs = env_cpu(env);
	struct cpu *cpu = cpu_of(env);
	uint64_t address = env->vm_vmcb;
	struct copy *copy;
	uint32_t info;

	/* 15.7.2: without its bit V the field says nothing, nor has the other without EV. */
	info = x86_ldl_phys(cs, address + offsetof(struct vmcb, control.exit_int_info));
	if (holds("rubbish") && !(info & SVM_EXITINTINFO_VALID)) {
		info = rubbish(env) & ~SVM_EXITINTINFO_VALID;
		x86_stl_phys(cs, address + offsetof(struct vmcb, control.exit_int_info), info);
	}
	if (holds("rubbish") &&
	    (info & (SVM_EXITINTINFO_VALID | SVM_EXITINTINFO_VALID_ERR)) !=
	    (SVM_EXITINTINFO_VALID | SVM_EXITINTINFO_VALID_ERR))
		x86_stl_phys(cs, address + offsetof(struct vmcb, control.exit_int_info_err),
			     rubbish(env));

	/* What the guest has hit, and what it had to be told, is over. */
	cs->watchpoint_hit = NULL;
	cs->interrupt_request &= ~CPU_INTERRUPT_DEBUG;

	if (!has(env, CPUID_SVM_VMCBCLEAN))
		return;
	copy = g_hash_table_lookup(cpu->copies, &address);
	if (!copy) {
		copy = g_new0(struct copy, 1);
		copy->address = address;
		g_hash_table_insert(cpu->copies, &copy->address, copy);
	}
	read_vmcb(env, copy->bytes);
}

/* 15.20: the type of an event in EXITINTINFO; INT3 and INTO are exceptions there. */
uint32_t strict_event_type(CPUX86State *env, int vector, int is_int, int is_hw)
{
	struct instruction insn;

	if (!holds("event-type"))
		return is_int ? SVM_EVTINJ_TYPE_SOFT : SVM_EVTINJ_TYPE_EXEPT;
	if (is_hw)
		return vector == EXCP02_NMI ? SVM_EVTINJ_TYPE_NMI : SVM_EVTINJ_TYPE_INTR;
	if (!is_int)
		return SVM_EVTINJ_TYPE_EXEPT;
	if (vector != EXCP03_INT3 && vector != EXCP04_INTO)
		return SVM_EVTINJ_TYPE_SOFT;
	decode(env, &insn);
	return insn.opcode[0] == 0xcd ? SVM_EVTINJ_TYPE_SOFT : SVM_EVTINJ_TYPE_EXEPT;
}

/* 15.12.4, 15.12.5: INT3 and INTO are intercepted as exceptions, INTn by its own. */
void strict_check_int(CPUX86State *env, int vector, uintptr_t retaddr)
{
	uint32_t code = SVM_EXIT_SWINT;

	if (!(env->hflags & HF_GUEST_MASK))
		return;
	cpu_restore_state(env_cpu(env), retaddr);
	if (holds("int3") && strict_event_type(env, vector, 1, 0) == SVM_EVTINJ_TYPE_EXEPT)
		code = SVM_EXIT_EXCP_BASE + vector;
	cpu_svm_check_intercept_param(env, code, 0, 0);
}

/* 15.14.1: once the new TSS is found to be in order, before anything has changed. */
void strict_check_task_switch(CPUX86State *env, int selector, bool iret, bool jump,
			      uintptr_t retaddr)
{
	uint64_t info = 0;
	uint32_t event;

	if (!(env->hflags & HF_GUEST_MASK) || !holds("task-switch") ||
	    !cpu_svm_has_intercept(env, SVM_EXIT_TASK_SWITCH))
		return;
	cpu_restore_state(env_cpu(env), retaddr);
	event = event_inj(env);
	if ((event & SVM_EVTINJ_VALID) && (event & SVM_EVTINJ_VALID_ERR))
		info = 1ull << 44 | x86_ldl_phys(env_cpu(env), env->vm_vmcb +
						 offsetof(struct vmcb, control.event_inj_err));
	if (iret)
		info |= 1ull << 36;
	if (jump)
		info |= 1ull << 38;
	if (env->eflags & RF_MASK)
		info |= 1ull << 48;
	store(env, offsetof(struct vmcb, control.exit_info_2), info);
	cpu_vmexit(env, SVM_EXIT_TASK_SWITCH, selector & 0xffff, 0);
}

/* 15.21.10: a V_NMI waits for GIF (the caller's matter), the mask and the shadow. */
bool strict_vnmi_ready(CPUX86State *env, int request)
{
	if (!(request & STRICT_INTERRUPT_VNMI) || !vnmi_enabled(env))
		return false;
	return (!(env->int_ctl & V_NMI_MASK) || !holds("vnmi-mask")) &&
	       (!(env->hflags & HF_INHIBIT_IRQ_MASK) || !holds("vnmi-shadow"));
}

bool strict_take_vnmi(CPUX86State *env, int request)
{
	if (request != STRICT_INTERRUPT_VNMI)
		return false;
	env->int_ctl = (env->int_ctl & ~V_NMI) | V_NMI_MASK;
	env_cpu(env)->interrupt_request &= ~STRICT_INTERRUPT_VNMI;
	cpu_of(env)->own_vnmi = true;
	do_interrupt_x86_hardirq(env, EXCP02_NMI, 1);
	cpu_of(env)->own_vnmi = false;
	return true;
}

/* An IRET has completed. With vNMI enabled the guest's latch is V_NMI_MASK alone. */
void strict_unblock_nmi(CPUX86State *env)
{
	if ((env->hflags & HF_GUEST_MASK) && vnmi_enabled(env) && holds("vnmi-iret"))
		env->int_ctl &= ~V_NMI_MASK;
	else
		env->hflags2 &= ~HF2_NMI_MASK;
}
