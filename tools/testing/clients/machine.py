# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of this folder share on an emulated host: a Linux guest in QEMU, what
comes of a claim, and what is left for people where one fails."""

import json
import os
import re
import select
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

WORK = Path(__file__).resolve().parent
KERNEL, INITRD = WORK / 'guest-kernel', WORK / 'guest-initrd'
CRASH_INITRD = WORK / 'guest-initrd-crash'
KEPT = WORK / 'kept'        # goes to the machine that runs the host
TRACING, DEBUGFS = Path('/sys/kernel/tracing'), Path('/sys/kernel/debug/kvm')
CPUS = os.cpu_count()
LONG = bool(os.environ.get('LONG'))     # check-long and check-clients
BOOT, ANSWER = 600, 120     # seconds of the host's time, which is slow
# The kernel is not to print between two words of ours.
CMDLINE = ('console=ttyS0 loglevel=0 mitigations=off nmi_watchdog=0 cryptomgr.notests tsc=reliable '
           'no_timer_check panic=-1 rcupdate.rcu_cpu_stall_timeout=300')


class Failed(Exception):
    """A claim that does not hold; the text is a line for people."""


def check(holds, text):
    if not holds:
        raise Failed(text)


def await_(holds, patience, text):
    """Until holds() does; text says, when it has not within so many seconds, what is the matter."""
    deadline = time.monotonic() + patience
    while not holds():
        check(time.monotonic() < deadline, text() + f' after {patience} s')
        time.sleep(0.05)


def tool(*command, **kwargs):
    """What a program prints; one that fails is a claim that does not hold."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors='replace', **kwargs)
    check(not done.returncode, f'{" ".join(map(str, command))}: status {done.returncode}: {done.stdout.strip()[-500:]}')
    return done.stdout


