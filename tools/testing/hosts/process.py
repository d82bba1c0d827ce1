# SPDX-License-Identifier: GPL-2.0-only
"""Run other programs: tools to their end, emulators for as long as they are needed."""

import os
import subprocess
from contextlib import contextmanager


class HostError(Exception):
    """The host cannot do its job; the text is for people."""


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


@contextmanager
def emulator(command, said, stdin=subprocess.DEVNULL, **kwargs):
    """An emulator in the background, what it says in a file; it does not outlive the block."""
    try:
        with open(said, 'wb') as file:
            process = subprocess.Popen([str(word) for word in command], env=environment(),
                                       stdin=stdin, stdout=file, stderr=file, **kwargs)
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
