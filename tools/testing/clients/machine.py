# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of this folder share on an emulated host: a Linux guest in QEMU, what
comes of a claim, and what is left for people where one fails."""

import itertools
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
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

WORK = Path(__file__).resolve().parent
KERNEL, INITRD = WORK / 'guest-kernel', WORK / 'guest-initrd'
CRASH_INITRD = WORK / 'guest-initrd-crash'
STOCK = WORK / 'stock.ko'   # the distribution's module, where the host has none
KEPT = WORK / 'kept'        # goes to the machine that runs the host
TRACING, DEBUGFS = Path('/sys/kernel/tracing'), Path('/sys/kernel/debug/kvm')
# The vendor module; on Intel the host is one of Bochs, which has nothing but what is brought there.
MODULE = next(name for name in ('kvm_intel', 'kvm_amd') if Path('/sys/module', name).exists())
CPUS = 1 if MODULE == 'kvm_intel' else 2    # of a guest; see run
HOST_CPUS = sorted(os.sched_getaffinity(0))     # where guests may run
LONG = bool(os.environ.get('LONG'))     # check-long and check-clients
BOOT, ANSWER = 600, 120     # seconds of the host's time, which is slow
TRIES, PLAIN = 40, 4        # to stop a guest right then; those that are left to chance
# The kernel is not to print between two words of ours.
CMDLINE = ('console=ttyS0 loglevel=0 mitigations=off nmi_watchdog=0 cryptomgr.notests tsc=reliable '
           'no_timer_check panic=-1 rcupdate.rcu_cpu_stall_timeout=300')
LOGS = '/tmp/*.errors', '/var/log/libvirt/qemu/*.log'
NUMBERS = itertools.count(1)    # of what guests and QEMU are asked

AT_END = ExitStack()        # whatever a test has to undo, also where it fails


class Failed(Exception):
    """A claim that does not hold; the text is a line for people."""


class Skipped(Exception):
    """A claim that cannot be tried here; the text says why."""


def check(holds, text):
    if not holds:
        raise Failed(text)


def await_(holds, patience, text):
    """Until holds() does; text says, when it has not within so many seconds, what is the matter."""
    deadline = time.monotonic() + patience
    while not holds():
        check(time.monotonic() < deadline, text() + f' after {patience} s')
        time.sleep(0.05)


def tool(*command, patience=ANSWER, **kwargs):
    """What a program prints; one that fails, or does not end, is a claim that does not hold."""
    words = ' '.join(map(str, command))
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors='replace', timeout=patience, **kwargs)
    except subprocess.TimeoutExpired:
        raise Failed(f'{words}: not over after {patience} s') from None
    check(not done.returncode, f'{words}: status {done.returncode}: {done.stdout.strip()[-500:]}')
    return done.stdout


def end(program, patience=30):
    """In order if it can."""
    program.terminate()
    try:
        program.wait(patience)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


class Stream:
    """A socket of QEMU's, read line by line.

    alive(patience) fails, and says why, if QEMU has ended or does so within so many seconds."""

    def __init__(self, path, alive):
        self.path, self.alive = path, alive
        self.socket = socket.socket(socket.AF_UNIX)
        await_(self.connects, ANSWER, lambda: f'QEMU has not opened {path}')

    rest = b''

    def connects(self):
        self.alive(0)
        return not self.socket.connect_ex(self.path)

    def more(self, patience):
        """Whether there is."""
        if not select.select([self.socket], [], [], max(0, patience))[0]:
            return False
        try:
            more = self.socket.recv(65536)
        except ConnectionError:
            more = b''
        if not more:
            self.alive(5)
            raise Failed(f'QEMU has closed {self.path}')
        self.rest += more
        return True

    def line(self, deadline):
        """The next one, None if there is none by then."""
        while b'\n' not in self.rest:
            if not self.more(deadline - time.monotonic()):
                return None
        line, _, self.rest = self.rest.partition(b'\n')
        return line.decode(errors='replace').rstrip('\r')

    def send(self, text):
        try:
            self.socket.sendall(text.encode() + b'\n')
        except OSError:
            self.alive(5)
            raise


class Machine:
    """A QEMU that runs, whoever has started it: QMP, and the serial port of a guest."""
    all = []                    # of the test that runs
    boot_patience = BOOT

    def __init__(self, name, alive=lambda patience: None):
        Machine.all.append(self)
        self.number = len(Machine.all)
        self.said = []
        self.serial = Stream(f'{name}.serial', alive)
        self.monitor = Stream(f'{name}.qmp', alive)
        check(self.monitor.line(time.monotonic() + ANSWER), f'QEMU has not greeted within {ANSWER} s')
        self.qmp('qmp_capabilities')

    def heard(self, line):
        self.said.append(line)
        log(f'guest {self.number} says: {line}')

    def until(self, pattern, patience=ANSWER):
        """Console lines up to the one that matches."""
        deadline = time.monotonic() + patience
        lines = []
        while not lines or not re.search(pattern, lines[-1]):
            line = self.serial.line(deadline)
            check(line is not None, f'the guest has not said {pattern!r} within {patience} s')
            self.heard(line)
            lines.append(line)
        return lines

    def has_said(self, pattern):
        """How many of the lines that are there, and were not looked at, match."""
        found = 0
        while (line := self.serial.line(0)) is not None:
            self.heard(line)
            found += bool(re.search(pattern, line))
        return found

    def booted(self):
        try:
            self.until('^guest: ready', Machine.boot_patience)
        except Failed:
            # One that does not boot may have its own reasons, but if none does that is not to take hours.
            Machine.boot_patience = BOOT // 10
            raise
        return self

    def start(self, command):
        """Returns what the line that tells its end has to match."""
        number = next(NUMBERS)
        self.serial.send(f'{number} {command}')
        return rf'guest: command {number} ends with \d+$'

    def run(self, command, patience=ANSWER):
        """What a command prints in the guest."""
        *said, status = self.until(self.start(command), patience)
        check(status.endswith(' 0'), f'in the guest, {command!r}: {status!r}: {said}')
        return said

    def nmis(self):
        """How many NMIs each CPU has counted."""
        said = self.run('nmis')
        found = [line.split()[1:] for line in said if line.startswith('nmis: ')]
        check(found, f'the guest does not tell its NMIs, but {said}')
        return [int(word) for word in found[0]]

    def counts(self, expected):
        """The first CPU, which is the one that QEMU sends NMIs to, has counted so many."""
        def reached():
            nonlocal count
            count = self.nmis()[0]
            check(count <= expected, f'the guest has counted {count} NMIs, {expected} were sent')
            return count == expected
        count = None
        await_(reached, ANSWER, lambda: f'the guest has counted {count} NMIs, {expected} were sent,')

    def qmp(self, command, **arguments):
        return self.ask((command, arguments))[0]

    def in_a_row(self, *commands):
        """With nothing between them but QEMU."""
        self.ask(*((command, {}) for command in commands))

    def ask(self, *commands):
        asked = [(next(NUMBERS), *command) for command in commands]
        self.monitor.send('\n'.join(json.dumps({'execute': command, 'arguments': arguments, 'id': number})
                                    for number, command, arguments in asked))
        return [self.answer(number, command) for number, command, _ in asked]

    def answer(self, number, command):
        """The one with this number: events come at any time, and an answer may be late."""
        deadline = time.monotonic() + ANSWER
        while line := self.monitor.line(deadline):
            answer = json.loads(line)
            if answer.get('id') == number:
                check('return' in answer, f'{command}: {answer.get("error", {}).get("desc")}')
                return answer['return']
        raise Failed(f'{command}: QEMU has not answered within {ANSWER} s')

    def nmi(self, times=1):
        for _ in range(times):
            self.qmp('inject-nmi')

    def stop_on_the_way(self, count):
        """Stop a guest that has counted so many with one more NMI, or two, of which one is in service or
        waits, and tell how many it is to have counted then. The distribution's module does not tell where
        they are: there the first try has to do.

        None is sent later: QEMU has read the state of its vCPUs then, and does not read it again."""
        for attempt in range(1, TRIES + 1):
            # One in service is met by chance alone; one that waits can, more or less, be arranged for.
            arranged = attempt > PLAIN or not is_ours()
            nmis = ['inject-nmi'] * (1 if arranged else 2)
            with self.vcpus_come_last() if arranged else nullcontext():
                self.in_a_row(*nmis, 'stop')
            count += len(nmis)
            if not is_ours() or can_be_saved(on_their_way()):
                return count
            self.qmp('cont')
            self.counts(count)
        raise Failed(f'in {TRIES} stops no NMI was on its way')

    @contextmanager
    def vcpus_come_last(self):
        """They run when the rest of QEMU has nothing to do: an NMI then waits until the next command is done."""
        vcpus = self.threads()
        everything = [int(task.name) for task in Path(f'/proc/{vcpus[0]}/task').iterdir()]

        def schedule(policy, cpus):
            for thread in everything:
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread, cpus)
            for thread in vcpus:
                os.sched_setscheduler(thread, policy, os.sched_param(0))
        schedule(os.SCHED_IDLE, HOST_CPUS[:1])
        try:
            yield
        finally:
            schedule(os.SCHED_OTHER, HOST_CPUS)

    def threads(self):
        """Those of the vCPUs."""
        return [cpu['thread-id'] for cpu in self.qmp('query-cpus-fast')]


class Qemu(Machine):
    """One of our own."""
    made = 0
    running = []

    def __init__(self, *options, cpus=CPUS, memory=128, accelerator='kvm'):
        Qemu.made += 1
        model = ['-cpu', 'host,migratable=on'] if accelerator == 'kvm' else []
        name = f'/tmp/guest-{Qemu.made}'
        self.errors = Path(f'{name}.errors')
        with open(self.errors, 'wb') as errors:
            self.qemu = subprocess.Popen(
                ['qemu-system-x86_64', '-accel', accelerator, *model, '-smp', str(cpus), '-m', str(memory),
                 '-nodefaults', '-display', 'none', '-serial', f'unix:{name}.serial,server=on,wait=off',
                 '-qmp', f'unix:{name}.qmp,server=on,wait=off', *options],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        Qemu.running.append(self)
        super().__init__(name, self.alive)

    def alive(self, patience):
        try:
            status = self.qemu.wait(patience)
        except subprocess.TimeoutExpired:
            return
        said = self.errors.read_text(errors='replace').strip()[-500:]
        raise Failed(f'QEMU has ended with status {status}: {said or "it said nothing"}')

    def end(self):
        self.qemu.kill()
        self.qemu.wait()
        if self in Qemu.running:
            Qemu.running.remove(self)


class Guest(Qemu):
    """A Linux guest in a QEMU of its own."""

    def __init__(self, *options, append='', kernel=KERNEL, initrd=INITRD, **kwargs):
        super().__init__('-kernel', str(kernel), '-initrd', str(initrd), '-append', f'{CMDLINE} {append}',
                         *options, **kwargs)

    def go_on(self):
        """Where it came to; it is paused there as it was where it came from."""
        await_(lambda: self.qmp('query-status')['status'] != 'inmigrate', BOOT, lambda: 'the guest has not arrived')
        self.qmp('cont')
        return self


class Shared:
    """A booted guest for tests that leave it as it was: the next one has it, unless a claim has failed."""
    guest = None

    @classmethod
    def get(cls):
        if cls.guest not in Qemu.running:
            cls.guest = Guest().booted()
        return cls.guest


def prepare():
    """The host, once."""
    # Where its kernel panics nobody is left to keep the trace: it comes out on the console.
    Path('/proc/sys/kernel/ftrace_dump_on_oops').write_text('1')
    Path('/proc/sys/kernel/printk_devkmsg').write_text('on\n')
    trace(True)


def begin(test):
    """What is looked at where a claim fails is this test's own."""
    log(f'{test} begins')
    Machine.all[:] = [Shared.guest] if Shared.guest in Qemu.running else []
    (TRACING / 'trace').write_text('')
    wanted = os.environ['HOST_CPUS']
    check(len(HOST_CPUS) == int(wanted), f'there are CPUs {HOST_CPUS} of the host to run on, {wanted} were asked for')


