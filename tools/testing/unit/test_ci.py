# SPDX-License-Identifier: GPL-2.0-only
""".ci/run tests in fresh roots, and believes none that did not report."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from as_module import as_module

ROOT = Path(__file__).resolve().parents[3]
ROOTS = as_module(ROOT / "tools/testing/install/fresh")


class CI(unittest.TestCase):
    """.ci/run in a folder of its own, with a make that prints what it is told."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for name in ".ci", "bin":
            (self.root / name).mkdir()
        shutil.copy(ROOT / ".ci/run", self.root / ".ci")
        self.script("bin/debootstrap", "#!/bin/sh\n")

    def script(self, name, text):
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def run_ci(self, bad_part=0, bad=":"):
        """Status and last line, when the part of this number does BAD, and each other passes."""
        self.script("bin/make", f"""#!/bin/sh
echo make "$@" >>{self.root}/log
[ $(wc -l <{self.root}/log) != {bad_part} ] || {{ {bad}; exit; }}
[ $1 != check-fresh ] || echo 5 passed, 0 failed, 1 skipped
""")
        (self.root / "log").write_text("")
        done = subprocess.run([self.root / ".ci/run"], text=True, capture_output=True,
                              env=os.environ | {"PATH": f"{self.root}/bin:{os.environ['PATH']}"})
        self.said = done.stdout.splitlines()
        self.parts = (self.root / "log").read_text().splitlines()
        return done.returncode, self.said[-1]

    def expected(self, bad_part=0, counts=(0, 0, 0)):
        """The last line, when the part of this number counts so much."""
        passed, failed, skipped = counts
        for n, part in enumerate(self.parts, 1):
            if n != bad_part:
                fresh = part.startswith("make check-fresh ")
                passed, skipped = passed + (5 if fresh else 1), skipped + fresh
        return f"{passed} passed, {failed} failed, {skipped} skipped"

    def test_all(self):
        """lint and fresh roots of releases, each once; the last line adds up, and before it are times"""
        status, last = self.run_ci()
        self.assertEqual((status, last), (0, self.expected()))
        self.assertIn("make lint", self.parts)
        releases = [re.search(r"RELEASE=(\w+)", part)[1] for part in self.parts if "check-fresh" in part]
        self.assertTrue(releases)
        self.assertLessEqual(set(releases), set(ROOTS.RELEASES))
        self.assertEqual(len(set(self.parts)), len(self.parts))
        for said, part in zip(self.said[-1 - len(self.parts):-1], self.parts):
            self.assertRegex(said, rf"^ci: {re.escape(part)} took \d+ s$")

    def test_failed(self):
        """a failed test in any fresh root is a failure, and the other parts run all the same"""
        self.run_ci()
        for n, part in enumerate(tuple(self.parts), 1):
            if "check-fresh" in part:
                done = self.run_ci(n, "echo 3 passed, 2 failed, 0 skipped; echo make: Error; exit 2")
                self.assertEqual(done, (1, self.expected(n, (3, 2, 0))), part)

    def test_one(self):
        """a part that has no totals of its own, as lint, is one test and fails as one"""
        self.run_ci()
        for n, part in enumerate(tuple(self.parts), 1):
            if "check-fresh" not in part:
                self.assertEqual(self.run_ci(n, "exit 2"), (1, self.expected(n, (0, 1, 0))), part)

    def test_unsteady(self):
        """what was unsteady in a fresh root is told once more before the totals, and passes twice, not three times"""
        told = "unsteady, failed in one of two runs:\n    not ok amd nmi_some_test: it comes\n        seen 2\n"
        self.run_ci()
        n = next(n for n, part in enumerate(self.parts, 1) if "check-fresh" in part)
        for times, counts in ((1, (4, 0, 1)), (2, (4, 0, 1)), (3, (4, 3, 1))):
            bad = f"printf '{told * times}'; echo amd: in 3 s; echo 4 passed, 0 failed, 1 skipped"
            self.assertEqual(self.run_ci(n, bad), (times == 3, self.expected(n, counts)))
            text = "\n".join(self.said[-len(self.parts) - 3 * times - 3:]) + "\n"
            self.assertEqual(text.count(told), times)

    def test_told(self):
        """what failed is told once more before the totals"""
        self.run_ci()
        n = next(n for n, part in enumerate(self.parts, 1) if "check-fresh" in part)
        self.run_ci(n, "echo failed:; echo '    not ok amd: it comes'; echo amd: in 3 s; "
                       "echo 4 passed, 1 failed, 1 skipped; exit 1")
        end = self.said[-len(self.parts) - 3:]
        self.assertIn("    not ok amd: it comes", end)
        self.assertNotIn("amd: in 3 s", end)

    def test_left_out(self):
        """so is what was left out for want of time"""
        self.run_ci()
        n = next(n for n, part in enumerate(self.parts, 1) if "check-fresh" in part)
        line = "skip amd: left out: there was no time for it, by "
        status, _ = self.run_ci(n, f"echo '{line}'; echo ok; echo 4 passed, 0 failed, 1 skipped")
        self.assertEqual(status, 0)
        self.assertIn(line, self.said[-len(self.parts) - 2:])

    def test_no_totals(self):
        """a fresh root that ends without totals, without a test or with a status is a failure"""
        self.run_ci()
        n = next(n for n, part in enumerate(self.parts, 1) if "check-fresh" in part)
        for bad, counts in (("exit 2", (0, 1, 0)), (":", (0, 1, 0)),
                            ("echo 0 passed, 0 failed, 7 skipped", (0, 1, 7)),
                            ("echo 4 passed, 0 failed, 7 skipped; exit 1", (4, 1, 7))):
            self.assertEqual(self.run_ci(n, bad), (1, self.expected(n, counts)), bad)


