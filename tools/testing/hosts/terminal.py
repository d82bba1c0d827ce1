# SPDX-License-Identifier: GPL-2.0-only
"""Connect the user's terminal to a serial port of an emulated host."""

import os
import pty
import select
import sys
import termios
import threading
import tty
from contextlib import contextmanager


def copy(user_in, user_out, port):
    """Pass bytes both ways until the port is closed."""
    while True:
        for readable in select.select([user_in, port], [], [])[0]:
            try:
                data = os.read(readable, 4096)
            except OSError:
                return
            if not data:
                return
            os.write(user_out if readable == port else port, data)


@contextmanager
def connected_port():
    """The name of a device to use as serial port; the user's terminal is behind it.

    The host's end keeps all control over the line: ^C goes there."""
    port, device = pty.openpty()
    tty.setraw(device)
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    threading.Thread(target=copy, args=(sys.stdin.fileno(), sys.stdout.fileno(), port),
                     daemon=True).start()
    try:
        yield os.ttyname(device)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, before)
