# SPDX-License-Identifier: GPL-2.0-only
"""What the distribution's kernels leave out: a debugger in the guest's kernel, which stops its
CPUs by NMI, a test of NMIs at boot, a watchdog without counters, a CPU that hangs by itself."""

import re

from machine import BOOT, CPUS, WORK, Guest, await_, check

KERNEL = WORK / 'guest-kernel-kgdb'
KGDBTS, LKDTM = '/sys/module/kgdbts/parameters/kgdbts', '/sys/kernel/debug/provoke-crash/DIRECT'
STEPS, BREAKPOINTS = 100, 1000
HANGS = 'lkdtm_HARDLOCKUP'
LAST = CPUS - 1


def log(here):
    """What the kernel has said, without the time."""
    return [re.sub(r'^\[ *[\d.]+\] ?', '', line) for line in here.run('dmesg')]


def tested_itself(here, nmis):
    said = [line for line in log(here) if re.search(r'IPI:|testcases|unexpected failures', line)]
    check(any(re.match('Good, all +2 testcases passed', line) for line in said), f'the kernel says: {said}')
    # One that has no other CPU passes, too.
    check(len(nmis) == CPUS and all(nmis), f'NMIs of CPUs: {nmis}')


def debug(here):
    """At each breakpoint, on whichever CPU, the other has to leave what it does."""
    before = here.nmis()
    here.run(f'dmesg -c >/dev/null; echo V1I{STEPS}F{BREAKPOINTS} >{KGDBTS}', BOOT)
    # It breaks where a process is made, and waits for that many.
    here.run(f'for cpu in {" ".join(map(str, range(CPUS)))}; do '
             f'{{ n=0; while [ $n -lt {BREAKPOINTS} ]; do (:); n=$((n + 1)); done; }} & done; wait', BOOT)
    said = []

    def over():
        said[:] = [line for line in log(here) if 'kgdb' in line.lower()]
        return any('Unregistered' in line for line in said)
    await_(over, BOOT, lambda: f'kgdbts has not come to its end, but to: {said[-5:]}')
    check(any(f'for {BREAKPOINTS} breakpoints' in line for line in said), f'kgdbts has not begun: {said}')
    # What it begins with are hardware breakpoints, which fail without KVM and with one CPU as well.
    first = next((number for number, line in enumerate(said) if 'RUN plant and detach' in line), 0)
    bad = [line for line in said[first:] if re.search(r'BUG|ERROR|WARNING|[Ff]ail|Timed out', line)]
    check(not bad, f'it complains: {bad[:5]}')
    grown = [after - then for after, then in zip(here.nmis(), before)]
    check(sum(grown) >= (CPUS - 1) * (STEPS + BREAKPOINTS) and all(grown), f'NMIs of CPUs meanwhile: {grown}')


def hangs_in(said):
    """Whether the last CPU's answer to its NMI is there, and says where it hangs."""
    _, answers, rest = '\n'.join(said).partition(f'NMI backtrace for cpu {LAST}')
    return answers and HANGS in re.split('NMI backtrace for cpu', rest)[0]


def hang(here):
    # The first CPU has the shell and its console.
    here.run('mount -t debugfs debugfs /sys/kernel/debug; dmesg -c >/dev/null; '
             'taskset -p 1 $$ >/dev/null; echo 1 >/proc/irq/4/smp_affinity; sleep 2')
    here.run(f'taskset {1 << LAST:x} sh -c "echo HARDLOCKUP >{LKDTM}" & sleep 2')


def found(here):
    def told():
        said = log(here)
        return any(f'hard LOCKUP on cpu {LAST}' in line for line in said) and hangs_in(said)
    await_(told, BOOT, lambda: f'the kernel says: {log(here)[-30:]}')


def asked(here):
    before = here.nmis()[LAST]
    here.run('dmesg -c >/dev/null; echo l >/proc/sysrq-trigger')
    said = log(here)
    check(hangs_in(said), f'the kernel says: {said[-30:]}')
    grown = here.nmis()[LAST] - before
    check(grown == 1, f'it has counted {grown} NMIs')


def panics(here):
    # With a backtrace of each CPU, and on the console: a level of 0 is left alone by a panic.
    here.run('sysctl -w kernel.unknown_nmi_panic=1 kernel.panic_print=64; dmesg -n 8')
    here.nmi()
    said = here.until('^guest: ready', BOOT)
    check(any('Not continuing' in line for line in said), f'it does not panic by that NMI: {said}')
    check(hangs_in(said), f'it does not tell where its other CPU hangs: {said}')


def kgdb_test():
    # SeaBIOS's table from before ACPI has one CPU of each socket.
    here = Guest(kernel=KERNEL, append='nmi_watchdog=1 watchdog_thresh=5', cpus=f'{CPUS},sockets={CPUS}').booted()
    nmis = here.nmis()
    yield f"a kernel's own test of NMIs at boot passes, and each of {CPUS} CPUs has had one", \
        lambda: tested_itself(here, nmis)
    yield f"its debugger passes its tests: at {BREAKPOINTS} breakpoints an NMI stops the other CPU", \
        lambda: debug(here)
    hang(here)
    # That of 6.1 needs performance counters.
    if here.run('grep -c " watchdog_buddy_check_hardlockup$" /proc/kallsyms || :') != ['0']:
        yield 'its watchdog finds a CPU that hangs with IRQs off, and has it tell where', lambda: found(here)
    yield 'a CPU that hangs with IRQs off answers to sysrq-l with its stack, and counts one NMI', lambda: asked(here)
    yield "the monitor's nmi has the other CPU panic, which has that one answer once more", lambda: panics(here)
    here.end()
