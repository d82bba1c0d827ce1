# SPDX-License-Identifier: GPL-2.0-only
"""NMIs by QEMU's monitor, and those that a guest's CPUs send each other."""

import re
import time

from machine import CPUS, LONG, check, guest


def monitor_test():
    with guest() as here:
        here.booted()
        before = here.nmis()

        def lone():
            for sent in range(1, 51):
                here.nmi()
                here.counts(before[0] + sent)
        yield "50 of the monitor's NMIs, one at a time, are counted one by one", lone

        def paused():
            count = here.nmis()[0]
            for _ in range(10):
                here.qmp('stop')
                here.nmi(2)
                here.qmp('cont')
                count += 2
                here.counts(count)
        yield 'two of them sent while the guest is paused are both counted, ten times', paused

        def third():
            count = here.nmis()[0]
            here.qmp('stop')
            here.nmi(5)
            here.qmp('cont')
            time.sleep(1)
            here.counts(count + 2)
        yield 'of five sent while it is paused two are', third

        def others():
            check(here.nmis()[1:] == before[1:], f'NMIs of CPUs: {here.nmis()}, before {before}')
        yield 'no other CPU of the guest has counted any', others

        def reset():
            here.qmp('stop')
            here.nmi(2)
            here.qmp('system_reset')
            here.qmp('cont')
            here.booted()
            check(here.nmis() == before, f'NMIs after the reset: {here.nmis()}, after the first boot: {before}')
            here.nmi()
            here.counts(before[0] + 1)
        yield 'a reset forgets two that wait, and the next one is counted', reset


def busy(here):
    """Something to do for each of a guest's CPUs."""
    here.run('n=0; while [ $n -lt %d ]; do { while :; do :; done & } ; n=$((n + 1)); done' % CPUS)


def backtraces(here, rounds):
    """sysrq-l so many times: one CPU asks, and each has to answer, the others by an NMI."""
    before = here.nmis()
    for _ in range(rounds):
        here.run('dmesg -c >/dev/null; echo l >/proc/sysrq-trigger')
        # sysrq has the kernel print on the console, too.
        said = here.run("dmesg | sed -n 's/.*NMI backtrace for cpu \\([0-9]*\\).*/cpu \\1/p' | sort -u")
        answers = [line for line in said if re.fullmatch(r'cpu \d+', line)]
        check(len(answers) == CPUS, f'of {CPUS} CPUs there have answered: {answers}')
    after = here.nmis()
    check(sum(after) - sum(before) == rounds * (CPUS - 1), f'NMIs before: {before}, after {rounds}: {after}')


def backtrace_test():
    if CPUS < 2:
        yield 'the host has one CPU', None
        return
    with guest() as here:
        here.booted()

        def own_checks():
            # Of the two that a kernel makes at boot, "NMI testsuite" and the check of its watchdog.
            said = here.run("dmesg | awk 'tolower($0) ~ /nmi|perf.*(stuck|broken)/'")
            bad = [line for line in said if re.search(r'(?i)fail|stuck|lost|unexpected|uhhuh|backtrace|dazed', line)]
            check(not bad, f'the guest complains: {bad}')
        yield "the guest's kernel has nothing to say of NMIs when it boots", own_checks

        rounds = 100 if LONG else 20
        busy(here)
        yield f'each CPU answers to sysrq-l {rounds} times under load, with one NMI each', \
            lambda: backtraces(here, rounds)
