// SPDX-License-Identifier: GPL-2.0-only
/* What ACPI's tables say of SMIs, of interrupts that the firmware has left on, of time, and of how to power off. */

#include "guest.h"

struct acpi acpi = { .sleep_type = -1 };

static int is(const char *at, const char *name)
{
	while (*name)
		if (*at++ != *name++)
			return 0;
	return 1;
}

static uint32_t number32(const char *at)
{
	return *(const uint32_t *)at;
}

/* NULL where there is none, or none that can be read: no more than 4 GiB are mapped. */
static const char *table(uint32_t low, uint32_t high)
{
	return high ? NULL : (const char *)(uintptr_t)low;
}

static const char *search(uintptr_t from, uintptr_t to)
{
	for (uintptr_t at = from; at < to; at += 16) {
		uint8_t sum = 0;

		for (int i = 0; i < 20; i++)
			sum += *(const uint8_t *)(at + i);
		if (!sum && is((const char *)at, "RSD PTR "))
			return (const char *)at;
	}
	return NULL;
}

/* Where a BIOS has it: at the beginning of its extended data, or in its ROM. */
static const char *find_rsdp(void)
{
	uintptr_t ebda = (read32(0x40c) >> 16) << 4;
	const char *rsdp = ebda >= 0x80000 && ebda < 0xa0000 ? search(ebda, ebda + 1024) : NULL;

	return rsdp ? rsdp : search(0xe0000, 0x100000);
}

/* \_S5_ is a package whose first element is the value for PM1a_CNT. */
static void find_sleep_type(const char *dsdt)
{
	uint32_t length = number32(dsdt + 4);

	for (uint32_t i = 36; i + 16 < length; i++) {
		const char *at = dsdt + i;

		if (!is(at, "_S5_") || at[4] != 0x12)
			continue;
		at += 5;
		at += ((uint8_t)*at >> 6) + 2;
		if (*at == 0x0a)
			at++;
		acpi.sleep_type = *at & 7;
		return;
	}
}

/* An I/O port's address, of 32 bits, or where that is 0 a later field's, if it is one of ports at all. */
static uint16_t port(const char *fadt, unsigned int at, unsigned int later)
{
	if (number32(fadt + at) || number32(fadt + 4) < later + 12 || fadt[later] != 1)
		return number32(fadt + at);
	return number32(fadt + later + 4);
}

static void read_fadt(const char *fadt)
{
	const char *dsdt = table(number32(fadt + 40), 0);

	if (!dsdt && number32(fadt + 4) >= 148)
		dsdt = table(number32(fadt + 140), number32(fadt + 144));
	acpi.problem = NULL;
	acpi.smi_cmd = number32(fadt + 48);
	acpi.acpi_enable = fadt[52];
	acpi.acpi_disable = fadt[53];
	acpi.pm1a_cnt = port(fadt, 64, 172);
	acpi.pm_timer = port(fadt, 76, 208);
	if (dsdt)
		find_sleep_type(dsdt);
}

static void read_madt(const char *madt)
{
	const char *end = madt + number32(madt + 4);

	for (const char *at = madt + 44; at < end && at[1]; at += (uint8_t)at[1])
		if (at[0] == 1 && acpi.nr_ioapics < MAX_IOAPICS)
			acpi.ioapics[acpi.nr_ioapics++] = number32(at + 4);
}

static void read_table(const char *at)
{
	if (is(at, "FACP"))
		read_fadt(at);
	else if (is(at, "APIC"))
		read_madt(at);
	else if (is(at, "HPET"))
		acpi.hpet = number32(at + 48) ? 0 : number32(at + 44);
}

/* The list of tables: that of 64-bit addresses, which ACPI 2.0 has, or the older one. */
void acpi_init(uint64_t address)
{
	const char *rsdp = address ? (const char *)address : find_rsdp();
	const char *list = NULL;
	unsigned int size = 8;

	if (!rsdp) {
		acpi.problem = "no RSDP was found, which leads to ACPI's tables";
		return;
	}
	acpi.problem = "ACPI's tables are not where they can be read";
	if (rsdp[15] >= 2)
		list = table(number32(rsdp + 24), number32(rsdp + 28));
	if (!list || !is(list, "XSDT")) {
		list = table(number32(rsdp + 16), 0);
		size = 4;
	}
	if (!list || !is(list, size == 8 ? "XSDT" : "RSDT"))
		return;
	for (uint32_t i = 36; i + size <= number32(list + 4); i += size) {
		const char *at = table(number32(list + i), size == 8 ? number32(list + i + 4) : 0);

		if (at)
			read_table(at);
	}
}

void power_off(void)
{
	if (acpi.sleep_type >= 0 && acpi.pm1a_cnt)
		outw(acpi.pm1a_cnt, acpi.sleep_type << 10 | 1 << 13);
}
