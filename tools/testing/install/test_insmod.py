# SPDX-License-Identifier: GPL-2.0-only
"""What insmod says of values and CPUs that the modules do not take."""

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
ROOT = TESTING.parents[1]
sys.path.insert(0, str(TESTING / "harness"))

from place import output_of

EINVAL = 22

# busybox's insmod returns the error number as its status, and tries twice, by
# both system calls: two lines are one for each.
VALUES = """
for value in 0 60001 ten 1 60000; do
	dmesg -c >/dev/null
	reload-module soft_vnmi_timeout_ms=$value >/dev/null 2>&1
	echo "value $value status $? now $(cat /sys/module/kvm_intel/parameters/soft_vnmi_timeout_ms 2>/dev/null) \\
said $(dmesg | grep -c "kvm_intel: .$value. invalid for parameter .soft_vnmi_timeout_ms")"
done
"""

OTHER_CPU = """
rmmod kvm_amd
insmod ./kvm-intel.ko; echo "status $?"
echo "left $(lsmod | grep -c ^kvm_intel)"
"""


def on_host(host, *arguments):
    if host not in (os.environ.get("HOSTS") or host).split():
        raise unittest.SkipTest(f"HOSTS leaves out {host}")
    return output_of([TESTING / "hosts/run", host, *arguments], stderr=subprocess.STDOUT)[1]


class Parameters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.output = on_host("intel-soft", "--", VALUES)

    def check(self, value, expected):
        self.assertRegex(self.output, rf"(?m)^value {re.escape(value)} {expected}$")

    def test_refused(self):
        """a timeout out of range is refused with EINVAL and one line in the log"""
        for value in "0", "60001", "ten":
            with self.subTest(value):
                self.check(value, rf"status {EINVAL} now  said [12]")

    def test_taken(self):
        """the bounds of its range are taken"""
        for value in "1", "60000":
            with self.subTest(value):
                self.check(value, rf"status 0 now {value} said 0")


class OtherCpu(unittest.TestCase):
    def test_refused(self):
        """kvm-intel.ko on an AMD CPU gets the kernel's own error and leaves nothing behind"""
        module = ROOT / "build" / os.environ["KVER"] / "kvm-intel.ko"
        output = on_host("amd", "--with", module, "--", OTHER_CPU)
        self.assertIn("not supported", output)
        self.assertRegex(output, r"(?m)^status [1-9]")
        self.assertRegex(output, r"(?m)^left 0$")
