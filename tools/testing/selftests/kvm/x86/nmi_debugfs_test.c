// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/kvm/PID-FD/nmi says of each vCPU where it stands with its NMIs: is one
 * waiting, since when, for what, and what has ended the last handler.
 *
 * The host reads the file while the guest stops in the handler of an NMI that is
 * known, with another one waiting or not, and when all is over. Each of the four
 * paths has windows and endings of its own. Two cases are about trace events.
 *
 * A wrong implementation tells of another vCPU, of an NMI that does not wait any more or
 * of a wait that begins anew at each entry; or it dies with a reader whose VM goes away.
 */
#include <pthread.h>

#include "nmi_test.h"

#define NR_VMS		8	/* half a second each on an emulated CPU */
#define DEBUGFS_KVM	"/sys/kernel/debug/kvm"

#define STAGE_WAITING	STAGE_OWN

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
	guest_stage(STAGE_WAITING);
	guest_stage(STAGE_HANDLER_END);
}

/* --- the file -------------------------------------------------------------- */

static void file_name(int vm_fd, char *path, size_t size)
{
	snprintf(path, size, DEBUGFS_KVM "/%d-%d/nmi", getpid(), vm_fd);
}

static int open_file(struct kvm_vm *vm)
{
	char path[64];
	int fd;

	file_name(vm->fd, path, sizeof(path));
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

/* The value of a field in the line of a vCPU; NULL if there is no such field. */
static const char *find_field(const char *text, unsigned int id, const char *name)
{
	static char value[64];
	char head[32], field[32];
	const char *line, *found;

	snprintf(head, sizeof(head), "vcpu_id=%u ", id);
	line = strstr(text, head);
	TEST_ASSERT(line && (line == text || line[-1] == '\n'), "no %sin:\n%s", head, text);
	snprintf(field, sizeof(field), " %s=", name);
	found = strstr(line, field);
	if (!found || found > strchr(line, '\n'))
		return NULL;

	found += strlen(field);
	snprintf(value, sizeof(value), "%.*s", (int)strcspn(found, " \n"), found);
	return value;
}

/* The field as the file has it now. */
static const char *field_now(struct kvm_vcpu *vcpu, const char *name)
{
	int fd = open_file(vcpu->vm);
	static char text[4096];

	read_whole(fd, text, sizeof(text));
	close(fd);
	return find_field(text, vcpu->id, name);
}

static uint64_t number_of(struct kvm_vcpu *vcpu, const char *name)
{
	const char *value = field_now(vcpu, name);

	TEST_ASSERT(value, "no field '%s'", name);
	return strtoull(value, NULL, 10);
}

static void check_field_at(struct kvm_vcpu *vcpu, const char *name, const char *want,
			   const char *file, int line)
{
	const char *got = field_now(vcpu, name);

	if (!holds(want ? got && !strcmp(got, want) : !got))
		fail_at(file, line, "%s is '%s', expected '%s'", name, got ?: "(none)",
			want ?: "(none)");
}

/* @want: NULL if there is to be no such field. */
#define CHECK_FIELD(vcpu, name, want) check_field_at(vcpu, name, want, __FILE__, __LINE__)

/* --- what each path is to show ---------------------------------------------- */

static const struct expected {
	const char *path;
	const char *window;		/* of the second NMI, while the handler runs */
	const char *ending;		/* of a handler */
} expected[] = {
	[VMX_VIRTUAL_NMIS] = { "virtual-nmis", "nmi-window", "iret" },
	[VMX_SOFT] = { "soft-vnmi", "irq-window", "irq-window" },
	/* The CPU keeps the end of a handler to itself. */
	[SVM_VNMI] = { "vnmi", "v-nmi", "none" },
	[SVM_IRET] = { "iret-window", "iret-intercept", "iret" },
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

	CHECK_FIELD(vcpu, "path", want()->path);
	CHECK_FIELD(vcpu, "state", "open");
	CHECK_FIELD(vcpu, "blocked_ns", NULL);
	CHECK_EQ(number_of(vcpu, "level"), 1);
	CHECK_EQ(number_of(vcpu, "requested"), 0);
	CHECK_EQ(number_of(vcpu, "pending"), 0);
	CHECK_FIELD(vcpu, "waiting_ns", NULL);
	CHECK_FIELD(vcpu, "window", NULL);
	CHECK_EQ(number_of(vcpu, "injected"), 0);
	CHECK_FIELD(vcpu, "last_end", "none");
}

static void lone(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);

	send_nmi(vcpu);
	CHECK_EQ(number_of(vcpu, "requested"), 1);
	CHECK_EQ(number_of(vcpu, "injected"), 0);
	run_to(vcpu, STAGE_END);
	CHECK_FIELD(vcpu, "state", "open");
	CHECK_EQ(number_of(vcpu, "requested"), 0);
	CHECK_FIELD(vcpu, "waiting_ns", NULL);
	CHECK_EQ(number_of(vcpu, "injected"), 1);
	CHECK_FIELD(vcpu, "last_end", want()->ending);
}

