// SPDX-License-Identifier: GPL-2.0-only
/* Single-stepping that is the guest's own, and none where it is not. */

#include "guest.h"

#define STEP	"SDM 3: Single-Step Exception Condition; APM 2: Single Stepping"

static uint64_t steps[64];
static unsigned int nr_steps;
static int send_second;
static unsigned int in_handler;		/* #DBs whose place is none of the code stepped */

static void note_step(struct regs *regs)
{
	if (regs->rip <= (uintptr_t)stepped || regs->rip > (uintptr_t)stepped_end)
		in_handler++;
	else if (nr_steps < 64)
		steps[nr_steps++] = regs->rip;
}

static void second_once(struct regs *regs)
{
	(void)regs;
	if (!send_second)
		return;
	send_second--;
	send_nmi();
	settle();
}

/* The same code without NMIs, its ICR being other memory, and then with them. */
static void compare_steps(int back_to_back)
{
	static uint32_t no_icr[4];
	uint64_t before[64];
	unsigned int nr_before;

	set_hook(1, note_step);
	nr_steps = 0;
	in_handler = 0;
	stepped((uintptr_t)no_icr);
	nr_before = nr_steps;
	memcpy(before, steps, sizeof(before));
	CHECK(nr_before > 15 && nr_before < 40);
	check_nr(nr_before);

	clear_events();
	nr_steps = 0;
	send_second = back_to_back;
	set_hook(VECTOR_NMI, second_once);
	stepped(APIC + APIC_ICR);
	settle();
	CHECK_EQ(cpus[0].nmis, 2 + back_to_back);
	CHECK_EQ(nr_steps, nr_before);
	CHECK_EQ(in_handler, 0);
	for (unsigned int i = 0; i < nr_before; i++)
		if (steps[i] != before[i]) {
			print("# step %lu\n", (uint64_t)i);
			CHECK_EQ(steps[i], before[i]);
			break;
		}
	for (unsigned int i = 0; i < cpus[0].nr; i++)
		if (event(i)->vector == VECTOR_NMI && event(i)->rip > (uintptr_t)stepped &&
		    event(i)->rip < (uintptr_t)stepped_end)
			CHECK_EQ(event(i)->rflags & FLAG_TF, FLAG_TF);
		else if (event(i)->vector == 1)
			CHECK_EQ(event(i)->dr6 & 0x400f, 0x4000);
}

static void lone(void)
{
	compare_steps(0);
}

static void back_to_back(void)
{
	compare_steps(2);
}

static void popped(void)
{
	run_plan(&(struct plan) { .rip = target, .nmis = 1, .flags = FLAG_TF });
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->rflags & FLAG_TF, FLAG_TF);
	check_event(2, 1, target + 1);
	CHECK_EQ(event(2)->rflags & FLAG_TF, FLAG_TF);
	check_event(3, VECTOR_BACK, target_end + 2);
	check_nr(4);
}

static void pushf(void)
{
	run_plan(&(struct plan) { .rip = target_pushf, .nmis = 1 });
	check_event(1, VECTOR_NMI, target_pushf);
	check_event(2, VECTOR_BACK, NULL);
	check_nr(3);
	CHECK_EQ(at_back.rax & (FLAG_TF | FLAG_RF), 0);
}

static void ignore(struct regs *regs)
{
	(void)regs;
}

static void int3(void)
{
	set_hook(3, ignore);
	run_plan(&(struct plan) { .rip = target_int3, .nmis = 1 });
	check_event(1, VECTOR_NMI, target_int3);
	check_event(2, 3, target_int3 + 1);
	CHECK_EQ(event(2)->rflags, FLAG_FIXED);
	check_nr(4);
}

static void fault(void)
{
	run_plan(&(struct plan) { .rip = target_ud, .nmis = 1 });
	check_event(2, 6, target_ud);
	CHECK_EQ(event(2)->rflags & ~(uint64_t)FLAG_RF, FLAG_FIXED);
	check_nr(3);
}

static void syscall(void)
{
	run_plan(&(struct plan) { .rip = target_syscall, .nmis = 1 });
	check_event(1, VECTOR_NMI, target_syscall);
	check_event(2, VECTOR_BACK, syscall_entry + 2);
	CHECK_EQ(at_back.r11 & (FLAG_TF | FLAG_RF), 0);
	check_nr(3);
}

static void dr6(void)
{
	uint64_t value;

	run_plan(&(struct plan) { .rip = target, .nmis = 2 });
	asm volatile("mov %%dr6, %0" : "=r"(value));
	check_nr(3);
	CHECK_EQ(value, 0xffff0ff0);
}

const struct claim step_claims[] = {
	{ "code that is stepped sees the same steps with NMIs between them", lone, STEP },
	{ "and with NMIs back to back between them", back_to_back, STEP },
	{ "a TF that the IRET pops survives an NMI, and traps one instruction on", popped, STEP },
	{ "PUSHF after an IRET for which an NMI waited shows no TF", pushf, STEP },
	{ "neither does the frame of an INT3 there", int3, STEP },
	{ "nor that of a fault there", fault, STEP },
	{ "nor R11 of a SYSCALL there", syscall, STEP },
	{ "NMIs back to back leave DR6 as it was", dr6, STEP },
	{ }
};
