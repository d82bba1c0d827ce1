/* SPDX-License-Identifier: GPL-2.0-only */
/* Pages of a guest that a test opens to user mode or takes away. */
#ifndef NMI_PAGES_H
#define NMI_PAGES_H

#include "nmi_test.h"

/* The guest's page table entry of a 4 KiB page that is mapped. */
uint64_t *guest_pte(struct kvm_vcpu *vcpu, uint64_t gva);

/* A page at @gva, such as this, that user mode may use too; returns where the host sees it. */
#define USER_PAGE	0x10000000ul

void *map_user_page(struct kvm_vcpu *vcpu, uint64_t gva);

/* Take a page out of KVM's page tables: its next use is an exit. */
void take_page_away(struct kvm_vcpu *vcpu, uint64_t gva);

/*
 * Memory that keeps what is in it while none of its pages is mapped, neither in
 * this process nor in EPT or NPT: so it shows whether the guest has used a page.
 * Its addresses in the guest are physical ones, too.
 */
#define SHARED_GPA	0x10000000
#define SHARED_SLOT	10
#define SHARED_PAGES	4

void add_shared_memory(struct kvm_vcpu *vcpu);
void drop_shared_page(struct kvm_vcpu *vcpu, uint64_t gpa);
bool shared_page_is_used(struct kvm_vcpu *vcpu, uint64_t gpa);

/*
 * Add it and give NMIs a stack there, whose top is laid so that the IRET frame is
 * alone on a page; all else of the handler is on the page below.
 */
#define FRAME_PAGE	(SHARED_GPA + 2 * 4096)
#define FRAME_SIZE	48	/* five words, at a 16-byte boundary */

void use_frame_page(struct kvm_vcpu *vcpu);

/*
 * L1's tables for an L2 with nested paging: the first GiB is where it is in L1, 2 MiB an
 * entry, but for those around one page, which has an entry of its own.
 */
#define L2_PTE_PRESENT	1
#define L2_PTE_FULL	7	/* of NPT present, writable, user; of EPT read, write, execute */

struct l2_tables {
	uint64_t root;		/* GPA of the first table */
	uint64_t entry;		/* where L1 finds the page's entry */
};

/* For the page at @gva; @leaf_bits are those of each entry that maps memory. */
struct l2_tables make_l2_tables(struct kvm_vcpu *vcpu, uint64_t gva, uint64_t leaf_bits);

#endif
