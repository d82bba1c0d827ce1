// SPDX-License-Identifier: GPL-2.0-only
/* An IRET that leaves 64-bit kernel code, or is of another size, for which an NMI waits. */

#include "guest.h"

#define TARGETS	"SDM 3: Handling Multiple NMIs; SDM 2: IRET/IRETD/IRETQ-Interrupt Return; " \
		"APM 2: Returning From Interrupt Procedures"

static uint8_t user_stack[8192] __attribute__((aligned(16)));

#define USER_RSP	((uintptr_t)user_stack + sizeof(user_stack))

static void to(uint64_t cs, uint64_t ss, uint64_t flags)
{
	run_plan(&(struct plan) { .rip = target, .cs = cs, .ss = ss, .rsp = USER_RSP, .flags = flags,
				  .nmis = 1 });
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->cs, cs);
	CHECK_EQ(event(1)->ss, ss);
	CHECK_EQ(event(1)->rsp, USER_RSP);
	CHECK_EQ(event(1)->rflags, flags | FLAG_FIXED);
}

static void check_end(uint64_t cs)
{
	check_event(2, VECTOR_BACK, target_end + 2);
	CHECK_EQ(event(2)->cs, cs);
	CHECK_EQ(event(2)->rsp, USER_RSP);
	check_nr(3);
}

static void user64(void)
{
	to(USER_CODE64, USER_DATA, FLAG_IF);
	CHECK_EQ(event(1)->handler_ss, 0);
	check_end(USER_CODE64);
}

static void user32(void)
{
	to(USER_CODE32, USER_DATA, FLAG_IF);
	check_end(USER_CODE32);
}

static void kernel32(void)
{
	to(CODE32, DATA, 0);
	check_end(CODE32);
}

static void iretl(void)
{
	run_plan(&(struct plan) { .rip = target, .rsp = USER_RSP, .exit = exit_iretl, .nmis = 1 });
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->cs, CODE64);
	CHECK_EQ(event(1)->ss, DATA);
	CHECK_EQ(event(1)->rflags, FLAG_FIXED);
	check_event(2, VECTOR_BACK, target_end + 2);
	check_nr(3);
}

static void stepped_user(void)
{
	to(USER_CODE64, USER_DATA, FLAG_TF);
	check_event(2, 1, target + 1);
	CHECK_EQ(event(2)->cs, USER_CODE64);
	CHECK_EQ(event(2)->rflags & FLAG_TF, FLAG_TF);
	check_event(3, VECTOR_BACK, target_end + 2);
	check_nr(4);
}

static void order_in_user(void)
{
	run_plan(&(struct plan) { .rip = target, .cs = USER_CODE64, .ss = USER_DATA, .rsp = USER_RSP,
				  .flags = FLAG_IF, .nmis = 1, .irq = 1 });
	check_event(1, VECTOR_NMI, target);
	check_event(2, VECTOR_IRQ, target);
	check_event(3, VECTOR_BACK, target_end + 2);
	check_nr(4);
}

const struct claim target_claims[] = {
	{ "IRET to 64-bit user code: the NMI's frame shows user CS, SS, RSP", user64, TARGETS },
	{ "IRET to 32-bit user code", user32, TARGETS },
	{ "IRET to 32-bit kernel code", kernel32, TARGETS },
	{ "IRETD in 64-bit code", iretl, TARGETS },
	{ "IRET that sets TF, to user code: NMI, then one step", stepped_user, TARGETS },
	{ "IRET to user code: NMI, then IRQ", order_in_user, TARGETS },
	{ }
};
