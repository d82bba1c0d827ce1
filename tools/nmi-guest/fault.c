// SPDX-License-Identifier: GPL-2.0-only
/*
 * The IRET of an NMI's handler faults while another NMI waits. On Intel that opens
 * NMIs: the second interrupts the fault's handler before its first instruction. AMD's
 * manual does not say, but that virtual NMIs stay blocked until an IRET completes:
 * there both are right, and the log tells which was seen.
 */

#include "guest.h"

#define FAULTS	"SDM 3: Handling Multiple NMIs (even if the instruction causes a fault); " \
		"APM 2: NMI Virtualization (completes successfully)"

static int opens(void)
{
	return event(1)->vector == VECTOR_NMI;
}

static struct event *the_fault(void)
{
	return event(opens() ? 2 : 1);
}

static void say_when(void)
{
	saw(opens() ? "the fault opens NMIs" : "NMIs stay blocked until an IRET completes");
	if (is_intel)
		CHECK(opens());
}

static void check_fault(unsigned int vector, uint64_t error, const char *iret)
{
	unsigned int n = opens() ? 2 : 1;

	check_event(n, vector, iret);
	CHECK_EQ(event(n)->error, error);
	CHECK_EQ(event(n)->rflags & FLAG_TF, 0);
	if (opens())
		check_event(1, VECTOR_NMI, handler(vector));
	else
		check_event(2, VECTOR_NMI, (void *)interrupted.rip);
	check_nr(3);
	say_when();
}

static void code_beyond(void)
{
	run_plan(&(struct plan) { .cs = BEYOND_GDT, .nmis = 1 });
	check_fault(13, BEYOND_GDT, exit_iret);
}

static void code_absent(void)
{
	run_plan(&(struct plan) { .cs = ABSENT_CODE, .nmis = 1 });
	check_fault(11, ABSENT_CODE, exit_iret);
}

/* AMD's manual says #SS, and Intel's #SS at one place and #NP at another. */
static void stack_absent(void)
{
	run_plan(&(struct plan) { .ss = ABSENT_DATA, .nmis = 1 });
	check_fault(the_fault()->vector == 11 ? 11 : 12, ABSENT_DATA, exit_iret);
	saw(the_fault()->vector == 11 ? "#NP" : "#SS");
}

static void stack_is_code(void)
{
	run_plan(&(struct plan) { .ss = CODE64, .nmis = 1 });
	check_fault(13, CODE64, exit_iret);
}

static void no_canonical_rip(void)
{
	run_plan(&(struct plan) { .rip = (void *)0x800000000000, .nmis = 1 });
	check_fault(13, 0, exit_iret);
}

static void frame_not_mapped(void)
{
	run_plan(&(struct plan) { .exit = exit_elsewhere, .iret_rsp = 0x8000000f00, .nmis = 1 });
	check_fault(14, 0, iret_elsewhere);
	/* Which of the five words it reads first is the CPU's business. */
	CHECK(the_fault()->cr2 >= 0x8000000f00 && the_fault()->cr2 < 0x8000000f28);
}

static void stack_of_kernel(void)
{
	run_plan(&(struct plan) { .cs = USER_CODE64, .ss = DATA, .nmis = 1 });
	check_fault(13, DATA, exit_iret);
}

/* The frame's page is there when the IRET is tried again. */
static uint64_t second_try[1024];	/* a stack below it, where handlers can run */

static void repair(struct regs *regs)
{
	uint64_t *frame = second_try + ARRAY_SIZE(second_try) - 6;

	memcpy(frame, &interrupted.rip, 40);
	frame[0] = (uintptr_t)target;
	regs->rsp = (uintptr_t)frame;
}

static void repaired(void)
{
	unsigned int fault, nmi;

	run_plan(&(struct plan) { .exit = exit_elsewhere, .iret_rsp = 0x8000000f00, .nmis = 1, .repair = repair });
	fault = opens() ? 2 : 1;
	nmi = 3 - fault;
	check_event(fault, 14, iret_elsewhere);
	/* The return from the #PF is an IRET, too. */
	check_event(nmi, VECTOR_NMI, nmi == 1 ? handler(14) : iret_elsewhere);
	check_event(3, VECTOR_BACK, target_end + 2);
	check_nr(4);
	say_when();
}

const struct claim fault_claims[] = {
	{ "an IRET to a CS beyond the GDT: #GP at the IRET, then the NMI that waits", code_beyond, FAULTS },
	{ "an IRET to a CS that is not present: #NP, then the NMI", code_absent, FAULTS },
	{ "an IRET to an SS that is not present: #SS or #NP, then the NMI", stack_absent, FAULTS },
	{ "an IRET to an SS that is code: #GP, then the NMI", stack_is_code, FAULTS },
	{ "an IRET to user code with a kernel's SS: #GP, then the NMI", stack_of_kernel, FAULTS },
	{ "an IRET to a RIP that is not canonical: #GP, then the NMI", no_canonical_rip, FAULTS },
	{ "an IRET whose frame is on an absent page: #PF, then the NMI", frame_not_mapped, FAULTS },
	{ "and when that IRET is repeated it goes where it should, with one NMI in all", repaired, FAULTS },
	{ }
};
