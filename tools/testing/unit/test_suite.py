# SPDX-License-Identifier: GPL-2.0-only
"""scripts/suite, with an apt that consists of two shell scripts."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# A suite exists if it is in "suites"; the machine's own apt and each suite know the
# kernels in the file of that name.
TOOLS = {
    "apt-get": '''case $1 in
        indextargets)
            case "$*" in
            *"Label: Debian-Security"*) echo "http://security/ main" ;;
            *"Label: Debian"*) [ -e "$ARCHIVE/foreign" ] || echo "http://site/ main" ;;
            esac ;;
        *)
            echo update >>"$ARCHIVE/log"
            suite=$(awk '{ print $(NF - 1) }' "${APT_CONFIG%apt.conf}sources.list")
            [ ! -e "$ARCHIVE/offline" ] && grep -qxF "$suite" "$ARCHIVE/suites" ;;
        esac''',
    "apt-cache": '''suite=machine
        [ -z "$APT_CONFIG" ] || suite=$(basename "$(dirname "$APT_CONFIG")")
        case $1 in
        pkgnames) grep "^$2" "$ARCHIVE/$suite" ;;
        show) grep -xF "$2" "$ARCHIVE/$suite" ;;
        esac 2>/dev/null''',
}


class Suite(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.archive = Path(temporary.name)
        for folder in "bin", "tree/scripts":
            (self.archive / folder).mkdir(parents=True)
        shutil.copy(ROOT / "scripts/suite", self.archive / "tree/scripts")
        for name, body in TOOLS.items():
            tool = self.archive / "bin" / name
            tool.write_text(f"#!/bin/sh\n{body}\n")
            tool.chmod(0o755)
        self.write("log", "")
        self.write("machine", "linux-image-6.1.0-1-amd64\n")
        self.write("trixie-backports", "linux-image-7.3.4+deb13-amd64\n")
        self.write("suites", "trixie\ntrixie-security\ntrixie-backports\n")

    def write(self, name, text):
        (self.archive / name).write_text(text)

    def suite(self, *arguments):
        env = {name: value for name, value in os.environ.items() if name != "APT_CONFIG"}
        env.update(ARCHIVE=str(self.archive), PATH=f"{self.archive}/bin:{env['PATH']}")
        done = subprocess.run([self.archive / "tree/scripts/suite", *arguments], env=env, text=True,
                              capture_output=True)
        return done.returncode, done.stdout.strip(), done.stderr

    def where(self, *arguments):
        """The suite whose apt a command gets: the name of the folder of its configuration."""
        status, said, errors = self.suite(*arguments, "sh", "-c", 'echo "${APT_CONFIG:-machine}"')
        self.assertEqual(status, 0, errors)
        return said if said == "machine" else Path(said).parent.name

    def updates(self):
        return (self.archive / "log").read_text().count("update")

    def test_site(self):
        """a suite is looked for where the machine's packages come from, its security fixes where those do"""
        for suite, site in ("trixie", "http://site/"), ("trixie-security", "http://security/"):
            self.assertEqual(self.where(suite), suite)
            sources = (self.archive / "tree/build/apt" / suite / "sources.list").read_text().split()
            self.assertEqual(sources[-3:], [site, suite, "main"])

    def test_lists_once(self):
        """the lists are fetched once a day, and old ones do while there is no network"""
        self.where("trixie")
        self.where("trixie")
        self.assertEqual(self.updates(), 1)
        os.utime(self.archive / "tree/build/apt/trixie/updated", (0, 0))
        (self.archive / "offline").touch()
        self.assertEqual(self.where("trixie"), "trixie")
        self.assertEqual(self.updates(), 2)

    def test_for(self):
        """a kernel is taken from the machine's apt if that knows it, else from a suite that does"""
        self.assertEqual(self.where("--for", "6.1"), "machine")
        self.assertEqual(self.where("--for", "6.1.0-1-amd64"), "machine")
        self.assertEqual(self.where("--for", "7.3"), "trixie-backports")
        self.assertEqual(self.where("--for", "7.3.4+deb13-amd64"), "trixie-backports")

    def test_for_nothing(self):
        """for a kernel that nobody knows the command says so itself, with the machine's apt"""
        self.assertEqual(self.where("--for", "7.3.9+deb13-amd64"), "machine")
        self.assertEqual(self.where("--for", "5.10"), "machine")

    def test_no_suite(self):
        """a suite that is not there leaves a line and nothing else"""
        for suite, said in ("nonsense", "cannot fetch the packages of nonsense"), ("../x", "no suite '../x'"):
            status, _, errors = self.suite(suite, "true")
            self.assertEqual(status, 1)
            self.assertIn(f"suite: {said}" if suite == "nonsense" else said, errors)
            self.assertEqual(list(self.archive.glob("tree/build/apt/*")), [])

    def test_foreign(self):
        """on a machine whose packages are not Debian's it says so"""
        (self.archive / "foreign").touch()
        status, _, errors = self.suite("trixie", "true")
        self.assertEqual(status, 1)
        self.assertIn("no packages of Debian", errors)
        self.assertEqual(self.where("--for", "7.3"), "machine")

    def test_known(self):
        """each supported series has suites, and each of those belongs to a release"""
        supported = subprocess.run([ROOT / "scripts/kernel", "--supported"], text=True, capture_output=True, check=True)
        for series in supported.stdout.split():
            status, release, _ = self.suite("--release", series)
            self.assertEqual(status, 0)
            self.assertIn(release, self.suite("--known")[1].replace("-", "\n").split())


if __name__ == "__main__":
    unittest.main()
