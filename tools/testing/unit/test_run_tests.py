# SPDX-License-Identifier: GPL-2.0-only
"""run-tests has to be right about tests that are not: hung, killed, cut short."""

import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

RUN_TESTS = Path(__file__).resolve().parents[1] / "selftests/kvm/run-tests"
SHELLS = [["sh"]] + ([["busybox", "sh"]] if shutil.which("busybox") else [])


class RunTests(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def script(self, name, text):
        path = self.folder / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def check(self, text, summary, status, said="", options=()):
        """Run one test with this text under each shell."""
        self.script("a_test", text)
        for shell in SHELLS:
            with self.subTest(shell=shell[0]):
                run = subprocess.run(shell + [RUN_TESTS, *options, "a_test"], cwd=self.folder,
                                     text=True, errors="replace", capture_output=True)
                lines = run.stdout.split("\n")
                self.assertEqual(lines[-2:], [f"# {summary}", ""], run.stdout + run.stderr)
                self.assertEqual(run.stderr, "")
                self.assertRegex(run.stdout, r"(?m)^# a_test: status \d+$")
                self.assertEqual(run.returncode, status)
                if said:
                    self.assertTrue(any(line.startswith(said) for line in lines), run.stdout)

    def test_passed(self):
        """run-tests: passed and skipped cases are counted apart"""
        self.check("echo 1..3; echo ok 1 a; echo ok 2 b; echo 'ok 3 # SKIP c: why'",
                   "2 passed, 0 failed, 1 skipped", 0)

    def test_failed(self):
        """run-tests: a failed case fails the run"""
        self.check("echo 1..2; echo ok 1 a; echo not ok 2 b; exit 1",
                   "1 passed, 1 failed, 0 skipped", 1)

    def test_skipped_as_a_whole(self):
        """run-tests: a test that skips as a whole is one skip"""
        self.check("echo '1..0 # SKIP no such CPU'; exit 4", "0 passed, 0 failed, 1 skipped", 0)

    def test_hung(self):
        """run-tests: a test that hangs has failed"""
        self.check("echo 1..2; echo ok 1 a; exec sleep 30", "1 passed, 1 failed, 0 skipped", 1,
                   "not ok - a_test hung for 1 s", ["-t", "1"])

    def test_killed(self):
        """run-tests: a test that is killed has failed"""
        self.check("echo 1..1; echo ok 1 a; kill -9 $$", "1 passed, 1 failed, 0 skipped", 1,
                   "not ok - a_test killed by signal 9")

    def test_broken_off(self):
        """run-tests: told to end it ends the test, which can put back what it has changed, and runs no other"""
        for shell in SHELLS:
            for number, to_group in (signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, False):
                with self.subTest(shell=shell[0], signal=number):
                    self.script("a_test", "trap 'rm changed; exit 1' TERM; >changed; echo 1..1\n"
                                          "while :; do sleep 0.1; done")
                    self.script("b_test", "touch other")
                    with subprocess.Popen(shell + [RUN_TESTS, "a_test", "b_test"], cwd=self.folder, text=True,
                                          start_new_session=True, stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE) as run:
                        while not (self.folder / "changed").exists():
                            time.sleep(0.05)
                        (os.killpg if to_group else os.kill)(run.pid, number)
                        said, errors = run.communicate(timeout=20)
                    self.assertEqual((run.returncode, errors), (128 + number, ""), said)
                    self.assertEqual([path.name for path in self.folder.iterdir() if path.name in ("changed", "other")],
                                     [])

    def test_hung_in_a_line(self):
        """run-tests: a test that hangs in the middle of a line has failed, and is said to hang"""
        self.check("echo 1..2; echo ok 1 a; printf '# 17 NM'; exec sleep 30", "1 passed, 1 failed, 0 skipped", 1,
                   "not ok - a_test hung for 1 s", ["-t", "1"])

    def test_hung_for_good(self):
        """run-tests: so has one that takes no notice of being told to end"""
        self.check("trap '' TERM; echo 1..2; echo ok 1 a; printf ok; while :; do sleep 1; done",
                   "1 passed, 1 failed, 0 skipped", 1, "not ok - a_test hung for 1 s", ["-t", "1"])

    def test_killed_in_a_line(self):
        """run-tests: what follows an unfinished line begins a new one"""
        self.check("echo 1..2; echo ok 1 a; printf 'ok 2'; kill -9 $$", "1 passed, 1 failed, 0 skipped", 1,
                   "not ok - a_test killed by signal 9")

    def test_silent(self):
        """run-tests: a test that prints nothing has failed"""
        self.check("exit 0", "0 passed, 1 failed, 0 skipped", 1, "not ok - a_test ended without a plan")

    def test_rubbish(self):
        """run-tests: binary rubbish in the output costs no result and makes none"""
        rubbish = r"printf '\377\0\200\n1..\0\n\0\0not \376\n'; head -c 5000 /dev/urandom | tr -d ok1; echo; "
        self.check(f"{rubbish} echo 1..2; echo ok 1 a; {rubbish} echo not ok 2 b; {rubbish} exit 1",
                   "1 passed, 1 failed, 0 skipped", 1, "not ok 2 b")

    def test_rubbish_at_the_end(self):
        """run-tests: a test that ends in the middle of rubbish is still judged by its status"""
        self.check(r"echo 1..2; echo ok 1 a; printf 'ok 2\0\377'; kill -11 $$",
                   "1 passed, 1 failed, 0 skipped", 1, "not ok - a_test killed by signal 11")

    def test_no_plan(self):
        """run-tests: a test without a plan has failed"""
        self.check("echo ok 1 a", "1 passed, 1 failed, 0 skipped", 1,
                   "not ok - a_test ended without a plan")

    def test_cut_short(self):
        """run-tests: a test that leaves out planned cases has failed"""
        self.check("echo 1..3; echo ok 1 a", "1 passed, 1 failed, 0 skipped", 1,
                   "not ok - a_test reported 1 of 3 cases")

    def test_status_alone(self):
        """run-tests: a status that no case explains is a failure"""
        self.check("echo 1..1; echo ok 1 a; exit 3", "1 passed, 1 failed, 0 skipped", 1,
                   "not ok - a_test exit status 3")

    def test_empty_skip(self):
        """run-tests: an empty plan without the status of a skip is a failure"""
        self.check("echo 1..0", "0 passed, 1 failed, 0 skipped", 1, "not ok - a_test has no case")

    def test_missing(self):
        """run-tests: a test that is not there has failed"""
        run = subprocess.run(["sh", RUN_TESTS, "none_test"], cwd=self.folder, text=True,
                             capture_output=True)
        self.assertRegex(run.stdout, r"not ok - none_test")
        self.assertEqual(run.returncode, 1)

    def test_bad_usage(self):
        """run-tests: no test, an unknown option and a bad time limit are refused"""
        for arguments in [], ["-x", "a_test"], ["-t", "soon", "a_test"]:
            run = subprocess.run(["sh", RUN_TESTS, *arguments], cwd=self.folder, text=True,
                                 capture_output=True)
            self.assertEqual(run.returncode, 2, arguments)
            self.assertTrue(re.search("usage|number of seconds", run.stderr), run.stderr)


if __name__ == "__main__":
    unittest.main()
