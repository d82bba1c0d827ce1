# SPDX-License-Identifier: GPL-2.0-only
"""tools/testing/harness/check believes no host that did not report its tests."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTING / "harness"))

import suite

# Without what was asked of the check that runs this.
ASKED = "PARTS", "LONG", "AGAIN", "UNTIL"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ASKED}

GOOD = """\
# nmi_some_test
TAP version 13
1..2
ok 1 an NMI comes
ok 2 # SKIP a third one: this CPU has no third one
# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:1 error:0
# nmi_some_test: status 0
"""

BAD = """\
# nmi_some_test
TAP version 13
1..2
ok 1 an NMI comes
# expected 1, seen 2
not ok 2 it comes once
# nmi_some_test: status 1
"""


LOGGED = """\
# nmi_some_test
TAP version 13
1..2
# log: stage 1
# log: vector 2 rip 0x1000
ok 1 an NMI comes
# log: stage 1
ok 2 it comes once
# nmi_some_test: status 0
"""


class Check(unittest.TestCase):
    """check in a folder of its own, where hosts/run prints a record."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.testing = Path(folder.name, "tools/testing")
        for name in "harness", "hosts":
            (self.testing / name).mkdir(parents=True)
        (self.testing / "selftests/kvm/x86").mkdir(parents=True)
        (self.testing / "selftests/kvm/x86/nmi_some_test.c").touch()
        for name in ("check", "exceptions.py", "guest_logs.py", "other_l1.py", "place.py", "suite.py", "tap.py"):
            shutil.copy(TESTING / "harness" / name, self.testing / "harness")
        shutil.copy(TESTING / "hosts/process.py", self.testing / "hosts")

    def check(self, record, status, errors="", hosts="amd"):
        """Run it on hosts that print RECORD and ERRORS and end with STATUS."""
        (self.testing / "record").write_text(record)
        (self.testing / "errors").write_text(errors)
        run = self.testing / "hosts/run"
        run.write_text(f"#!/bin/sh\ncat {self.testing}/record\ncat {self.testing}/errors >&2\nexit {status}\n")
        run.chmod(0o755)
        done = subprocess.run([self.testing / "harness/check"], text=True, capture_output=True,
                              env=ENVIRONMENT | {"HOSTS": hosts})
        return done.returncode, done.stdout.splitlines()

    def test_good(self):
        """a good record is one line a test and the totals"""
        status, lines = self.check(GOOD, 0)
        self.assertEqual(lines[:2], ["ok amd nmi_some_test: an NMI comes",
                                     "skip amd nmi_some_test: a third one: this CPU has no third one"])
        self.assertEqual(lines[-1], "1 passed, 0 failed, 1 skipped")
        self.assertEqual(status, 0)

    def test_two_hosts(self):
        """totals are those of all hosts, and each host has its own"""
        status, lines = self.check(GOOD, 0, hosts="amd intel")
        # The one that took longer is first.
        amd, intel = sorted(lines[-3:-1])
        self.assertRegex(amd, "^amd: 1 passed, 0 failed, 1 skipped")
        self.assertRegex(intel, "^intel: 1 passed, 0 failed, 1 skipped")
        self.assertEqual(lines[-1], "2 passed, 0 failed, 2 skipped")
        self.assertEqual(status, 0)

    def test_bad(self):
        """a failed test is told with what it printed"""
        status, lines = self.check(BAD, 1)
        told = ["not ok amd nmi_some_test: it comes once", "    expected 1, seen 2"]
        self.assertEqual(lines[1:3], told)
        self.assertEqual(lines[-5:-2], ["failed:"] + ["    " + line for line in told])
        self.assertEqual(lines[-1], "1 passed, 1 failed, 0 skipped")
        self.assertEqual(status, 1)

    def run_twice(self, first, second, **variables):
        """Status and lines when hosts print FIRST in their first run and SECOND in the next one."""
        run = self.testing / "hosts/run"
        for name, record in ("first", first), ("second", second):
            (self.testing / name).write_text(record)
        run.write_text(f"#!/bin/sh\ncd {self.testing}\n[ ! -e seen ] || cp second first\ntouch seen\n"
                       'echo "$@" >asked\n'
                       "cat first\n! grep -q '^not ok' first\n")
        run.chmod(0o755)
        (self.testing / "seen").unlink(missing_ok=True)
        done = subprocess.run([self.testing / "harness/check"], text=True, capture_output=True,
                              env=ENVIRONMENT | {"HOSTS": "amd"} | variables)
        return done.returncode, done.stdout.splitlines()

    def test_again(self):
        """asked to try again, what fails once is unsteady, what fails twice has failed, and what passes is not tried"""
        other = BAD.replace("ok 1 an NMI", "not ok 1 an NMI").replace("not ok 2", "ok 2")
        unsteady = ["unsteady, failed in one of two runs:", "    not ok amd nmi_some_test: it comes once",
                    "        expected 1, seen 2"]
        for first, second, last, status in ((GOOD, BAD, "1 passed, 0 failed, 1 skipped", 0),
                                            (BAD, GOOD, "1 passed, 0 failed, 0 skipped", 0),
                                            (BAD, BAD, "1 passed, 1 failed, 0 skipped", 1),
                                            (BAD, other, "1 passed, 0 failed, 0 skipped", 0)):
            with self.subTest(first=first, second=second):
                done, lines = self.run_twice(first, second, AGAIN="1")
                self.assertEqual((done, lines[-1]), (status, last))
                told = [n for n, line in enumerate(lines) if line == unsteady[0]]
                self.assertEqual(len(told), {GOOD: 0, BAD: second != BAD, other: 2}[first] + (second == other))
                if told:
                    self.assertEqual(lines[told[0]:told[0] + 3], unsteady)

    def test_again_only(self):
        """what is tried again is the program that failed, the place as a whole where it was none of them"""
        (self.testing / "selftests/kvm/x86/nmi_other_test.c").touch()
        crashed = GOOD.replace("# nmi_some_test", "# some").replace("ok 1", "not ok 1")
        for first, programs in (BAD, ["nmi_some_test"]), (crashed, ["nmi_other_test", "nmi_some_test"]):
            with self.subTest(programs=programs):
                self.run_twice(first, GOOD, AGAIN="1")
                asked = (self.testing / "asked").read_text()
                self.assertIn(f"run-tests {suite.TEST_LIMIT}{' '.join(programs)};", asked)

    def test_not_again(self):
        """unasked, nothing is tried a second time"""
        self.assertEqual(self.run_twice(BAD, GOOD)[0], 1)

    def test_until(self):
        """after a time that was set no place is begun; each that is left out is told, and no failure"""
        self.write("hosts/run", f"#!/bin/sh\ncat <<'EOF'\n{GOOD}EOF\nsleep 4\n", 0o755)
        for seconds, passed in (-1, 0), (3, 2):
            with self.subTest(seconds):
                done = subprocess.run([self.testing / "harness/check"], text=True, capture_output=True,
                                      env=ENVIRONMENT | {"HOSTS": "amd intel intel-soft",
                                                         "UNTIL": str(int(time.time()) + seconds)})
                lines = done.stdout.splitlines()
                left = [line for line in lines if line.startswith("skip ") and ": left out: there was no time" in line]
                self.assertEqual(len(left), 3 - passed)
                self.assertEqual((done.returncode, lines[-1]), (0, f"{passed} passed, 0 failed, 3 skipped"))

    def test_until_is_no_time(self):
        """a time that is none is refused"""
        done = subprocess.run([self.testing / "harness/check"], text=True, capture_output=True,
                              env=ENVIRONMENT | {"HOSTS": "amd", "UNTIL": "soon"})
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"\Acheck: UNTIL is soon: .*\n\Z")

    def test_not_here(self):
        """a host that this machine's emulator does not have is a skip with its reason, and no failure"""
        status, lines = self.check("", 125, "run: intel-pml: not on this machine: Bochs 1.0 has no such model\n",
                                   hosts="intel-pml")
        self.assertEqual(lines[0], "skip intel-pml: Bochs 1.0 has no such model")
        self.assertEqual((status, lines[-1]), (0, "0 passed, 0 failed, 1 skipped"))

    def test_crashed(self):
        """a host that crashes after good tests has failed, with the reason"""
        status, lines = self.check(GOOD, 125, "run: amd: the kernel crashed\n")
        self.assertIn("not ok amd: ended with status 125", lines)
        self.assertIn("    run: amd: the kernel crashed", lines)
        self.assertEqual(lines[-1], "1 passed, 1 failed, 1 skipped")
        self.assertEqual(status, 1)

    CLIENTS_DIED = """\
# backtrace_test
TAP version 13
not ok 1 what comes next can be set up
1..1
# backtrace_test: status 1 after 9 s
# monitor_test
TAP version 13
ok 1 an NMI comes
"""

    def clients(self, record, status):
        """Lines of a check of the clients that say RECORD, and what was asked of them last."""
        self.write("clients/run", f'#!/bin/sh\necho "$*" >{self.testing}/asked\ncat {self.testing}/said\n'
                   f"exit {status}\n", 0o755)
        self.write("said", record)
        done = subprocess.run([self.testing / "harness/check"], text=True, capture_output=True,
                              env=ENVIRONMENT | {"HOSTS": "amd", "PARTS": "clients", "AGAIN": "1"})
        self.assertEqual(done.returncode, 1)
        return done.stdout.splitlines(), (self.testing / "asked").read_text().split()

    def test_clients_died(self):
        """a test of the clients that did not come to its end has failed, and so have those behind it: they run again"""
        lines, asked = self.clients(self.CLIENTS_DIED, 137)
        self.assertIn("not ok clients monitor_test: it runs to its end", lines)
        self.assertIn("not ok clients libvirt_test: it runs to its end", lines)
        self.assertNotIn("not ok clients backtrace_test: it runs to its end", lines)
        self.assertEqual(set(asked), {"backtrace_test", "monitor_test", "libvirt_test"})
        self.assertRegex(lines[-2], r"^clients: 1 passed, \d failed, .* \(backtrace_test 9 s\)$")

    def test_clients_host_died(self):
        """where the clients' host itself has failed that is one failure, and all of them run again"""
        lines, asked = self.clients(self.CLIENTS_DIED, 125)
        self.assertIn("not ok clients: ended with status 125", lines)
        self.assertEqual([line for line in lines if "runs to its end" in line], [])
        self.assertEqual(set(asked), {"backtrace_test", "monitor_test", "libvirt_test"})

    def test_silent(self):
        """a host where no test passed has failed, skipped ones or not"""
        for record in ("", "# nmi_some_test\nTAP version 13\n1..0 # SKIP no /dev/kvm\n"):
            with self.subTest(record):
                status, lines = self.check(record, 0)
                self.assertIn("not ok amd: no test passed", lines)
                self.assertEqual(status, 1)

    def test_unknown_host(self):
        """a host that does not exist is refused before anything runs, with those that do"""
        status, lines = self.check(GOOD, 0, hosts="amd amd64")
        self.assertEqual((status, lines), (1, []))

    def test_unknown_variant(self):
        """a table of variants that names no test is refused"""
        (self.testing / "selftests/kvm/variants").write_text("amd vnmi=0 nmi_other_test\n")
        status, lines = self.check(GOOD, 0)
        self.assertNotEqual(status, 0)
        self.assertEqual(lines, [])

    def test_variants_of_check(self):
        """a host keeps to the tests of its rows 'only', unless all are asked for"""
        for name in "a", "b":
            (self.testing / f"selftests/kvm/x86/nmi_{name}_test.c").touch()
        self.write("selftests/kvm/variants", "only amd nmi_a_test\nonly amd nmi_b_test\n")
        self.write("hosts/run", "#!/bin/sh\n"
                   """printf '%s\\n' "$*" | sed -n 's/.*run-tests -t [0-9]* \\(nmi[^;]*\\);.*/# \\1/p'\n"""
                   "echo ok 1 \"$(printf '%s' \"$*\" | grep -o 'run-tests -t.*' | head -n 1)\"\n", 0o755)
        for long, tests in ("", "nmi_a_test nmi_b_test;"), ("1", "nmi_a_test nmi_b_test nmi_some_test;"):
            done = subprocess.run([self.testing / "harness/check"], text=True, capture_output=True,
                                  env=ENVIRONMENT | {"HOSTS": "amd", "LONG": long})
            self.assertIn(tests, done.stdout.splitlines()[0])
            self.assertEqual(done.stderr.splitlines()[0], "check: 0 of 1 places done, now amd")

    RUN = """#!/usr/bin/env python3
import os, signal, sys
sys.path.insert(0, os.path.dirname(__file__))
from process import emulator, interrupt_once
interrupt_once(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
print('ok 1 begun', flush=True)
with emulator(['sleep', '1000'], os.devnull) as process:
    os.write(os.open('{pids}', os.O_WRONLY | os.O_APPEND), b'%d %d ' % (os.getpid(), process.pid))
    process.wait()
"""

    def interrupted(self, interrupt):
        """(status, errors) of a run that is interrupted when two hosts run; nothing is left of them."""
        pids = self.testing / "pids"
        pids.write_text("")
        self.write("hosts/run", self.RUN.format(pids=pids), 0o755)
        with subprocess.Popen([self.testing / "harness/check"], text=True, start_new_session=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=ENVIRONMENT | {"HOSTS": "amd intel"}) as check:
            while len(pids.read_text().split()) < 4:
                self.assertIsNone(check.poll())
                time.sleep(0.1)
            interrupt(check.pid)
            _, errors = check.communicate()
        left = [pid for pid in pids.read_text().split() if Path("/proc", pid).exists()]
        return check.returncode, errors, left

    def test_interrupted(self):
        """Ctrl-C, or a signal to check alone, ends both hosts and their emulators before check ends"""
        for interrupt in (lambda pid: os.killpg(pid, signal.SIGINT), lambda pid: os.kill(pid, signal.SIGINT),
                          lambda pid: os.kill(pid, signal.SIGTERM)):
            status, errors, left = self.interrupted(interrupt)
            self.assertEqual((status, left), (130, []), errors)
            self.assertEqual(errors.splitlines()[-1], "check: interrupted")
            self.assertNotIn("Traceback", errors)

    def test_killed(self):
        """a check that is killed leaves no host behind either"""
        status, errors, left = self.interrupted(lambda pid: os.kill(pid, signal.SIGKILL))
        while [pid for pid in left if Path("/proc", pid).exists()]:
            time.sleep(0.1)
        self.assertEqual(status, -signal.SIGKILL)

    def write(self, name, text, mode=0o644):
        file = self.testing / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def check_both(self, amd, amd_vnmi, stock, lawful="", known="", kernel="echo 6.12.1-amd64"):
        """Run it on amd and amd-vnmi with these records, STOCK being that of the other hypervisor."""
        for name, record in ("amd", amd), ("amd-vnmi", amd_vnmi), ("stock", stock):
            self.write(f"record-{name}", record)
        self.write("hosts/run", f"""#!/bin/sh
case "$*" in
*--stock*--kver*6.12.1-amd64*) record=stock ;;
*) record=$1 ;;
esac
cat {self.testing}/record-$record
! grep -q '^not ok' {self.testing}/record-$record
""", 0o755)
        self.write("../../scripts/suite", "#!/bin/sh\nshift 2\nexec \"$@\"\n", 0o755)
        self.write("../../scripts/newest-kernel", f"#!/bin/sh\n{kernel}\n", 0o755)
        self.write("../../scripts/fetch-packages", "#!/bin/sh\n", 0o755)
        self.write("selftests/kvm/lawful-differences", lawful)
        self.write("selftests/kvm/failures-other-l1", known)
        done = subprocess.run([self.testing / "harness/check"], text=True, capture_output=True,
                              env=ENVIRONMENT | {"HOSTS": "amd amd-vnmi"})
        return done.returncode, done.stdout.splitlines()

    def test_same_logs(self):
        """guests that see the same on amd and amd-vnmi are told so"""
        status, lines = self.check_both(LOGGED, LOGGED, GOOD)
        self.assertIn("ok amd and amd-vnmi nmi_some_test: guests see the same (2 of 2 cases)", lines)
        self.assertEqual(status, 0)

    def test_other_logs(self):
        """a guest that sees something else on amd-vnmi is a failure with the line"""
        for other, told in ((LOGGED.replace("0x1000", "0x1001"), "amd-vnmi: vector 2 rip 0x1001"),
                            (LOGGED.replace("# log: vector 2 rip 0x1000\n", ""), "amd-vnmi: ends here")):
            with self.subTest(told):
                status, lines = self.check_both(LOGGED, other, GOOD)
                self.assertIn("    an NMI comes: line 2 of the guest's log differs", lines)
                self.assertIn(f"    {told}", lines)
                self.assertEqual(status, 1)

    def test_lawful_difference(self):
        """a difference that is listed as lawful is none, and the list names real cases"""
        lawful = "The reason.\n\tnmi_some_test an NMI comes\n"
        other = LOGGED.replace("0x1000", "0x1001")
        status, lines = self.check_both(LOGGED, other, GOOD, lawful)
        self.assertIn("ok amd and amd-vnmi nmi_some_test: guests see the same (1 of 2 cases)", lines)
        self.assertEqual(status, 0)
        status, lines = self.check_both(LOGGED, LOGGED, GOOD, lawful.replace("comes", "goes"))
        self.assertEqual(status, 1)

    def test_lawful_difference_skipped(self):
        """a case that skips in both places is one that there is, whatever the reason says"""
        lawful = "The reason.\n\tnmi_some_test a third one\n"
        status, lines = self.check_both(GOOD, GOOD, GOOD, lawful)
        self.assertEqual(status, 0, lines)
        status, lines = self.check_both(GOOD, GOOD, GOOD, lawful.replace("one", "on"))
        self.assertEqual(status, 1, lines)

    def test_known_failure(self):
        """what is known to fail on another hypervisor does not count, and has its reason"""
        known = "Its own defect.\n\tnmi_some_test it comes once\n"
        status, lines = self.check_both(LOGGED, LOGGED, BAD, known=known)
        self.assertIn("skip amd-vnmi, kvm-amd of 6.12.1-amd64 nmi_some_test: it comes once: "
                      "known to fail there: Its own defect.", lines)
        self.assertEqual(status, 0)

    def test_unknown_failure(self):
        """any other failure on another hypervisor counts"""
        status, lines = self.check_both(LOGGED, LOGGED, BAD)
        self.assertIn("not ok amd-vnmi, kvm-amd of 6.12.1-amd64 nmi_some_test: it comes once", lines)
        self.assertEqual(status, 1)

    def test_failure_gone(self):
        """a failure listed for another hypervisor that passes or does not run is told"""
        for claim, why in ("it comes once", "passes, though"), ("it never comes", "did not run, though"):
            with self.subTest(claim):
                status, lines = self.check_both(LOGGED, LOGGED, LOGGED,
                                                known=f"Its own defect.\n\tnmi_some_test {claim}\n")
                self.assertTrue(any(why in line for line in lines), lines)
                self.assertEqual(status, 1)

    def test_no_other_kernel(self):
        """a machine whose apt knows no such kernel skips the other hypervisor and says why"""
        status, lines = self.check_both(LOGGED, LOGGED, BAD, kernel="echo apt knows none >&2; exit 1")
        self.assertIn("skip amd-vnmi, kvm-amd of 6.12: apt knows none", lines)
        self.assertEqual(status, 0)


if __name__ == "__main__":
    unittest.main()
