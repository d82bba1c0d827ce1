# SPDX-License-Identifier: GPL-2.0-only
"""A model tells something about the modules only as long as it speaks of the same."""

import re
import unittest

from spin import HERE

KVM = HERE.parents[2] / "arch/x86/kvm"

# What the models have of other code: kvm.ko, svm.c, vmx.c, L1.
OTHERS = set("""
    after_exit before_entry cancel create forget handle_exit handle_svm_exit host_timer moved reset rest
    delivery_aborted check_nested_events l1_runs nested_vmexit vmrun task_switched
    """.split())
KVM_X86_OPS = {"get_nmi_mask", "set_nmi_mask", "nmi_allowed", "inject_nmi", "enable_nmi_window"}


class Names(unittest.TestCase):
    def test_functions(self):
        """each function in the model of a path is one of the module's, or other code's"""
        for vendor in ("svm", "vmx"):
            code = "".join(path.read_text() for path in sorted((KVM / vendor).glob("*.[ch]")))
            defined = set(re.findall(r"^[a-z].*?\b(\w+)\([^;]*?\)\n\{", code, re.M))
            models = "".join(path.read_text() for path in sorted(HERE.glob(f"{vendor}*.pml")))
            names = {name for name in re.findall(r"^inline (\w+)", models, re.M)
                     if not name.startswith("cpu_")} - OTHERS
            names = {f"{vendor}_{name}" if name in KVM_X86_OPS else name for name in names}
            self.assertTrue(names)
            self.assertEqual(names - defined, set())

    def test_states(self):
        """the states of the latch, what moves it and what is lent are those of the C code"""
        header = "".join((KVM / "svm" / name).read_text() for name in ("nmi.h", "latch.h"))
        model = (HERE / "svm.pml").read_text()
        for enum, left_out in (("nmi_state", []), ("latch_event", []), ("nmi_want", []),
                               ("nmi_loan", ["STEP_SHADOW_POPS", "STEP_SHADOW_SYSCALL", "STEP_SHADOW_SYSRET"])):
            body = re.search(rf"^enum {enum} {{(.*?)^}}", header, re.M | re.S).group(1)
            states = re.search(rf"/\* enum {enum} \*/\nmtype = {{(.*?)}}", model).group(1)
            self.assertEqual(re.findall(r"\w+", states) + left_out, re.findall(r"^\t(\w+),", body, re.M))


if __name__ == "__main__":
    unittest.main()
