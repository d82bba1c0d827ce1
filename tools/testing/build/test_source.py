# SPDX-License-Identifier: GPL-2.0-only
"""The kernel to build for is chosen, and its source unpacked, or refused."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
KVER = os.environ["KVER"]
PACKAGE = "linux-source-" + ".".join(KVER.split(".")[:2])
TARBALL = Path(f"/usr/src/{PACKAGE}.tar.xz")
TRUNCATED = 4 << 20


def run(*command, **environment):
    """Status, output and errors of a command that is not part of a running make."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, env=env | environment)
    return done.returncode, done.stdout, done.stderr


class ChosenKernel(unittest.TestCase):
    def test_asked_for(self):
        """the kernel asked for is built if its headers are there"""
        self.assertEqual(run("scripts/kernel"), (0, KVER + "\n", ""))

    def test_unknown(self):
        """an unknown kernel is refused with those that could be built"""
        status, output, errors = run("make", "KVER=9.9")
        self.assertNotEqual(status, 0)
        self.assertEqual(output, "")
        self.assertRegex(errors, rf"^kernel: no headers for '9\.9'; can be built:.* {re.escape(KVER)}(\s|$)")


class Source(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.dest = self.folder / "src"

    def assert_nothing_unpacked(self):
        self.assertEqual([path.name for path in self.folder.iterdir() if path.name.startswith("src")], [])

    def test_truncated(self):
        """a truncated tarball is named, and nothing of it stays"""
        tarball = self.folder / "cut.tar.xz"
        with open(TARBALL, "rb") as whole:
            tarball.write_bytes(whole.read(TRUNCATED))
        status, _, errors = run("scripts/unpack-source", self.dest, tarball)
        self.assertNotEqual(status, 0)
        self.assertIn(f"unpack-source: {tarball} is damaged or incomplete: "
                      f"apt-get install --reinstall {PACKAGE}=", errors.splitlines()[-1])
        self.assert_nothing_unpacked()

    def test_other_version(self):
        """a source of another version than the headers is refused with both"""
        headers = Path(f"/lib/modules/{KVER}/build/include/generated/package.h").read_text()
        version = headers.split('"')[1].split()[1]
        dpkg = self.folder / "dpkg-query"
        dpkg.write_text("#!/bin/sh\necho 1.2.3-4\n")
        dpkg.chmod(0o755)
        status, _, errors = run("scripts/unpack-source", self.dest,
                                PATH=f"{self.folder}:{os.environ['PATH']}")
        self.assertNotEqual(status, 0)
        self.assertEqual(errors, f"unpack-source: the headers of {KVER} are version {version}, "
                                 f"{PACKAGE} is 1.2.3-4: apt-get install {PACKAGE}={version}\n")
        self.assert_nothing_unpacked()


if __name__ == "__main__":
    unittest.main()
