// SPDX-License-Identifier: GPL-2.0-only
/* What KVM counts for a vCPU. */
#include "nmi_test.h"

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
