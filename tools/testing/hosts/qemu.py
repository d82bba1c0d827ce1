# SPDX-License-Identifier: GPL-2.0-only
"""Boot a host in QEMU's own CPU emulation (TCG), with the root of this machine as its root.

Nothing outlives a run: a boot takes three seconds.

The host's time is this machine's, so limits in it have to be wide. Counting
instructions would make them exact, but a Linux guest then stands still: seen with 4
and with 8 ns an instruction, on amd-vnmi and in the demo."""

from kernel import GUEST, initramfs
from process import HostError, emulator

MODULES = ('9p', '9pnet_virtio', 'virtio_pci')
EXACT = 'shift=0,sleep=off'     # the TSC counts instructions, and idle time takes none
CMDLINE = 'console=ttyS0 no_timer_check mitigations=off nokaslr cryptomgr.notests oops=panic'


def visible(path):
    """The path by which a host that shares this machine's root finds it, too."""
    path = path.resolve()
    own = path.parts[1]
    if own in ('dev', 'proc', 'run', 'sys', 'tmp'):
        raise HostError(f'this host cannot see {path}, it has a /{own} of its own: '
                        f'have the checkout, and what build/ stands for, elsewhere')
    return path


def make_initrd(host, kernel, folder):
    initrd = folder / 'initrd'
    initrd.write_bytes(initramfs(
        folder / 'initramfs', kernel.modules(*MODULES, *kernel.dependencies(host.module)),
        {'transport': (GUEST / 'transport-9p').read_text(), 'image': f'{visible(kernel.image)}\n'}))
    return initrd


def share(tag, path, *options):
    return '-virtfs', ','.join(('local', 'security_model=none', 'multidevs=remap', *options,
                                f'path={path}', f'mount_tag={tag}'))


def command(accelerator, host, cpus, root, vmlinux, initrd, serials, work):
    """QEMU's command line, as far as it does not depend on where QEMU itself runs."""
    ports = [word for serial in serials for word in ('-serial', serial)]
    return ['qemu-system-x86_64', '-accel', accelerator, '-cpu', host.cpu,
            '-m', host.memory, '-smp', cpus,
            '-display', 'none', '-nodefaults', '-no-reboot', *ports,
            *share('machine', root, 'readonly=on'), *share('work', work),
            '-kernel', vmlinux, '-initrd', initrd, '-append', CMDLINE]


def running(host, kernel, run, *extra):
    """The booting host, as a context whose value is the emulator's process."""
    serials = (f'file:{run.console}', run.port if run.interactive else f'file:{run.port}')
    words = command('tcg', host, run.cpus, '/', kernel.vmlinux(),
                    make_initrd(host, kernel, run.folder), serials, run.work)
    if run.icount:
        words += ['-icount', EXACT]
    return emulator([*words, *extra], run.folder / 'emulator')
