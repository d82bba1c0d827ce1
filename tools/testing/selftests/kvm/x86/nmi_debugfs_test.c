// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/kvm/PID-FD/nmi says of each vCPU where it stands with its
 * NMIs and counts what became of them, from the first time it is read.
 *
 * The host reads the file while the guest stops in the handler of an NMI that is
 * known, with another one waiting or not, and when all is over. Each of the four
 * paths has windows and endings of its own.
 *
 * A wrong implementation counts in the wrong place, an NMI for each entry that it
 * waits for, or on another vCPU; or it dies with a reader whose VM goes away.
 */
#include <pthread.h>

#include "nmi_test.h"

#define NR_VMS		8	/* half a second each on an emulated CPU */
#define DEBUGFS_KVM	"/sys/kernel/debug/kvm"

static uint64_t flags = RFLAGS_FIXED | RFLAGS_IF;

static void guest(void)
{
	for (;;) {
		guest_stop(STAGE_READY, flags);
		guest_irqs_on();
		guest_stage(STAGE_END);
	}
}

static void on_nmi(struct event_regs *regs)
{
	guest_stage(STAGE_HANDLER);
	guest_stage(STAGE_HANDLER_END);
}

/* --- the file -------------------------------------------------------------- */

static void stats_file(struct kvm_vm *vm, char *path, size_t size)
{
	snprintf(path, size, DEBUGFS_KVM "/%d-%d/nmi", getpid(), vm->fd);
}

static int open_stats(struct kvm_vm *vm)
{
	char path[64];
	int fd;

	stats_file(vm, path, sizeof(path));
	fd = open(path, O_RDONLY);
	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

static void read_whole(int fd, char *text, size_t size)
{
	size_t length = 0;
	ssize_t r;

	while ((r = pread(fd, text + length, size - 1 - length, length)) > 0)
		length += r;
	TEST_ASSERT(!r, "read: %s", strerror(errno));
	text[length] = 0;
}

/* The value of a line in the block of a vCPU; NULL if there is no such line. */
static const char *find_line(const char *text, unsigned int id, const char *name)
{
	static char value[256];
	char head[32];
	const char *line, *next;
	size_t length = strlen(name);

	snprintf(head, sizeof(head), "vcpu %u\n", id);
	line = strstr(text, head);
	TEST_ASSERT(line, "no vcpu %u in:\n%s", id, text);
	while ((next = strchr(line, '\n')) && next[1] == ' ') {
		line = next + 1;
		if (strncmp(line + 2, name, length) || !strchr(" \n", line[2 + length]))
			continue;
		snprintf(value, sizeof(value), "%.*s",
			 (int)strcspn(line + 2 + length, "\n"), line + 2 + length);
		return value[0] ? value + 1 : value;
	}
	return NULL;
}

/* The line as the file has it now. */
static const char *line_of(struct kvm_vcpu *vcpu, const char *name)
{
	int fd = open_stats(vcpu->vm);
	static char text[4096];
	const char *value;

	read_whole(fd, text, sizeof(text));
	close(fd);
	value = find_line(text, vcpu->id, name);
	TEST_ASSERT(value, "no line '%s' in:\n%s", name, text);
	return value;
}

static uint64_t number_of(struct kvm_vcpu *vcpu, const char *name)
{
	return strtoull(line_of(vcpu, name), NULL, 10);
}

static void check_line_at(struct kvm_vcpu *vcpu, const char *name, const char *want,
			  const char *file, int line)
{
	const char *got = line_of(vcpu, name);

	if (!holds(!strcmp(got, want)))
		fail_at(file, line, "%s is '%s', expected '%s'", name, got, want);
}

#define CHECK_LINE(vcpu, name, want) check_line_at(vcpu, name, want, __FILE__, __LINE__)

static void check_begins_at(struct kvm_vcpu *vcpu, const char *name, const char *want,
			    const char *file, int line)
{
	const char *got = line_of(vcpu, name);

	if (!holds(!strncmp(got, want, strlen(want))))
		fail_at(file, line, "%s is '%s', expected '%s...'", name, got, want);
}

#define CHECK_BEGINS(vcpu, name, want) check_begins_at(vcpu, name, want, __FILE__, __LINE__)

/* NAME=COUNT pairs: one of them, or their sum. */
static uint64_t count_of(const char *pairs, const char *name)
{
	uint64_t sum = 0;
	const char *pair, *equals;

	for (pair = pairs; (equals = strchr(pair, '=')); pair = equals + strcspn(equals, " ")) {
		pair += *pair == ' ';
		if (!name || (strlen(name) == (size_t)(equals - pair) &&
			      !strncmp(pair, name, equals - pair)))
			sum += strtoull(equals + 1, NULL, 10);
	}
	return sum;
}

/* --- what each path is to show ---------------------------------------------- */

static const struct expected {
	const char *path;
	const char *waits_for;		/* the second NMI, while the handler runs */
	const char *windows;		/* of that one */
	const char *one_ending, *two_endings;
} expected[] = {
	[VMX_VIRTUAL_NMIS] = {
		"virtual-nmis", "nmi-window", "nmi-window=1", "iret=1", "iret=2"
	},
	[VMX_SOFT] = {
		"soft-vnmi", "irq-window", "irq-window=1", "irq-window=1", "irq-window=2"
	},
	/* The CPU keeps the end of a handler to itself. */
	[SVM_VNMI] = {
		"vnmi", "v-nmi", "v-nmi=1", "", ""
	},
	[SVM_IRET] = {
		"iret-window", "iret-intercept", "iret-intercept=1 single-step=1",
		"iret=1", "iret=2"
	},
};

static const struct expected *want(void)
{
	return &expected[nmi_path()];
}

static struct kvm_vcpu *run_to_ready(void (*handler)(struct event_regs *))
{
	struct kvm_vcpu *vcpu = create_vm(guest, handler);

	sync_global_to_guest(vcpu->vm, flags);
	run_to(vcpu, STAGE_READY);
	return vcpu;
}

/* --- cases ------------------------------------------------------------------- */

static void fresh(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);

	CHECK_LINE(vcpu, "path", want()->path);
	CHECK_LINE(vcpu, "state", "open");
	CHECK_LINE(vcpu, "level", "L1");
	CHECK_EQ(number_of(vcpu, "requested"), 0);
	CHECK_EQ(number_of(vcpu, "pending"), 0);
	CHECK_EQ(number_of(vcpu, "delivered"), 0);
	CHECK_LINE(vcpu, "windows", "");
	CHECK_LINE(vcpu, "endings", "");
	CHECK_LINE(vcpu, "longest", "0 ns");
	CHECK_LINE(vcpu, "delay", "");
}

