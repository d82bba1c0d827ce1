# SPDX-License-Identifier: GPL-2.0-only
"""NMIs by QEMU's monitor, and those that a guest's CPUs send each other."""

import re

from machine import ANSWER, CPUS, LONG, Shared, await_, check, is_ours, needs_ours, on_their_way


def is_reset():
    """For a guest that is paused: its vCPUs know of no NMI. Once it runs its firmware would take
    one that was left, and nobody would count it."""
    await_(lambda: not on_their_way(), 10, lambda: f'the reset leaves {on_their_way()}')


def monitor_test():
    here = Shared.get()
    before = here.nmis()

    def lone():
        for sent in range(1, times + 1):
            here.nmi()
            here.counts(before[0] + sent)
    times = 50 if LONG else 15
    yield f"{times} of the monitor's NMIs, one at a time, are counted one by one", lone

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
        here.counts(count + 2)
        if is_ours():
            await_(lambda: not on_their_way(), ANSWER, lambda: f'the guest does not come to rest: {on_their_way()}')
        here.counts(count + 2)
    yield 'of five sent while it is paused two are', third

    def others():
        check(here.nmis()[1:] == before[1:], f'NMIs of CPUs: {here.nmis()}, before {before}')
    yield 'no other CPU of the guest has counted any', others

    def reset():
        needs_ours()
        here.stop_on_the_way(here.nmis()[0])
        here.nmi(2)
        here.qmp('system_reset')
        is_reset()
    yield 'a reset forgets those that were on their way when the guest was paused, and two sent since', reset
    # It would have to boot once more.
    here.end()


def busy(here):
    """Something to do for each of a guest's CPUs."""
    here.run('n=0 busy=; while [ $n -lt %d ]; do { while :; do :; done & } ; busy="$busy $!"; '
             'n=$((n + 1)); done' % CPUS)


def idle(here):
    here.run('kill $busy')


def backtraces(here, rounds, at_once=1):
    """sysrq-l so many times so many at once: one CPU asks, and each has to answer, the others by an NMI.

    Several at once, since starting dmesg takes long under load; not more than the guest's log can hold."""
    before = here.nmis()
    # sysrq has the kernel print on the console, too, in the middle of a line of ours if there is one.
    said = here.run(f'n=0; while [ $n -lt {rounds} ]; do dmesg -c >/dev/null; '
                    f'm=0; while [ $m -lt {at_once} ]; do echo l >/proc/sysrq-trigger; m=$((m + 1)); done; '
                    "dmesg | sed -n 's/.*NMI backtrace for cpu \\([0-9]*\\).*/cpu \\1/p' | sort | uniq -c | "
                    'xargs echo answers: >>/answers; n=$((n + 1)); done; uniq -c /answers; rm /answers',
                    ANSWER + 10 * rounds * at_once)
    answers = [line.split() for line in said if 'answers:' in line]
    everyone = [str(rounds), 'answers:',
                *(word for cpu in range(CPUS) for word in (str(at_once), 'cpu', str(cpu)))]
    check(answers == [everyone], f'of {CPUS} CPUs there have answered: {answers}')
    after = here.nmis()
    asked = rounds * at_once
    check(sum(after) - sum(before) == asked * (CPUS - 1), f'NMIs before: {before}, after {asked}: {after}')


def backtrace_test():
    here = Shared.get()

    def own_checks():
        said = here.run("dmesg | awk 'tolower($0) ~ /nmi|perf.*(stuck|broken)/'")
        bad = [line for line in said if re.search(r'(?i)fail|stuck|lost|unexpected|uhhuh|backtrace|dazed', line)]
        check(not bad, f'the guest complains: {bad}')
    yield "the guest's kernel has no complaint of NMIs when it boots", own_checks

    rounds, at_once = (100, 10) if LONG else (5, 1)
    busy(here)
    yield f'each CPU answers to sysrq-l {rounds * at_once} times under load, with one NMI each', \
        lambda: backtraces(here, rounds, at_once)
    idle(here)
