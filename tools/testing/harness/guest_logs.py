# SPDX-License-Identifier: GPL-2.0-only
"""Whether guests can tell two hosts apart: each case prints what its guest has seen
(NMI_TEST_LOG), and on both hosts that has to be the same."""

from tap import Result


def cases(results):
    """{(test, number): result} of the first run of each case."""
    found = {}
    for result in results:
        if result.number:
            found.setdefault((result.test, result.number), result)
    return found


def is_of(result, test, claim):
    """A case that skips says why after its claim."""
    return result.test == test and (result.claim == claim or
                                    result.outcome == "skipped" and result.claim.startswith(f"{claim}: "))


def difference(names, results):
    """The first line that differs, as comments."""
    logs = [result.log for result in results]
    at = next(n for n, _ in enumerate(max(logs, key=len))
              if [log[n:n + 1] for log in logs][0] != logs[1][n:n + 1])
    return [f"{results[0].claim}: line {at + 1} of the guest's log differs"] + \
           [f"{name}: {log[at] if at < len(log) else 'ends here'}" for name, log in zip(names, logs)]


def compare(names, places, lawful):
    """A Result for each program with a case that passed in both PLACES, lists of Results.

    LAWFUL is a table of cases whose guests may well see different things; of the tests
    that have run in both it names no case that there is not."""
    here, there = map(cases, places)
    ran = {test for test, _ in here} & {test for test, _ in there}
    results = [result for place in (here, there) for result in place.values()]
    unknown = [(test, claim) for test, claim in lawful
               if test in ran and not any(is_of(result, test, claim) for result in results)]
    tests = {}
    for key in sorted(here.keys() & there.keys()):
        pair = here[key], there[key]
        if all(result.outcome == "passed" for result in pair):
            tests.setdefault(key[0], []).append(pair)
    for test, pairs in tests.items():
        told = [pair for pair in pairs if (test, pair[0].claim) not in lawful]
        comments = [line for pair in told if pair[0].log != pair[1].log
                    for line in difference(names, pair)]
        if not told:
            yield Result("skipped", test, "guests may lawfully see different things in all cases")
            continue
        yield Result("failed" if comments else "passed", test,
                     f"guests see the same ({len(told)} of {len(pairs)} cases)", tuple(comments))
    for test, claim in unknown:
        yield Result("failed", test, f"{claim}: listed as a lawful difference, but there is no such case")
