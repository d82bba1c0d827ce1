# SPDX-License-Identifier: GPL-2.0-only
"""The documentation is well-formed, and leads to all there is."""

import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

NAMED = re.compile(r"(?<![\w./-])(?:arch|scripts|tools|Documentation)/[\w./-]*\w(?![\w*])")


class Docs(unittest.TestCase):
    def test_sphinx(self):
        """sphinx builds all pages without a warning"""
        makefile = (ROOT / "Makefile").read_text()
        options = re.search(r"(?m)^\t@sphinx-build (.*) -d ", makefile).group(1).split()
        self.assertIn("-W", options)
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(["sphinx-build", *options, ROOT / "Documentation", folder],
                                  text=True, capture_output=True)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
            self.assertTrue((Path(folder) / "index.html").exists())

    def test_paths(self):
        """each file or folder that a page names is there"""
        pages = [*ROOT.glob("*.rst"), *ROOT.glob("*.md"), *(ROOT / "Documentation").glob("*.rst")]
        for page in pages:
            if page.name == "compare.rst":
                continue        # what a run has printed: messages of kernels, too
            for named in NAMED.findall(page.read_text()):
                if re.search("[A-Z]{3}", named):
                    continue    # a placeholder
                with self.subTest(f"{page.name}: {named}"):
                    self.assertTrue((ROOT / named).exists(), named)

    def test_map(self):
        """CONTRIBUTING.rst says of each folder what is in it"""
        page = (ROOT / "CONTRIBUTING.rst").read_text()
        done = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True)
        if done.returncode:
            self.skipTest("this is no git checkout")
        folders = {Path(file).parent for file in done.stdout.splitlines()} - {Path(".")}
        for folder in sorted(folders):
            with self.subTest(folder):
                self.assertRegex(page, rf"``(?:{re.escape(str(folder))}|…/{folder.name})``")


if __name__ == "__main__":
    unittest.main()
