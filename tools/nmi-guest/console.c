// SPDX-License-Identifier: GPL-2.0-only
/* Text goes to COM1, 115200 baud, and to the screen: VGA's text, or a framebuffer. */

#include <stdarg.h>
#include "guest.h"

#define COM1		0x3f8
#define VGA		((volatile uint16_t *)vga_address)
#define GREY		0x0700
#define MAX_COLUMNS	176
#define MAX_ROWS	128
#define WIDTH		6		/* of a character in dots, with the gap to the next */
#define HEIGHT		8
#define MSR_PAT		0x277

static const uintptr_t vga_address = 0xb8000;
static unsigned int row, column, columns = 80, rows = 25;
static int has_serial, has_vga;
static uint8_t text[MAX_ROWS * MAX_COLUMNS];	/* what is on the screen; reading it there is slow */
static const struct framebuffer *framebuffer;
static volatile uint8_t *pixels;		/* NULL: no framebuffer */
static unsigned int scale, pixel_size;

extern uint64_t pdpt[];

/* White and black are the same in all formats: all bits set, or none. */
static void set_pixel(volatile uint8_t *at, int white)
{
	if (pixel_size == 4)
		*(volatile uint32_t *)at = white ? ~0u : 0;
	else
		for (unsigned int i = 0; i < pixel_size; i++)
			at[i] = white ? 0xff : 0;
}

static void draw(unsigned int at, uint8_t character)
{
	const uint8_t *glyph = font[character >= ' ' && character <= '~' ? character - ' ' : '?' - ' '];

	for (unsigned int y = 0; y < HEIGHT * scale; y++) {
		volatile uint8_t *line = pixels + (at / columns * HEIGHT * scale + y) * framebuffer->pitch +
					 at % columns * WIDTH * scale * pixel_size;
		unsigned int dots = y / scale < HEIGHT - 1 ? glyph[y / scale] << 1 : 0;

		for (unsigned int x = 0; x < WIDTH * scale; x++)
			set_pixel(line + x * pixel_size, dots >> (WIDTH - 1 - x / scale) & 1);
	}
}

static void put(unsigned int at, uint8_t character)
{
	if (text[at] == character)
		return;
	text[at] = character;
	if (pixels)
		draw(at, character);
	else if (has_vga)
		VGA[at] = GREY | character;
}

void console_init(void)
{
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 0x80);
	outb(COM1, 1);
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 3);
	outb(COM1 + 2, 7);
	outb(COM1 + 4, 3);
	has_serial = inb(COM1 + 5) != 0xff;
	/* Nothing but a screen keeps this. */
	VGA[1] = GREY | '?';
	VGA[0] = GREY | '!';
	has_vga = VGA[1] == (GREY | '?') && VGA[0] == (GREY | '!');
	clear_screen();
}

/* It may be above all that is mapped, and is written to in one go as its pages combine writes. */
static volatile uint8_t *map(uint64_t address)
{
	static uint64_t window[512] __attribute__((aligned(4096)));

	for (unsigned int i = 0; i < ARRAY_SIZE(window); i++)
		window[i] = ((address & ~0x1fffffull) + i * 0x200000ull) | 0x8b;	/* large, PAT's entry 1 */
	pdpt[4] = (uintptr_t)window | 3;
	wrmsr(MSR_PAT, (rdmsr(MSR_PAT) & ~0xff00ull) | 0x0100);
	return (volatile uint8_t *)(0x100000000 + (address & 0x1fffff));
}

static unsigned int at_most(unsigned int value, unsigned int limit)
{
	return value < limit ? value : limit;
}

void use_framebuffer(const struct framebuffer *the_framebuffer)
{
	framebuffer = the_framebuffer;
	pixel_size = (framebuffer->bits + 7) / 8;
	scale = framebuffer->width < 1024 ? 1 : framebuffer->width / 512;
	columns = at_most(framebuffer->width / (WIDTH * scale), MAX_COLUMNS);
	rows = at_most(framebuffer->height / (HEIGHT * scale), MAX_ROWS);
	pixels = map(framebuffer->address);
	for (unsigned int y = 0; y < framebuffer->height; y++)
		for (unsigned int x = 0; x < framebuffer->width; x++)
			set_pixel(pixels + y * framebuffer->pitch + x * pixel_size, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(text); i++)
		text[i] = ' ';
	clear_screen();
}

void clear_screen(void)
{
	for (unsigned int i = 0; i < columns * rows; i++)
		put(i, ' ');
	row = 0;
	column = 0;
}

void leave_serial(void)
{
	has_serial = 0;
}

static void write_serial(char c)
{
	if (!has_serial)
		return;
	for (int i = 0; i < 1000000 && !(inb(COM1 + 5) & 0x20); i++)
		;
	outb(COM1, c);
}

/* By a quarter of the screen each time: a framebuffer is slow. */
static void next_row(void)
{
	unsigned int gone = columns * (rows / 4);

	column = 0;
	if (++row < rows)
		return;
	row -= rows / 4;
	for (unsigned int i = 0; i < columns * rows; i++)
		put(i, i + gone < columns * rows ? text[i + gone] : ' ');
}

static void write_char(char c)
{
	if (c == '\n') {
		write_serial('\r');
		next_row();
	} else {
		if (column == columns)
			next_row();
		put(row * columns + column++, c);
	}
	write_serial(c);
}

void write_text(const char *line)
{
	while (*line)
		write_char(*line++);
}

static void write_number(uint64_t number, unsigned int base)
{
	char digits[24];
	int at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	write_text(digits + at);
}

static void write_signed(long number)
{
	if (number < 0)
		write_char('-');
	write_number(number < 0 ? -(uint64_t)number : (uint64_t)number, 10);
}

void print(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	for (; *format; format++) {
		if (*format != '%') {
			write_char(*format);
			continue;
		}
		format++;
		if (*format == 'l')
			format++;
		switch (*format) {
		case 's':
			write_text(va_arg(arguments, const char *));
			break;
		case 'd':
			write_signed(va_arg(arguments, long));
			break;
		case 'u':
			write_number(va_arg(arguments, uint64_t), 10);
			break;
		case 'x':
			write_number(va_arg(arguments, uint64_t), 16);
			break;
		}
	}
	va_end(arguments);
}
