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
FETCHED = ROOT / "build" / KVER / "headers"
TRUNCATED = 4 << 20


def run(*command, **environment):
    """Status, output and errors of a command that is not part of a running make."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, env=env | environment)
    return done.returncode, done.stdout, done.stderr


HEADERS = Path(run("scripts/kernel", "--headers")[1].strip())
IS_FETCHED = HEADERS.is_relative_to(FETCHED)
TARBALL = (FETCHED if IS_FETCHED else Path("/")) / f"usr/src/{PACKAGE}.tar.xz"


class ChosenKernel(unittest.TestCase):
    def test_asked_for(self):
        """the kernel asked for is built if its headers are there"""
        self.assertEqual(run("scripts/kernel"), (0, KVER + "\n", ""))

    def test_series(self):
        """a series stands for its newest kernel with headers"""
        series = ".".join(KVER.split(".")[:2])
        status, newest, errors = run("scripts/kernel", KVER=series)
        self.assertEqual((status, errors), (0, ""))
        self.assertTrue(newest.startswith(series + "."))

    def test_unknown(self):
        """an unknown kernel is refused with those that could be built"""
        series = ".".join(KVER.split(".")[:2])
        status, output, errors = run("make", f"KVER={series}.999-amd64")
        self.assertNotEqual(status, 0)
        self.assertEqual(output, "")
        self.assertRegex(errors, rf"^kernel: no headers for '{series}\.999-amd64'; "
                                 rf"can be built:.* {re.escape(KVER)}(\s|$)")

    def test_unsupported(self):
        """a kernel of another series is refused with those that are supported"""
        supported = run("scripts/kernel", "--supported")[1].split()
        for target in "modules", "selftests", "deps":
            for kver in "6.99.9-amd64", "6", "newest":
                status, output, errors = run("make", target, f"KVER={kver}")
                self.assertNotEqual(status, 0)
                self.assertEqual(output, "")
                self.assertIn(f"{kver} is not supported, only {' '.join(supported)}", errors.splitlines()[0])


class FetchedHeaders(unittest.TestCase):
    def test_default(self):
        """headers that were fetched do not change what plain make builds"""
        default = run("scripts/kernel", KVER="")[1].strip()
        headers = run("scripts/kernel", "--headers", KVER=default)[1]
        installed = [path for path in Path("/lib/modules").glob("*/build") if (path / "Module.symvers").exists()]
        self.assertEqual(str(ROOT) not in headers, bool(installed))


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
        repair = f"make deps KVER={KVER}" if IS_FETCHED else f"apt-get install --reinstall {PACKAGE}="
        self.assertRegex(errors.splitlines()[-1],
                         rf"^unpack-source: {tarball} is damaged or incomplete: .*{re.escape(repair)}")
        self.assert_nothing_unpacked()

    def test_other_version(self):
        """a source of another version than the headers is refused with both"""
        if IS_FETCHED:
            self.skipTest("the source of this kernel is fetched together with its headers")
        version = (HEADERS / "include/generated/package.h").read_text().split('"')[1].split()[1]
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
