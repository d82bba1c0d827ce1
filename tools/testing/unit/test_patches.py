# SPDX-License-Identifier: GPL-2.0-only
"""scripts/patches writes what the modules are built from, or says what is wrong."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / os.environ["KVER"]
VERSION = "0.1"


class Patches(unittest.TestCase):
    """The real source and the real files of ours, in a copy that a test can spoil."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.ours = Path(folder.name, "ours")
        self.dest = Path(folder.name, "patches")
        self.kvm = self.ours / "arch/x86/kvm"
        shutil.copytree(ROOT / "arch", self.ours / "arch")
        (self.ours / "debian").mkdir()
        for name in "Kbuild", "debian/changelog":
            shutil.copy(ROOT / name, self.ours / name)

    def run_patches(self):
        done = subprocess.run([ROOT / "scripts/patches", BUILD / "src", self.ours, BUILD / "graft", self.dest],
                              env=os.environ | {"KVM_NMI_VERSION": VERSION}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def assert_refused(self, message):
        status, said = self.run_patches()
        self.assertEqual(status, 1, said)
        self.assertIn(message, said)
        self.assertFalse(self.dest.exists())

    def edit(self, name, before, after):
        text = (self.kvm / name).read_text()
        self.assertIn(before, text)
        (self.kvm / name).write_text(text.replace(before, after, 1))

    def test_written(self):
        """the patches apply, please checkpatch.pl --strict, and end in what is built"""
        status, said = self.run_patches()
        self.assertEqual(status, 0, said)
        patches = [path.read_text() for path in sorted(self.dest.glob("*.patch"))]
        self.assertTrue(patches[0].startswith("From "))

        # Those that mend the distribution's code come first, and have nothing of ours.
        fixes = len(list((self.kvm / "fixes").glob("*.cocci")))
        self.assertGreater(fixes, 0)
        for patch in patches[:fixes]:
            self.assertEqual(patch.count("\ndiff --git "), 1)
            self.assertNotIn("nmi.h", patch)
            self.assertLess(len(re.findall(r"(?m)^[-+](?![-+])", patch)), 20)
            self.assertNotIn("MAINTAINERS", patch)
        # Two more are for themselves.
        for patch in patches[fixes:fixes + 2]:
            self.assertNotIn("MAINTAINERS", patch)
        self.assertIn("MAINTAINERS", patches[fixes + 2])

        letter = (self.dest / "0000-cover-letter.txt").read_text()
        title = (self.kvm / "cover-letter").read_text().partition("\n")[0]
        self.assertIn(f"Subject: [PATCH 0/{len(patches)}] {title}\n", letter)
        self.assertNotIn("***", letter)
        self.assertNotIn("@VERSION@", letter)

    def test_fix_for_ever(self):
        """a fix whose code nothing replaces in the end would leave other code than the modules'"""
        self.edit("fixes/vmx_sti_shadow.cocci", "until: vmx/nmi.cocci", "until: vmx/other.cocci")
        self.assert_refused("fixes/vmx_sti_shadow.cocci holds until vmx/other.cocci, which does not come after it")

    def test_other_code(self):
        """patches with other code than the modules' are refused"""
        self.edit("svm/nmi_debugfs.c", "\n#include", "\n/* something else */\n#include")
        self.assert_refused("arch/x86/kvm/svm/nmi_debugfs.c after the patches is not what the modules are built from")

    def test_style(self):
        """so are patches of which checkpatch.pl complains"""
        self.edit("svm/nmi_debugfs.cocci", "+ nmi_debugfs_create(vcpu);",
                  "+ if (vcpu != NULL)\n+	nmi_debugfs_create(vcpu);")
        self.assert_refused("checkpatch.pl --strict complains")

    def test_series(self):
        """each file of ours is in one patch"""
        self.edit("series", "svm/loan.c ", "")
        self.assert_refused("series does not have svm/loan.c")
        self.edit("series", "svm/vnmi.c", "svm/loan.c svm/vnmi.c svm/loan.c")
        self.assert_refused("series has svm/loan.c twice")
        self.edit("series", "svm/loan.c", "svm/lean.c")
        self.edit("series", "svm/loan.c", "svm/loan.c")
        self.assert_refused("series has svm/lean.c, which is not there")

    def test_no_rule(self):
        """a rule that does not match is named"""
        self.edit("vmx/nested_nmi.cocci", "load 1", "load 7")
        self.assert_refused("rule load in vmx/nested_nmi.cocci matched 1 times")


class NoPatches(unittest.TestCase):
    def test_none_committed(self):
        """no patch is kept in the repository: each is made for the kernel at hand"""
        if not (ROOT / ".git").exists():
            self.skipTest("this is no git checkout")
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.split(b"\0")
        kept = [name for name in files if name and b"\n@@ -" in (ROOT / os.fsdecode(name)).read_bytes()]
        self.assertEqual(kept, [])


if __name__ == "__main__":
    unittest.main()
