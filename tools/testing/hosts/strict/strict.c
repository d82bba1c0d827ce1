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
#define VMCB_INSN_BYTES		0x0d0
#define VMCB_G_PAT		0x668

#define SEGMENT_L		(1u << 9)	/* of its attributes there */

#define V_NMI			(1u << 11)
#define V_NMI_MASK		(1u << 12)
#define V_NMI_ENABLE		(1u << 26)
#define INTERCEPT_NMI		(1ull << (SVM_EXIT_NMI - SVM_EXIT_INTR))
#define EVENT_RESERVED		0x7ffff000u
#define MOV_CR			(1ull << 63)

#define MAX_INSN		15

/* TLB_CONTROL, for which QEMU has not all names. */
#define TLB_FLUSH_ASID		3
#define TLB_FLUSH_NOT_GLOBAL	7

/* Nested translations that a CPU keeps. */
#define NR_KEPT			4096

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

/* Where a page of a guest is, by a walk of before. */
struct kept {
	uint32_t asid;		/* 0: none */
	int prot;
	hwaddr guest, host;
};

static struct cpu {
	GHashTable *copies;	/* by address */
	struct kept kept[NR_KEPT];
	uint64_t vmrun_rip;
	uint32_t asid;
	uint64_t rubbish;
	uint8_t refused[VMCB_BYTES];	/* a VMCB that cannot run, as it is to stay */
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

/* Nothing of what it keeps is left. */
void strict_reset(CPUX86State *env)
{
	struct cpu *cpu;

	/* Before it has a number it has nothing to keep. */
	if (env_cpu(env)->cpu_index < 0)
		return;
	cpu = cpu_of(env);
	memset(cpu->kept, 0, sizeof(cpu->kept));
	g_hash_table_remove_all(cpu->copies);
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

/* A field of the VMCB; one of less than 64 bits is the low part. */
static uint64_t load(CPUX86State *env, unsigned int offset)
{
	return x86_ldq_phys(env_cpu(env), env->vm_vmcb + offset);
}

static void store(CPUX86State *env, unsigned int offset, uint64_t value)
{
	x86_stq_phys(env_cpu(env), env->vm_vmcb + offset, value);
}

static uint32_t event_inj(CPUX86State *env)
{
	return load(env, offsetof(struct vmcb, control.event_inj));
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

	clean = load(env, VMCB_CLEAN);
	if (!clean || !holds("clean"))
		return;
	copy = g_hash_table_lookup(cpu->copies, &address);
	if (!copy || before != env_cpu(env)->cpu_index) {
		if (before < 0 || before == env_cpu(env)->cpu_index)
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

/* 15.16.1: what TLB_CONTROL does not flush the CPU may keep, and does. */
static void flush_kept(CPUX86State *env)
{
	struct cpu *cpu = cpu_of(env);
	uint8_t control = load(env, offsetof(struct vmcb, control.tlb_ctl));

	cpu->asid = load(env, offsetof(struct vmcb, control.asid));
	/* Those of nested paging are not among a guest's own that are not global. */
	if (control == TLB_FLUSH_NOT_GLOBAL || control == TLB_CONTROL_DO_NOTHING)
		return;
	if (control != TLB_CONTROL_FLUSH_ALL_ASID && control != TLB_FLUSH_ASID)
		violation(env, "tlb", "TLB_CONTROL is 0x%x, which is reserved", control);
	for (int i = 0; i < NR_KEPT; i++) {
		if (control == TLB_CONTROL_FLUSH_ALL_ASID || cpu->kept[i].asid == cpu->asid)
			cpu->kept[i].asid = 0;
	}
}

static struct kept *kept(CPUX86State *env, hwaddr guest)
{
	struct cpu *cpu = cpu_of(env);

	/* Guests have much the same pages: away from those of the next ASID. */
	return &cpu->kept[((guest >> TARGET_PAGE_BITS) + cpu->asid * 97) % NR_KEPT];
}

/* The CPU needs the translation of a guest's physical address; false: it has to walk. */
bool strict_kept(CPUX86State *env, hwaddr guest, int prot, hwaddr *host, int *kept_prot)
{
	struct kept *known = kept(env, guest);

	if (known->asid != cpu_of(env)->asid || known->guest != (guest & TARGET_PAGE_MASK) ||
	    !known->asid || !(known->prot & prot) || !holds("tlb"))
		return false;
	*host = known->host | (guest & ~TARGET_PAGE_MASK);
	*kept_prot = known->prot;
	return true;
}

void strict_keep(CPUX86State *env, hwaddr guest, hwaddr host, int prot)
{
	*kept(env, guest) = (struct kept) {
		.asid = cpu_of(env)->asid, .prot = prot,
		.guest = guest & TARGET_PAGE_MASK, .host = host & TARGET_PAGE_MASK,
	};
}

/* VMRUN has its address and has changed nothing yet. */
void strict_vmrun(CPUX86State *env)
{
	uint32_t event = event_inj(env);

	cpu_of(env)->vmrun_rip = env->eip;
	cpu_of(env)->own_vnmi = false;
	flush_kept(env);
	if (has(env, CPUID_SVM_VMCBCLEAN))
		check_clean_bits(env);
	/* 15.20: reserved, should be zero. */
	if ((event & SVM_EVTINJ_VALID) && (event & EVENT_RESERVED) && holds("eventinj"))
		violation(env, "eventinj", "reserved bits in event_inj 0x%x", event);
}

/* 15.20: a vector that is none of an exception's, or none in the guest's mode. */
static bool impossible_event(CPUX86State *env)
{
	const uint32_t exceptions = 0x000f7dfb;	/* 0, 1, 3 to 8, 10 to 14, 16 to 19 */
	uint32_t event = event_inj(env);
	uint8_t vector = event & SVM_EVTINJ_VEC_MASK;
	uint16_t cs = load(env, offsetof(struct vmcb, save.cs.attrib));
	uint64_t efer = load(env, offsetof(struct vmcb, save.efer));

	if (!(event & SVM_EVTINJ_VALID) ||
	    (event & SVM_EVTINJ_TYPE_MASK) != SVM_EVTINJ_TYPE_EXEPT)
		return false;
	if (vector >= 32 || !(exceptions & (1u << vector)))
		return true;
	/* INTO and BOUND do not exist in 64-bit code. */
	return (efer & MSR_EFER_LMA) && (cs & SEGMENT_L) &&
	       (vector == EXCP04_INTO || vector == EXCP05_BOUND);
}

/* 15.25.3, 15.25.4: the guest's PAT, and where its nested page table is. */
static bool bad_nested_paging(CPUX86State *env)
{
	uint64_t pat = load(env, VMCB_G_PAT);

	if (!(load(env, offsetof(struct vmcb, control.nested_ctl)) & SVM_NPT_ENABLED))
		return false;
	if (load(env, offsetof(struct vmcb, control.nested_cr3)) >>
	    env_archcpu(env)->phys_bits)
		return true;
	for (int i = 0; i < 8; i++, pat >>= 8) {
		uint8_t type = pat;

		if (type > 7 || type == 2 || type == 3)
			return true;
	}
	return false;
}

/* What makes VMRUN fail beside what QEMU checks itself. */
void strict_check_vmrun(CPUX86State *env, uintptr_t retaddr)
{
	uint32_t int_ctl = load(env, offsetof(struct vmcb, control.int_ctl));

	/* 15.21.10 */
	if (has(env, CPUID_SVM_VNMI) && (int_ctl & V_NMI_ENABLE) &&
	    !(env->intercept & INTERCEPT_NMI) && holds("vnmi-intercept"))
		cpu_vmexit(env, SVM_EXIT_ERR, 0, retaddr);
	if (impossible_event(env) && holds("event-mode"))
		cpu_vmexit(env, SVM_EXIT_ERR, 0, retaddr);
	if (bad_nested_paging(env) && holds("nested-paging"))
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
	return load(env, VMCB_NEXT_RIP);
}

struct instruction {
	uint64_t next;
	uint64_t address;	/* linear, of its operand in memory */
	uint8_t opcode[2];
	uint8_t modrm, rex, number;
	int segment;		/* by a prefix, or -1 */
	bool short_address, long_address;
};

/* Linear: only 64-bit code has no base. */
static uint64_t code_address(CPUX86State *env, uint64_t rip)
{
	if (env->hflags & HF_CS64_MASK)
		return rip;
	return (uint32_t)(env->segs[R_CS].base + (uint32_t)rip);
}

static uint8_t fetch(CPUX86State *env, struct instruction *insn)
{
	return cpu_ldub_code(env, code_address(env, insn->next++));
}

static int64_t fetch_displacement(CPUX86State *env, struct instruction *insn, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)fetch(env, insn) << (8 * i);
	return bytes ? sextract64(value, 0, 8 * bytes) : 0;
}

/* Volume 3, 1.4.2: the operand of 16-bit code; returns the segment that it is in. */
static int short_operand(CPUX86State *env, struct instruction *insn)
{
	static const int8_t registers[8][2] = {
		{ R_EBX, R_ESI }, { R_EBX, R_EDI }, { R_EBP, R_ESI }, { R_EBP, R_EDI },
		{ R_ESI, -1 }, { R_EDI, -1 }, { R_EBP, -1 }, { R_EBX, -1 },
	};
	int mod = insn->modrm >> 6, rm = insn->modrm & 7;
	bool absolute = mod == 0 && rm == 6;

	insn->address = fetch_displacement(env, insn, mod == 2 || absolute ? 2 : mod);
	for (int i = 0; i < 2 && !absolute; i++) {
		if (registers[rm][i] >= 0)
			insn->address += env->regs[registers[rm][i]];
	}
	insn->address = (uint16_t)insn->address;
	return !absolute && registers[rm][0] == R_EBP ? R_SS : R_DS;
}

/* Volume 3, 1.4.3, 1.7.1: the same elsewhere. */
static int long_operand(CPUX86State *env, struct instruction *insn)
{
	int mod = insn->modrm >> 6, base = insn->modrm & 7, index = 4, scale = 0;
	bool sib = base == 4, none, relative;

	if (sib) {
		uint8_t byte = fetch(env, insn);

		base = byte & 7;
		index = (byte >> 3 & 7) | (insn->rex & 2) << 2;
		scale = byte >> 6;
	}
	none = mod == 0 && base == 5;
	relative = none && !sib && (env->hflags & HF_CS64_MASK);
	insn->address = fetch_displacement(env, insn, mod == 2 || none ? 4 : mod);
	if (relative)
		insn->address += insn->next;
	else if (!none)
		insn->address += env->regs[base | (insn->rex & 1) << 3];
	if (index != 4)
		insn->address += env->regs[index] << scale;
	if (!insn->long_address)
		insn->address = (uint32_t)insn->address;
	return !none && (base == R_ESP || base == R_EBP) && !(insn->rex & 1) ? R_SS : R_DS;
}

/* The ModRM byte and what belongs to it. */
static void fetch_modrm(CPUX86State *env, struct instruction *insn)
{
	int segment;

	insn->modrm = fetch(env, insn);
	if (insn->modrm >= 0xc0)
		return;
	segment = insn->short_address ? short_operand(env, insn) : long_operand(env, insn);
	if (insn->segment >= 0)
		segment = insn->segment;
	if (!(env->hflags & HF_CS64_MASK))
		insn->address = (uint32_t)(insn->address + env->segs[segment].base);
	else if (segment == R_FS || segment == R_GS)
		insn->address += env->segs[segment].base;
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

	*insn = (struct instruction) { .next = env->eip, .segment = -1 };
	for (;;) {
		byte = fetch(env, insn);
		if (code64 && (byte & 0xf0) == 0x40) {
			insn->rex = byte;
			continue;
		}
		if (byte == 0x67)
			other_address = true;
		else if ((byte & 0xe7) == 0x26)
			insn->segment = code64 ? insn->segment : byte >> 3 & 3;
		else if (byte == 0x64 || byte == 0x65)
			insn->segment = byte == 0x64 ? R_FS : R_GS;
		else if (byte != 0x66 && byte != 0xf0 && byte != 0xf2 && byte != 0xf3)
			break;
		insn->rex = 0;		/* one that is not the last prefix is none */
	}
	insn->short_address = !code64 && code32 == other_address;
	insn->long_address = code64 && !other_address;
	insn->opcode[0] = byte;
	switch (byte) {
	case 0x0f:
		insn->opcode[1] = fetch(env, insn);
		switch (insn->opcode[1]) {
		case 0x00: case 0x01:			/* LLDT, LGDT, INVLPG, VMRUN and others */
			fetch_modrm(env, insn);
			return;
		case 0x20 ... 0x23:			/* MOV CR, MOV DR: always of a register */
			insn->modrm = fetch(env, insn);
			return;
		case 0x06: case 0x08: case 0x09:	/* CLTS, INVD, WBINVD */
		case 0x30 ... 0x33:			/* WRMSR, RDTSC, RDMSR, RDPMC */
		case 0xa2: case 0xaa:			/* CPUID, RSM */
			return;
		}
		break;
	case 0xcd: case 0xe4 ... 0xe7:			/* INT, IN, OUT with a number */
		insn->number = fetch(env, insn);
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

/* 15.8.1 to 15.8.3: what is known of the instruction; false: nothing is promised. */
static bool decode_assist(uint64_t code, const struct instruction *insn, uint64_t *info)
{
	bool mov = insn->opcode[0] == 0x0f && (insn->opcode[1] & 0xfc) == 0x20;
	int gpr = (insn->modrm & 7) | (insn->rex & 1) << 3;

	switch (code) {
	case SVM_EXIT_READ_CR0 ... SVM_EXIT_WRITE_CR0 + 15:
	case SVM_EXIT_CR0_SEL_WRITE:
		/* CLTS, LMSW and SMSW do it as well. */
		*info = mov ? MOV_CR | gpr : 0;
		return true;
	case SVM_EXIT_READ_DR0 ... SVM_EXIT_WRITE_DR7 + 8:
		*info = gpr;
		return true;
	case SVM_EXIT_SWINT:
		*info = insn->number;
		return true;
	case SVM_EXIT_INVLPG:
		*info = insn->address;
		return true;
	}
	return false;
}

/*
 * 15.8.4: 15 bytes from RIP on, or as many as can be had, where a data access has
 * failed; none where it was the instruction that could not be fetched, nor at any other
 * exit.
 */
static void store_insn_bytes(CPUX86State *env, uint64_t code)
{
	uint64_t info_1 = load(env, offsetof(struct vmcb, control.exit_info_1));
	uint64_t failed = load(env, offsetof(struct vmcb, control.exit_info_2));
	uint64_t address = code_address(env, env->eip);
	uint8_t bytes[1 + MAX_INSN] = { 0 };
	int error_code = env->error_code;
	bool of_data = false;
	uint8_t *host;

	if (code == SVM_EXIT_NPF)
		of_data = !(info_1 & PG_ERROR_I_D_MASK);
	else if (code == SVM_EXIT_EXCP_BASE + EXCP0E_PAGE)
		of_data = failed - address >= MAX_INSN;

	while (of_data && bytes[0] < MAX_INSN) {
		uint64_t next = address + bytes[0];
		int length = MIN(MAX_INSN - bytes[0], -(next | TARGET_PAGE_MASK));

		if (probe_access_flags(env, next, 1, MMU_INST_FETCH,
				       cpu_mmu_index(env_cpu(env), true), true, (void **)&host,
				       0) & (TLB_INVALID_MASK | TLB_MMIO))
			break;
		memcpy(bytes + 1 + bytes[0], host, length);
		bytes[0] += length;
	}
	env->error_code = error_code;
	address_space_write(env_cpu(env)->as, env->vm_vmcb + VMCB_INSN_BYTES,
			    MEMTXATTRS_UNSPECIFIED, bytes, sizeof(bytes));
}

/* A #VMEXIT begins: RIP is that of the guest, and the reason is in the VMCB. */
void strict_vmexit(CPUX86State *env, uint64_t code)
{
	struct instruction insn = { 0 };
	bool decoded = false, assisted = false;
	uint64_t info;

	if (is_instruction(code) &&
	    has(env, CPUID_SVM_NRIPSAVE | CPUID_SVM_DECODEASSIST)) {
		decode(env, &insn);
		decoded = true;
	}
	if (has(env, CPUID_SVM_NRIPSAVE) && holds("nextrip")) {
		if (!(env->hflags & HF_CS64_MASK))
			insn.next = (uint32_t)insn.next;
		store(env, VMCB_NEXT_RIP, decoded ? insn.next : 0);
	}
	if (has(env, CPUID_SVM_DECODEASSIST) && holds("decode-assists")) {
		assisted = decoded && decode_assist(code, &insn, &info);
		if (assisted)
			store(env, offsetof(struct vmcb, control.exit_info_1), info);
		store_insn_bytes(env, code);
	}
	if (code == (uint64_t)SVM_EXIT_ERR)
		read_vmcb(env, cpu_of(env)->refused);
	/* 15.12.2: DR7 is as the handler of the #DB would find it. */
	if (code == SVM_EXIT_EXCP_BASE + EXCP01_DB && holds("db-dr7"))
		env->dr[7] &= ~(target_ulong)DR7_GD;
	if (!holds("rubbish"))
		return;
	if (!has_info_1(code) && !assisted)
		store(env, offsetof(struct vmcb, control.exit_info_1), rubbish(env));
	if (!has_info_2(code))
		store(env, offsetof(struct vmcb, control.exit_info_2), rubbish(env));
}

static bool has_failed(CPUX86State *env)
{
	return load(env, offsetof(struct vmcb, control.exit_code)) == SVM_EXIT_ERR;
}

static void put_back(CPUX86State *env, unsigned int begin, unsigned int end)
{
	address_space_write(env_cpu(env)->as, env->vm_vmcb + begin, MEMTXATTRS_UNSPECIFIED,
			    cpu_of(env)->refused + begin, end - begin);
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

	/* 15.20: of a VMCB that cannot run nothing is loaded, so that nothing is saved. */
	if (has_failed(env) && holds("refused")) {
		put_back(env, offsetof(struct vmcb, control.int_ctl),
			 offsetof(struct vmcb, control.exit_code));
		put_back(env, offsetof(struct vmcb, save), VMCB_BYTES);
		x86_stl_phys(cs, address + offsetof(struct vmcb, control.exit_int_info), 0);
	}
	/* 15.7.2: without its bit V the field says nothing, nor has the other without EV. */
	info = load(env, offsetof(struct vmcb, control.exit_int_info));
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

	/* A VMRUN that fails has not brought the copy up to date. */
	if (!has(env, CPUID_SVM_VMCBCLEAN) || has_failed(env))
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

/*
 * 8.3.2, 8.9: the frame of a fault has RF, that of an interrupt has the RF that there
 * was. 15.20: what is injected is as if it had come by itself.
 */
bool strict_sets_rf(int vector, int is_hw)
{
	return !holds("event-rf") || (!is_hw && vector != EXCP02_NMI);
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
		info = 1ull << 44 | (uint32_t)load(env, offsetof(struct vmcb,
								  control.event_inj_err));
	if (iret)
		info |= 1ull << 36;
	if (jump)
		info |= 1ull << 38;
	if (env->eflags & RF_MASK)
		info |= 1ull << 48;
	store(env, offsetof(struct vmcb, control.exit_info_2), info);
	cpu_vmexit(env, SVM_EXIT_TASK_SWITCH, selector & 0xffff, 0);
}

static bool is_canonical(CPUX86State *env, uint64_t address)
{
	int bits = env->cr[4] & CR4_LA57_MASK ? 57 : 48;

	return sextract64(address, 0, bits) == (int64_t)address;
}

/* 8.2.13: an IRETQ takes #SS before anything else of its frame. */
void strict_check_frame(CPUX86State *env, target_ulong sp, bool iret, uintptr_t retaddr)
{
	if (iret && holds("canonical") &&
	    !(is_canonical(env, sp) && is_canonical(env, sp + 5 * 8 - 1)))
		raise_exception_err_ra(env, EXCP0C_STACK, 0, retaddr);
}

/* 8.2.14: a return to 64-bit code takes #GP while nothing has changed yet. */
void strict_check_target(CPUX86State *env, target_ulong rip, uint32_t flags,
			 uintptr_t retaddr)
{
	if ((env->hflags & HF_LMA_MASK) && (flags & DESC_L_MASK) &&
	    !is_canonical(env, rip) && holds("canonical"))
		raise_exception_err_ra(env, EXCP0D_GPF, 0, retaddr);
}

/* 8.1.5: an interrupt shadow is one for NMIs, too: that of MOV SS, and may be of STI. */
bool strict_blocks_nmi(CPUX86State *env)
{
	return (env->hflags2 & HF2_NMI_MASK) ||
	       ((env->hflags & HF_INHIBIT_IRQ_MASK) && holds("nmi-shadow"));
}

/* 15.21.10: a V_NMI waits for GIF (the caller's matter), the mask and the shadow. */
bool strict_vnmi_ready(CPUX86State *env, int request)
{
	if (!(request & STRICT_INTERRUPT_VNMI) || !vnmi_enabled(env))
		return false;
	return (!(env->int_ctl & V_NMI_MASK) || !holds("vnmi-mask")) &&
	       (!(env->hflags & HF_INHIBIT_IRQ_MASK) || !holds("vnmi-shadow"));
}

/*
 * An interrupt may wait as well, and IF stay set: it comes before the handler's first
 * instruction. Of two that are taken at one boundary QEMU looks at the second after a
 * block of code.
 */
bool strict_take_vnmi(CPUX86State *env, int request)
{
	CPUState *cs = env_cpu(env);

	if (request != STRICT_INTERRUPT_VNMI)
		return false;
	env->int_ctl = (env->int_ctl & ~V_NMI) | V_NMI_MASK;
	cs->interrupt_request &= ~STRICT_INTERRUPT_VNMI;
	cpu_of(env)->own_vnmi = true;
	do_interrupt_x86_hardirq(env, EXCP02_NMI, 1);
	cpu_of(env)->own_vnmi = false;
	if (holds("vnmi-first")) {
		cs->exception_index = -1;
		cpu_loop_exit(cs);
	}
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
