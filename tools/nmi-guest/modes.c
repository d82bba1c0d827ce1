// SPDX-License-Identifier: GPL-2.0-only
/* 32-bit protected mode, tasks, virtual-8086 mode and real mode: what their logs say. */

#include "guest.h"

#define PROTECTED	"SDM 3: Handling Multiple NMIs; APM 2: Legacy Protected-Mode Interrupt Control Transfers"
#define TASKS		"SDM 3: Interrupt Tasks, Handling Multiple NMIs; APM 2: Task Switches"
#define V86		"SDM 3: Virtual-8086 Mode; APM 2: Virtual-8086 Mode Interrupt Control Transfers"
#define REAL		"SDM 3: Interrupt and Exception Handling (8086 emulation); " \
			"APM 2: Real-Mode Interrupt Control Transfers"

static uint8_t user_stack32[512];

static void run32(struct plan32 plan)
{
	plan32 = plan;
	call32(run_plan32);
}

static void blocking32(void)
{
	run32((struct plan32) { .rip = (uintptr_t)target, .cs = CODE32, .nmis = 3 });
	CHECK_EQ(event(1)->depth, 0);
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->rflags, FLAG_FIXED);
	CHECK_EQ(event(1)->cs, CODE32);
	check_event(2, VECTOR_BACK, target_end + 2);
	check_nr(3);
}

static void far_return32(void)
{
	run32((struct plan32) { .rip = (uintptr_t)target, .cs = CODE32, .nmis = 1,
				.exit = (uintptr_t)exit32_lret });
	/* The "int" comes back by the first IRET there is, and opens NMIs. */
	check_event(1, VECTOR_BACK, target_end + 2);
	check_event(2, VECTOR_NMI, (void *)event(0)->rip);
	check_nr(3);
}

static void user(void)
{
	uintptr_t esp = (uintptr_t)user_stack32 + sizeof(user_stack32);

	run32((struct plan32) { .rip = (uintptr_t)target, .cs = USER_CODE32, .ss = USER_DATA, .rsp = esp,
				.flags = FLAG_IF, .nmis = 1 });
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->cs, USER_CODE32);
	CHECK_EQ(event(1)->ss, USER_DATA);
	CHECK_EQ(event(1)->rsp, esp);
	CHECK_EQ(event(1)->rflags, FLAG_IF | FLAG_FIXED);
	check_event(2, VECTOR_BACK, target_end + 2);
	check_nr(3);
}

static void bad_code32(void)
{
	int opens;

	run32((struct plan32) { .rip = (uintptr_t)target, .cs = BEYOND_GDT, .nmis = 1 });
	opens = event(1)->vector == VECTOR_NMI;
	check_event(opens ? 2 : 1, 13, iret32_elsewhere);
	CHECK_EQ(event(opens ? 2 : 1)->error, BEYOND_GDT);
	check_event(opens ? 1 : 2, VECTOR_NMI, opens ? stubs32 + 16 * 13 : (void *)event(0)->rip);
	check_nr(3);
	saw(opens ? "the fault opens NMIs" : "NMIs stay blocked until an IRET completes");
	if (is_intel)
		CHECK(opens);
}

static void v86(void)
{
	uint64_t flags = FLAG_VM | FLAG_FIXED | 3 << 12;

	memcpy((void *)(uintptr_t)REAL_MODE, target, 16);
	run32((struct plan32) { .rip = 0, .cs = REAL_MODE >> 4, .ss = 0, .rsp = REAL_STACK,
				.flags = flags, .nmis = 1 });
	check_event(1, VECTOR_NMI, NULL);
	CHECK_EQ(event(1)->rip, 0);
	CHECK_EQ(event(1)->cs, REAL_MODE >> 4);
	CHECK_EQ(event(1)->rflags, flags);
	CHECK_EQ(event(1)->rsp, REAL_STACK);
	check_event(2, VECTOR_BACK, NULL);
	CHECK_EQ(event(2)->rip, target_end + 2 - target);
	check_nr(3);
}

static void run_task(struct plan32 plan)
{
	plan32 = plan;
	call32(run_task32);
}

static void task(void)
{
	run_task((struct plan32) { .rip = (uintptr_t)target });
	check_event(0, VECTOR_NMI, NULL);
	CHECK_EQ(event(0)->cs, CODE32);
	CHECK_EQ(event(0)->ss, DATA);
	CHECK_EQ(event(0)->rflags & (FLAG_TF | FLAG_RF | FLAG_NT), 0);
	CHECK_EQ(event(0)->flags & (FLAG_TF | FLAG_IF | FLAG_NT), FLAG_NT);
	CHECK_EQ(event(0)->tr, NMI_TSS32);
	CHECK_EQ(event(0)->error, TSS32);
	CHECK_EQ(event(0)->frame, 0xbb);
	check_event(1, VECTOR_BACK, target_end + 2);
	check_nr(2);
}

static void task_blocks(void)
{
	run_task((struct plan32) { .rip = (uintptr_t)target, .nmis = 3 });
	CHECK_EQ(event(1)->depth, 0);
	check_event(1, VECTOR_NMI, target);
	CHECK_EQ(event(1)->rflags, FLAG_FIXED);
	CHECK_EQ(event(1)->frame, 0xbb);
	check_event(2, VECTOR_BACK, target_end + 2);
	check_nr(3);
}

static uint16_t word(const char *label)
{
	return *(const volatile uint16_t *)(uintptr_t)(REAL_MODE + (label - real_mode_start));
}

static void run_real(int by_lret)
{
	uint32_t ivt = read32(4 * VECTOR_NMI);

	memcpy((void *)(uintptr_t)REAL_MODE, real_mode_start, real_mode_end - real_mode_start);
	*(volatile uint16_t *)(uintptr_t)(REAL_MODE + (real_by_lret - real_mode_start)) = by_lret;
	write32(4 * VECTOR_NMI, REAL_MODE + (nmi16 - real_mode_start));
	call32(real_mode);
	write32(4 * VECTOR_NMI, ivt);
	CHECK_EQ(word(real_nmis), 2);
	CHECK_EQ(word(real_nmis_inside), 1);
}

static void check_real_frame(const char *ip)
{
	CHECK_EQ(word(real_frames + 8), REAL_MODE + (ip - real_mode_start));
	CHECK_EQ(word(real_frames + 10), 0);
	CHECK_EQ(word(real_frames + 12) & (FLAG_TF | FLAG_IF | FLAG_NT), 0);
}

static void real(void)
{
	run_real(0);
	check_real_frame(real_target);
}

static void real_far_return(void)
{
	run_real(1);
	check_real_frame(opened16);
}

const struct claim mode_claims[] = {
	{ "32-bit: the second NMI waits for IRET, and comes before its target", blocking32, PROTECTED },
	{ "32-bit: a far return leaves NMIs blocked, until an IRET", far_return32, PROTECTED },
	{ "32-bit: IRET to user code: the NMI's frame shows user CS, SS, ESP", user, PROTECTED },
	{ "32-bit: an IRET to a CS beyond the GDT: #GP at the IRET, then the NMI", bad_code32, PROTECTED },
	{ "real mode: the second NMI waits for IRET, and comes before its target", real, REAL },
	{ "real mode: a far return leaves NMIs blocked, until an IRET", real_far_return, REAL },
	{ "virtual-8086 mode: an NMI comes before the target of the IRET that goes there", v86, V86 },
	{ "an NMI by a task gate: link, NT, busy TSSs and the old task's state are right", task, TASKS },
	{ "a second one waits for the IRET that switches back, and comes before its target", task_blocks, TASKS },
	{ }
};
