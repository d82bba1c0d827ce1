// SPDX-License-Identifier: GPL-2.0-only
/*
 * The machine and the module under test: which of the four paths its NMIs take, what
 * emulates it, what KVM counts and traces.
 */
#include <sys/stat.h>
#include <sys/utsname.h>

#include "nmi_events.h"

static bool read_param(const char *module, const char *name, char *value, size_t size)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, name);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (!fgets(value, size, f))
		value[0] = 0;
	value[strcspn(value, "\n")] = 0;
	fclose(f);
	return true;
}

static bool is_intel(void)
{
	return !access("/sys/module/kvm_intel", F_OK);
}

bool vendor_module_loaded(void)
{
	return is_intel() || !access("/sys/module/kvm_amd", F_OK);
}

bool vendor_param(const char *name, char *value, size_t size)
{
	return read_param(is_intel() ? "kvm_intel" : "kvm_amd", name, value, size);
}

bool param_is_yes(const char *name)
{
	char value[8];

	return vendor_param(name, value, sizeof(value)) && value[0] == 'Y';
}

/* Both modules report vnmi=N when the CPU cannot do it. */
enum nmi_path nmi_path(void)
{
	if (is_intel())
		return param_is_yes("vnmi") ? VMX_VIRTUAL_NMIS : VMX_SOFT;
	return param_is_yes("vnmi") ? SVM_VNMI : SVM_IRET;
}

void require_window_with_irqs_off(void)
{
	if (nmi_path() == VMX_SOFT && !param_is_yes("soft_vnmi_exact"))
		skip("soft vNMI without return breakpoint opens the window with IRQs on only");
}

/* In the list of what VMX has on this CPU, which the kernel reads from its MSRs. */
bool cpu_has_monitor_trap_flag(void)
{
	static int found = -1;
	char line[1024];
	FILE *f;

	if (found >= 0)
		return found;
	found = false;
	f = fopen("/proc/cpuinfo", "r");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "vmx flags", 9) && strstr(line, " mtf ");
	fclose(f);
	return found;
}

bool shadow_tracked_by_timer(void)
{
	return nmi_path() == VMX_SOFT && !cpu_has_monitor_trap_flag();
}

void require_shadow_tracked(uint64_t rflags)
{
	if (!(rflags & RFLAGS_IF) && shadow_tracked_by_timer())
		skip("soft vNMI finds the end of a shadow with IRQs off by a timer");
}

void require_iret_tracked(void)
{
	if (nmi_path() == VMX_SOFT)
		skip("soft vNMI does not see the IRET");
}

bool kernel_is_at_least(unsigned int major, unsigned int minor)
{
	unsigned int running_major, running_minor;
	struct utsname u;

	uname(&u);
	if (sscanf(u.release, "%u.%u", &running_major, &running_minor) != 2)
		FAIL("no version in the kernel's release %s", u.release);
	return running_major > major ||
	       (running_major == major && running_minor >= minor);
}

bool blocking_cleared_at_entry(void)
{
	return nmi_path() != VMX_VIRTUAL_NMIS || !on_bochs_2_7();
}

void require_blocking_cleared_at_entry(void)
{
	if (!blocking_cleared_at_entry())
		skip("Bochs 2.7 does not clear NMI blocking at VM entry");
}

/* What emulates this machine, if anything does. */

static bool bios_version_begins(const char *with)
{
	FILE *f = fopen("/sys/class/dmi/id/bios_version", "r");
	char version[64] = "";
	bool begins;

	begins = f && fgets(version, sizeof(version), f) &&
		 !strncmp(version, with, strlen(with));
	if (f)
		fclose(f);
	return begins;
}

bool on_bochs(void)
{
	return bios_version_begins("Bochs");
}

bool on_bochs_2_7(void)
{
	return bios_version_begins("Bochs 2.7");
}

static bool brand_begins(const char *brand)
{
	uint32_t text[4];

	cpuid(0x80000002, &text[0], &text[1], &text[2], &text[3]);
	return !memcmp(text, brand, strlen(brand));
}

bool on_strict_cpu(void)
{
	return brand_begins("QEMU TCG strict");
}