class Stream:
    """A socket of QEMU's, read line by line."""

    def __init__(self, path, patience):
        self.socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + patience
        while True:
            try:
                self.socket.connect(path)
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Failed(f'QEMU does not open {path}: {error.strerror}') from None
                time.sleep(0.1)

    rest = b''

    def line(self, patience):
        deadline = time.monotonic() + patience
        while b'\n' not in self.rest:
            ready, _, _ = select.select([self.socket], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise Failed(f'nothing was said for {patience} s after {self.rest[-200:].decode(errors="replace")!r}')
            more = self.socket.recv(65536)
            if not more:
                raise Failed('QEMU has ended')
            self.rest += more
        line, _, self.rest = self.rest.partition(b'\n')
        return line.decode(errors='replace').rstrip('\r')

    def lines(self):
        """Whole ones that are there, without waiting for any."""
        while select.select([self.socket], [], [], 0)[0]:
            more = self.socket.recv(65536)
            if not more:
                raise Failed('QEMU has ended')
            self.rest += more
        *lines, self.rest = self.rest.split(b'\n')
        return [line.decode(errors='replace').rstrip('\r') for line in lines]

    def send(self, text):
        self.socket.sendall(text.encode() + b'\n')


class Console:
    """The serial port of a Linux guest, whoever has started it."""
    all = []                # of the test that runs

    def __init__(self, path):
        Console.all.append(self)
        self.said = []
        self.serial = Stream(path, ANSWER)

    def until(self, pattern, patience=ANSWER):
        """Console lines up to the one that matches."""
        lines = []
        while not lines or not re.search(pattern, lines[-1]):
            lines.append(self.serial.line(patience))
            self.said.append(lines[-1])
        return lines

    def has_said(self, pattern):
        """How many of the lines that are there, and were not looked at, match."""
        lines = self.serial.lines()
        self.said += lines
        return sum(bool(re.search(pattern, line)) for line in lines)

    def booted(self):
        self.until('^guest: ready', BOOT)
        return self

    def run(self, command, patience=ANSWER):
        """What a command prints in the guest."""
        self.serial.send(command)
        *said, status = self.until(r'guest: status \d+$', patience)
        check(status.endswith(' 0'), f'in the guest, {command!r} ends with {status!r}: {said}')
        return said

    def nmis(self):
        """How many NMIs each CPU has counted."""
        said = self.run('nmis')
        found = [line.split()[1:] for line in said if line.startswith('nmis: ')]
        check(found, f'the guest does not tell its NMIs, but {said}')
        return [int(word) for word in found[0]]

    def counts(self, expected):
        """The first CPU, which is the one that QEMU sends NMIs to, has counted so many."""
        await_(lambda: self.nmis()[0] == expected, ANSWER,
               lambda: f'the guest has counted {self.nmis()[0]} NMIs, {expected} were sent,')


class Qemu(Console):
    """A QEMU of our own, with QMP and a serial port."""
    made = 0

    def __init__(self, *options, cpus=CPUS, memory=192, accelerator='kvm'):
        Qemu.made += 1
        model = ['-cpu', 'host,migratable=on'] if accelerator == 'kvm' else []
        name = f'/tmp/guest-{Qemu.made}'
        self.errors = open(f'{name}.errors', 'w+', encoding='utf-8')
        self.qemu = subprocess.Popen(
            ['qemu-system-x86_64', '-accel', accelerator, *model, '-smp', str(cpus), '-m', str(memory), '-nodefaults',
             '-display', 'none', '-serial', f'unix:{name}.serial,server=on,wait=off',
             '-qmp', f'unix:{name}.qmp,server=on,wait=off', *options],
            stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors)
        super().__init__(f'{name}.serial')
        self.monitor = Stream(f'{name}.qmp', ANSWER)
        self.monitor.line(ANSWER)
        self.qmp('qmp_capabilities')

    def qmp(self, command, **arguments):
        self.monitor.send(json.dumps({'execute': command, 'arguments': arguments}))
        while True:
            answer = json.loads(self.monitor.line(ANSWER))
            if 'error' in answer:
                raise Failed(f'{command}: {answer["error"]["desc"]}')
            if 'return' in answer:
                return answer['return']

    def nmi(self, times=1):
        for _ in range(times):
            self.qmp('inject-nmi')

    def threads(self):
        """Those of the vCPUs."""
        return [cpu['thread-id'] for cpu in self.qmp('query-cpus-fast')]

    def end(self):
        self.qemu.kill()
        self.qemu.wait()


class Guest(Qemu):
    """A Linux guest in a QEMU of its own."""

    def __init__(self, *options, append='', initrd=INITRD, **kwargs):
        super().__init__('-kernel', str(KERNEL), '-initrd', str(initrd), '-append', f'{CMDLINE} {append}',
                         *options, **kwargs)

    def go_on(self):
        """Where it came to; it is paused there as it was where it came from."""
        await_(lambda: self.qmp('query-status')['status'] != 'inmigrate', BOOT, lambda: 'the guest has not arrived')
        self.qmp('cont')
        return self


@contextmanager
def guest(*options, **kwargs):
    """One that is ended with the block."""
    here = Guest(*options, **kwargs)
    try:
        yield here
    finally:
        here.end()


@contextmanager
def meanwhile(act):
    """Does this again and again as long as the block lasts."""
    over = threading.Event()

    def repeat():
        times = 0
        while not over.is_set():
            act()
            times += 1
        return times

    with ThreadPoolExecutor(1) as pool:
        repeated = pool.submit(repeat)
        try:
            yield
        finally:
            over.set()
    error = repeated.exception()
    check(not error, f'what goes on meanwhile has failed: {error!r}')
    check(repeated.result() > 2, f'what goes on meanwhile was done {repeated.result()} times only')


def load(*parameters, stock=False):
    """Our vendor module anew, with these parameters, or the distribution's."""
    trace(False)
    if stock:
        tool('rmmod', 'kvm_amd')
        tool('modprobe', 'kvm_amd')
    else:
        tool('reload-module', *parameters)
        trace(True)


def cpu_has_vnmi():
    """Whether the CPU has vNMI, and our module uses it."""
    parameter = Path('/sys/module/kvm_amd/parameters/vnmi')
    return parameter.exists() and parameter.read_text() == 'Y\n'


def trace(on):
    """What KVM does with NMIs goes into the kernel's trace, which is kept where a claim fails."""
    switch = TRACING / 'events/kvm_nmi/enable'
    if switch.exists():
        switch.write_text('1' if on else '0')


def delivered():
    """NMIs of all VMs that there are, as debugfs tells."""
    texts = [file.read_text() for file in DEBUGFS.glob('*/nmi')]
    return sum(int(number) for text in texts for number in re.findall(r'injected=(\d+)', text))


def keep(name):
    """Leave what was said, and the trace, in a folder of this name."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, console in enumerate(Console.all, 1):
        (folder / f'guest-{number}.console').write_text('\n'.join(console.said) + '\n')
    for file in Path('/tmp').glob('*.errors'):
        shutil.copy(file, folder)
    shutil.copy(TRACING / 'trace', folder / 'trace')
    return folder