def clean_up(spare=None):
    """End what was begun, except this guest, and have our module as it was. One that cannot be ended is
    not to save the others."""
    with ExitStack() as left:
        if Module.is_other:
            left.callback(load)
        for qemu in Qemu.running:
            if qemu is not spare:
                left.callback(qemu.end)
        left.push(AT_END.pop_all())


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


class Module:
    is_other = False        # than ours with the host's own parameters


def load(*parameters, stock=False):
    """Our vendor module anew, with these parameters, or the distribution's."""
    if Shared.guest in Qemu.running:
        Shared.guest.end()
    trace(False)
    Module.is_other = True
    if stock:
        tool('rmmod', MODULE)
        # Bochs's preemption timer stalls guests (hosts/records.py).
        tool(*(['insmod', str(STOCK), 'preemption_timer=0'] if STOCK.exists() else ['modprobe', MODULE]))
    else:
        tool('reload-module', *parameters)
        trace(True)
    Module.is_other = bool(stock or parameters)


def is_ours():
    """The distribution's has no version."""
    return Path('/sys/module', MODULE, 'version').exists()


def needs_ours():
    """For a claim that cannot be tried without what our module tells of NMIs."""
    if not is_ours():
        raise Skipped("the distribution's module tells nothing of NMIs")


def cpu_has_vnmi():
    """Whether the CPU has vNMI, or virtual NMIs, and our module uses it."""
    parameter = Path('/sys/module', MODULE, 'parameters/vnmi')
    return parameter.exists() and parameter.read_text() == 'Y\n'


