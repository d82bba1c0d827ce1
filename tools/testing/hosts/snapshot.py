# SPDX-License-Identifier: GPL-2.0-only
"""Boot a host in Bochs once per kernel and keep its state from the moment it
waits for a payload: a run that goes on from there saves the boot.

Everything but the vendor module is in the snapshot. It is made again when one
of its ingredients has changed."""

import fcntl
import hashlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager

from bootdisk import write_boot_disk
from kernel import GUEST, HERE, initramfs
from process import HostError, OwnTime, emulator

MODULES = ('sd_mod', 'ata_piix')
READY = 'init: waiting for a payload'
BOOT_LIMIT = 900            # of Bochs's own time: a kernel for debugging
DISK_SIZE = 256 << 20
IPS = 40_000_000
# The TSC counts instructions. Later models claim another frequency by CPUID, and a kernel that
# believes it has timers that fire all the time.
CMDLINE = (f'console=ttyS0,115200 no_timer_check mitigations=off nokaslr tsc=reliable tsc_early_khz={IPS // 1000} '
           'nowatchdog random.trust_cpu=on cryptomgr.notests oops=panic')
# A CPU that sleeps by MWAIT wants another one to wake it, and Bochs 2.7 stands still.
OF_SEVERAL = ' idle=halt'

CONFIG = f'''\
plugin_ctrl: biosdev=1, usb_uhci=1, extfpuirq=1, serial=1, unmapped=1, busmouse=0, iodebug=0, \
gameport=0, parallel=0, speaker=0
config_interface: textconfig
display_library: rfb, options="timeout=0,no_gui_console"
memory: guest={{memory}}, host={{memory}}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model={{cpu}}, count={{cpus}}, ips={IPS}, reset_on_triple_fault=0
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path=disk, mode=flat, cylinders=0
boot: disk
log: bochs.log
panic: action={{panic}}
error: action=ignore
info: action=report
debug: action=ignore
com1: enabled=1, mode=file, dev=console
com2: enabled=1, mode=file, dev=output
clock: sync=none, time0=1700000000
pci: enabled=1, chipset=i440fx
'''


def config(cpu, memory, cpus=1, panic='fatal'):
    """Bochs's, of such a machine: MiB of memory, and what Bochs does where it panics."""
    return CONFIG.format(cpu=cpu, memory=memory, cpus=cpus, panic=panic)


def bochs(arguments, folder, prefix=(), **kwargs):
    """Bochs working in a folder; this build starts in its debugger, which is told to continue."""
    (folder / 'continue').write_text('c\n')
    return emulator([*prefix, 'bochs-bin', '-q', *arguments, '-rc', 'continue'],
                    folder / 'emulator', cwd=folder, **kwargs)


def wait_for(condition, process, limit, what):
    clock = OwnTime(process.pid)
    while not (found := condition()):
        if process.poll() is not None:
            raise HostError(f'Bochs ended before {what}')
        if clock.seconds() > limit:
            raise HostError(f'Bochs: {what} took more than {limit} s of its own time')
        time.sleep(0.05)
    return found


def press_save_button(port):
    """Log on to the display as a VNC client does and click the third button from the right."""
    with socket.create_connection(('127.0.0.1', port)) as display:
        answer = display.makefile('rb')
        answer.read(12)
        display.sendall(b'RFB 003.003\n')
        answer.read(4)
        display.sendall(b'\1')
        width, = struct.unpack('>H', answer.read(2))
        answer.read(22)
        for pressed in 1, 0:
            display.sendall(struct.pack('>BBHH', 5, pressed, width - 48, 10))
            time.sleep(0.2)


def save(process, folder):
    """Save the machine by Bochs's own dialogue: button on the display, answers on stdin."""
    said = lambda text: text in (folder / 'emulator').read_text(errors='replace')
    log = (folder / 'bochs.log').read_text(errors='replace')
    port = int(re.findall(r'listening for connections on port (\d+)', log)[-1])
    (folder / 'state').mkdir()
    press_save_button(port)
    wait_for(lambda: said('Save Bochs state'), process, 120, 'the question where to save')
    process.stdin.write(f'{folder}/state\n'.encode())
    process.stdin.flush()
    wait_for(lambda: said('Do you want to continue'), process, 300, 'saving the machine')


def build(host, kernel, cpus, folder):
    folder.mkdir(parents=True)
    initrd = initramfs(folder / 'initramfs', GUEST / 'init',
                       kernel.modules(*MODULES, *kernel.dependencies(host.module)),
                       {'transport': (GUEST / 'transport-disk').read_text()})
    write_boot_disk(folder / 'disk', folder, kernel.vmlinux(), initrd,
                    CMDLINE + (OF_SEVERAL if cpus > 1 else ''), DISK_SIZE)
    (folder / 'config').write_text(config(host.cpu, host.memory, cpus))
    for name in 'console', 'output', 'bochs.log':
        (folder / name).touch()
    with bochs(['-f', 'config'], folder, stdin=subprocess.PIPE) as process:
        wait_for(lambda: READY in (folder / 'console').read_text(errors='replace'),
                 process, BOOT_LIMIT, f'the boot (see {folder}/console)')
        save(process, folder)


def ingredients(host, kernel, cpus):
    """A digest of all that goes into the snapshot."""
    digest = hashlib.sha256(repr((host.cpu, cpus, host.memory, CMDLINE, OF_SEVERAL, CONFIG, DISK_SIZE)).encode())
    files = [kernel.vmlinuz, *kernel.modules(*MODULES, *kernel.dependencies(host.module)),
             *(GUEST / name for name in ('init', 'transport-disk', 'boot.S')),
             *(HERE / name for name in ('kernel.py', 'bootdisk.py', 'snapshot.py'))]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def snapshot(host, kernel, cpus=1):
    """The folder of a current snapshot, which nobody replaces during the block."""
    kept = kernel.keep / f'bochs-{host.cpu}-{host.memory}-{cpus}'
    kernel.keep.mkdir(parents=True, exist_ok=True)
    wanted = ingredients(host, kernel, cpus)
    current = lambda: (kept / 'ingredients').exists() and (kept / 'ingredients').read_text() == wanted
    with open(kernel.keep / f'{kept.name}.lock', 'w') as lock:
        while True:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if current():
                break
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not current():
                print(f'run: {host.name}: booting {kernel.kver} in Bochs once, about 15 s '
                      '(a kernel for debugging: some minutes)',
                      file=sys.stderr)
                shutil.rmtree(kept, ignore_errors=True)
                build(host, kernel, cpus, kept)
                (kept / 'ingredients').write_text(wanted)
        yield kept