static void lone(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);

	CHECK_LINE(vcpu, "endings", "");
	send_nmi(vcpu);
	CHECK_EQ(number_of(vcpu, "requested"), 1);
	CHECK_EQ(number_of(vcpu, "delivered"), 0);
	run_to(vcpu, STAGE_END);
	CHECK_LINE(vcpu, "state", "open");
	CHECK_EQ(number_of(vcpu, "requested"), 0);
	CHECK_EQ(number_of(vcpu, "delivered"), 1);
	CHECK_LINE(vcpu, "windows", "");
	CHECK_LINE(vcpu, "endings", want()->one_ending);
	CHECK_LINE(vcpu, "delay", "at-once=1");
}

static void in_handler(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(on_nmi);

	CHECK_EQ(number_of(vcpu, "pending"), 0);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	CHECK_BEGINS(vcpu, "state", "blocked");
	if (nmi_path() != SVM_VNMI)
		CHECK(number_of(vcpu, "state") == 0 &&
		      strtoull(strchr(line_of(vcpu, "state"), ' '), NULL, 10) > 0,
		      "no time");
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_BEGINS(vcpu, "state", "blocked");
	CHECK_EQ(number_of(vcpu, "pending"), 1);
	CHECK_EQ(number_of(vcpu, "delivered"), 1);
	CHECK(number_of(vcpu, "waiting") > 0, "no time");
	CHECK(!strcmp(strstr(line_of(vcpu, "waiting"), "for ") + 4, want()->waits_for),
	      "waiting %s", line_of(vcpu, "waiting"));
}

