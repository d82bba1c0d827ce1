// SPDX-License-Identifier: GPL-2.0-only
/* What is this CPU, what was asked for, all claims, the end. */

#include "guest.h"

#define MULTIBOOT_MAGIC	0x2badb002
#define PVH_MAGIC	0x336ec578
#define DEBUG_EXIT	0xf4

extern uint32_t boot_magic, boot_info;
void main(void);

static char command_line[256];
static uint64_t rsdp;

static void cpuid(uint32_t leaf, uint32_t *regs)
{
	asm volatile("cpuid" : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3]) : "a"(leaf), "c"(0));
}

/* Before the trampoline overwrites low memory, which may have it. */
static void copy_command_line(void)
{
	uintptr_t info = boot_info;
	const char *text = NULL;

	if (boot_magic == MULTIBOOT_MAGIC) {
		if (read32(info) & 4)
			text = (const char *)(uintptr_t)read32(info + 16);
	} else if (read32(info) == PVH_MAGIC) {
		text = (const char *)(uintptr_t)read32(info + 24);
		rsdp = read32(info + 32);
	}
	for (size_t i = 0; text && text[i] && i < sizeof(command_line) - 1; i++)
		command_line[i] = text[i];
}

/* What follows WORD on the command line, NULL if it is not there. */
static const char *option(const char *word)
{
	for (const char *at = command_line; *at; at++) {
		const char *a = at, *b = word;

		while (*b && *a == *b) {
			a++;
			b++;
		}
		if (!*b && (at == command_line || at[-1] == ' '))
			return a;
	}
	return NULL;
}

static unsigned int number(const char *text)
{
	unsigned int value = 0;

	while (text && *text >= '0' && *text <= '9')
		value = 10 * value + *text++ - '0';
	return value;
}

static void describe_cpu(void)
{
	uint32_t regs[4], brand[13] = { 0 }, vendor[4] = { 0 }, highest;

	cpuid(0, regs);
	vendor[0] = regs[1];
	vendor[1] = regs[3];
	vendor[2] = regs[2];
	cpuid(0x80000000, regs);
	highest = regs[0];
	for (int i = 0; i < 3 && highest >= 0x80000004; i++)
		cpuid(0x80000002 + i, brand + 4 * i);
	print("# CPU: %s, %s", (char *)vendor, (char *)brand);
	cpuid(1, regs);
	print(", family 0x%lx model 0x%lx stepping 0x%lx\n",
	      (uint64_t)((regs[0] >> 8 & 15) + ((regs[0] >> 8 & 15) == 15 ? regs[0] >> 20 & 0xff : 0)),
	      (uint64_t)((regs[0] >> 4 & 15) | (regs[0] >> 12 & 0xf0)), (uint64_t)(regs[0] & 15));
	if (regs[2] >> 31) {
		uint32_t name[4] = { 0 };

		cpuid(0x40000000, regs);
		name[0] = regs[1];
		name[1] = regs[2];
		name[2] = regs[3];
		print("# hypervisor: %s\n", (char *)name);
	} else {
		print("# hypervisor: none that says so\n");
	}
}

static void finish(int failed)
{
	/* QEMU's isa-debug-exit reads as zero, a port that is not there as 0xff. */
	if (inb(DEBUG_EXIT) == 0)
		outb(DEBUG_EXIT, failed);
	if (option("poweroff"))
		power_off();
	print("# this is all, the machine halts\n");
	for (;;)
		asm volatile("cli; hlt");
}

void main(void)
{
	copy_command_line();
	console_init();
	print("TAP version 13\n# nmi-guest %s\n", VERSION);
	describe_cpu();
	acpi_init(rsdp);
	machine_init();
	start_cpu1();
	print("# CPUs used: %lu; TSC: %lu per ms; NMIs by PIT and I/O APIC: %s\n",
	      (uint64_t)nr_cpus, tsc_per_ms, has_timed_nmi ? "yes" : "no");
	run_claims(number(option("from=")));
	measure_latency();
	finish(totals());
}