bool on_qemu_tcg(void)
{
	uint32_t max, text[3];

	if (on_strict_cpu())
		return false;
	cpuid(0x40000000, &max, &text[0], &text[1], &text[2]);
	if (!memcmp(text, "TCGTCGTCGTCG", 12))
		return true;

	/* A host inside such a one runs on KVM, and sees the name of its CPU. */
	return brand_begins("QEMU TCG");
}

/*
 * What follows differs between versions of an emulator, and may differ in any other:
 * it is measured, once a process, and excuses nothing on a real CPU.
 */
static void guest_at_stop(void)
{
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	guest_stage(STAGE_END);
}

static void guest_at_breakpoint(void)
{
	asm volatile("mov %0, %%dr0; mov %1, %%dr7"
		     : : "r"(guest_stop_next), "r"(DR7_L0_EXEC) : "memory");
	guest_stop(STAGE_READY, RFLAGS_FIXED);
	disarm_breakpoints();
	guest_stage(STAGE_END);
}

static void set_rf(struct event_regs *regs)
{
	regs->rflags |= RFLAGS_RF;
}

/*
 * The first event of a guest that is entered at guest_stop_next, with an NMI or
 * without. The log of the test's own guest stays as it is.
 */
static struct event_regs first_event(void (*guest)(void), bool nmi, bool on_new_stack)
{
	void (*on_event)(struct event_regs *regs) = guest_on_event;
	struct kvm_vcpu *vcpu = create_vm(guest, set_rf);
	struct event_regs event = {};
	struct event_log *log;

	guest_on_event = on_event;
	if (on_new_stack) {
		set_ist(vcpu, 1, vm_vaddr_alloc_page(vcpu->vm) + getpagesize());
		set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
	}
	do {
		if (__vcpu_run(vcpu) || vcpu->run->exit_reason != KVM_EXIT_IO)
			fail_on_exit(vcpu);
		if (nmi)
			send_nmi(vcpu);
		nmi = false;
	} while (*(uint32_t *)((char *)vcpu->run + vcpu->run->io.data_offset) != STAGE_END);

	log = addr_gva2hva(vcpu->vm, (uint64_t)&guest_log);
	if (log->nr)
		event = log->event[0];
	kvm_vm_free(vcpu->vm);
	return event;
}

bool nmis_push_rf(void)
{
	static int known;

	if (!known)
		known = on_qemu_tcg() &&
			first_event(guest_at_stop, true, false).rflags & RFLAGS_RF ? 1 : -1;
	return known > 0;
}

bool cut_deliveries_push_rf(void)
{
	static int known;

	if (!known)
		known = on_bochs() &&
			first_event(guest_at_stop, true, true).rflags & RFLAGS_RF ? 1 : -1;
	return known > 0;
}

uint64_t nmi_flags(uint64_t rflags)
{
	return rflags & RFLAGS_RF && nmis_push_rf() ? rflags & ~RFLAGS_RF : rflags;
}

bool breakpoints_armed_at_entry(void)
{
	static int known;

	if (!known)
		known = !on_qemu_tcg() ||
			first_event(guest_at_breakpoint, false, false).vector == DB_VECTOR ? 1 : -1;
	return known > 0;
}

#define DEVICE		0xd0000000ul	/* no memory there */

extern char device_read[];

static void guest_device(void)
{
	guest_stage(STAGE_READY);
	asm volatile("device_read: mov (%0), %%eax" : : "b"(DEVICE) : "eax", "memory");
}

/*
 * A vCPU in an STI shadow is about to read from a device. The exit by which that
 * read is noticed comes before it: the shadow has not ended.
 */
bool shadow_survives_entry(void)
{
	void (*on_event)(struct event_regs *regs) = guest_on_event;
	struct kvm_vcpu *vcpu = create_vm(guest_device, NULL);
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	guest_on_event = on_event;
	virt_map(vcpu->vm, DEVICE, DEVICE, 1);
	__vcpu_run(vcpu);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
	finish_stage(vcpu);

	vcpu_regs_get(vcpu, &regs);
	regs.rip = (uint64_t)device_read;
	regs.rbx = DEVICE;
	regs.rflags = RFLAGS_FIXED | RFLAGS_IF;
	vcpu_regs_set(vcpu, &regs);
	put_in_shadow(vcpu, KVM_X86_SHADOW_INT_STI);

	__vcpu_run(vcpu);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	vcpu_events_get(vcpu, &events);
	kvm_vm_free(vcpu->vm);
	return events.interrupt.shadow;
}

