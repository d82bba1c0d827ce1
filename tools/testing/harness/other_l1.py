# SPDX-License-Identifier: GPL-2.0-only
"""A guest hypervisor that is not ours, on our vNMI: the distribution's kernel of a
series whose own kvm-amd uses vNMI."""

import subprocess
import sys
from pathlib import Path

from tap import Result

ROOT = Path(__file__).resolve().parents[3]
SUITE = ROOT / "scripts/suite"
SERIES = "6.12"

# Runs ahead of the tests. Without vNMI they would say nothing of ours.
USES_VNMI = """\
[ "$(cat /sys/module/kvm_amd/parameters/vnmi)" = Y ] || printf 'not '
echo "ok 1 kvm-amd of $(uname -r) finds vNMI and uses it"
"""


def kernel(series=SERIES):
    """(kernel, ""), or (None, why there is none)"""
    found = subprocess.run([SUITE, "--for", series, ROOT / "scripts/newest-kernel", series],
                           text=True, capture_output=True)
    if found.returncode:
        return None, last_line(found.stderr)
    return found.stdout.strip(), ""


def fetch(kver):
    """Returns what went wrong, "" if nothing did."""
    done = subprocess.run([SUITE, "--for", kver, ROOT / "scripts/fetch-packages", ROOT / "build" / kver / "image",
                           f"linux-image-{kver}"], text=True, capture_output=True)
    return last_line(done.stderr) if done.returncode else ""


def last_line(text):
    """After what was said on the way comes the reason."""
    return (text.strip().splitlines() or [""])[-1]


class KnownFailures:
    """What is known to fail there and why. A case that no longer does is told, too."""

    def __init__(self, reasons):
        self.reasons = reasons
        self.left = dict(reasons)

    def judge(self, result):
        reason = self.reasons.get((result.test, result.claim))
        if reason is None:
            return result
        self.left.pop((result.test, result.claim), None)
        if result.outcome == "failed":
            return Result("skipped", result.test, f"{result.claim}: known to fail there: {reason}")
        return Result("failed", result.test, result.claim,
                      (f"passes, though it is listed as failing: {reason}",))

    def missing(self, tests):
        """Of these tests, which were to run."""
        return [Result("failed", test, claim, ("did not run, though it is listed as failing",))
                for test, claim in self.left if test in tests]


if __name__ == "__main__":
    # As long as there is a network; a machine whose apt knows no such kernel skips the tests.
    other, _ = kernel()
    sys.exit(other and fetch(other) or None)
