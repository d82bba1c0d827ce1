# SPDX-License-Identifier: GPL-2.0-only
"""tools/testing/check believes no host that did not report its tests."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]

GOOD = """\
# nmi_some_test
TAP version 13
1..2
ok 1 an NMI comes
ok 2 # SKIP a third one: this CPU has no third one
# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:1 error:0
# nmi_some_test: status 0
"""

BAD = """\
# nmi_some_test
TAP version 13
1..2
ok 1 an NMI comes
# expected 1, seen 2
not ok 2 it comes once
# nmi_some_test: status 1
"""


class Check(unittest.TestCase):
    """check in a folder of its own, where hosts/run prints a record."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.testing = Path(folder.name, "tools/testing")
        (self.testing / "hosts").mkdir(parents=True)
        (self.testing / "selftests/kvm/x86").mkdir(parents=True)
        (self.testing / "selftests/kvm/x86/nmi_some_test.c").touch()
        for name in ("check", "suite.py", "tap.py"):
            shutil.copy(TESTING / name, self.testing)

    def check(self, record, status, errors="", hosts="amd"):
        """Run it on hosts that print RECORD and ERRORS and end with STATUS."""
        (self.testing / "record").write_text(record)
        (self.testing / "errors").write_text(errors)
        run = self.testing / "hosts/run"
        run.write_text(f"#!/bin/sh\ncat {self.testing}/record\ncat {self.testing}/errors >&2\nexit {status}\n")
        run.chmod(0o755)
        done = subprocess.run([self.testing / "check"], text=True, capture_output=True,
                              env=os.environ | {"HOSTS": hosts})
        return done.returncode, done.stdout.splitlines()

    def test_good(self):
        """a good record is one line a test and the totals"""
        status, lines = self.check(GOOD, 0)
        self.assertEqual(lines[:2], ["ok amd nmi_some_test: an NMI comes",
                                     "skip amd nmi_some_test: a third one: this CPU has no third one"])
        self.assertEqual(lines[-1], "1 passed, 0 failed, 1 skipped")
        self.assertEqual(status, 0)

    def test_two_hosts(self):
        """totals are those of all hosts, and each host has its own"""
        status, lines = self.check(GOOD, 0, hosts="amd intel")
        self.assertRegex(lines[-3], "^amd: 1 passed, 0 failed, 1 skipped")
        self.assertRegex(lines[-2], "^intel: 1 passed, 0 failed, 1 skipped")
        self.assertEqual(lines[-1], "2 passed, 0 failed, 2 skipped")
        self.assertEqual(status, 0)

    def test_bad(self):
        """a failed test is told with what it printed"""
        status, lines = self.check(BAD, 1)
        self.assertEqual(lines[1:3], ["not ok amd nmi_some_test: it comes once", "    expected 1, seen 2"])
        self.assertEqual(lines[-1], "1 passed, 1 failed, 0 skipped")
        self.assertEqual(status, 1)

    def test_crashed(self):
        """a host that crashes after good tests has failed, with the reason"""
        status, lines = self.check(GOOD, 125, "run: amd: the kernel crashed\n")
        self.assertIn("not ok amd: ended with status 125", lines)
        self.assertIn("    run: amd: the kernel crashed", lines)
        self.assertEqual(lines[-1], "1 passed, 1 failed, 1 skipped")
        self.assertEqual(status, 1)

    def test_silent(self):
        """a host where no test passed has failed, skipped ones or not"""
        for record in ("", "# nmi_some_test\nTAP version 13\n1..0 # SKIP no /dev/kvm\n"):
            with self.subTest(record):
                status, lines = self.check(record, 0)
                self.assertIn("not ok amd: no test passed", lines)
                self.assertEqual(status, 1)

    def test_unknown_variant(self):
        """a table of variants that names no test is refused"""
        (self.testing / "selftests/kvm/variants").write_text("amd vnmi=0 nmi_other_test\n")
        status, lines = self.check(GOOD, 0)
        self.assertNotEqual(status, 0)
        self.assertEqual(lines, [])


if __name__ == "__main__":
    unittest.main()