/* The next entry looks at what waits, and asks for the window as the last one did. */
static void ask_again(struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs;

	finish_stage(vcpu);
	vcpu_regs_get(vcpu, &regs);
	vcpu_regs_set(vcpu, &regs);
}

static void pair(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(on_nmi);
	uint64_t longest;

	CHECK_EQ(number_of(vcpu, "delivered"), 0);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	ask_again(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	CHECK_LINE(vcpu, "state", "open");
	CHECK_EQ(number_of(vcpu, "pending"), 0);
	CHECK_EQ(number_of(vcpu, "delivered"), 2);
	CHECK_LINE(vcpu, "windows", want()->windows);
	CHECK_LINE(vcpu, "endings", want()->two_endings);
	CHECK_EQ(count_of(line_of(vcpu, "delay"), NULL), 2);
	CHECK_EQ(count_of(line_of(vcpu, "delay"), "at-once"), 1);

	/* In nanoseconds, and no longer than this case may take. */
	longest = number_of(vcpu, "longest");
	if (nmi_path() != SVM_VNMI)
		CHECK(longest > 0 && longest < 5000000000, "%lu ns", longest);
}

static void counts_from_first_read(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(number_of(vcpu, "delivered"), 1);
	CHECK_LINE(vcpu, "delay", "");
	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	CHECK_EQ(number_of(vcpu, "delivered"), 2);
	CHECK_LINE(vcpu, "delay", "at-once=1");
	CHECK_LINE(vcpu, "endings", want()->one_ending);
}

static void each_vcpu(void)
{
	struct kvm_vcpu *vcpus[2];

	vm_create_with_vcpus(2, guest, vcpus);
	init_events(vcpus[0], NULL);
	init_events(vcpus[1], NULL);
	sync_global_to_guest(vcpus[0]->vm, flags);
	run_to(vcpus[0], STAGE_READY);
	run_to(vcpus[1], STAGE_READY);
	CHECK_EQ(number_of(vcpus[1], "delivered"), 0);
	send_nmi(vcpus[1]);
	run_to(vcpus[0], STAGE_END);
	run_to(vcpus[1], STAGE_END);
	CHECK_EQ(number_of(vcpus[0], "delivered"), 0);
	CHECK_LINE(vcpus[0], "delay", "");
	CHECK_EQ(number_of(vcpus[1], "delivered"), 1);
	CHECK_LINE(vcpus[1], "delay", "at-once=1");
}

static void open_file_keeps_vm(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);
	char path[64], text[4096];
	uint32_t id = vcpu->id;
	int fd = open_stats(vcpu->vm);
	const char *delivered;

	stats_file(vcpu->vm, path, sizeof(path));
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	kvm_vm_free(vcpu->vm);
	read_whole(fd, text, sizeof(text));
	delivered = find_line(text, id, "delivered");
	CHECK(delivered && !strcmp(delivered, "1"), "in:\n%s", text);
	CHECK(!access(path, F_OK), "%s is gone", path);
	close(fd);
	CHECK(access(path, F_OK), "%s is still there", path);
}

static volatile bool stop_reading;
static volatile unsigned int looks;
static char read_path[64];

static void *read_on(void *opened)
{
	char text[4096];
	int fd;

	for (; !stop_reading; looks++) {
		usleep(1000);
		fd = open(read_path, O_RDONLY);
		if (fd < 0)
			continue;
		read_whole(fd, text, sizeof(text));
		close(fd);
		++*(unsigned int *)opened;
	}
	return NULL;
}

