# SPDX-License-Identifier: GPL-2.0-only
"""Where tests run, here or on a host, and what came of them there."""

import concurrent.futures
import resource
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager

from tap import Result, Tap


@contextmanager
def started(command, **kwargs):
    """A program that does not outlive the block, nor does what it has started: it is told to end."""
    with subprocess.Popen(command, text=True, errors="replace", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, **kwargs) as run:
        try:
            yield run
        except BaseException:
            run.terminate()
            raise


def output_of(command, **kwargs):
    """(status, output, errors) of a program that is told to end when this one is interrupted."""
    with started(command, **kwargs) as run:
        said, errors = run.communicate()
        return run.returncode, said, errors


class Place:
    """Prints the results of tests and counts them."""

    def __init__(self, name):
        self.name = name
        self.counts = Counter()
        self.results = []
        self.took = {}      # programs, if they tell
        self.start = time.monotonic(), cpu_seconds()

    def add(self, result):
        self.counts[result.outcome] += 1
        self.results.append(result)
        # One write, for two places print at the same time.
        sys.stdout.write("".join(f"{line}\n" for line in result.lines(self.name)))
        sys.stdout.flush()

    def finish(self):
        began, cpu = self.start
        self.seconds, self.cpu = time.monotonic() - began, cpu_seconds() - cpu
        return self

    def summary(self):
        took = ", ".join(f"{test} {time}" for test, time in self.took.items())
        return f"{self.name}: {totals(self.counts)} in {self.seconds:.0f} s, {self.cpu:.0f} s of CPU time" + \
            (f" ({took})" if took else "")


# As hosts/run says that nothing has failed: this machine's emulator has no such host.
NOT_HERE = "not on this machine: "


def cpu_seconds():
    """What this process and all that it has seen the end of have used."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in usage)


def totals(counts):
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))


def run_selftests(place, command, judge=lambda result: result):
    """Run the selftests of a host; a host that fails is one failed test, one that cannot be here a skip.
    Returns what it has said."""
    tap = Tap()
    failures = 0
    # The reader outside: it reads until the command ends, also if that is told to.
    with concurrent.futures.ThreadPoolExecutor(1) as reader, started(command, stderr=subprocess.PIPE) as run:
        errors = reader.submit(run.stderr.read)
        for line in run.stdout:
            result = tap.line(line)
            if result:
                failures += result.outcome == "failed"
                place.add(judge(result))
    said = errors.result().strip().splitlines()
    if run.returncode == 125 and said and NOT_HERE in said[-1]:
        place.add(Result("skipped", "", said[-1].partition(NOT_HERE)[2]))
        return tap
    if run.returncode and not failures or run.returncode == 125:
        place.add(Result("failed", "", f"ended with status {run.returncode}",
                         tuple(tap.comments[-20:] + said)))
    if not place.counts["passed"]:
        place.add(Result("failed", "", "no test passed"))
    place.took = {test: time for test, time in tap.ended.items() if time}
    return tap
