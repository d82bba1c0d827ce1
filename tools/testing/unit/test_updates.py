# SPDX-License-Identifier: GPL-2.0-only
"""scripts/check-updates looks at each version of the kernel, and says what it could not look at."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

COCCI = """\
//# files: vmx/vmx.c
//# matches: hook 1

@hook@
symbol vcpu;
position p;
@@
  enter@p(vcpu);
+ entered(vcpu);
"""
HOLDS = "void run(struct vcpu *vcpu)\n{\n\tenter(vcpu);\n}\n"
FAILS = "void run(struct vcpu *vcpu)\n{\n}\n"

# An apt whose suites are folders: a file "offers" with what apt-cache prints, and packages.
APT_GET = "#!/bin/sh\n" + """\
suite=$(basename "$(dirname "$APT_CONFIG")")
case "$*" in
indextargets*) echo "site main" ;;
*update*) [ -d "$ARCHIVE/$suite" ] ;;
*download*)
	for file; do :; done
	echo "$file" >>"$ARCHIVE/downloaded"
	cp "$ARCHIVE/$suite/$file.deb" . || { echo "E: it is not there" >&2; exit 100; } ;;
esac
"""
APT_CACHE = "#!/bin/sh\n" + """\
cat "$ARCHIVE/$(basename "$(dirname "$APT_CONFIG")")/offers"
"""


class Updates(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root, self.archive, self.bin = (Path(folder.name, name) for name in ("root", "archive", "bin"))
        for path in self.archive, self.bin, self.root / "scripts", self.root / "build":
            path.mkdir(parents=True)
        for name in "check-updates", "suite", "graft", "kernel":
            shutil.copy2(ROOT / "scripts" / name, self.root / "scripts")
        self.write(self.root / "arch/x86/kvm/vmx/nmi.cocci", COCCI)
        for name, text in ("apt-get", APT_GET), ("apt-cache", APT_CACHE):
            self.write(self.bin / name, text)
            (self.bin / name).chmod(0o755)

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def offer(self, suite, version, vmx_c=HOLDS, package="linux-source-6.1"):
        """Put a version of the source into a suite; return its package."""
        suite = self.archive / suite
        suite.mkdir(exist_ok=True)
        with open(suite / "offers", "a") as offers:
            offers.write(f" {package} | {version} | site suite/main amd64 Packages\n")
        deb = suite / f"{package}={version}.deb"
        with tempfile.TemporaryDirectory() as scratch:
            tree = Path(scratch, package)
            self.write(tree / "arch/x86/kvm/vmx/vmx.c", vmx_c)
            self.write(tree / "Makefile", "")
            tarball = Path(scratch, f"deb/usr/src/{package}.tar.xz")
            self.write(Path(scratch, "deb/DEBIAN/control"), f"Package: {package}\nVersion: {version}\n"
                       "Architecture: all\nMaintainer: nobody\nDescription: -\n")
            tarball.parent.mkdir(parents=True)
            subprocess.run(["tar", "-cJf", tarball, "--sort=name", "-C", scratch, package], check=True)
            subprocess.run(["dpkg-deb", "-b", Path(scratch, "deb"), deb], check=True, stdout=subprocess.DEVNULL)
        return deb

    def check(self, *suites):
        """The status, and the lines of the versions without their times."""
        env = os.environ | {"ARCHIVE": str(self.archive), "PATH": f"{self.bin}:{os.environ['PATH']}", "APT_CONFIG": ""}
        done = subprocess.run([self.root / "scripts/check-updates", *suites], text=True, capture_output=True, env=env)
        self.errors = done.stderr.splitlines()
        return done.returncode, [" ".join(line.split()).split(", ")[0] for line in done.stdout.splitlines()[1:]]

    def downloaded(self):
        return (self.archive / "downloaded").read_text().split()

    def test_holds(self):
        """all versions of all suites are looked at once, a rebuilt one with the original"""
        self.offer("bookworm", "6.1.9-1")
        self.offer("bookworm", "6.1.10-1")
        self.offer("bookworm-updates", "6.1.10-1")
        self.offer("bookworm-backports", "6.12.10-1~bpo12+1", package="linux-source-6.12")
        self.offer("trixie", "6.12.10-1", package="linux-source-6.12")
        expected = (0, ["6.1.9-1 grafts", "6.1.10-1 grafts", "6.12.10-1 grafts", "3 of 3 versions hold"])
        suites = "bookworm", "bookworm-updates", "bookworm-backports", "trixie"
        self.assertEqual(self.check(*suites), expected)
        self.assertEqual(self.errors, [])
        self.assertEqual(len(self.downloaded()), 3)
        # No tarball stays, and what stays is not fetched again.
        self.assertEqual(sorted(path.name for path in (self.root / "build/updates").iterdir()),
                         ["6.1.10-1", "6.1.9-1", "6.12.10-1"])
        self.assertEqual([path.name for path in self.root.rglob("*.deb")] + list(self.root.rglob("*.xz")), [])
        self.assertEqual(self.check(*suites), expected)
        self.assertEqual(len(self.downloaded()), 3)

    def test_fails(self):
        """a version that does not hold is told with the rule, the others are looked at as well"""
        self.offer("trixie", "6.1.9-1", FAILS)
        self.offer("trixie", "6.1.10-1")
        self.assertEqual(self.check("trixie"), (1, [
            "6.1.9-1 FAILS", "rule hook in vmx/nmi.cocci matched 0 times in vmx/vmx.c of 6.1.9",
            "6.1.10-1 grafts", "1 of 2 versions hold"]))

    def test_newer_than_known(self):
        """of a series, a version that holds and is newer than the one known to fit is told"""
        known = subprocess.run([ROOT / "scripts/kernel", "--fits"], text=True, capture_output=True).stdout.split()[0]
        self.offer("trixie", known + "-1")
        self.offer("trixie", known + "0-1")
        self.offer("trixie", known + "00-1", FAILS)
        self.assertEqual(self.check("trixie")[1][-2:], [f"scripts/kernel --fits names {known}", "2 of 3 versions hold"])

    def test_vanished_suite(self):
        """a suite that is no more is named, the others are looked at, and the status says so"""
        self.offer("trixie", "6.1.9-1")
        self.assertEqual(self.check("buster", "trixie"), (1, ["6.1.9-1 grafts", "1 of 1 versions hold"]))
        self.assertEqual([line for line in self.errors if line.startswith("check-updates")],
                         ["check-updates: suite: cannot fetch the packages of buster: check its name, the network, "
                          "and room on the disk",
                          "check-updates: 1 suites could not be looked at"])

    def test_no_network(self):
        """without any suite that is said, and nothing else is done"""
        status, lines = self.check("buster", "bullseye")
        self.assertEqual((status, lines), (1, []))
        self.assertEqual(len(self.errors), 1)
        self.assertRegex(self.errors[0], "^check-updates: no suite could be looked at: .* the packages of buster")

    def test_nothing_there(self):
        """suites without any such source are no success"""
        self.offer("trixie", "5.10.9-1", package="linux-source-5.10")
        (self.archive / "trixie/offers").write_text("")
        self.assertEqual(self.check("trixie"), (1, []))
        self.assertRegex(self.errors[-1], r"^check-updates: there is no linux-source-6\.1\|.* in trixie$")

    def test_not_to_be_had(self):
        """a version that cannot be fetched or read is named with the reason, and nothing of it stays"""
        self.offer("trixie", "6.1.9-1").unlink()
        self.offer("trixie", "6.1.10-1").write_bytes(b"no package")
        whole = self.offer("trixie", "6.1.11-1", HOLDS + "/* " + os.urandom(200000).hex() + " */\n")
        whole.write_bytes(whole.read_bytes()[:50000])
        status, lines = self.check("trixie")
        self.assertEqual((status, lines[-1]), (1, "0 of 3 versions hold"))
        self.assertEqual(lines[1], "cannot download linux-source-6.1 6.1.9-1: E: it is not there")
        for line, version in (lines[3], "6.1.10-1"), (lines[5], "6.1.11-1"):
            self.assertTrue(line.startswith(f"linux-source-6.1={version}.deb is damaged: "), line)
        self.assertEqual(list((self.root / "build/updates").iterdir()), [])

    def test_full_disk(self):
        """a cache that cannot be written is named"""
        self.offer("trixie", "6.1.9-1")
        self.write(self.root / "build/updates", "")
        status, lines = self.check("trixie")
        self.assertEqual((status, lines), (1, []))
        self.assertEqual(self.errors[-1], f"check-updates: cannot write to {self.root / 'build/updates'}: File exists")


if __name__ == "__main__":
    unittest.main()
