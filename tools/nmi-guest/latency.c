// SPDX-License-Identifier: GPL-2.0-only
/* What an NMI costs, in TSC cycles. These are no claims. */

#include "guest.h"

#define SAMPLES	2000

static uint32_t samples[3][SAMPLES];
static unsigned int sample;
static int back_to_back;
static volatile uint64_t last_end;

static void hook(struct regs *regs)
{
	(void)regs;
	if (cpus[0].nmis == 1 && back_to_back) {
		send_nmi();
		settle();
	} else if (back_to_back) {
		samples[2][sample] = event(1)->tsc - last_end;
	}
	last_end = rdtsc();
}

static void sort(uint32_t *values)
{
	for (int gap = SAMPLES / 2; gap; gap /= 2)
		for (int i = gap; i < SAMPLES; i++)
			for (int j = i; j >= gap && values[j - gap] > values[j]; j -= gap) {
				uint32_t value = values[j];

				values[j] = values[j - gap];
				values[j - gap] = value;
			}
}

static void show(const char *what, const uint32_t *values)
{
	print("# cycles, %s: min %lu, median %lu, p99 %lu, max %lu\n", what, (uint64_t)values[0],
	      (uint64_t)values[SAMPLES / 2], (uint64_t)values[SAMPLES * 99 / 100], (uint64_t)values[SAMPLES - 1]);
}

void measure_latency(void)
{
	reset_machine();
	set_hook(VECTOR_NMI, hook);
	for (sample = 0; sample < SAMPLES; sample++) {
		uint64_t sent;

		clear_events();
		back_to_back = 0;
		sent = rdtsc();
		write32(APIC + APIC_ICR, ICR_NMI);
		while (!last_end)
			;
		samples[1][sample] = rdtsc() - last_end;
		samples[0][sample] = event(0)->tsc - sent;
		clear_events();
		back_to_back = 1;
		send_nmi();
		settle();
		last_end = 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
		sort(samples[i]);
	reset_machine();
	show_latency();
}

void show_latency(void)
{
	show("ICR to the handler", samples[0]);
	show("handler's end to the interrupted code", samples[1]);
	show("handler's end to the next handler", samples[2]);
}