static struct kvm_vcpu *run_to_second(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(on_nmi);

	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_WAITING);
	return vcpu;
}

static void in_handler(void)
{
	uint64_t began = now_ns(), blocked, waiting;
	struct kvm_vcpu *vcpu = run_to_second();

	CHECK_FIELD(vcpu, "state", "blocked");
	CHECK_EQ(number_of(vcpu, "pending"), 1);
	CHECK_EQ(number_of(vcpu, "injected"), 1);
	CHECK_FIELD(vcpu, "window", want()->window);
	CHECK_FIELD(vcpu, "last_end", "none");

	/* In nanoseconds, and for no longer than this case has taken. */
	waiting = number_of(vcpu, "waiting_ns");
	CHECK(waiting > 0 && waiting < now_ns() - began, "%lu ns", waiting);
	if (nmi_path() == SVM_VNMI) {
		CHECK_FIELD(vcpu, "blocked_ns", NULL);
	} else {
		blocked = number_of(vcpu, "blocked_ns");
		CHECK(blocked > waiting && blocked < now_ns() - began, "%lu ns", blocked);
	}
}

/* More than the two clocks can be apart meanwhile. */
#define PAUSE_NS	50000000
#define SLACK_NS	(PAUSE_NS / 2)

/* The NMI that waits was sent no longer than @since ago; one before it was, by a pause. */
static void check_waits_since(struct kvm_vcpu *vcpu, uint64_t since)
{
	uint64_t waiting = number_of(vcpu, "waiting_ns");
	uint64_t elapsed = now_ns() - since;

	CHECK(waiting < elapsed + SLACK_NS, "%lu ns, %lu after it was sent", waiting, elapsed);
}

/* The next entry looks at what waits, and asks for the window as the last one did. */
static void wait_goes_on(void)
{
	struct kvm_vcpu *vcpu = run_to_second();
	uint64_t before = number_of(vcpu, "waiting_ns"), after;

	usleep(PAUSE_NS / 1000);
	run_to(vcpu, STAGE_HANDLER_END);
	after = number_of(vcpu, "waiting_ns");
	CHECK(after >= before + PAUSE_NS, "%lu ns, then %lu", before, after);
}

/* As before a VM is moved, or by user space that asks and answers alike. */
static void written_back(void)
{
	struct kvm_vcpu *vcpu = run_to_second();
	uint64_t before = number_of(vcpu, "waiting_ns"), after;
	struct kvm_vcpu_events events;

	usleep(PAUSE_NS / 1000);
	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.pending, 1);
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	vcpu_events_set(vcpu, &events);
	run_to(vcpu, STAGE_HANDLER_END);
	after = number_of(vcpu, "waiting_ns");
	CHECK(after >= before + PAUSE_NS, "%lu ns, then %lu", before, after);
}

static void pair(void)
{
	struct kvm_vcpu *vcpu = run_to_second();
	uint64_t sent;

	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_HANDLER);
	CHECK_FIELD(vcpu, "state", "blocked");
	CHECK_EQ(number_of(vcpu, "pending"), 0);
	CHECK_FIELD(vcpu, "waiting_ns", NULL);
	CHECK_EQ(number_of(vcpu, "injected"), 2);
	CHECK_FIELD(vcpu, "last_end", want()->ending);

	/* A third one has not waited for as long as the second had. */
	usleep(PAUSE_NS / 1000);
	sent = now_ns();
	send_nmi(vcpu);
	run_to(vcpu, STAGE_WAITING);
	check_waits_since(vcpu, sent);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_HANDLER);
	run_to(vcpu, STAGE_WAITING);
	run_to(vcpu, STAGE_HANDLER_END);
	run_to(vcpu, STAGE_END);
	CHECK_FIELD(vcpu, "state", "open");
	CHECK_EQ(number_of(vcpu, "pending"), 0);
	CHECK_EQ(number_of(vcpu, "injected"), 3);
}

