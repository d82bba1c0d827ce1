# SPDX-License-Identifier: GPL-2.0-only
"""'make help' names each target that people can ask for, and make says at once where it cannot work."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# Parts of others, and "make" itself.
INTERNAL = {"all", "help", "modules", "known-host", "known-hosts", "known-stock", "report-possible", "iso-parts"}


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


class Settings(unittest.TestCase):
    """HOST and NAME are what is said to make, and not what a shell or a system has set them to."""

    def make(self, *words, **environment):
        """Status, output and first line of the errors of a make in a checkout with a host, but no more."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        with tempfile.TemporaryDirectory() as folder:
            for part in "Makefile", "dkms.conf", "scripts":
                subprocess.run(["cp", "-a", ROOT / part, folder], check=True)
            for script in "load-module", "deps":
                Path(folder, "scripts", script).write_text("#!/bin/sh\necho \"$0 $* '$HOST' '$NAME'\"; exit 1\n")
            (Path(folder) / "tools").symlink_to(ROOT / "tools")
            done = subprocess.run(["make", *words], cwd=folder, text=True, capture_output=True, env=plain | environment)
        return done.returncode, done.stdout, "".join(done.stderr.splitlines()[:1])

    def values(self, *words, **environment):
        """Of HOST, of NAME, and of the host that make report is for."""
        shown = "values: ; @echo '$(HOST) $(NAME) $(report-host)'"
        return self.make("--eval", shown, "values", *words, **environment)[1]

    def test_environment(self):
        """those of the environment are nobody's host to emulate and no report's name, nor do programs get them"""
        self.assertEqual(self.values(HOST="ann-laptop", NAME="ann-laptop"), "amd  \n")
        self.assertEqual(self.make("load", HOST="ann-laptop", NAME="ann-laptop")[1], "scripts/load-module load '' ''\n")
        self.assertTrue(self.make("report", HOST="ann-laptop")[1].startswith("scripts/load-module check "))

    def test_command_line(self):
        """those of make's command line are taken"""
        self.assertEqual(self.values("HOST=intel", "NAME=mine", HOST="ann-laptop"), "intel mine intel\n")

    def test_unknown_host(self):
        """a host that there is not is told before anything is installed"""
        for target in "report", "demo", "shell":
            status, said, error = self.make(target, "HOST=vax")
            self.assertEqual((status, said), (2, ""))
            self.assertRegex(error, "^HOST: there is no host vax, only amd ")

    def test_unknown_stock(self):
        """so is a STOCK that is not 1, and 1 is none"""
        status, said, error = self.make("check-clients", "STOCK=ours")
        self.assertEqual((status, said), (2, ""))
        self.assertRegex(error, "^STOCK: it is 1, .*, but not ours$")
        self.assertTrue(self.make("check-clients", "STOCK=1")[1].startswith("scripts/deps "))


@unittest.skipUnless(os.geteuid() == 0, "what root leaves to a user: not run by root")
class Root(unittest.TestCase):
    """What 'sudo make' leaves in build/ is the user's, who goes on there."""

    USER = 1234

    def owners(self, deps, user):
        """Of what is in build/ after a make by root in a user's checkout."""
        with tempfile.TemporaryDirectory() as folder:
            for part in "Makefile", "dkms.conf", "scripts":
                subprocess.run(["cp", "-a", ROOT / part, folder], check=True)
            Path(folder, "scripts/deps").write_text(f"#!/bin/sh\n{deps}\n")
            os.chown(folder, user, user)
            # What comes after deps is missing here.
            done = subprocess.run(["make", "model"], cwd=folder, text=True, capture_output=True)
            self.assertNotEqual(done.returncode, 0)
            build = Path(folder, "build")
            return {file.name: (file.lstat().st_uid, file.lstat().st_gid) for file in (build, *build.rglob("*"))}

    def test_given_back(self):
        """files, folders and links are given back, also where it fails, and nothing that they lead to"""
        with tempfile.NamedTemporaryFile() as outside:
            makes = f"mkdir -p build/a; echo b >build/a/b; ln -s {outside.name} build/link"
            for end in "", "; exit 1", "; kill -INT $PPID; sleep 1":
                with self.subTest(end):
                    found = self.owners(makes + end, self.USER)
                    self.assertEqual(found, dict.fromkeys(("build", "a", "b", "link"), (self.USER, self.USER)))
            self.assertEqual(os.stat(outside.name).st_uid, 0)

    def test_own(self):
        """root's own checkout stays root's, and other users' files theirs"""
        self.assertEqual(set(self.owners("mkdir build; echo a >build/a", 0).values()), {(0, 0)})
        self.assertEqual(self.owners("mkdir build; echo a >build/a; chown 99:99 build/a", self.USER)["a"], (99, 99))


if __name__ == "__main__":
    unittest.main()