/* What KVM counts for a vCPU. */

uint64_t vcpu_stat(struct kvm_vcpu *vcpu, const char *name)
{
	struct kvm_stats_desc *descs, *desc = NULL;
	int fd = vcpu_get_stats_fd(vcpu), i;
	struct kvm_stats_header header;
	uint64_t value;

	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	for (i = 0; i < header.num_desc; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		if (!strcmp(desc->name, name))
			break;
	}
	TEST_ASSERT(i < header.num_desc, "KVM has no statistic '%s'", name);
	read_stat_data(fd, &header, desc, &value, 1);
	free(descs);
	close(fd);
	return value;
}

uint64_t exits_of(struct kvm_vcpu *vcpu)
{
	return vcpu_stat(vcpu, "exits") - vcpu_stat(vcpu, "irq_exits");
}

/* What is traced of one run, in an instance of its own. */

#define TRACEFS		"/sys/kernel/tracing"

static char instance[64];

static void tell_instance(const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", instance, file);
	write_file(path, text);
}

static void name_instance(pid_t pid)
{
	snprintf(instance, sizeof(instance), TRACEFS "/instances/nmi_test-%d", pid);
}

void trace_discard(pid_t pid)
{
	name_instance(pid);
	rmdir(instance);
}

static void make_instance(void)
{
	nmis_push_rf();		/* measured in a VM, which is not to be traced */
	name_instance(getpid());
	if (mkdir(instance, 0700)) {
		TEST_ASSERT(errno != EEXIST, "%s is there already", instance);
		skip("%s: %s", instance, strerror(errno));
	}
}

void trace_exits(const char *filter)
{
	make_instance();
	tell_instance("events/kvm/kvm_exit/filter", filter);
	tell_instance("events/kvm/kvm_exit/enable", "1");
}

void trace_begin(void)
{
	char path[128];

	make_instance();
	snprintf(path, sizeof(path), "%s/events/kvm_nmi/enable", instance);
	if (access(path, F_OK)) {
		rmdir(instance);
		skip("this module has no events kvm_nmi");
	}
	write_file(path, "1");
	tell_instance("events/kvm/kvm_entry/enable", "1");
	tell_instance("events/kvm/kvm_exit/enable", "1");
}

unsigned int trace_find(const char *event, char *text, size_t size)
{
	unsigned int nr = 0;
	char path[128], line[512] = "", *found;
	FILE *f;

	tell_instance("tracing_on", "0");
	snprintf(path, sizeof(path), "%s/trace", instance);
	f = fopen(path, "r");
	TEST_ASSERT(f, "%s: %s", path, strerror(errno));
	text[0] = 0;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		found = strstr(line, event);
		if (!found)
			continue;
		snprintf(text, size, "%s", found);
		nr++;
	}
	fclose(f);
	return nr;
}

unsigned int trace_end(const char *event, char *text, size_t size)
{
	unsigned int nr = trace_find(event, text, size);

	TEST_ASSERT(!rmdir(instance), "%s: %s", instance, strerror(errno));
	return nr;
}

/* Tells the kernel something through sysfs or tracefs. */

void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text),
		    "%s: %s", path, strerror(errno));
	close(fd);
}

/* Has KVM emulate instructions that a CPU would execute. */

int force_emulation(int value)
{
	int fd = open("/sys/module/kvm/parameters/force_emulation_prefix", O_RDWR);
	char text[16];
	int before = -1;
	ssize_t len;

	/* No stdio: it is also called by the handler of a signal. */
	if (fd < 0)
		return -1;
	len = read(fd, text, sizeof(text) - 1);
	if (len > 0) {
		/* Once a bool, now 0, 1 or 3. */
		before = text[0] == 'Y' ? 1 : text[0] == 'N' ? 0 : text[0] - '0';
		text[0] = '0' + value;
		if (pwrite(fd, text, 1, 0) != 1)
			before = -1;
	}
	close(fd);
	return before;
}
