// SPDX-License-Identifier: GPL-2.0-only
/* Text goes to COM1, 115200 baud, and to the VGA text screen. */

#include <stdarg.h>
#include "guest.h"

#define COM1		0x3f8
#define SCREEN		((volatile uint16_t *)screen_address)
#define COLUMNS		80
#define ROWS		25
#define GREY		0x0700

static const uintptr_t screen_address = 0xb8000;
static unsigned int row, column;
static int has_serial, has_screen;
static uint16_t text[ROWS * COLUMNS];	/* the screen's; reading it there is slow */

static void put(unsigned int at, uint16_t character)
{
	text[at] = character;
	if (has_screen)
		SCREEN[at] = character;
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
	SCREEN[1] = GREY | '?';
	SCREEN[0] = GREY | '!';
	has_screen = SCREEN[1] == (GREY | '?') && SCREEN[0] == (GREY | '!');
	for (int i = 0; i < COLUMNS * ROWS; i++)
		put(i, GREY | ' ');
}

static void write_serial(char c)
{
	if (!has_serial)
		return;
	for (int i = 0; i < 1000000 && !(inb(COM1 + 5) & 0x20); i++)
		;
	outb(COM1, c);
}

static void next_row(void)
{
	column = 0;
	if (++row < ROWS)
		return;
	row--;
	for (int i = 0; i < COLUMNS * ROWS; i++)
		put(i, i < COLUMNS * (ROWS - 1) ? text[i + COLUMNS] : GREY | ' ');
}

static void write_char(char c)
{
	if (c == '\n') {
		write_serial('\r');
		next_row();
	} else {
		if (column == COLUMNS)
			next_row();
		put(row * COLUMNS + column++, GREY | (uint8_t)c);
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
