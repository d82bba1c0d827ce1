# SPDX-License-Identifier: GPL-2.0-only
"""Boot a host in QEMU's own CPU emulation (TCG), with the root of this machine as its root.

Nothing outlives a run: a boot takes three seconds.

The host's time is this machine's, so limits in it have to be wide. Counting
instructions would make them exact, but a Linux guest then stands still: seen with 4
and with 8 ns an instruction, on amd-vnmi and in the demo."""

import json
import re
import shutil
import socket
import threading
from contextlib import contextmanager, suppress
from functools import cache

from kernel import GUEST, HERE, archive, initramfs
from process import HostError, emulator, tool

MODULES = ('9p', '9pnet_virtio', 'virtio_pci')
EXACT = 'shift=0,sleep=off'     # the TSC counts instructions, and idle time takes none
# A machine that is busy keeps the host's CPUs waiting, and that is no stall of theirs.
CMDLINE = ('console=ttyS0 no_timer_check mitigations=off nokaslr cryptomgr.notests oops=panic '
           'rcupdate.rcu_cpu_stall_timeout=300 watchdog_thresh=60')


STRICT = HERE.parents[2] / 'build/strict-cpu/qemu-system-x86_64'
FIRMWARE = '/usr/share/qemu', '/usr/share/seabios'      # which it has none of its own of


def program(host):
    """The emulator of a host with the options that it always needs."""
    if not host.strict:
        return ['qemu-system-x86_64']
    if not STRICT.exists():
        raise HostError(f'{STRICT} is missing: run make strict-cpu')
    return [STRICT, *(word for folder in FIRMWARE for word in ('-L', folder))]


@cache
def version(host):
    """What it calls itself, without the distribution's part."""
    name = tool(*program(host), '--version').decode().splitlines()[0].partition('(')[0].strip()
    return name + (' with strict SVM' if host.strict else '')


def make_initrd(host, kernel, folder, transport='9p', modules=MODULES, files=None):
    initrd = folder / 'initrd'
    initrd.write_bytes(initramfs(
        folder / 'initramfs', GUEST / 'init', kernel.modules(*modules, *kernel.dependencies(host.module)),
        {'transport': (GUEST / f'transport-{transport}').read_text(), **(files or {})}))
    return initrd


def make_whole_initrd(host, kernel, run):
    """One that brings along all there is of the run: no file of this machine is needed later."""
    payload = run.folder / 'payload'
    payload.mkdir()
    shutil.copytree(run.work, payload / 'payload', symlinks=True)
    initrd = make_initrd(host, kernel, run.folder, 'memory', modules=())
    with open(initrd, 'ab') as file:
        file.write(archive(payload))
    return initrd


def share(tag, path, *options):
    path = str(path).replace(',', ',,')
    return '-virtfs', ','.join(('local', 'security_model=none', 'multidevs=remap', *options,
                                f'path={path}', f'mount_tag={tag}'))


def share_modules(tag, kernel):
    """A kernel's modules, wherever the checkout is: below /tmp or /run a host has its own."""
    return share(tag, (kernel.image / 'lib/modules').resolve(), 'readonly=on')


def command(accelerator, host, cpus, vmlinux, initrd, serials):
    """QEMU's command line, as far as it does not depend on where QEMU itself runs."""
    ports = [word for serial in serials for word in ('-serial', serial)]
    return [*program(host), '-accel', accelerator, '-cpu', host.cpu,
            '-m', host.memory, '-smp', cpus,
            '-display', 'none', '-nodefaults', '-no-reboot', *ports,
            '-kernel', vmlinux, '-initrd', initrd, '-append', CMDLINE]


def shares(root, work):
    """What the host sees of the machine; the kernel's modules are one more share, "modules"."""
    return [*share('machine', root, 'readonly=on'), *share('work', work)]


def take_turns(host, cpus):
    """Whether several CPUs are to run in one thread of QEMU's, one after the other.

    In threads of their own those of 7.2 (Debian 12) now and then keep a translation of what another one
    has just written: Linux changes its own code by way of INT3, and a CPU that finds none there any more
    where it has trapped goes back and traps again, for ever. 10.0 locks a page before it translates.
    In turn they are no good for guests that get interrupts, for VMRUN's are delivered again if the
    thread turns to another CPU before the next exit."""
    return cpus > 1 and int(re.search(r'version (\d+)', version(host))[1]) < 10


def needs_spare_cpu(host, cpus, icount):
    """Whether CMD is to be kept off the first CPU, so that there is to be one more.

    Whenever one of QEMU TCG's CPUs loads an FPU state it resets IGNNE of the first one, in hflags2 and
    without a lock. What that one changes there in the same moment is lost: GIF, or that its guest has
    nested paging. Of a CPU that runs no guests nothing changes there. Our own QEMU does without."""
    return cpus > 1 and not (host.strict or icount or take_turns(host, cpus))


@contextmanager
def nudged(path, pause=2):
    """While the block lasts QEMU, with QMP on this socket, presses a key of the host every few seconds.

    QEMU TCG loses an interrupt now and then: at VMRUN the CPU's thread changes
    interrupt_request without the lock under which the others set bits in it. If it is the timer's,
    and no other comes, the host sleeps for ever with it in the APIC's IRR. Any other wakes it."""
    over = threading.Event()

    def press():
        with socket.socket(socket.AF_UNIX) as qmp, suppress(ConnectionError):
            while qmp.connect_ex(str(path)):
                if over.wait(0.1):
                    return
            qmp.setblocking(False)
            commands = [{'execute': 'qmp_capabilities'}]
            while not over.wait(pause):
                # What it answers is of no interest, but must not pile up.
                with suppress(BlockingIOError):
                    while qmp.recv(65536):
                        pass
                commands.append({'execute': 'send-key', 'arguments': {
                    'keys': [{'type': 'qcode', 'data': 'shift'}], 'hold-time': 1}})
                qmp.sendall(''.join(json.dumps(command) + '\n' for command in commands).encode())
                commands = []

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def running(host, kernel, run, *extra):
    """The booting host, as a context whose value is the emulator's process."""
    serials = (f'file:{run.console}', run.port if run.interactive else f'file:{run.port}')
    if run.alone:
        initrd = make_whole_initrd(host, kernel, run)
    elif run.over:
        initrd = make_initrd(host, kernel, run.folder, modules=(*MODULES, 'overlay'), files={'over': ''})
    else:
        initrd = make_initrd(host, kernel, run.folder)
    accelerator = 'tcg,thread=single' if take_turns(host, run.cpus) else 'tcg'
    words = command(accelerator, host, run.cpus, kernel.vmlinux(), initrd, serials)
    if not run.alone:
        words += [*shares('/', run.work), *share_modules('modules', kernel)]
    if run.over:
        words += share('packages', run.over.resolve(), 'readonly=on')
    if run.icount:
        words += ['-icount', EXACT]
    qmp = run.folder / 'qmp'
    words += ['-qmp', f'unix:{qmp},server=on,wait=off']
    with emulator([*words, *extra], run.folder / 'emulator') as process:
        # Where time is to repeat exactly nothing may come from outside.
        with suppress() if run.icount else nudged(qmp):
            yield process
