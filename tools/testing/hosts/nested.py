# SPDX-License-Identifier: GPL-2.0-only
"""Boot a host (L1) by KVM inside another emulated host (L0).

L0 has a session like any other, whose command is QEMU. The serial ports of L1
are the third and fourth of L0, and so reach this machine as if L1 were the only
host; what L0 has to say is kept apart, in run.below."""

import shlex
import shutil
from dataclasses import replace
from types import SimpleNamespace

import qemu
import session
from kernel import Kernel, default_kernel

# L1's root is this machine's, without what L0 has mounted in it.
SCRIPT = """mkdir /run/machine /run/l1 /run/modules &&
mount --bind / /run/machine &&
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose l1 /run/l1 &&
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose l1-modules /run/modules &&
{ stty -F /dev/ttyS2 115200 raw -echo; stty -F /dev/ttyS3 115200 raw -echo; } &&
exec """


def version(host):
    return host.inside.emulator.version(host.inside)


def running(host, kernel, run):
    """L0 with L1 in it, as a context whose value is the process of L0's emulator."""
    l0_kernel = Kernel(kernel.folder.parent, default_kernel())
    work = run.below / 'work'
    work.mkdir(parents=True)
    initrd = qemu.make_initrd(host, kernel, work)
    shutil.copy(kernel.vmlinux(), work / 'vmlinux')
    l1 = qemu.command('kvm', host, run.cpus, '/run/work/vmlinux', f'/run/work/{initrd.name}',
                      ('/dev/ttyS2', '/dev/ttyS3'))
    l1 += qemu.shares('/run/machine', '/run/l1')
    l1 += qemu.share('modules', '/run/modules', 'readonly=on')
    options = SimpleNamespace(stock=False, param=[], shell=False, files=[],
                              command=[SCRIPT + shlex.join(map(str, l1))])
    session.fill(work, host.inside, l0_kernel, options, run.token)
    l0_run = replace(run, folder=run.below, work=work, console=run.below / 'console',
                     port=run.below / 'output', interactive=False)
    return qemu.running(host.inside, l0_kernel, l0_run,
                        '-serial', f'file:{run.console}',
                        '-serial', run.port if run.interactive else f'file:{run.port}',
                        *qemu.share('l1', run.work), *qemu.share_modules('l1-modules', kernel))