static void taken_back(void)
{
	struct kvm_vcpu *vcpu = run_to_second();
	struct kvm_vcpu_events events;
	uint64_t sent;

	vcpu_events_get(vcpu, &events);
	CHECK_EQ(events.nmi.pending, 1);
	events.nmi.pending = 0;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	vcpu_events_set(vcpu, &events);
	CHECK_EQ(number_of(vcpu, "pending"), 0);
	CHECK_FIELD(vcpu, "waiting_ns", NULL);

	/* Nor has the next one waited since then. */
	usleep(PAUSE_NS / 1000);
	sent = now_ns();
	send_nmi(vcpu);
	run_to(vcpu, STAGE_HANDLER_END);
	CHECK_EQ(number_of(vcpu, "pending"), 1);
	check_waits_since(vcpu, sent);
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
	send_nmi(vcpus[1]);
	run_to(vcpus[0], STAGE_END);
	run_to(vcpus[1], STAGE_END);
	CHECK_EQ(number_of(vcpus[0], "injected"), 0);
	CHECK_FIELD(vcpus[0], "last_end", "none");
	CHECK_EQ(number_of(vcpus[1], "injected"), 1);
	CHECK_FIELD(vcpus[1], "last_end", want()->ending);
}

static void open_file_outlives_vm(void)
{
	struct kvm_vcpu *vcpu = run_to_ready(NULL);
	int fd = open_file(vcpu->vm);
	char path[64], text[16];

	file_name(vcpu->vm->fd, path, sizeof(path));
	kvm_vm_free(vcpu->vm);
	CHECK(access(path, F_OK), "%s is still there", path);
	CHECK_EQ(read(fd, text, sizeof(text)), -1);
	CHECK_EQ(errno, EIO);
	close(fd);
}

static volatile bool stop_reading;
static volatile int read_vm_fd;

static void *read_on(void *looks)
{
	char path[64], text[4096];
	ssize_t r;
	int fd;

	while (!stop_reading) {
		usleep(1000);
		file_name(read_vm_fd, path, sizeof(path));
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		/* Nothing while the VM's vCPU is being made, EIO if the VM has gone since. */
		r = read(fd, text, sizeof(text));
		TEST_ASSERT(r >= 0 || errno == EIO, "read: %s", strerror(errno));
		if (r > 0)
			++*(unsigned int *)looks;
		close(fd);
	}
	return NULL;
}

static void readers_and_dying_vms(void)
{
	unsigned int looks = 0, i;
	struct kvm_vcpu *vcpu;
	pthread_t reader;

	limit_case(4 * NR_VMS);
	vcpu = run_to_ready(NULL);
	read_vm_fd = vcpu->vm->fd;
	TEST_ASSERT(!pthread_create(&reader, NULL, read_on, &looks), "no thread");
	for (i = 0; i < NR_VMS; i++) {
		send_nmi(vcpu);
		run_to(vcpu, STAGE_END);
		CHECK_EQ(read_log(vcpu)->nr_nmis, 1);
		kvm_vm_free(vcpu->vm);
		vcpu = run_to_ready(NULL);
		/* Another one, if the reader has had the file open meanwhile. */
		read_vm_fd = vcpu->vm->fd;
	}

	/* The last VM stays until it has been read. */
	for (i = READ_ONCE(looks); READ_ONCE(looks) == i; )
		sched_yield();
	stop_reading = true;
	pthread_join(reader, NULL);
	CHECK(looks > 0, "nothing was read");
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

/*
 * What makes an exit and goes straight back, without the way through common code, is an
 * exit and an entry all the same: perf kvm stat takes one and the other for a pair.
 */
static void exits_have_entries(void)
{
	unsigned int exits, entries;
	struct kvm_vcpu *vcpu;
	char event[512];

	trace_begin();
	vcpu = run_to_ready(NULL);
	send_nmi(vcpu);
	send_nmi(vcpu);
	run_to(vcpu, STAGE_END);
	exits = trace_find(" kvm_exit: ", event, sizeof(event));
	entries = trace_end(" kvm_entry: ", event, sizeof(event));

	CHECK_EQ(read_log(vcpu)->nr_nmis, 2);
	CHECK_EQ(exits, vcpu_stat(vcpu, "exits"));
	CHECK_EQ(entries, exits);
}

static const struct test_case cases[] = {
	{ "a new vCPU is open, and says by which path NMIs come", fresh },
	{ "a lone NMI is delivered, and waits for nothing", lone },
	{ "in a handler NMIs are blocked, and the next one waits", in_handler },
	{ "its wait goes on from entry to entry", wait_goes_on },
	{ "and when user space writes back what it has read", written_back },
	{ "two back to back: the second waits no more, and the third begins to", pair },
	{ "an NMI that user space takes back does not wait", taken_back },
	{ "each vCPU has its own line", each_vcpu },
	{ "a file that is open when its VM goes has nothing more to read", open_file_outlives_vm },
	{ "VMs come and go under a reader", readers_and_dying_vms },
	{ "an injection is recorded with the context that it interrupts",
	  injection_is_recorded },
	{ "each exit in the trace has an entry, also one that goes straight back",
	  exits_have_entries },
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
