# SPDX-License-Identifier: GPL-2.0-only
"""Run other programs: tools to their end, emulators for as long as they are needed."""

import ctypes
import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path


PR_SET_PDEATHSIG = 1


class HostError(Exception):
    """The host cannot do its job; the text is for people."""


class NotHere(HostError):
    """This machine's emulator has no such host: nothing has failed. Tests are skipped by this line."""

    def __str__(self):
        return f'not on this machine: {super().__str__()}'


def environment():
    """Tools of the administrator (modprobe) are wanted by everybody here."""
    return {**os.environ, 'PATH': os.environ.get('PATH', '') + ':/usr/sbin:/sbin'}


def tool(*command, **kwargs):
    """Run a program and return its output; a failure is reported with what it said."""
    try:
        done = subprocess.run([str(word) for word in command], env=environment(),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    except FileNotFoundError:
        raise HostError(f'{command[0]} is missing: run make deps') from None
    if done.returncode:
        said = done.stderr.decode(errors='replace').strip() or f'status {done.returncode}'
        raise HostError(f'{command[0]} failed: {said}')
    return done.stdout


def interrupt_once(*signals):
    """Have these signals interrupt this process, once: what it then does to end is not interrupted."""
    def interrupt(_number, _frame):
        # Not SIG_IGN: Python complains of one that is on its way already, and children inherit it.
        for number in signals:
            signal.signal(number, lambda *_: None)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)


def end_with_parent(number):
    """Get this signal when the process ends that started this one, even if it was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


class OwnTime:
    """The time that a process has had: on a CPU, or asleep with nothing to do. Not what it
    waited for a CPU or a disk that others kept busy."""

    TICKS = os.sysconf('SC_CLK_TCK')

    def __init__(self, pid):
        self.tasks = Path(f'/proc/{pid}/task')
        self.had = self.busy = 0
        self.looked = time.monotonic()

    def _look(self):
        """(seconds of CPU time up to now, whether a thread would run if it could)"""
        used, states = 0, ''
        for stat in self.tasks.glob('*/stat'):
            with suppress(OSError):
                fields = stat.read_text().rpartition(')')[2].split()
                used += int(fields[11]) + int(fields[12])
                states += fields[0]
        return used / self.TICKS, 'R' in states or 'D' in states

    def seconds(self):
        now = time.monotonic()
        used, wants_cpu = self._look()
        self.had += max(used - self.busy, 0) if wants_cpu else now - self.looked
        self.busy, self.looked = used, now
        return self.had


@contextmanager
def emulator(command, said, stdin=subprocess.DEVNULL, **kwargs):
    """An emulator in the background, what it says in a file; it does not outlive the block."""
    try:
        with open(said, 'wb') as file:
            process = subprocess.Popen([str(word) for word in command], env=environment(),
                                       stdin=stdin, stdout=file, stderr=file,
                                       preexec_fn=lambda: end_with_parent(signal.SIGKILL), **kwargs)
    except FileNotFoundError:
        raise HostError(f'{command[0]} is missing: run make deps') from None
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
