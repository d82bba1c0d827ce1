// SPDX-License-Identifier: GPL-2.0-only
/* What ACPI's tables say of SMIs and of how to power off. */

#include "guest.h"

struct acpi acpi = { .sleep_type = -1 };

static int is(const char *at, const char *name)
{
	while (*name)
		if (*at++ != *name++)
			return 0;
	return 1;
}

static const char *find_rsdp(void)
{
	for (uintptr_t at = 0xe0000; at < 0x100000; at += 16)
		if (is((const char *)at, "RSD PTR "))
			return (const char *)at;
	return NULL;
}

static const char *pointer(const char *at)
{
	return (const char *)(uintptr_t)*(const uint32_t *)at;
}

/* \_S5_ is a package whose first element is the value for PM1a_CNT. */
static void find_sleep_type(const char *dsdt)
{
	uint32_t length = *(const uint32_t *)(dsdt + 4);

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

void acpi_init(uint64_t address)
{
	const char *rsdp = address ? (const char *)address : find_rsdp();
	const char *rsdt;

	if (!rsdp)
		return;
	rsdt = pointer(rsdp + 16);
	if (!rsdt || !is(rsdt, "RSDT"))
		return;
	for (uint32_t i = 36; i < *(const uint32_t *)(rsdt + 4); i += 4) {
		const char *table = pointer(rsdt + i);

		if (!is(table, "FACP"))
			continue;
		acpi.smi_cmd = *(const uint32_t *)(table + 48);
		acpi.acpi_enable = table[52];
		acpi.acpi_disable = table[53];
		acpi.pm1a_cnt = *(const uint32_t *)(table + 64);
		find_sleep_type(pointer(table + 40));
	}
}

void power_off(void)
{
	if (acpi.sleep_type >= 0 && acpi.pm1a_cnt)
		outw(acpi.pm1a_cnt, acpi.sleep_type << 10 | 1 << 13);
}