class FreshCheck(unittest.TestCase):
    """tools/testing/install/fresh-check with a git and a chroot that only take notes."""

    def run_check(self, made, **variables):
        """Status and output, when make in the root does as told."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("git", "mkdir -p $root/root/kvm-nmi"),
                               ("chroot", f'for last; do :; done; make() {{ {made}; }}; eval "${{last#*&& }}"')):
                tool = Path(folder, name)
                tool.write_text(f"#!/bin/sh\n[ ${{1:-}} != status ] || exit 0\n{text}\n")
                tool.chmod(0o755)
            done = subprocess.run([ROOT / "tools/testing/install/fresh-check"], text=True, capture_output=True,
                                  env=os.environ | {"root": folder, "release": "bookworm",
                                                    "HOSTS": "", "PARTS": "", "UNTIL": "",
                                                    "PATH": f"{folder}:{os.environ['PATH']}"} | variables)
        return done.returncode, done.stdout.splitlines()

    def test_commands(self):
        """README's two commands run, one after the other, and the totals are of both"""
        status, said = self.run_check('[ $1 = demo ] || echo "4 passed, 0 failed, 2 skipped"')
        self.assertEqual((status, said[-1]), (0, "5 passed, 0 failed, 2 skipped"))
        self.assertRegex(said[-3], "^fresh: bookworm: make demo took [0-9]+ s$")
        self.assertRegex(said[-2], "^fresh: bookworm: make check took [0-9]+ s$")

    def test_series(self):
        """on Debian 13 the tests run on 7.3 as well, on the strict CPU, unless only some were asked for"""
        made = '[ $1 = demo ] || echo "4 passed, 0 failed, 2 skipped"'
        status, said = self.run_check(made, release="trixie")
        self.assertEqual((status, said[-1]), (0, "9 passed, 0 failed, 4 skipped"))
        self.assertRegex(said[-2], '^fresh: trixie: make check KVER=7.3 HOSTS="amd-strict .* took [0-9]+ s$')
        status, said = self.run_check(made, release="trixie", PARTS="amd")
        self.assertEqual((status, said[-1]), (0, "5 passed, 0 failed, 2 skipped"))

    def test_until(self):
        """after a time that was set no command is begun, and one that had none left for its tests is no failure"""
        made = '[ $1 = demo ] || echo "4 passed, 0 failed, 2 skipped"'
        status, said = self.run_check(made, UNTIL="1000")
        self.assertEqual((status, said[-1]), (0, "0 passed, 0 failed, 2 skipped"))
        self.assertIn("skip bookworm: make check: left out: there was no time for it, by $UNTIL", said)
        made = ('[ $1 = demo ] || echo "skip amd: left out: there was no time for it, by \\$UNTIL\n'
                '0 passed, 0 failed, 1 skipped"')
        self.assertEqual(self.run_check(made)[0], 0)

    def test_failures(self):
        """a command that fails, or reports nothing that passed, is a failure"""
        for made, last in (("[ $1 = check ] && echo 4 passed, 0 failed, 2 skipped", "4 passed, 1 failed, 2 skipped"),
                           ("[ $1 = demo ] || { echo 4 passed, 3 failed, 2 skipped; false; }",
                            "5 passed, 3 failed, 2 skipped"),
                           ("[ $1 = demo ] || { echo 4 passed, 0 failed, 2 skipped; false; }",
                            "5 passed, 1 failed, 2 skipped"),
                           ("[ $1 = demo ]", "1 passed, 1 failed, 0 skipped")):
            with self.subTest(made):
                status, said = self.run_check(made)
                self.assertEqual((status, said[-1]), (1, last))


if __name__ == "__main__":
    unittest.main()
