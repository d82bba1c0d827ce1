# SPDX-License-Identifier: GPL-2.0-only
"""What was built: two modules that the distribution's kvm.ko will take."""

import os
import resource
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
KVER = os.environ["KVER"]
BUILD = ROOT / "build" / KVER
MODULES = ("kvm-intel", "kvm-amd")


def modinfo(module, field):
    return subprocess.run(["modinfo", "-F", field, BUILD / f"{module}.ko"], text=True,
                          check=True, capture_output=True).stdout.splitlines()


class Modules(unittest.TestCase):
    def test_version(self):
        """both modules have a version, and the same"""
        versions = [modinfo(module, "version") for module in MODULES]
        self.assertTrue(versions[0])
        self.assertEqual(versions[0], versions[1])

    def test_kernel(self):
        """both are for the target kernel and use its kvm.ko"""
        for module in MODULES:
            self.assertEqual(modinfo(module, "vermagic")[0].split()[0], KVER)
            self.assertIn("kvm", modinfo(module, "depends")[0].split(","))

    def test_parameters(self):
        """each parameter of ours has a description, and each description a parameter"""
        for module, ours in (("kvm-amd", {"vnmi", "nested_vnmi"}),
                             ("kvm-intel", {"vnmi", "soft_vnmi_timeout_ms"})):
            described = [line.partition(":") for line in modinfo(module, "parm")]
            told = {name for name, _, text in described if not text.strip().startswith("(")}
            self.assertLessEqual(ours, told, module)
            # Without one modinfo prints no type.
            self.assertEqual([name for name, _, text in described if not text.endswith(")")], [], module)

    def test_nothing_else(self):
        """no other module is built"""
        built = sorted(path.stem for path in (BUILD / "graft").rglob("*.ko"))
        self.assertEqual(built, sorted(MODULES))

    def test_up_to_date(self):
        """make with nothing changed does nothing, in no more CPU time than it takes to look"""
        looks, _ = self.cpu_of_make("help")
        used, said = self.cpu_of_make()
        if os.environ.get("KDIR"):
            # Each time it is looked whether that source has changed.
            self.assertEqual(said, "")
            return
        self.assertEqual(said, "make: Nothing to be done for 'all'.\n")
        self.assertLess(used, 3 * looks + 0.1)

    @staticmethod
    def cpu_of_make(*targets):
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(["make", *targets], cwd=ROOT, env=env, text=True, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


if __name__ == "__main__":
    unittest.main()
