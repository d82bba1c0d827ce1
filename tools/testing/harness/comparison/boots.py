# SPDX-License-Identifier: GPL-2.0-only
"""Run the selftests or the benchmark on a host that may not survive them. What
took the host down is a result, and the rest runs in another boot."""

import subprocess
import threading
from dataclasses import asdict

import suite
from comparison import costs
from tap import Result, Tap

HOST_FAILED = 125
BENCHMARK = "nmi_cost"

# What counts is silence, and by the emulator's own time: a machine that is busy is no fault of a module's.
OPTIONS = ("--timeout", "720")

# Of a test, in the host's own time. The distribution's soft vNMI waits a second for an NMI
# that comes in a handler, and what has thousands of them would take hours.
LIMITS = {"intel-soft": "-t 120 "}

# All that was found, where the host failed in between.
WHOLE = "the whole column"


class HostFailed(Exception):
    """The host crashed, hung or complained; the text says which."""


def reason(said):
    """What hosts/run said last of why it failed, without its own name and the log's."""
    lines = [line for line in said.splitlines() if line and not line.startswith("run: the console log is")]
    return lines[-1].removeprefix("run: ").partition(": ")[2] if lines else "no reason given"


def lines_of(command):
    """The lines that a command in a host prints, as they come."""
    with subprocess.Popen(command, text=True, errors="replace", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        said = []
        reader = threading.Thread(target=lambda: said.append(run.stderr.read()))
        reader.start()
        for line in run.stdout:
            yield line.rstrip("\r\n")
        reader.join()
        if run.wait() == HOST_FAILED:
            raise HostFailed(reason("".join(said)))


def label(step):
    return " ".join(step.parameters or ())


class Progress:
    """How far a boot got with its steps, by what it printed."""

    def __init__(self, steps):
        self.steps = steps
        self.tap = Tap()
        # A first step that takes the module as it is does not announce itself.
        self.index = 0 if steps[0].parameters is None else -1
        self.running = False

    def line(self, line):
        if line.startswith("# parameters: "):
            self.index += 1
            self.tap.test = ""
        result = self.tap.line(line)
        if self.tap.test and line == f"# {self.tap.test}":
            self.running = True
        elif line.startswith(f"# {self.tap.test}: status "):
            self.running = False
        return result

    def step(self):
        return self.steps[max(self.index, 0)]

    def victims(self):
        """The tests that the host did not survive: one, or all that a step began with."""
        if self.running:
            return (self.tap.test,)
        return () if self.tap.test else self.step().tests

    def rest(self):
        step = self.step()
        done = step.tests.index(self.tap.test) + 1 if self.tap.test else len(step.tests)
        tests = step.tests[done:]
        return ([suite.Step(step.parameters, tests)] if tests else []) + self.steps[max(self.index, 0) + 1:]


def left_of(steps, folder, kept, results):
    """The steps without the tests whose results are kept; those are taken over."""
    left = []
    for step in steps:
        tests = []
        for test in step.tests:
            known = kept.get(f"{test} {label(step)}", folder / test)
            if known is None:
                tests.append(test)
            for fields in known or ():
                result = Result(**fields)
                results[test, label(step), result.number] = result
        if tests:
            left.append(suite.Step(step.parameters, tuple(tests)))
    return left


def keep(steps, folder, kept, results):
    for step in steps:
        for test in step.tests:
            of_test = [result for key, result in results.items() if key[:2] == (test, label(step))]
            if kept.failures or all(result.outcome != "failed" for result in of_test):
                kept.put(f"{test} {label(step)}", list(map(asdict, of_test)), folder / test)


def conformance(host, folder, kept, *options):
    """({(test, parameters, number): Result}, why the host failed, each time it did)"""
    steps = suite.steps(host)
    programs = [folder / test for step in steps for test in step.tests]
    known = kept.get(WHOLE, *programs)
    if known is not None:
        return {tuple(key): Result(**fields) for key, fields in known["results"]}, known["failures"]
    results, failures = {}, []
    limit = LIMITS.get(host, suite.TEST_LIMIT) if kept.failures else suite.TEST_LIMIT
    left = left_of(steps, folder, kept, results)
    while left:
        progress = Progress(left)
        try:
            for line in lines_of(suite.command(host, folder, left, *OPTIONS, *options, limit=limit)):
                result = progress.line(line)
                if result:
                    results[result.test, label(progress.step()), result.number] = result
            # Had the host failed, any of them might be why.
            keep(left, folder, kept, results)
            left = []
        except HostFailed as failure:
            failures.append(str(failure))
            for test in progress.victims():
                results[test, label(progress.step()), 0] = Result("failed", test, str(failure))
            left = progress.rest()
    if failures and kept.failures:
        kept.put(WHOLE, {"results": [(key, asdict(result)) for key, result in results.items()],
                         "failures": failures}, *programs)
    return results, failures


def measure_once(host, folder, *options):
    """{row: Cost} of the benchmark."""
    results, left = {}, []
    while True:
        command = [str(suite.TESTING / "hosts/run"), host, "--icount", *OPTIONS, *options,
                   "--with", str(folder / BENCHMARK), "--", f"./{BENCHMARK}", *left]
        try:
            for line in lines_of(command):
                if line.startswith("rows ") and not left:
                    left = line.split()[1:]
                cost = costs.parse(line)
                if cost:
                    results[cost[0]] = cost[1]
                    left.remove(cost[0])
            return results
        except HostFailed as failure:
            if not left:
                return {**{row: costs.Cost(problem=str(failure)) for row in costs.ROWS}, **results}
            results[left.pop(0)] = costs.Cost(problem=str(failure))
            if not left:
                return results


def measure(host, folder, kept, *options):
    """The same of two boots."""
    known = kept.get(BENCHMARK, folder / BENCHMARK)
    if known is not None:
        return {row: costs.Cost(**fields) for row, fields in known.items()}
    first, second = (measure_once(host, folder, *options) for _ in range(2))
    results = {row: costs.agreed(row, first[row], second[row]) for row in costs.ROWS}
    if not any(cost.again or cost.problem not in ("", "never") for cost in results.values()):
        kept.put(BENCHMARK, {row: asdict(cost) for row, cost in results.items()}, folder / BENCHMARK)
    return results
