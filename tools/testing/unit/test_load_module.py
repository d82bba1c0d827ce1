# SPDX-License-Identifier: GPL-2.0-only
"""What stands in the way of 'make load' and 'make report' besides KVM's own virtual machines.

All that needs a machine with KVM is in tools/testing/install/test_load.py."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TOOLS = {"id": "echo 0", "modinfo": '[ "$1" != -n ] || echo /lib/modules/kvm-amd.ko'}


class Beside(unittest.TestCase):
    def check(self, driver="", refcnt=0, holders=()):
        """Status and words of a check where another hypervisor's driver is loaded."""
        with tempfile.TemporaryDirectory() as folder:
            machine = Path(folder, "machine")
            for name in "kvm_amd", *([driver] if driver else []):
                (machine / "sys/module" / name / "holders").mkdir(parents=True)
                (machine / "sys/module" / name / "refcnt").write_text("0\n")
            if driver:
                (machine / "sys/module" / driver / "refcnt").write_text(f"{refcnt}\n")
                for holder in holders:
                    (machine / "sys/module" / driver / "holders" / holder).symlink_to(machine)
            (machine / "proc").mkdir()
            (machine / "proc/cpuinfo").write_text("flags : fpu svm\n")
            for name, script in TOOLS.items():
                tool = Path(folder, name)
                tool.write_text(f"#!/bin/sh\n{script}\n")
                tool.chmod(0o755)
            plain = {name: value for name, value in os.environ.items() if name != "KVER"}
            done = subprocess.run([ROOT / "scripts/load-module", "check"], text=True, capture_output=True,
                                  env=plain | {"PATH": f"{folder}:{plain['PATH']}", "MACHINE": str(machine),
                                               "CALLER": "report"})
        return done.returncode, done.stderr

    def test_alone(self):
        """nothing is in the way of KVM alone, nor is a driver that no virtual machine uses"""
        self.assertEqual(self.check(), (0, ""))
        self.assertEqual(self.check("vmmon"), (0, ""))
        # Those of its networks hold VirtualBox's for as long as the machine runs.
        self.assertEqual(self.check("vboxdrv", 2, ("vboxnetadp", "vboxnetflt")), (0, ""))

    def test_beside(self):
        """a virtual machine of VirtualBox or VMware is"""
        self.assertEqual(self.check("vboxdrv", 3, ("vboxnetadp", "vboxnetflt")),
                         (1, "report: VirtualBox runs virtual machines (vboxdrv is in use): shut them down first\n"))
        self.assertEqual(self.check("vmmon", 1),
                         (1, "report: VMware runs virtual machines (vmmon is in use): shut them down first\n"))


if __name__ == "__main__":
    unittest.main()
