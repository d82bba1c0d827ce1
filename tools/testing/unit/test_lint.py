# SPDX-License-Identifier: GPL-2.0-only
"""scripts/lint fails on what its tools find, in a tree with one bad file for each."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
KVER = os.environ["KVER"]

# What a check is shown, good and bad.
FILES = {
    "checkpatch": ("arch/a.c", "// SPDX-License-Identifier: GPL-2.0-only\nint a;\n", "int a;\n"),
    "spatch": ("arch/a.cocci", "@rule@\nexpression E;\n@@\n- f(E)\n+ g(E)\n", "@rule@\n@@\n- f(\n"),
    "shellcheck": ("scripts/a", "#!/bin/sh\nset -- b\necho \"$1\"\n", "#!/bin/sh\nset -- b\necho $1\n"),
    "python": ("tools/a.py", "print(1)\n", "import os\n"),
}


class Lint(unittest.TestCase):
    def lint(self, root, check):
        return subprocess.run([root / "scripts/lint", check], text=True, env=os.environ | {"KVER": KVER},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def tree(self, root, which):
        for folder in "arch/x86/kvm", "scripts", "tools/testing/hosts/guest", f"build/{KVER}":
            (root / folder).mkdir(parents=True)
        shutil.copy(ROOT / "scripts/lint", root / "scripts")
        (root / f"build/{KVER}/src").symlink_to(ROOT / f"build/{KVER}/src")
        (root / "tools/a.c").write_text("// SPDX-License-Identifier: GPL-2.0-only\n")
        (root / "tools/testing/hosts/guest/init").write_text("#!/bin/busybox sh\n")
        for file in FILES.values():
            (root / file[0]).write_text(file[which])

    def test_lint(self):
        """each check finds nothing in a good file, and fails on a bad one and names it"""
        for which in 1, 2:
            with tempfile.TemporaryDirectory() as folder:
                self.tree(Path(folder), which)
                for check, file in FILES.items():
                    with self.subTest(check, which=which):
                        done = self.lint(Path(folder), check)
                        self.assertEqual(done.returncode, which - 1, done.stdout)
                        self.assertIn(f"lint: {check} finds nothing" if which == 1 else file[0], done.stdout)

    def test_unknown(self):
        """a check that there is not is no success"""
        done = self.lint(ROOT, "spell")
        self.assertEqual((done.returncode, done.stdout.split(",")[0]), (2, "lint: there is no check spell"))


if __name__ == "__main__":
    unittest.main()
