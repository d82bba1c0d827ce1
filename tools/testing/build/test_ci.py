# SPDX-License-Identifier: GPL-2.0-only
""".ci/run tests in a root of each release, and believes none that did not report."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class CI(unittest.TestCase):
    """.ci/run in a folder of its own, with a make that prints what it is told."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for name in ".ci", "bin":
            (self.root / name).mkdir()
        shutil.copy(ROOT / ".ci/run", self.root / ".ci")
        self.script("bin/debootstrap", "#!/bin/sh\n")

    def script(self, name, text):
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def run_ci(self, bookworm, trixie, lint=":"):
        """Status and last line, when make does this in a root of each release, and that for lint."""
        self.script("bin/make", f"#!/bin/sh\necho make \"$@\" >>{self.root}/log\n"
                                f"case $* in lint) {lint} ;;"
                                f" *bookworm*) {bookworm} ;; *) {trixie} ;; esac\n")
        done = subprocess.run([self.root / ".ci/run"], text=True, capture_output=True,
                              env=os.environ | {"PATH": f"{self.root}/bin:{os.environ['PATH']}"})
        self.said = done.stdout.splitlines()
        return done.returncode, self.said[-1]

    GOOD = "echo 5 passed, 0 failed, 1 skipped"

    def test_all(self):
        """each release is tested once, the last line adds up, and before it are times"""
        self.assertEqual(self.run_ci(self.GOOD, self.GOOD), (0, "11 passed, 0 failed, 2 skipped"))
        parts = "make lint", "make check-fresh RELEASE=bookworm", "make check-fresh RELEASE=trixie"
        for made, said, part in zip((self.root / "log").read_text().splitlines(), self.said[-4:-1], parts):
            self.assertTrue(made.startswith(part), made)
            self.assertRegex(said, rf"^ci: {part}.* took \d+ s$")

    def test_failed(self):
        """a failed test of either release is a failure, and the other is tested all the same"""
        bad = "echo 3 passed, 2 failed, 0 skipped; echo make: Error; exit 2"
        self.assertEqual(self.run_ci(bad, self.GOOD), (1, "9 passed, 2 failed, 1 skipped"))
        self.assertEqual(self.run_ci(self.GOOD, bad), (1, "9 passed, 2 failed, 1 skipped"))

    def test_lint(self):
        """what lint finds is one failure"""
        self.assertEqual(self.run_ci(self.GOOD, self.GOOD, "exit 2"), (1, "10 passed, 1 failed, 2 skipped"))

    def test_no_totals(self):
        """a part that ends without totals, without a test or with a status is a failure"""
        for bad in ("exit 2", ":", "echo 0 passed, 0 failed, 7 skipped",
                    "echo 4 passed, 0 failed, 7 skipped; exit 1"):
            status, last = self.run_ci(self.GOOD, bad)
            self.assertEqual(status, 1, bad)
            self.assertIn(" 1 failed, ", last)


class FreshCheck(unittest.TestCase):
    """tools/testing/fresh/check with a git and a chroot that only take notes."""

    def run_check(self, made):
        """Status and output, when make in the root does as told."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("git", "mkdir -p $root/root/kvm-nmi"),
                               ("chroot", f'for last; do :; done; make() {{ {made}; }}; eval "${{last#*&& }}"')):
                tool = Path(folder, name)
                tool.write_text(f"#!/bin/sh\n[ ${{1:-}} != status ] || exit 0\n{text}\n")
                tool.chmod(0o755)
            done = subprocess.run([ROOT / "tools/testing/fresh/check"], text=True, capture_output=True,
                                  env=os.environ | {"root": folder, "release": "trixie",
                                                    "PATH": f"{folder}:{os.environ['PATH']}"})
        return done.returncode, done.stdout.splitlines()

    def test_commands(self):
        """README's two commands run, one after the other, and the totals are of both"""
        status, said = self.run_check('[ $1 = demo ] || echo "4 passed, 0 failed, 2 skipped"')
        self.assertEqual((status, said[-1]), (0, "5 passed, 0 failed, 2 skipped"))
        self.assertRegex(said[-3], "^fresh: trixie: make demo took [0-9]+ s$")
        self.assertRegex(said[-2], "^fresh: trixie: make check took [0-9]+ s$")

    def test_failures(self):
        """a command that fails, or reports nothing that passed, is a failure"""
        for made, last in (("[ $1 = check ] && echo 4 passed, 0 failed, 2 skipped", "4 passed, 1 failed, 2 skipped"),
                           ("[ $1 = demo ] || { echo 4 passed, 3 failed, 2 skipped; false; }",
                            "5 passed, 3 failed, 2 skipped"),
                           ("[ $1 = demo ] || { echo 4 passed, 0 failed, 2 skipped; false; }",
                            "5 passed, 1 failed, 2 skipped"),
                           ("[ $1 = demo ]", "1 passed, 1 failed, 0 skipped")):
            with self.subTest(made):
                status, said = self.run_check(made)
                self.assertEqual((status, said[-1]), (1, last))


if __name__ == "__main__":
    unittest.main()