def trace(on):
    """What KVM does with NMIs goes into the kernel's trace, which is kept where a claim fails."""
    switch = TRACING / 'events/kvm_nmi/enable'
    if switch.exists():
        switch.write_text('1' if on else '0')


def log(line):
    """In the host's log, which is kept also where the host does not live to keep anything else."""
    with open('/dev/kmsg', 'wb', buffering=0) as kernel:
        kernel.write(line.encode()[:900])


def states():
    """What debugfs tells of the vCPUs of all VMs that there are, with our module only."""
    needs_ours()
    told = ''.join(file.read_text() for file in DEBUGFS.glob('*/nmi'))
    check(told, f'our module tells nothing in {DEBUGFS}')
    return told


def on_their_way():
    """What it tells of vCPUs with an NMI that waits or is in service."""
    return [line for line in states().splitlines()
            if re.search(r' state=(?!open)| (requested|pending)=[1-9]', line)]


def can_be_saved(told):
    """Whether one is on its way, and not two wait: KVM has one place for them before 6.4, and tells QEMU of
    two as of one."""
    return told and not any(sum(map(int, found.groups())) > 1 for line in told
                            if (found := re.search(r'state=open requested=(\d+) pending=(\d+)', line)))


def delivered():
    """NMIs of all VMs that there are."""
    return sum(map(int, re.findall(r'injected=(\d+)', states())))


def keep(name):
    """Leave what was said, and the trace, in a folder of this name."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    for here in Machine.all:
        (folder / f'guest-{here.number}.console').write_text('\n'.join(here.said) + '\n')
    for pattern in LOGS:
        for file in Path('/').glob(pattern[1:]):
            shutil.copy(file, folder)
    (folder / 'debugfs').write_text(''.join(file.read_text() for file in DEBUGFS.glob('*/nmi')))
    shutil.copy(TRACING / 'trace', folder / 'trace')
    return folder
