# SPDX-License-Identifier: GPL-2.0-only
"""'make help' names each target that people can ask for, and make says at once where it cannot work."""

import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# Parts of others, and "make" itself.
INTERNAL = {"all", "help", "modules", "known-hosts", "report-possible", "iso-parts"}


class Help(unittest.TestCase):
    def test_targets(self):
        """each target has a line, and each line a target"""
        makefile = (ROOT / "Makefile").read_text()
        rules = {name.removeprefix("run-") for line in re.findall(r"(?m)^([a-z][a-z -]*):(?!=)", makefile)
                 for name in line.split()} - INTERNAL
        told = subprocess.run(["make", "-s", "help"], cwd=ROOT, check=True, text=True, capture_output=True).stdout
        self.assertEqual(set(re.findall(r"(?m)^make (\S+) ", told)), rules)


class CheckoutPath(unittest.TestCase):
    def make(self, name):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, name)
            root.mkdir()
            for part in "Makefile", "dkms.conf", "scripts":
                subprocess.run(["cp", "-a", ROOT / part, root], check=True)
            return subprocess.run(["make", "help"], cwd=root, text=True, capture_output=True)

    def test_refused(self):
        """make refuses a path that the kernel's build cannot take, in one line"""
        for name in "with space", "a:b", "a,b", "it's", "a$b", "a#b", "a%b":
            with self.subTest(name):
                done = self.make(name)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertRegex(done.stderr, r"\AMakefile:\d+: \*\*\* the path .*: move the checkout .*\n\Z")

    def test_taken(self):
        """letters of any language are taken, and what else is usual"""
        for name in "größe-日本", "kvm_nmi-0.1+git~1@x":
            with self.subTest(name):
                self.assertIn("make check", self.make(name).stdout)


if __name__ == "__main__":
    unittest.main()
