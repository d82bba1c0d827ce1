// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sends NMIs to the CPU that loads this module, from a timer that nobody uses:
 * the HPET's third comparator through a free input of the first I/O APIC. For
 * emulated hosts, to see whether host NMIs arrive while a guest runs.
 *
 * Addresses are those of a PC, and registers are written without the locks of
 * their drivers; the module refuses when it finds a register in use.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/io.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <asm/nmi.h>

#define IOAPIC_BASE	0xfec00000
#define IOAPIC_SELECT	0x00
#define IOAPIC_WINDOW	0x10
#define IOAPIC_ENTRY(n)	(0x10 + 2 * (n))
#define ENTRY_MASKED	BIT(16)
#define ENTRY_NMI	(4 << 8)	/* edge, physical destination */

#define HPET_BASE	0xfed00000
#define HPET_PERIOD	0x004		/* of the counter, in femtoseconds */
#define HPET_CONFIG	0x010
#define CONFIG_ENABLED	BIT(0)
#define HPET_COUNTER	0x0f0
#define HPET_TIMER	0x140		/* the third */
#define TIMER_ENABLED	BIT(2)
#define TIMER_32_BIT	BIT(8)		/* compare as much as is written */
#define TIMER_ROUTE(n)	((n) << 9)
#define HPET_ROUTES	0x144		/* inputs it can be routed to */
#define HPET_COMPARATOR	0x148

#define PERIOD_US	1000

static unsigned int count;
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "NMIs that have arrived");

static void __iomem *ioapic, *hpet;
static unsigned int pin;
static u32 ticks;		/* of the HPET, from one NMI to the next */

static u32 ioapic_read(unsigned int reg)
{
	writel(reg, ioapic + IOAPIC_SELECT);
	return readl(ioapic + IOAPIC_WINDOW);
}

static void ioapic_write(unsigned int reg, u32 value)
{
	writel(reg, ioapic + IOAPIC_SELECT);
	writel(value, ioapic + IOAPIC_WINDOW);
}

static void set_next(void)
{
	writel(readl(hpet + HPET_COUNTER) + ticks, hpet + HPET_COMPARATOR);
}

/* An emulated CPU has no other NMIs. */
static int handle_nmi(unsigned int type, struct pt_regs *regs)
{
	count++;
	set_next();
	return NMI_HANDLED;
}

/* A free input, of those that the timer can be routed to. */
static int find_pin(void)
{
	u32 routes = readl(hpet + HPET_ROUTES);

	for (pin = 16; pin < 24; pin++)
		if ((routes & BIT(pin)) &&
		    (ioapic_read(IOAPIC_ENTRY(pin)) & ENTRY_MASKED))
			return 0;
	pr_err("the HPET's third timer reaches no free I/O APIC input (routes 0x%x)\n",
	       routes);
	return -EBUSY;
}

static int start(void)
{
	u32 period = readl(hpet + HPET_PERIOD);
	int r;

	if (!period || period > 100000000 ||
	    !(readl(hpet + HPET_CONFIG) & CONFIG_ENABLED) ||
	    (readl(hpet + HPET_TIMER) & TIMER_ENABLED)) {
		pr_err("no HPET that runs, or its third timer is in use\n");
		return -EBUSY;
	}
	ticks = PERIOD_US * 1000000000ull / period;
	r = find_pin();
	if (r)
		return r;

	r = register_nmi_handler(NMI_LOCAL, handle_nmi, 0, KBUILD_MODNAME);
	if (r)
		return r;

	ioapic_write(IOAPIC_ENTRY(pin) + 1, cpu_physical_id(smp_processor_id()) << 24);
	ioapic_write(IOAPIC_ENTRY(pin), ENTRY_NMI);
	writel(TIMER_ROUTE(pin) | TIMER_32_BIT | TIMER_ENABLED, hpet + HPET_TIMER);
	set_next();
	return 0;
}

static void unmap(void)
{
	if (ioapic)
		iounmap(ioapic);
	if (hpet)
		iounmap(hpet);
}

static int __init host_nmi_init(void)
{
	unsigned long flags;
	int r = -ENOMEM;

	ioapic = ioremap(IOAPIC_BASE, PAGE_SIZE);
	hpet = ioremap(HPET_BASE, PAGE_SIZE);
	if (ioapic && hpet) {
		local_irq_save(flags);
		r = start();
		local_irq_restore(flags);
	}
	if (r)
		unmap();
	return r;
}

static void __exit host_nmi_exit(void)
{
	unsigned long flags;

	local_irq_save(flags);
	writel(0, hpet + HPET_TIMER);
	ioapic_write(IOAPIC_ENTRY(pin), ENTRY_MASKED);
	local_irq_restore(flags);
	unregister_nmi_handler(NMI_LOCAL, KBUILD_MODNAME);
	unmap();
}

module_init(host_nmi_init);
module_exit(host_nmi_exit);
MODULE_DESCRIPTION("NMIs from a timer, for testing hypervisors on emulated hosts");
MODULE_LICENSE("GPL");
