// SPDX-License-Identifier: GPL-2.0-only
/*
 * What kind of CPU this is, as far as it matters for NMIs: a line "NAME VALUE" each.
 * From CPUID, and from MSRs where the kernel's module msr is loaded. Nothing that
 * tells one machine from another of its kind.
 */
#include <cpuid.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FEATURE_CONTROL		0x3a		/* SDM vol. 3, 24.7 */
#define FEATURE_CONTROL_LOCKED	(1 << 0)
#define FEATURE_CONTROL_VMX	(1 << 2)
#define VMX_BASIC		0x480		/* SDM vol. 3, appendix A */
#define VMX_BASIC_TRUE		(1ull << 55)
#define VMX_PIN			0x481
#define VMX_PRIMARY		0x482
#define VMX_SECONDARY		0x48b
#define VMX_TRUE_PIN		0x48d
#define VMX_TRUE_PRIMARY	0x48e
#define VM_CR			0xc0010114	/* APM vol. 2, 15.30.1 */
#define VM_CR_SVMDIS		(1 << 4)

struct feature {
	unsigned int bit;
	const char *name;
};

/* CPUID 8000000AH, EDX: APM vol. 3, appendix E */
static const struct feature svm[] = {
	{ 0, "npt" }, { 3, "nrips" }, { 7, "decodeassists" }, { 13, "avic" }, { 16, "vgif" },
	{ 18, "x2avic" }, { 25, "vnmi" }, { }
};

/* CPUID 8000001FH, EAX */
static const struct feature sev[] = { { 1, "sev" }, { 3, "sev-es" }, { 4, "sev-snp" }, { } };

/* What a control of VMX may be set to is in the upper half of its MSR. */
static const struct feature pin[] = {
	{ 3, "nmi-exiting" }, { 5, "virtual-nmis" }, { 6, "preemption-timer" },
	{ 7, "posted-interrupts" }, { }
};
static const struct feature primary[] = {
	{ 22, "nmi-window" }, { 27, "monitor-trap-flag" }, { }
};
static const struct feature secondary[] = {
	{ 1, "ept" }, { 7, "unrestricted-guest" }, { 9, "virtual-interrupts" }, { 17, "pml" },
	{ 31, "notify" }, { }
};

static void print_features(const struct feature *feature, uint32_t bits)
{
	for (; feature->name; feature++)
		if (bits & 1u << feature->bit)
			printf(" %s", feature->name);
}

static uint32_t leaf(uint32_t function, int reg)
{
	uint32_t r[4] = {};

	__get_cpuid_count(function, 0, &r[0], &r[1], &r[2], &r[3]);
	return r[reg];
}

static int msr_fd = -1;

static uint64_t msr(uint32_t index)
{
	uint64_t value = 0;

	if (pread(msr_fd, &value, sizeof(value), index) != sizeof(value))
		return 0;
	return value;
}

static void print_signature(void)
{
	uint32_t eax, text[13] = {}, i, function;
	unsigned int family, model;

	__cpuid(0, eax, text[0], text[2], text[1]);
	printf("vendor %s\n", (char *)text);
	eax = leaf(1, 0);
	family = eax >> 8 & 15;
	model = eax >> 4 & 15;
	if (family == 15 || family == 6)
		model |= eax >> 12 & 0xf0;
	if (family == 15)
		family += eax >> 20 & 255;
	printf("family %u\nmodel %u\nstepping %u\n", family, model, eax & 15);

	memset(text, 0, sizeof(text));
	for (function = 0x80000002, i = 0; i < 12; function++, i += 4)
		__get_cpuid(function, &text[i], &text[i + 1], &text[i + 2], &text[i + 3]);
	/* Intel's begin with blanks. */
	printf("brand %s\n", (char *)text + strspn((char *)text, " "));
}

static void print_hypervisor(void)
{
	uint32_t eax, text[4] = {};

	if (!(leaf(1, 2) & 1u << 31))
		return;
	__cpuid(0x40000000, eax, text[0], text[1], text[2]);
	printf("hypervisor %s\n", *(char *)text ? (char *)text : "unknown");
}

static void print_svm(void)
{
	if (!(leaf(0x80000001, 2) & 1 << 2))
		return;
	printf("svm");
	print_features(svm, leaf(0x8000000a, 3));
	print_features(sev, leaf(0x8000001f, 0));
	printf("\n");
	if (msr_fd >= 0 && msr(VM_CR) & VM_CR_SVMDIS)
		printf("off SVM\n");
}

static void print_vmx(void)
{
	bool true_controls;

	if (!(leaf(1, 2) & 1 << 5) || msr_fd < 0)
		return;
	if ((msr(FEATURE_CONTROL) & (FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX)) ==
	    FEATURE_CONTROL_LOCKED)
		printf("off VMX\n");
	true_controls = msr(VMX_BASIC) & VMX_BASIC_TRUE;
	printf("vmx");
	print_features(pin, msr(true_controls ? VMX_TRUE_PIN : VMX_PIN) >> 32);
	print_features(primary, msr(true_controls ? VMX_TRUE_PRIMARY : VMX_PRIMARY) >> 32);
	print_features(secondary, msr(VMX_SECONDARY) >> 32);
	printf("\n");
}

int main(void)
{
	msr_fd = open("/dev/cpu/0/msr", O_RDONLY);
	print_signature();
	print_hypervisor();
	print_svm();
	print_vmx();
	printf("msr %s\n", msr_fd < 0 ? "not read" : "read");
	return 0;
}
