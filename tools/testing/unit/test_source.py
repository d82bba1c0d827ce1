# SPDX-License-Identifier: GPL-2.0-only
"""The kernel to build for is chosen, and its source unpacked, or refused."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
KVER = os.environ["KVER"]
PACKAGE = "linux-source-" + ".".join(KVER.split(".")[:2])
FETCHED = ROOT / "build" / KVER / "headers"
TRUNCATED = 4 << 20


def setUpModule():
    if os.environ.get("KDIR"):
        raise unittest.SkipTest("sources of Debian's kernels: KDIR= has a source of its own")


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
        # From a package fetched with the headers, the one that is installed, or one fetched for its headers.
        own = run("scripts/unpack-source", "--tarball")[1].strip()
        if IS_FETCHED:
            repair = f"make deps KVER={KVER}"
        elif own.startswith("/usr/"):
            repair = f"apt-get install --reinstall {PACKAGE}="
        else:
            repair = f"rm -r {ROOT}/build/{KVER}/source"
        self.assertRegex(errors.splitlines()[-1],
                         rf"^unpack-source: {tarball} is damaged or incomplete, .*: .*{re.escape(repair)}")
        self.assert_nothing_unpacked()


class OtherVersion(unittest.TestCase):
    """The source that is installed is not the one of the headers; a folder of our own, and an apt."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name, "root")
        self.bin = Path(folder.name, "bin")
        self.build = self.root / "build" / KVER
        for path in self.root / "scripts", self.bin, self.build:
            path.mkdir(parents=True)
        for name in "unpack-source", "kernel", "fetch-packages":
            shutil.copy2(ROOT / "scripts" / name, self.root / "scripts")
        if IS_FETCHED:
            (self.build / "headers/usr").mkdir(parents=True)
            for path in (FETCHED / "usr").iterdir():
                (self.build / "headers/usr" / path.name).symlink_to(path)
        self.version = (HEADERS / "include/generated/package.h").read_text().split('"')[1].split()[1]
        self.tool("dpkg-query", "echo 1.2.3-4")
        self.tool("apt-cache", "echo ' linux-source | 1.2.3-4 | a suite'")
        self.tool("apt-get", "exit 1")

    def tool(self, name, text):
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def unpack(self, dest):
        return run(self.root / "scripts/unpack-source", dest, PATH=f"{self.bin}:{os.environ['PATH']}")

    def test_nowhere(self):
        """where apt does not have the right one either, both versions are named, and what to do"""
        for dest in self.build / "src", "--check":
            status, _, errors = self.unpack(dest)
            self.assertNotEqual(status, 0)
            self.assertRegex(errors, rf"^unpack-source: the headers of {re.escape(KVER)} are version "
                                     rf"{re.escape(self.version)}, {PACKAGE} is 1\.2\.3-4, and apt knows no {PACKAGE} "
                                     rf"{re.escape(self.version)}: run sudo apt-get update; .*full-upgrade.*\n$")
        self.assertFalse((self.build / "src").exists())

    def test_unpacked_already(self):
        """the right one is used where it has been unpacked, whatever was installed since"""
        (self.build / "src").mkdir()
        (self.build / "src/.version").write_text(self.version + "\n")
        for dest in self.build / "src", "--check":
            self.assertEqual(self.unpack(dest), (0, "", ""))
        (self.build / "src/.version").write_text("1.2.3-3\n")
        self.assertNotEqual(self.unpack("--check")[0], 0)

    def test_fetched(self):
        """the right one is fetched, as data, if apt has it"""
        self.tool("apt-cache", f"echo ' {PACKAGE} | {self.version} | a suite'")
        self.assertEqual(self.unpack("--check"), (0, "", ""))
        self.assertFalse((self.build / "source").exists())
        tree = self.root / "deb/usr/src" / PACKAGE
        members = re.search(r'\nmembers="(.*?)"', (ROOT / "scripts/unpack-source").read_text(), re.S)[1].split()
        for name in members:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text("of this version\n")
        subprocess.run(["tar", "-cJf", f"{PACKAGE}.tar.xz", PACKAGE], cwd=tree.parent, check=True)
        shutil.rmtree(tree)
        control = self.root / "deb/DEBIAN/control"
        control.parent.mkdir()
        control.write_text(f"Package: {PACKAGE}\nVersion: {self.version}\nArchitecture: all\n"
                           "Maintainer: nobody\nDescription: -\n")
        self.tool("apt-get", f"""case "$*" in
            *"download {PACKAGE}={self.version}") dpkg-deb -b {self.root}/deb . >/dev/null ;;
            *) exit 1 ;; esac""")
        status, output, errors = self.unpack(self.build / "src")
        self.assertEqual(status, 0, errors)
        self.assertEqual((self.build / "src/arch/x86/kvm").read_text(), "of this version\n")
        self.assertEqual((self.build / "src/.version").read_text(), self.version + "\n")
        # From now on it is there.
        self.tool("apt-get", "exit 1")
        self.assertEqual(self.unpack("--tarball"), (0, f"{self.build}/source/usr/src/{PACKAGE}.tar.xz\n", ""))

    def test_not_fetched(self):
        """where it cannot be fetched that is said, and nothing stays"""
        self.tool("apt-cache", f"echo ' {PACKAGE} | {self.version} | a suite'")
        status, _, errors = self.unpack(self.build / "src")
        self.assertNotEqual(status, 0)
        self.assertIn(f"fetch-packages: cannot download {PACKAGE} {self.version}: check the network", errors)
        self.assertFalse((self.build / "src").exists())


if __name__ == "__main__":
    unittest.main()
