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


class Possible(unittest.TestCase):
    """What an old kernel's modules cannot be built of is told before anything is installed."""

    RUNNING = "6.1.0-20-amd64"

    def deps(self, *arguments, running=RUNNING, has="", installed="", **environment):
        """Status and words of it, where apt has these packages, NAME=VERSION, and these are installed."""
        with tempfile.TemporaryDirectory() as folder:
            tools = {
                "id": "echo 0",
                "uname": f"echo {running}",
                "find": "echo lists",
                "dpkg-query": 'for package; do :; done; for one in $INSTALLED; do case $one in "$package="*) '
                              'echo "installed ${one#*=}";; esac; done',
                "apt-cache": """
                    for package; do :; done
                    for one in $HAS; do
                        case $1-$one in
                        policy-"$package="*) echo "  Candidate: ${one#*=}" ;;
                        show-"$package") exit 0 ;;
                        esac
                    done
                    [ "$1" != show ]""",
                "apt-get": f'echo "apt-get $*" >>{folder}/asked; echo "E: gone" >&2; exit 1',
            }
            for name, script in tools.items():
                tool = Path(folder, name)
                tool.write_text(f"#!/bin/sh\n{script}\n")
                tool.chmod(0o755)
            # A checkout of its own, where nothing is unpacked yet, of a machine that has no headers to build for.
            scripts = Path(folder, "scripts")
            scripts.mkdir()
            for name in "deps", "suite", "newest-kernel":
                (scripts / name).symlink_to(ROOT / "scripts" / name)
            (scripts / "kernel").write_text(f'#!/bin/sh\n[ "$1" = --supported ] && {ROOT}/scripts/kernel "$1"\n')
            (scripts / "kernel").chmod(0o755)
            plain = {name: value for name, value in os.environ.items() if name not in ("KVER", "KDIR", "SRC")}
            done = subprocess.run([f"{folder}/scripts/deps", *arguments], text=True, capture_output=True,
                                  env=plain | {"PATH": f"{folder}:{plain['PATH']}", "HAS": has, "INSTALLED": installed,
                                               **environment})
            asked = Path(folder, "asked")
            self.assertFalse("--possible" in arguments and asked.exists())
        return done.returncode, done.stderr

    def possible(self, **kwargs):
        running = kwargs.get("running", self.RUNNING)
        return self.deps("--possible", "build", KVER=running, CALLER="report", **kwargs)

    def test_possible(self):
        """nothing is said of a kernel whose headers and source can be had"""
        has = f"linux-headers-{self.RUNNING}=6.1.85-1 linux-source-6.1=6.1.85-1"
        self.assertEqual(self.possible(has=has), (0, ""))

    def test_gone(self):
        """headers or source of the running kernel that are gone: only a newer kernel helps"""
        newer = "linux-headers-amd64=6.1.192-3 linux-source-6.1=6.1.192-3"
        again = (f" of the running kernel {self.RUNNING}: sudo apt update && sudo apt upgrade, reboot into the newer "
                 "kernel, then the same again")
        self.assertEqual(self.possible(has=newer), (1, f"report: apt no longer has the headers{again}\n"))
        headers = f"linux-headers-{self.RUNNING}=6.1.85-1"
        self.assertEqual(self.possible(has=f"{newer} {headers}", installed=headers),
                         (1, f"report: apt no longer has the source (6.1.85-1){again}\n"))
        # The same for what builds with it.
        self.assertEqual(self.deps("build", has=f"{newer} {headers}", installed=headers),
                         (1, f"deps: apt no longer has the source (6.1.85-1){again}, or choose another kernel with "
                             "KVER=\n"))

    def test_unsupported(self):
        """a kernel of another series is refused before its headers are installed"""
        running = "6.16.3+deb13-amd64"
        has = f"linux-headers-{running}=6.16.3-1~bpo13+1 linux-source-6.16=6.16.3-1~bpo13+1"
        self.assertEqual(self.possible(running=running, has=has),
                         (1, f"report: {running} is not supported, only 6.1 6.12 7.3\n"))
        # Without KVER= what Debian has for everybody is built for, if that is one.
        self.assertEqual(self.deps("--possible", "build", running=running,
                                   has=f"{has} linux-headers-amd64=6.16.3-1~bpo13+1"),
                         (1, "deps: 6.16.3-1~bpo13+1 is not supported, only 6.1 6.12 7.3\n"))
        self.assertEqual(self.deps("--possible", "build", running=running,
                                   has=f"{has} linux-headers-amd64=6.12.1-1 linux-source-6.12=6.12.1-1"), (0, ""))


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
