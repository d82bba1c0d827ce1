# SPDX-License-Identifier: GPL-2.0-only
"""The selftests as they run on a host: the programs, and the parameters of the
vendor module that some want, in the order of one boot."""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
SELFTESTS = TESTING / "selftests/kvm"
HOSTS = "amd amd-vnmi intel intel-soft"
# These only when they are asked for: two need a CPU that is built first, one a later Bochs.
OPTIONAL = "amd-strict amd-strict-vnmi intel-pml intel-arrow-lake"
ON_BOCHS = "intel", "intel-soft", "intel-pml", "intel-arrow-lake"

SMP_TEST = "nmi_smp_test"
# The strict CPU minds that KVM keeps a VMCB's clean bits while the CPU is off.
SUSPENDED = "amd",

# An emulator keeps a CPU busy, and emulated time must not fall too far behind.
HOSTS_AT_ONCE = 2

# What takes a case a second elsewhere takes longer in a host in a host, beside others above all.
NESTED, PATIENCE = "amd-vnmi", "export NMI_TEST_PATIENCE=3\n"

# Of a test, as an option of run-tests, in a host's own time.
TEST_LIMIT = "-t 600 "
LONG_LIMIT = "-t 7200 "


@dataclass(frozen=True)
class Step:
    """Tests that run with the same vendor module; None leaves the one that is loaded."""
    parameters: tuple
    tests: tuple

    def script(self, limit=""):
        run = f"sh ./run-tests {limit}{' '.join(self.tests)}"
        if self.parameters is None:
            return run
        words = shlex.join(self.parameters)
        return f"echo {shlex.quote('# parameters: ' + words)}; reload-module {words} && {run}"


def chosen_hosts(default=HOSTS, variable="HOSTS"):
    """The hosts named in $HOSTS, if any is."""
    hosts = os.environ.get(variable, "").split() or default.split()
    for host in hosts:
        if host not in f"{HOSTS} {OPTIONAL}".split():
            sys.exit(f"{variable}: there is no host {host}, only {HOSTS} {OPTIONAL}")
    return hosts


def programs():
    return tuple(sorted(path.stem for path in SELFTESTS.glob("x86/*_test.c")))


def long_run():
    """'make check-long': all of the tests everywhere, and of each all it can do."""
    return bool(os.environ.get("LONG"))


def rows():
    table = SELFTESTS / "variants"
    for line in table.read_text().splitlines() if table.exists() else []:
        words = line.partition("#")[0].split()
        if words:
            yield words


def variants():
    """Rows of the table 'variants': host, module parameters, tests."""
    for words in rows():
        if words[0] != "only":
            yield (words[0], tuple(word for word in words[1:] if "=" in word),
                   tuple(word for word in words[1:] if "=" not in word))


def only(host):
    """The tests to which 'make check' keeps on a host, by the rows 'only' of the table."""
    return {test for words in rows() if words[:2] == ["only", host] for test in words[2:]}


def steps(host, everything=True):
    """The tests of a host, all or those of 'make check', then those of its variants."""
    special = {test for _, _, tests in variants() for test in tests}
    unknown = (special | {test for words in rows() if words[0] == "only" for test in words[2:]}) - set(programs())
    if unknown:
        sys.exit(f"{SELFTESTS}/variants names {' '.join(sorted(unknown))}: no such test")
    wanted = set() if everything else only(host)
    common = tuple(program for program in programs()
                   if program not in special and (not wanted or program in wanted))
    return [Step(None, common)] + [Step(parameters, tests or common)
                                   for row_host, parameters, tests in variants() if row_host == host]


def command(host, folder, steps, *options, before="", after="", limit=TEST_LIMIT):
    """The command that boots the host and runs these steps there, between lines of shell.

    Those after may set status. The limit, as an option of run-tests, is that of each test."""
    names = sorted({test for step in steps for test in step.tests})
    files = [word for name in ["run-tests"] + names for word in ("--with", str(folder / name))]
    script = "".join(f"{{ {step.script(limit)}; }} || status=1\n" for step in steps)
    return [str(TESTING / "hosts/run"), host, *options, *files, "--",
            f"{PATIENCE if host == NESTED else ''}{before}status=0\n{script}{after}exit $status"]


def several_cpus(host, folder, suspend, *options, before="", **more):
    """The command for the test of several CPUs, two here, which may do what it likes to them.

    suspend: and to the host, where that can be."""
    may = "offline suspend" if suspend and host in SUSPENDED else "offline"
    # A host that is suspended would lose this machine's files; in Bochs it sees none.
    alone = () if host in ON_BOCHS else ("--alone",)
    return command(host, folder, [Step(None, (SMP_TEST,))], *options, *alone, "--cpus", "2",
                   before=f"export NMI_TEST_MAY='{may}'\n{before}", **more)


if __name__ == "__main__":
    chosen_hosts(variable=sys.argv[1] if sys.argv[1:] else "HOSTS")
