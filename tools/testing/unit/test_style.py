# SPDX-License-Identifier: GPL-2.0-only
"""Our part of the modules has the same words for the same things."""

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class Style(unittest.TestCase):
    def test_names(self):
        """debugfs and the events have the same names for windows and endings"""
        kvm = ROOT / "arch/x86/kvm"
        events = re.findall(r'{ (NMI_\w+), "([\w-]+)" }', (kvm / "nmi_trace.h").read_text())
        file = re.findall(r'\[(NMI_\w+)\] = "([\w-]+)"', (kvm / "nmi_debugfs.c").read_text())
        file.remove(("NMI_UNBLOCK_NONE", "none"))
        self.assertEqual(file, events)
        self.assertTrue(events)


if __name__ == "__main__":
    unittest.main()
