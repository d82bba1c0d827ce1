# SPDX-License-Identifier: GPL-2.0-only
"""'make help' names each target that people can ask for."""

import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# Parts of others, and "make" itself.
INTERNAL = r"run-|FORCE$|all$|help$|modules$"


class Help(unittest.TestCase):
    def test_targets(self):
        """each phony target has a line, and each line is a phony target's"""
        makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
        phony = {name for line in re.findall(r"(?m)^\.PHONY:(.*)$", makefile) for name in line.split()
                 if not re.match(INTERNAL, name)}
        told = subprocess.run(["make", "-s", "help"], cwd=ROOT, check=True, text=True, capture_output=True).stdout
        self.assertEqual(set(re.findall(r"(?m)^make (\S+) ", told)), phony)


if __name__ == "__main__":
    unittest.main()
