# SPDX-License-Identifier: GPL-2.0-only
"""Whether an IRET that exited has to run again, by all that a VM exit can say of it.

No emulator has notify exits, and few have more than one of the others. So the
function is taken out of arch/x86/kvm/vmx/nmi_inline.h, compiled for user space, and held
to a table made from the manual over its whole input."""

import ctypes
import itertools
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "arch/x86/kvm/vmx/nmi_inline.h"
NAME = "iret_did_not_retire"

# What the function uses of the kernel, with the numbers of the manual.
AROUND = """
#include <stdbool.h>
#include <stdint.h>
typedef uint32_t u32;
#define VECTORING_INFO_VALID_MASK 0x80000000u
#define INTR_INFO_VALID_MASK 0x80000000u
#define INTR_INFO_VECTOR_MASK 0xffu
#define INTR_INFO_UNBLOCK_NMI 0x1000u
#define INTR_TYPE_HARD_EXCEPTION 0x300u
#define DF_VECTOR 8
#define EXIT_REASON_EXCEPTION_NMI 0
#define EXIT_REASON_EPT_VIOLATION 48
#define EXIT_REASON_PML_FULL 62
#define EXIT_REASON_NOTIFY 75
struct vcpu_vmx {
	u32 idt_vectoring_info, intr_info;
	uint64_t qualification;
	struct { uint16_t basic; } exit_reason;
	struct { void *iret_exit; u32 iret_fault; bool enter; } nmi;
	void *loaded_vmcs;
	struct kvm_vcpu { char unused; } vcpu;
};
#define vmx_shared(vmx) (vmx)
#undef __always_inline
#define __always_inline inline
#define of(vcpu_) ((struct vcpu_vmx *)((char *)(vcpu_) - __builtin_offsetof(struct vcpu_vmx, vcpu)))
static u32 vmx_get_intr_info(struct kvm_vcpu *vcpu) { return of(vcpu)->intr_info; }
static uint64_t vmx_get_exit_qual(struct kvm_vcpu *vcpu) { return of(vcpu)->qualification; }
%s
int answer(unsigned int reason, u32 vectoring, u32 info, uint64_t qualification)
{
	struct vcpu_vmx vmx = { .idt_vectoring_info = vectoring, .intr_info = info,
				.qualification = qualification, .exit_reason.basic = reason };

	vmx.loaded_vmcs = &vmx;
	return iret_did_not_retire(&vmx) | (vmx.nmi.iret_exit == &vmx) << 1 |
	       (vmx.nmi.iret_fault & 0x7ff) << 8;
}
"""

VALID, UNBLOCK = 1 << 31, 1 << 12
DOUBLE_FAULT = 8
HARDWARE_EXCEPTION = 3 << 8
EXCEPTION, IN_QUALIFICATION = 0, (48, 62, 75)       # EPT violation, PML full, notify
NOISE = 0, 0x7fffe000, 0x00000f00                   # bits that say nothing of IRET


def function():
    return re.search(rf"^static __always_inline bool {NAME}\(.*?^}}\n", SOURCE.read_text(), re.M | re.S)[0]


def compiled(text, folder):
    """The function as one of Python's: its answer, in bit 1 what it notes, from bit 8 on the fault."""
    source, library = Path(folder, "answer.c"), Path(folder, "answer.so")
    source.write_text(AROUND % text)
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", source, "-o", library], check=True)
    answer = ctypes.CDLL(str(library)).answer
    answer.argtypes = ctypes.c_uint, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint64
    return answer


def expected(reason, vectoring, info, qualification):
    """Intel SDM, "Information for VM Exits Due to Vectored Events" and "Basic VM-Exit Information".

    The bit is undefined where an event was being delivered, or for a double fault."""
    if vectoring & VALID:
        return 0
    if reason == EXCEPTION and info & VALID and info & UNBLOCK and info & 0xff != DOUBLE_FAULT:
        return 3 | (info & 0xff | HARDWARE_EXCEPTION) << 8
    return 3 if reason in IN_QUALIFICATION and qualification & UNBLOCK else 0


def inputs():
    """Every reason with every bit that counts; where a vector counts every vector, too."""
    for noise, reason, vectoring, valid, info, qualification in itertools.product(
            NOISE, range(128), (0, VALID), (0, VALID), (0, UNBLOCK), (0, UNBLOCK)):
        for vector in range(256) if reason == EXCEPTION else (0, 2, DOUBLE_FAULT, 14, 255):
            yield reason, vectoring | noise, valid | info | noise & ~0xff | vector, qualification | noise


def wrong(text):
    """The first input, if any, for which such a function answers other than the manual."""
    with tempfile.TemporaryDirectory() as folder:
        answer = compiled(text, folder)
        return next((case for case in inputs() if answer(*case) != expected(*case)), None)


class IretRetired(unittest.TestCase):
    def test_the_function_answers_as_the_manual(self):
        case = wrong(function())
        self.assertIsNone(case, case and "reason %d, vectoring %#x, information %#x, qualification %#x" % case)

    def test_each_mistake_is_noticed(self):
        for good, bad in (("idt_vectoring_info & VECTORING_INFO_VALID_MASK", "idt_vectoring_info & 0"),
                          ("!(info & INTR_INFO_VALID_MASK) ||", ""),
                          ("!(info & INTR_INFO_UNBLOCK_NMI) ||", ""),
                          ("== DF_VECTOR", "== DF_VECTOR + 1"),
                          ("case EXIT_REASON_EXCEPTION_NMI:", "case 200:"),
                          ("case EXIT_REASON_EPT_VIOLATION:", ""),
                          ("case EXIT_REASON_PML_FULL:", ""),
                          ("case EXIT_REASON_NOTIFY:", ""),
                          ("vmx->nmi.iret_exit = vmx->loaded_vmcs;", ""),
                          ("iret_fault = fault;", "iret_fault = fault * 0;")):
            with self.subTest(good):
                self.assertEqual(function().count(good), 1)
                self.assertIsNotNone(wrong(function().replace(good, bad)))


if __name__ == "__main__":
    unittest.main()
