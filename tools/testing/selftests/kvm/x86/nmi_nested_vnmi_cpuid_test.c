// SPDX-License-Identifier: GPL-2.0-only
/*
 * vNMI is announced to hypervisors in a guest where the CPU has it and the module uses
 * it, or when the parameter nested_vnmi says so; and only beside virtual GIF, which
 * gates a pending V_NMI: a hypervisor does not use the one without the other.
 *
 * The table of variants loads the module with each combination. A wrong
 * implementation announces what it then does not do, or the other way round.
 */
#include "nmi_nested_svm.h"

static bool nested_vnmi_is_on(void)
{
	char value[8];

	if (!vendor_param("nested_vnmi", value, sizeof(value)))
		skip("the vendor module has no parameter nested_vnmi");
	return value[0] == 'Y';
}

static void as_the_parameter_says(void)
{
	CHECK_EQ(kvm_cpu_has(FEATURE_VNMI), nested_vnmi_is_on() || nmi_path() == SVM_VNMI);
}

static void only_with_vgif(void)
{
	CHECK(!kvm_cpu_has(FEATURE_VNMI) || kvm_cpu_has(X86_FEATURE_VGIF),
	      "vNMI is announced, VGIF is not");
}

static const struct test_case cases[] = {
	{ "vNMI is announced if the CPU has it, or nested_vnmi says so", as_the_parameter_says },
	{ "vNMI is not announced without VGIF", only_with_vgif },
};

int main(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM))
		return skip_all("this KVM offers no SVM to its guests");
	return run_cases(cases, ARRAY_SIZE(cases));
}
