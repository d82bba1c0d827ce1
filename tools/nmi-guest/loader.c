// SPDX-License-Identifier: GPL-2.0-only
/* What the boot loader has left: it is copied, for the trampoline of the second CPU may overwrite it. */

#include "guest.h"

#define MULTIBOOT_MAGIC		0x2badb002
#define MULTIBOOT2_MAGIC	0x36d76289
#define PVH_MAGIC		0x336ec578
#define TAG_COMMAND_LINE	1
#define TAG_FRAMEBUFFER		8
#define TAG_RSDP		14
#define TAG_RSDP_2		15		/* that of ACPI 2.0 */
#define RGB			1

extern uint32_t boot_magic, boot_info;

struct loader loader;

static const char *pointer(uintptr_t at)
{
	return (const char *)(uintptr_t)read32(at);
}

static void copy_command_line(const char *text)
{
	for (size_t i = 0; text && text[i] && i < sizeof(loader.command_line) - 1; i++)
		loader.command_line[i] = text[i];
}

/* One with a palette is none: its colours are not known. */
static void copy_framebuffer(uintptr_t at)
{
	struct framebuffer found;

	memcpy(&found, (const void *)at, offsetof(struct framebuffer, type) + 1);
	if (found.type == RGB && found.bits >= 15 && found.bits <= 32)
		loader.framebuffer = found;
}

static void copy_rsdp(uintptr_t tag)
{
	static char rsdp[36] __attribute__((aligned(8)));
	uint32_t size = read32(tag + 4) - 8;

	memcpy(rsdp, (const void *)(tag + 8), size < sizeof(rsdp) ? size : sizeof(rsdp));
	loader.rsdp = (uintptr_t)rsdp;
}

static void read_tags(uintptr_t info)
{
	uintptr_t end = info + read32(info);
	int has_rsdp_2 = 0;

	for (uintptr_t tag = info + 8; tag < end && read32(tag); tag += (read32(tag + 4) + 7) & ~7u) {
		switch (read32(tag)) {
		case TAG_COMMAND_LINE:
			copy_command_line((const char *)tag + 8);
			break;
		case TAG_FRAMEBUFFER:
			copy_framebuffer(tag + 8);
			break;
		case TAG_RSDP:
			if (!has_rsdp_2)
				copy_rsdp(tag);
			break;
		case TAG_RSDP_2:
			has_rsdp_2 = 1;
			copy_rsdp(tag);
			break;
		}
	}
}

void read_loader(void)
{
	uintptr_t info = boot_info;

	if (boot_magic == MULTIBOOT2_MAGIC) {
		read_tags(info);
	} else if (boot_magic == MULTIBOOT_MAGIC) {
		if (read32(info) & 4)
			copy_command_line(pointer(info + 16));
		if (read32(info) & 1 << 12)
			copy_framebuffer(info + 88);
	} else if (read32(info) == PVH_MAGIC) {
		copy_command_line(pointer(info + 24));
		loader.rsdp = read32(info + 32);
	}
}

/* What follows WORD on the command line, NULL if it is not there. */
const char *option(const char *word)
{
	for (const char *at = loader.command_line; *at; at++) {
		const char *a = at, *b = word;

		while (*b && *a == *b) {
			a++;
			b++;
		}
		if (!*b && (at == loader.command_line || at[-1] == ' '))
			return a;
	}
	return NULL;
}
