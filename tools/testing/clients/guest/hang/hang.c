// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module for a guest that hangs all its CPUs, or one of them, with IRQs off.
 *
 * It hangs as drivers do, asking a device for something that never comes. Each NMI is
 * answered on the serial port, by hand: printk has to wait for an IRQ there. The one after
 * @answers is not, and so is the kernel's to answer.
 */
#include <linux/atomic.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/nmi.h>
#include <linux/smp.h>
#include <asm/nmi.h>

#define SERIAL		0x3f8
#define SERIAL_STATUS	(SERIAL + 5)
#define MAY_SEND	0x20
#define NO_DEVICE	0x80

static int answers;
module_param(answers, int, 0444);
MODULE_PARM_DESC(answers, "NMIs to answer before one is left to the kernel");

static bool all;
module_param(all, bool, 0444);
MODULE_PARM_DESC(all, "Hang all CPUs, not only the first");

static int answered;

/* Inline: a CPU that hangs is to be in no other function from when it has said so. */
static __always_inline void say(const char *text)
{
	for (; *text; text++) {
		while (!(inb(SERIAL_STATUS) & MAY_SEND))
			;
		outb(*text, SERIAL);
	}
}

static int on_nmi(unsigned int type, struct pt_regs *regs)
{
	char line[80];

	if (answered >= answers)
		return NMI_DONE;
	answered++;
	snprintf(line, sizeof(line), "hang: NMI %d at %pS, IRQs %s\n", answered, (void *)regs->ip,
		 regs->flags & X86_EFLAGS_IF ? "on" : "off");
	say(line);
	return NMI_HANDLED;
}

/* Found by its name in the stack of a CPU that hangs. */
static noinline void hang_with_irqs_off(void *unused)
{
	unsigned long flags;

	local_irq_save(flags);
	if (!smp_processor_id())
		say("hang: IRQs are off\n");
	while (inb(NO_DEVICE) != 0x55 || inb(NO_DEVICE + 1) != 0xaa)
		cpu_relax();
	local_irq_restore(flags);
}

static int __init hang_init(void)
{
	int error = register_nmi_handler(NMI_UNKNOWN, on_nmi, 0, "hang");

	if (error)
		return error;
	if (all)
		on_each_cpu(hang_with_irqs_off, NULL, false);
	else
		smp_call_function_single(0, hang_with_irqs_off, NULL, false);
	return 0;
}
module_init(hang_init);

MODULE_DESCRIPTION("Hangs with IRQs off");
MODULE_LICENSE("GPL");
