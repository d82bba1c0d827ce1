// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which of the four NMI paths this machine's module takes, and what a test may
 * therefore expect of it.
 */
#include <sys/utsname.h>

#include "nmi_test.h"

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

static bool param_is_yes(const char *name)
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

void require_shadow_tracked(uint64_t rflags)
{
	if (nmi_path() == VMX_SOFT && !(rflags & RFLAGS_IF))
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
