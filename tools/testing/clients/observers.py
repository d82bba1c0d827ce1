# SPDX-License-Identifier: GPL-2.0-only
"""What people watch NMIs with: QEMU's statistics, debugfs, trace-cmd, perf."""

import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from machine import BOOT, DEBUGFS, LONG, WORK, Shared, await_, check, cpu_has_vnmi, delivered, is_ours, meanwhile, \
    needs_ours, tool, trace

SENT = 20


def send(here):
    before = here.nmis()[0]
    for sent in range(1, SENT + 1):
        here.nmi()
        here.counts(before + sent)


@contextmanager
def observing(*command):
    """A program that records as long as a command runs: it starts that when all is set up, and that ends
    when there is nothing more to read for it."""
    started = Path(f'/tmp/{command[0]}.started')
    started.unlink(missing_ok=True)
    wait = ['sh', '-c', f'touch {started}; read -r nothing; true']
    with open(f'/tmp/{command[0]}.errors', 'w+', encoding='utf-8') as said, \
            subprocess.Popen([*command, *wait], stdin=subprocess.PIPE, stdout=said, stderr=said) as program:
        try:
            await_(lambda: started.exists() or program.poll() is not None, BOOT, lambda: f'{command[0]} does not start')
            yield
        finally:
            program.stdin.close()
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


@contextmanager
def kvm_stat(told):
    """What the kernel's own kvm_stat counts as long as the block lasts, a line each second."""
    log, words = Path('/tmp/kvm_stat.log'), ('-d', '-l', '-s', '1', '-f', 'nmi_injections')

    def lines():
        check(program.poll() is None, f'kvm_stat has ended with status {program.returncode}: {log.read_text()[-300:]}')
        return log.read_text().splitlines()
    with open(log, 'w', encoding='utf-8') as said, \
            subprocess.Popen([sys.executable, '-u', WORK / 'kvm_stat', *words], stdout=said, stderr=said) as program:
        try:
            await_(lines, BOOT, lambda: 'kvm_stat says nothing')
            yield
            # The second one from here was begun after the last NMI.
            here = len(lines())
            await_(lambda: len(lines()) >= here + 2, BOOT, lambda: 'kvm_stat says no more')
        finally:
            program.send_signal(signal.SIGINT)
    told += log.read_text().splitlines()


def reads():
    """The file of each VM, to its end."""
    for file in DEBUGFS.glob('*/nmi'):
        check(' injected=' in file.read_text(), f'{file} does not tell what was injected')
    time.sleep(0.1)


def events(report, first=r'kvm_nmi_inject: .* again=0', end=r'kvm_nmi_unblock: .* reason=iret'):
    """Of a recording: injections that were the first attempt, and ends of handlers, which with vNMI are
    the CPU's own affair."""
    begun, ended = len(re.findall(first, report)), len(re.findall(end, report))
    wanted = SENT, 0 if cpu_has_vnmi() else SENT
    check((begun, ended) == wanted, f'{SENT} NMIs are {begun} injections and {ended} ends in the recording: '
          f'{report[-500:]}')


def observers_test():
    here = Shared.get()
    # All of them watch the same NMIs, and each other.
    statistics, counts, told = [statistic(here)], [delivered() if is_ours() else 0], []
    with ExitStack() as stack:
        if is_ours():
            stack.enter_context(observing('trace-cmd', 'record', '-q', '-e', 'kvm_nmi', '-o', '/tmp/trace.dat'))
            stack.enter_context(observing('perf', 'record', '-q', '-a', '-e', 'kvm_nmi:*', '-o', '/tmp/perf.data'))
            stack.enter_context(meanwhile(reads))
        stack.enter_context(kvm_stat(told))
        send(here)
    statistics.append(statistic(here))
    counts.append(delivered() if is_ours() else 0)
    # trace-cmd has switched all of them off at its end.
    trace(True)

    def info_stats():
        check(statistics[1] - statistics[0] == SENT, f'before and after {SENT} NMIs QEMU has {statistics}')
    yield f"QEMU's info stats counts {SENT} of {SENT} NMIs", info_stats

    def kvm_stat_log():
        counted = sum(int(line.split()[-1]) for line in told if re.fullmatch(r'[-\d]+ [:\d]+ +\d+', line))
        check(counted == SENT, f'of {SENT} NMIs its lines have {counted}: {told}')
    yield f"kvm_stat's column nmi_injections grows by {SENT}", kvm_stat_log

    def debugfs():
        needs_ours()
        check(counts[1] - counts[0] == SENT, f'before and after {SENT} NMIs debugfs has {counts}')
    yield f'debugfs tells {SENT} of {SENT} NMIs, read all the while', debugfs

    def trace_cmd():
        needs_ours()
        events(tool('trace-cmd', 'report', '-i', '/tmp/trace.dat', patience=BOOT))
    ends = ", and no ends, which are the CPU's" if cpu_has_vnmi() else ' and their ends'
    yield f'trace-cmd records {SENT} of {SENT} injections{ends}', trace_cmd

    def perf_record():
        needs_ours()
        events(tool('perf', 'script', '-i', '/tmp/perf.data', patience=BOOT))
    yield 'so does perf record, as perf script tells it', perf_record

    if not LONG:
        return

    def perf_trace():
        needs_ours()
        with observing('perf', 'trace', '-a', '--no-syscalls', '-e', 'kvm_nmi:*', '-o', '/tmp/perf.trace'):
            send(here)
        # It leaves out what is 0, and tells numbers for names.
        events(Path('/tmp/perf.trace').read_text(), r'kvm_nmi_inject\((?!.*again)', r'kvm_nmi_unblock\(')
    yield 'and perf trace, as they come', perf_trace

    def perf_kvm_stat():
        with observing('perf', 'kvm', 'stat', 'record', '-a', '-o', '/tmp/perf.kvm'):
            send(here)
        told = tool('perf', 'kvm', '-i', '/tmp/perf.kvm', 'stat', 'report', patience=BOOT)
        irets = re.search(r'(?m)^ +iret +(\d+) ', told)
        check(irets and int(irets[1]) >= SENT, f'of {SENT} intercepted IRETs it tells {irets and irets[1]}: {told}')
    if not cpu_has_vnmi():
        yield f"perf kvm stat tells the exits of {SENT} handlers' IRETs, which go straight back", perf_kvm_stat
