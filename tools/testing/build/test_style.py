# SPDX-License-Identifier: GPL-2.0-only
"""Our part of the modules reads like the rest of the kernel, and like itself."""

import os
import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CHECKPATCH = ROOT / "build" / os.environ["KVER"] / "src/scripts/checkpatch.pl"


class Style(unittest.TestCase):
    def test_checkpatch(self):
        """the target kernel's checkpatch.pl has no error or warning for a file of ours"""
        files = sorted((ROOT / "arch").rglob("*.[ch]"))
        self.assertTrue(files)
        done = subprocess.run(["perl", CHECKPATCH, "--no-tree", "--strict", "--terse", "--no-summary", "-f", *files],
                              cwd=ROOT, text=True, capture_output=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_names(self):
        """debugfs and the events have the same names for windows and endings"""
        kvm = ROOT / "arch/x86/kvm"
        events = re.findall(r'{ (NMI_\w+), "([\w-]+)" }', (kvm / "nmi_trace.h").read_text())
        counts = re.findall(r'\[(NMI_\w+)\] = "([\w-]+)"', (kvm / "nmi_stats.c").read_text())
        self.assertEqual(counts, events)
        self.assertTrue(events)


if __name__ == "__main__":
    unittest.main()
