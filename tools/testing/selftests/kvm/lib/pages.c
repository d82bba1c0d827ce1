// SPDX-License-Identifier: GPL-2.0-only
/* A guest's page tables, and pages that the host takes away, see nmi_pages.h. */
#include <sys/mman.h>

#include "nmi_pages.h"

#define PTE_PRESENT	1
#define PTE_USER	4
#define PTE_ADDRESS	0xffffffffff000ull

/* Set bits in each entry on the way to a 4 KiB page, and return the last one. */
static uint64_t *walk_page_tables(struct kvm_vcpu *vcpu, uint64_t gva, uint64_t set)
{
	struct kvm_sregs sregs;
	uint64_t *entry, table;
	int shift;

	vcpu_sregs_get(vcpu, &sregs);
	for (table = sregs.cr3, shift = 39; shift >= 12; shift -= 9) {
		entry = addr_gpa2hva(vcpu->vm, table & PTE_ADDRESS);
		entry += (gva >> shift) & 511;
		TEST_ASSERT(*entry & PTE_PRESENT, "0x%lx is not mapped", gva);
		*entry |= set;
		table = *entry;
	}
	return entry;
}

uint64_t *guest_pte(struct kvm_vcpu *vcpu, uint64_t gva)
{
	return walk_page_tables(vcpu, gva, 0);
}

/* The library maps pages for the kernel only. */
void *map_user_page(struct kvm_vcpu *vcpu, uint64_t gva)
{
	uint64_t page = vm_vaddr_alloc_page(vcpu->vm);

	virt_map(vcpu->vm, gva, addr_gva2gpa(vcpu->vm, page), 1);
	walk_page_tables(vcpu, gva, PTE_USER);
	return addr_gva2hva(vcpu->vm, page);
}

static void drop(void *page)
{
	TEST_ASSERT(!madvise(page, 4096, MADV_DONTNEED), "madvise: %s", strerror(errno));
}

/* The library's memory is private, and loses what is in a page that is dropped. */
void take_page_away(struct kvm_vcpu *vcpu, uint64_t gva)
{
	void *page = addr_gva2hva(vcpu->vm, gva);
	char copy[4096];

	memcpy(copy, page, sizeof(copy));
	drop(page);
	memcpy(page, copy, sizeof(copy));
}

void add_shared_memory(struct kvm_vcpu *vcpu)
{
	vm_userspace_mem_region_add(vcpu->vm, VM_MEM_SRC_SHMEM, SHARED_GPA,
				    SHARED_SLOT, SHARED_PAGES, 0);
	virt_map(vcpu->vm, SHARED_GPA, SHARED_GPA, SHARED_PAGES);
}

void drop_shared_page(struct kvm_vcpu *vcpu, uint64_t gpa)
{
	drop(addr_gpa2hva(vcpu->vm, gpa));
	TEST_ASSERT(!shared_page_is_used(vcpu, gpa), "page still mapped");
}

/* To map a page for the guest, KVM has it mapped in this process. */
bool shared_page_is_used(struct kvm_vcpu *vcpu, uint64_t gpa)
{
	uintptr_t page = (uintptr_t)addr_gpa2hva(vcpu->vm, gpa);
	FILE *f = fopen("/proc/self/pagemap", "r");
	uint64_t entry;

	TEST_ASSERT(f && !fseek(f, page / 4096 * sizeof(entry), SEEK_SET) &&
		    fread(&entry, sizeof(entry), 1, f) == 1, "pagemap");
	fclose(f);
	return entry >> 63;
}

void use_frame_page(struct kvm_vcpu *vcpu)
{
	add_shared_memory(vcpu);
	set_ist(vcpu, 1, FRAME_PAGE + FRAME_SIZE);
	set_gate(vcpu, NMI_VECTOR, event_entry_2, INTERRUPT_GATE, 1);
}