static void readers_and_dying_vms(void)
{
	unsigned int opened = 0, i;
	struct kvm_vcpu *vcpu;
	pthread_t reader;

	limit_case(4 * NR_VMS);
	vcpu = run_to_ready(NULL);
	stats_file(vcpu->vm, read_path, sizeof(read_path));
	TEST_ASSERT(!pthread_create(&reader, NULL, read_on, &opened), "no thread");
	for (i = 0; i < NR_VMS; i++) {
		send_nmi(vcpu);
		run_to(vcpu, STAGE_END);
		CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
		kvm_vm_free(vcpu->vm);
		vcpu = run_to_ready(NULL);
	}

	/*
	 * The last VM stays until it has been read. It has a file only if no reader has
	 * kept the one before, whose folder has the same name.
	 */
	read_path[0] = 0;
	for (i = looks; looks - i < 2; )
		sched_yield();
	kvm_vm_free(vcpu->vm);
	vcpu = run_to_ready(NULL);
	stats_file(vcpu->vm, read_path, sizeof(read_path));
	for (i = opened; opened == i; )
		sched_yield();
	stop_reading = true;
	pthread_join(reader, NULL);
	CHECK(opened > 0, "nothing was read");
}

/* --- the event of an injection ----------------------------------------------- */

static void injection_is_recorded(void)
{
	char event[512], text[512];
	const struct event_regs *nmi;
	struct kvm_vcpu *vcpu;

	trace_begin();
	vcpu = run_to_ready(NULL);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	trace_end("kvm_nmi_inject: ", event, sizeof(event));

	nmi = nmi_nr(read_log(vcpu), 1);
	snprintf(text, sizeof(text),
		 "kvm_nmi_inject: vcpu_id=0 level=1 rip=0x%lx rsp=0x%lx rflags=0x%lx cpl=0 again=",
		 nmi->rip, nmi->rsp, nmi->rflags);
	CHECK(!strncmp(event, text, strlen(text)), "the event is '%s', expected '%s'",
	      event, text);
}

/* --- an ending that nobody has seen ------------------------------------- */

#define STAGE_RESET	STAGE_OWN
#define ROM_GPA		0xfffff000
#define ROM_SLOT	10
#define RESET_OFFSET	0xff0

extern char reset_code[], reset_code_end[];
asm(".pushsection .rodata\n"
    ".code16\n"
    "reset_code:" ASM_STAGE(STAGE_RESET)
    "reset_code_end:\n"
    ".code64\n"
    ".popsection\n");

static void guest_init(void)
{
	x2apic_enable();
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
	x2apic_write_reg(APIC_ICR, APIC_DM_INIT | APIC_INT_ASSERT);
}

static void init_ends_nothing(void)
{
	struct kvm_vcpu *vcpu = create_vm(guest_init, NULL);

	vm_userspace_mem_region_add(vcpu->vm, VM_MEM_SRC_ANONYMOUS, ROM_GPA, ROM_SLOT, 1, 0);
	memcpy(addr_gpa2hva(vcpu->vm, ROM_GPA + RESET_OFFSET), reset_code,
	       reset_code_end - reset_code);

	run_to(vcpu, STAGE_READY);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	/* Whoever counts from here on has not seen the handler's end. */
	CHECK_EQ(count_of(line_of(vcpu, "endings"), NULL), 0);
	run_to(vcpu, STAGE_RESET);
	CHECK_EQ(count_of(line_of(vcpu, "endings"), NULL), 0);
	CHECK_EQ(number_of(vcpu, "longest"), 0);
}

static const struct test_case cases[] = {
	{ "a new vCPU is open, and says by which path NMIs come", fresh },
	{ "a lone NMI is delivered at once and has one ending", lone },
	{ "in a handler NMIs are blocked, and the next one waits", in_handler },
	{ "two back to back have the path's windows and endings", pair },
	{ "counts begin with the first read", counts_from_first_read },
	{ "INIT does not end a blocking that ended before counting began", init_ends_nothing },
	{ "an NMI is counted on its own vCPU", each_vcpu },
	{ "an open file keeps its VM", open_file_keeps_vm },
	{ "VMs come and go under a reader", readers_and_dying_vms },
	{ "an injection is recorded with the context that it interrupts",
	  injection_is_recorded },
};

int main(void)
{
	if (access("/sys/module/kvm_intel/version", F_OK) &&
	    access("/sys/module/kvm_amd/version", F_OK))
		return skip_all("only this project's vendor modules have such a file");
	if (access(DEBUGFS_KVM, R_OK | X_OK))
		return skip_all(DEBUGFS_KVM " is not there, or not yours to read");

	return run_cases(cases, ARRAY_SIZE(cases));
}
