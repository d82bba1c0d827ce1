# SPDX-License-Identifier: GPL-2.0-only
"""scripts/deps tells a user without root what to install: each package once, and a
kernel's only for what builds modules."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ASKED = "deps: missing packages; run: sudo apt-get install --no-install-recommends --allow-downgrades "

# A machine with nothing, and an apt that has everything.
TOOLS = {
    "id": "echo 1000",
    "dpkg-query": "exit 1",
    "apt-cache": 'test "$1" = show || echo "  Candidate: 6.1.1-1"',
    "find": "echo lists",
}


class Deps(unittest.TestCase):
    def asked(self, *purposes):
        """The packages that it asks for."""
        with tempfile.TemporaryDirectory() as folder:
            for name, script in TOOLS.items():
                tool = Path(folder, name)
                tool.write_text(f"#!/bin/sh\n{script}\n")
                tool.chmod(0o755)
            environment = {name: value for name, value in os.environ.items() if name not in ("KVER", "KDIR", "SRC")}
            done = subprocess.run([ROOT / "scripts/deps", *purposes], text=True, capture_output=True,
                                  env=environment | {"PATH": f"{folder}:{environment['PATH']}"})
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith(ASKED), done.stderr)
        return done.stderr.removeprefix(ASKED).split()

    def test_once(self):
        """a package that several purposes need is named once"""
        packages = self.asked()
        self.assertIn("gcc", packages)
        self.assertEqual(sorted(packages), sorted(set(packages)))

    def test_no_kernel(self):
        """what builds no module asks for no kernel; what does asks for headers and source"""
        self.assertEqual(self.asked("docs"), ["python3-sphinx"])
        self.assertEqual(self.asked("fresh"), ["debootstrap", "python3"])
        kernel = [package for package in self.asked("build") if package.startswith("linux-")]
        self.assertRegex(" ".join(kernel), r"^linux-headers-\S+ linux-source-6\.1=6\.1\.1-1$")


class NoApt(unittest.TestCase):
    """Where there is no apt, commands are what can be looked for."""

    HAS = ("sh", "dirname", "id", "rm", "awk", "sed", "grep", "cut", "uname", "cat", "basename", "sort", "tail", "uniq",
           "git")

    def test_commands(self):
        """the commands that are missing are named, once, and nothing when all are there"""
        with tempfile.TemporaryDirectory() as folder:
            for name in self.HAS:
                Path(folder, name).symlink_to(shutil.which(name))
            environment = {name: value for name, value in os.environ.items() if name not in ("KVER", "KDIR", "SRC")}
            environment["PATH"] = folder

            def deps(*purposes):
                done = subprocess.run([ROOT / "scripts/deps", *purposes], text=True, env=environment,
                                      capture_output=True)
                return done.returncode, done.stdout + done.stderr

            status, said = deps("patches", "lint")
            self.assertEqual((status, said), (1, "deps: there is no apt here; install what has these: perl sparse "
                                                 "shellcheck pyflakes3 pycodestyle\n"))
            Path(folder, "perl").symlink_to("/bin/true")
            self.assertEqual(deps("patches"), (0, ""))


if __name__ == "__main__":
    unittest.main()
