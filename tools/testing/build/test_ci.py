# SPDX-License-Identifier: GPL-2.0-only
""".ci/run checks every supported kernel, and believes none that did not report."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

KERNEL = """#!/bin/sh
case ${1:-} in --supported) printf '6.1\\n6.12\\n' ;; *) echo 6.1.0-1-amd64 ;; esac
"""


class CI(unittest.TestCase):
    """.ci/run in a folder of its own, with a make that prints what it is told."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for name in ".ci", "scripts", "bin":
            (self.root / name).mkdir()
        shutil.copy(ROOT / ".ci/run", self.root / ".ci")
        self.script("scripts/kernel", KERNEL)

    def script(self, name, text):
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def run_ci(self, own, other):
        """Status and last line, when make does OWN for the own kernel and OTHER for 6.12."""
        self.script("bin/make", f"#!/bin/sh\necho make \"$@\" >>{self.root}/log\n"
                                f"case $* in lint) ;; *KVER=6.12) {other} ;; *) {own} ;; esac\n")
        done = subprocess.run([self.root / ".ci/run"], text=True, capture_output=True,
                              env=os.environ | {"PATH": f"{self.root}/bin:{os.environ['PATH']}"})
        return done.returncode, done.stdout.splitlines()[-1]

    def test_all(self):
        """each kernel is checked once, and the last line adds up"""
        good = "echo 5 passed, 0 failed, 1 skipped"
        self.assertEqual(self.run_ci(good, good), (0, "10 passed, 0 failed, 2 skipped"))
        self.assertEqual((self.root / "log").read_text(), "make lint\nmake check\nmake check KVER=6.12\n")

    def test_failed(self):
        """a failed test of either kernel is a failure, and the other is checked all the same"""
        good = "echo 5 passed, 0 failed, 1 skipped"
        bad = "echo 3 passed, 2 failed, 0 skipped; echo make: Error; exit 2"
        self.assertEqual(self.run_ci(bad, good), (1, "8 passed, 2 failed, 1 skipped"))
        self.assertEqual(self.run_ci(good, bad), (1, "8 passed, 2 failed, 1 skipped"))

    def test_no_totals(self):
        """make check that ends without totals, without a test or with a status is a failure"""
        good = "echo 5 passed, 0 failed, 1 skipped"
        for bad in ("exit 2", ":", "echo 0 passed, 0 failed, 7 skipped",
                    "echo 4 passed, 0 failed, 7 skipped; exit 1"):
            status, last = self.run_ci(good, bad)
            self.assertEqual(status, 1, bad)
            self.assertIn(" 1 failed, ", last)


if __name__ == "__main__":
    unittest.main()
