# SPDX-License-Identifier: GPL-2.0-only
"""What people watch NMIs with: QEMU's statistics, debugfs, trace-cmd, perf."""

import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

from machine import BOOT, DEBUGFS, await_, check, delivered, guest, meanwhile, tool, trace

SENT = 20


def send(here):
    before = here.nmis()[0]
    for sent in range(1, SENT + 1):
        here.nmi()
        here.counts(before + sent)


@contextmanager
def observing(*command):
    """A program that records as long as a command runs: it starts that when all is set up."""
    started, over = Path('/tmp/started'), Path('/tmp/over')
    for file in started, over:
        file.unlink(missing_ok=True)
    wait = ['sh', '-c', f'touch {started}; until [ -e {over} ]; do sleep 0.1; done']
    with open('/tmp/observer.errors', 'a+', encoding='utf-8') as said, \
            subprocess.Popen([*command, *wait], stdin=subprocess.DEVNULL, stdout=said, stderr=said) as program:
        try:
            await_(lambda: started.exists() or program.poll() is not None, BOOT, lambda: f'{command[0]} does not start')
            yield
        finally:
            over.touch()
            try:
                program.wait(BOOT)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
            said.seek(0)
            told = said.read()[-300:]
        check(not program.returncode, f'{command[0]} ends with status {program.returncode}: {told}')


def statistic(here):
    """QEMU's info stats: KVM's own count of what it injected."""
    found = [entry['value'] for vcpu in here.qmp('query-stats', target='vcpu')
             for entry in vcpu['stats'] if entry['name'] == 'nmi_injections']
    check(found, 'QEMU knows no statistic nmi_injections')
    return sum(found)


def reads():
    """The file of each VM, to its end."""
    for file in DEBUGFS.glob('*/nmi'):
        check('delivered' in file.read_text(), f'{file} does not tell what was delivered')


def events(report):
    """Of a recording: injections that were the first attempt, and ends of handlers."""
    first = re.findall(r'kvm_nmi_inject: .* again=0', report)
    ends = re.findall(r'kvm_nmi_unblock: .* reason=iret', report)
    check((len(first), len(ends)) == (SENT, SENT),
          f'{SENT} NMIs are {len(first)} injections and {len(ends)} ends in the recording')


def observers_test():
    with guest() as here:
        here.booted()

        def info_stats():
            before = statistic(here)
            send(here)
            check(statistic(here) - before == SENT, f'QEMU has {before} before {SENT} NMIs, then {statistic(here)}')
        yield f"QEMU's info stats counts {SENT} of {SENT} NMIs", info_stats

        def debugfs():
            before = delivered()
            with meanwhile(reads):
                send(here)
            check(delivered() - before == SENT, f'debugfs has {before} before {SENT} NMIs, then {delivered()}')
        yield f'debugfs tells {SENT} of {SENT} NMIs, read all the while', debugfs

        def trace_cmd():
            with observing('trace-cmd', 'record', '-q', '-e', 'kvm_nmi', '-o', '/tmp/trace.dat'):
                send(here)
            # It has switched all of them off at its end.
            trace(True)
            events(tool('trace-cmd', 'report', '-i', '/tmp/trace.dat'))
        yield f'trace-cmd records {SENT} of {SENT} injections and their ends', trace_cmd

        def perf_record():
            with observing('perf', 'record', '-q', '-a', '-e', 'kvm_nmi:*', '-o', '/tmp/perf.data'):
                send(here)
            events(tool('perf', 'script', '-i', '/tmp/perf.data'))
        yield 'so does perf record, as perf script tells it', perf_record
