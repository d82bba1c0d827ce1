# SPDX-License-Identifier: GPL-2.0-only
"""'make report' on emulated hosts, in small amounts, and broken off with a VM running."""

import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
ROOT = TESTING.parents[1]
TOOL = ROOT / "tools/report"
sys.path[:0] = str(TESTING / "harness"), str(TESTING / "hosts"), str(TESTING / "unit")

import suite
from as_module import as_module
from kernel import Kernel
from records import HOSTS

KVER = os.environ["KVER"]
SELFTESTS = ROOT / "build" / KVER / "selftests"
AMOUNTS = {"TESTS": "nmi_blocking_test", "PROGRAMS": "12", "SAMPLES": "64"}
# What the emulated CPU has, and the paths of our module there; the distribution's may have fewer.
EXPECTED = {
    "amd": ("svm", "npt", ["SVM IRET window"]),
    "amd-strict": ("svm", "nrips", ["SVM IRET window"]),
    "amd-strict-vnmi": ("svm", "vnmi", ["SVM vNMI", "SVM IRET window"]),
    "intel": ("vmx-flags", "vnmi", ["VMX virtual NMIs"]),
}

# The test that runs is ended, with its VM, which must not keep the module.
BREAK_OFF = """
. ./.host/job
sh ./in-machine report >said 2>&1 &
until grep -q '^# nmi_stress_test' said; do sleep 0.1; done
sleep 2
kill $!
wait $!
echo "status $?"
cat said
cat "/sys/module/$module/version" 2>/dev/null || echo "the distribution's"
echo "used $(cat "/sys/module/$module/refcnt")"
"""


def report_of(host):
    name = f"trial-{host}"
    done = subprocess.run([TOOL / "report", "--host", host, "--name", name], text=True, capture_output=True,
                          env={**os.environ, **AMOUNTS})
    return done, ROOT / "build/report" / f"{name}.json"


def broken_off(host):
    tool = as_module(TOOL / "report")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "report")
        files.mkdir()
        tool.fill(files, HOSTS[host], Kernel(ROOT / "build", KVER), {"TESTS": "nmi_stress_test"})
        return subprocess.run([TESTING / "hosts/run", host, "--with", TOOL / "in-machine", "--with", files, "--",
                               BREAK_OFF], text=True, capture_output=True)


class Machines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """All at once: each keeps one CPU busy."""
        hosts = [host for host in suite.chosen_hosts() if host in EXPECTED]
        if not hosts:
            raise unittest.SkipTest(f"make report: HOSTS leaves out {', '.join(EXPECTED)}")
        with concurrent.futures.ThreadPoolExecutor(suite.HOSTS_AT_ONCE) as pool:
            cls.reports = dict(zip(hosts, pool.map(report_of, hosts)))
            cls.broken_off = list(pool.map(broken_off, [host for host in hosts if host == "amd"]))

    def test_report(self):
        """a report of each host has both modules on its path, and ours passes"""
        for host, (done, kept) in self.reports.items():
            with self.subTest(host):
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                report = json.loads(kept.read_text())
                which, feature, paths = EXPECTED[host]
                self.assertIn(feature, report["cpu"][which].split())
                self.assertTrue(report["emulated"])
                stock, ours = ([run for run in report["runs"] if run["module"] == module]
                               for module in ("stock", "ours"))
                self.assertEqual([run["path"] for run in ours], paths)
                self.assertIn([run["path"] for run in stock], (paths, paths[-1:]))
                for run in ours:
                    self.assertEqual((run["failures"], run["programs"]["failed"]), ([], []))
                    self.assertEqual((run["counts"]["failed"], run["programs"]["ran"]), (0, 12))
                    self.assertGreater(run["counts"]["passed"], 5)
                    self.assertTrue(all(isinstance(cost, dict) for cost in run["costs"].values()), run["costs"])

    def test_broken_off(self):
        """one that is broken off while a VM runs leaves the distribution's module, and nothing uses it"""
        if not self.broken_off:
            self.skipTest("make report, broken off: HOSTS leaves out amd")
        for done in self.broken_off:
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertTrue(done.stdout.startswith("status 143\n"), done.stdout)
            self.assertTrue(done.stdout.endswith("the distribution's\nused 0\n"), done.stdout)


if __name__ == "__main__":
    unittest.main()
