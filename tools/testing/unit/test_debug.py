# SPDX-License-Identifier: GPL-2.0-only
"""make check-debug without a kernel: what its hosts print is believed only as far
as it goes."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from as_module import as_module

sys.dont_write_bytecode = True
DEBUG = Path(__file__).resolve().parents[1] / "debug"
check = as_module(DEBUG / "check")

# How the kernel's log looks after all mistakes.
LOG = """\
[   35.0] mistake use_after_free
[   35.1] ==================================================================
[   35.2] BUG: KASAN: use-after-free in use_after_free+0x5f/0x70 [mistakes]
[   35.3] mistake wide_shift
[   35.4] UBSAN: shift-out-of-bounds in /src/mistakes.c:44:12
[   35.3] mistake sleep_in_atomic
[   35.6] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580
[   35.3] mistake preemptible_cpu
[   35.8] BUG: using smp_processor_id() in preemptible [00000000] code: insmod/95
[   35.3] mistake unlocked_rcu
[   36.0] =============================
[   36.0] WARNING: suspicious RCU usage
[   35.3] mistake lock_inversion
[   36.2] ======================================================
[   36.2] WARNING: possible circular locking dependency detected
"""
COMPLAINED = "run: amd: the kernel complained: [   35.2] BUG: KASAN: use-after-free\nrun: the console log is {}\n"


class Mistakes(unittest.TestCase):
    def made(self, log, status=125, errors=COMPLAINED):
        """What is said of a host whose kernel logs LOG, with ERRORS and STATUS: {claim: outcome}"""
        place = check.Place("amd")
        file = tempfile.NamedTemporaryFile("w")
        self.addCleanup(file.close)
        file.write(log)
        file.flush()
        done = subprocess.CompletedProcess([], status, "", errors.format(file.name))
        with mock.patch.object(check.subprocess, "run", return_value=done), \
                contextlib.redirect_stdout(io.StringIO()):
            check.make_mistakes(place, "6.1-debug", Path("mistakes.ko"))
        return {result.claim: result.outcome for result in place.results}

    def test_all_reported(self):
        """a kernel that reports every mistake passes"""
        outcomes = self.made(LOG)
        self.assertEqual(len(outcomes), len(check.MISTAKES) + 1)
        self.assertEqual(set(outcomes.values()), {"passed"})

    def test_each_not_reported(self):
        """a kernel that is silent about any one mistake fails for that one"""
        for mistake in check.MISTAKES:
            with self.subTest(mistake):
                head, mark, rest = LOG.partition(f"mistake {mistake}\n")
                _, next_mark, rest = rest.partition("\n[   35.3] mistake ")
                outcomes = self.made(head + mark + next_mark.lstrip() + rest)
                failed = [claim for claim, outcome in outcomes.items() if outcome == "failed"]
                self.assertEqual(failed, [f"{mistake.replace('_', ' ')} is reported"])

    def test_reported_elsewhere(self):
        """a report that belongs to another mistake does not count"""
        log = LOG.replace("mistake wide_shift\n", "\n").replace("[   35.1] ===", "mistake wide_shift\n[   35.1] ===")
        outcomes = self.made(log)
        self.assertEqual(outcomes["use after free is reported"], "failed")
        self.assertEqual(outcomes["wide shift is reported"], "passed")

    def test_host_content(self):
        """a runner that is content with a host full of mistakes fails"""
        for status, errors in (0, ""), (125, "run: amd: hung, stopped after 9 s\n"):
            with self.subTest(errors):
                outcomes = self.made(LOG, status, errors)
                self.assertEqual(outcomes["a host whose kernel reports mistakes has failed"], "failed")

    def test_same_names(self):
        """the module makes each mistake that is asked for"""
        source = (DEBUG / "mistakes/mistakes.c").read_text()
        for mistake in check.MISTAKES:
            self.assertIn(f'{{ "{mistake}", {mistake} }},', source)


class Script(unittest.TestCase):
    """What runs after the selftests, in a folder where the fuzzer is a stub."""

    def run_after(self, fuzzer="exit 0", locks="1"):
        with tempfile.TemporaryDirectory() as folder:
            stats, program = Path(folder, "stats"), Path(folder, "nmi_fuzz_test")
            stats.write_text(f" max locking depth:    11\n debug_locks:             {locks}\n")
            program.write_text(f"#!/bin/sh\n{fuzzer}\n")
            program.chmod(0o755)
            script = check.FUZZ.format(first=2000, programs=8000) + check.WATCHED
            script = script.replace("/proc/lockdep_stats", str(stats))
            done = subprocess.run(["sh", "-c", f"status=0\n{script}exit $status"], cwd=folder, text=True,
                                  capture_output=True)
        return done.returncode, [line for line in done.stdout.splitlines() if "ok" in line]

    def test_good(self):
        """programs that do as the model says, and lockdep alive, are two passes"""
        status, lines = self.run_after()
        self.assertEqual((status, [line[:2] for line in lines]), (0, ["ok", "ok"]))

    def test_bad_program(self):
        """a program that does not is a failure"""
        status, lines = self.run_after("exit 1")
        self.assertEqual((status, lines[0]), (1, "not ok 1 8000 programs from seed 2000 on"))

    def test_lockdep_off(self):
        """lockdep that has given up is a failure"""
        status, lines = self.run_after(locks="0")
        self.assertEqual((status, lines[1]), (1, "not ok 1 lockdep watched to the end"))


class Plan(unittest.TestCase):
    def test_bochs(self):
        """what runs in Bochs exists, and tracks NMIs both ways"""
        with contextlib.redirect_stdout(io.StringIO()):
            steps, _ = check.plan("intel")
        self.assertLessEqual({test for step in steps for test in step.tests}, set(check.suite.programs()))
        self.assertEqual({"vnmi=0" in (step.parameters or ()) for step in steps}, {True, False})

    def test_amd(self):
        """on the host that is fast enough nothing is left out"""
        steps, _ = check.plan("amd")
        self.assertEqual(steps, check.suite.steps("amd"))


class Kernel(unittest.TestCase):
    def test_name(self):
        """the kernel is named after its source, not after the distribution's kernel"""
        if os.environ.get("KDIR"):
            self.skipTest("make check-debug builds from a source package, KDIR= has none")
        done = subprocess.run([DEBUG / "build-kernel", "--name"], text=True, capture_output=True, env=os.environ)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^\d+\.\d+\.\d+-debug\n$")


if __name__ == "__main__":
    unittest.main()
