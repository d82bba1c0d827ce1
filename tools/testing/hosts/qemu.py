# SPDX-License-Identifier: GPL-2.0-only
"""Boot a host in QEMU's own CPU emulation (TCG), with the root of this machine as its root.

Nothing outlives a run: a boot takes three seconds."""

from kernel import GUEST, initramfs
from process import emulator

MODULES = ('9p', '9pnet_virtio', 'virtio_pci')
CMDLINE = 'console=ttyS0 mitigations=off nokaslr cryptomgr.notests oops=panic'


def running(host, kernel, run):
    """The booting host, as a context whose value is the emulator's process."""
    initrd = run.folder / 'initrd'
    initrd.write_bytes(initramfs(
        run.folder / 'initramfs', kernel.modules(*MODULES, *kernel.dependencies(host.module)),
        {'transport': (GUEST / 'transport-9p').read_text(), 'image': f'{kernel.image}\n'}))
    share = 'local,security_model=none,multidevs=remap'
    command = ['qemu-system-x86_64', '-accel', 'tcg', '-cpu', host.cpu,
               '-m', host.memory, '-smp', run.cpus,
               '-display', 'none', '-nodefaults', '-no-reboot',
               '-serial', f'file:{run.console}',
               '-serial', run.port if run.interactive else f'file:{run.port}',
               '-virtfs', f'{share},readonly=on,path=/,mount_tag=machine',
               '-virtfs', f'{share},path={run.work},mount_tag=work',
               '-kernel', kernel.vmlinux(), '-initrd', initrd, '-append', CMDLINE]
    if run.icount:
        command += ['-icount', 'shift=0,sleep=off']
    return emulator(command, run.folder / 'emulator')
