# SPDX-License-Identifier: GPL-2.0-only
"""Where tests run, here or on a host, and what came of them there."""

import concurrent.futures
import subprocess
import sys
import time
from collections import Counter

from tap import Result, Tap


class Place:
    """Prints the results of tests and counts them."""

    def __init__(self, name):
        self.name = name
        self.counts = Counter()
        self.results = []
        self.start = time.monotonic()

    def add(self, result):
        self.counts[result.outcome] += 1
        self.results.append(result)
        # One write, for two places print at the same time.
        sys.stdout.write("".join(f"{line}\n" for line in result.lines(self.name)))
        sys.stdout.flush()

    def finish(self):
        self.seconds = time.monotonic() - self.start
        return self

    def summary(self):
        return f"{self.name}: {totals(self.counts)} in {self.seconds:.0f} s"


def totals(counts):
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))


def run_selftests(place, command, judge=lambda result: result):
    """Run the selftests of a host; a host that fails is one failed test."""
    tap = Tap()
    failures = 0
    with subprocess.Popen(command, text=True, errors="replace", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        with concurrent.futures.ThreadPoolExecutor(1) as reader:
            errors = reader.submit(run.stderr.read)
            for line in run.stdout:
                result = tap.line(line)
                if result:
                    failures += result.outcome == "failed"
                    place.add(judge(result))
    if run.returncode and not failures or run.returncode == 125:
        said = errors.result().strip().splitlines()
        place.add(Result("failed", "", f"ended with status {run.returncode}",
                         tuple(tap.comments[-20:] + said)))
    if not place.counts["passed"]:
        place.add(Result("failed", "", "no test passed"))
