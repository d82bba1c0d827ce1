# SPDX-License-Identifier: GPL-2.0-only
"""Boot a host in QEMU's own CPU emulation (TCG), with the root of this machine as its root."""

import subprocess
from pathlib import Path

from kernel import GUEST, write_initramfs

MODULES = ('9p', '9pnet_virtio', 'virtio_pci')


def prepare(host, kernel, run):
    """Nothing outlives a run: the boot takes three seconds."""
    modules = kernel.modules(*MODULES, host.module)[:-1]
    write_initramfs(run.folder / 'initrd', run.folder / 'initramfs', modules,
                    {'transport': (GUEST / 'transport-9p').read_text(),
                     'image': f'{kernel.image}\n'})


def start(host, kernel, run):
    share = 'local,security_model=none,multidevs=remap'
    command = ['qemu-system-x86_64', '-accel', 'tcg', '-cpu', host.cpu,
               '-m', str(host.memory), '-smp', str(run.cpus),
               '-display', 'none', '-nodefaults', '-no-reboot',
               '-serial', f'file:{run.console}',
               '-serial', 'stdio' if run.interactive else f'file:{run.output}',
               '-virtfs', f'{share},readonly=on,path=/,mount_tag=machine',
               '-virtfs', f'{share},path={run.work},mount_tag=work',
               '-kernel', str(kernel.vmlinux()), '-initrd', str(run.folder / 'initrd'),
               '-append', 'console=ttyS0 mitigations=off nokaslr cryptomgr.notests panic=-1 oops=panic']
    if run.icount:
        command += ['-icount', 'shift=0,sleep=off']
    stdin = None if run.interactive else subprocess.DEVNULL
    with open(run.folder / 'emulator', 'wb') as said:
        return subprocess.Popen(command, stdin=stdin, stderr=said)
