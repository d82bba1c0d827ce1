// SPDX-License-Identifier: GPL-2.0-only
/* What is this CPU, what was asked for, all claims, the end. */

#include "guest.h"

#define DEBUG_EXIT	0xf4

void main(void);

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

static void describe_means(void)
{
	print("# CPUs used: %lu; ", (uint64_t)nr_cpus);
	if (clock)
		print("TSC: %lu per ms, by %s; ", tsc_per_ms, clock);
	else
		print("no clock: neither PIT nor ACPI's timer runs, and CPUID does not tell the TSC's rate; ");
	print("NMIs by PIT and I/O APIC: %s\n", has_timed_nmi ? "yes" : "no");
}

static void end_here(int failed)
{
	/* QEMU's isa-debug-exit reads as zero, a port that is not there as 0xff. */
	if (inb(DEBUG_EXIT) == 0)
		outb(DEBUG_EXIT, failed);
	if (option("poweroff"))
		power_off();
	print("# this is all, the machine halts\n");
}

static _Noreturn void halt(void)
{
	for (;;)
		asm volatile("cli; hlt");
}

void bail_out(const char *why)
{
	print("Bail out! %s\n", why);
	end_here(1);
	halt();
}

/* All that a screen can be asked to keep. */
static void show_end(void)
{
	leave_serial();
	clear_screen();
	print("nmi-guest %s, what has failed or was skipped:\n", VERSION);
	describe_cpu();
	describe_means();
	sum_up();
	show_latency();
	totals();
	print("# the machine has halted, and can be turned off\n");
}

void main(void)
{
	read_loader();
	console_init();
	catch_exceptions();
	if (loader.framebuffer.address)
		use_framebuffer(&loader.framebuffer);
	print("TAP version 13\n# nmi-guest %s\n", VERSION);
	describe_cpu();
	acpi_init(loader.rsdp);
	machine_init();
	start_cpu1();
	describe_means();
	run_claims(number(option("from=")));
	measure_latency();
	end_here(totals());
	show_end();
	halt();
}
