# SPDX-License-Identifier: GPL-2.0-only
"""What people do by libvirt: inject-nmi, suspend, reset, save, managedsave."""

import os
import select
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

from machine import ANSWER, AT_END, BOOT, CMDLINE, CPUS, HOST_CPUS, INITRD, KERNEL, LONG, Machine, \
    await_, check, end, needs_ours, tool
from monitor import is_reset

SOCKETS = '/tmp/libvirt-guest'      # .serial and .qmp
SAVED = '/tmp/libvirt-saved'
# Nothing of a distribution's users and services is in the host.
CONFIG = 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\ncgroup_controllers = []\n' \
         'namespaces = []\nstdio_handler = "file"\nremember_owner = 0\n'
# Left alone libvirt has its guests run on all CPUs of the host.
DOMAIN = f'''
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>guest</name>
  <memory unit='MiB'>128</memory>
  <vcpu cpuset='{','.join(map(str, HOST_CPUS))}'>{CPUS}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{KERNEL}</kernel>
    <initrd>{INITRD}</initrd>
    <cmdline>{CMDLINE}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='host-passthrough' check='none' migratable='on'/>
  <on_crash>preserve</on_crash>
  <devices>
    <serial type='unix'><source mode='bind' path='{SOCKETS}.serial'/></serial>
    <memballoon model='none'/>
  </devices>
  <!-- A monitor beside libvirt's own. -->
  <qemu:commandline>
    <qemu:arg value='-qmp'/>
    <qemu:arg value='unix:{SOCKETS}.qmp,server=on,wait=off'/>
  </qemu:commandline>
</domain>
'''


def virsh(*commands, patience=ANSWER):
    """One after the other, in one process: it takes an emulated CPU long to start."""
    said = tool('virsh', '-q', '; '.join(commands), patience=patience)
    check('error:' not in said, f'virsh {commands}: {said.strip()}')


@contextmanager
def daemon():
    """libvirtd, which ends with the block."""
    for folder in '/etc/libvirt', '/run/libvirt', '/var/log/libvirt':
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path('/etc/libvirt/qemu.conf').write_text(CONFIG)
    # libvirtd starts each QEMU that it finds twice, to ask what it can do. This one is of no use here.
    Path('/usr/bin/qemu-system-i386').unlink(missing_ok=True)
    # It looks these up before it reads that.
    for file, line in ('passwd', 'libvirt-qemu:x:64055:64055::/:/bin/false'), ('group', 'libvirt-qemu:x:64055:'):
        with open(f'/etc/{file}', 'a', encoding='utf-8') as users:
            users.write(f'{line}\n')
    Path('/tmp/libvirtd.conf').write_text('log_outputs="3:stderr"\nauth_unix_rw="none"\n')
    with open('/tmp/libvirtd.errors', 'w', encoding='utf-8') as errors, \
            subprocess.Popen(['libvirtd', '-f', '/tmp/libvirtd.conf'], stdin=subprocess.DEVNULL,
                             stdout=errors, stderr=errors) as libvirtd:
        try:
            def answers():
                check(libvirtd.poll() is None, f'libvirtd has ended with status {libvirtd.returncode}')
                return Path('/run/libvirt/libvirt-sock').exists()
            await_(answers, ANSWER, lambda: 'libvirtd does not answer')
            yield
        finally:
            end(libvirtd)


def destroy():
    """The guest, also where libvirtd does not do it any more."""
    with suppress(OSError, ValueError):
        pid = int(Path('/run/libvirt/qemu/guest.pid').read_text())
        process = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([process], [], [], ANSWER)


class Domain:
    """The guest as libvirt sees it. It is another machine whenever it has been started."""

    def __init__(self):
        Path('/tmp/guest.xml').write_text(DOMAIN)
        AT_END.callback(destroy)
        virsh('define /tmp/guest.xml', 'start guest')
        self.machine = Machine(SOCKETS).booted()
        self.count = self.machine.nmis()[0]

    def nmi(self):
        virsh('inject-nmi guest')
        self.count += 1

    def counts(self):
        self.machine.counts(self.count)

    def comes_back(self, save, restore):
        """With NMIs on their way when it is saved. libvirt takes none from then on.

        They are sent by the monitor: virsh is too slow to stop a guest before they are over."""
        self.count = self.machine.stop_on_the_way(self.count)
        virsh(save, restore, patience=BOOT)
        self.machine = Machine(SOCKETS)
        self.counts()


def libvirt_test():
    with daemon():
        yield from claims(Domain())


def claims(domain):
    times = 10 if LONG else 3

    def lone():
        for _ in range(times):
            domain.nmi()
            domain.counts()
    yield f'{times} by virsh inject-nmi, one at a time, are counted one by one', lone

    def suspended():
        for _ in range(2):
            virsh('suspend guest', 'inject-nmi guest', 'inject-nmi guest', 'resume guest')
            domain.count += 2
            domain.counts()
    yield 'two by virsh inject-nmi while the guest is suspended are both counted, twice', suspended

    def saved():
        domain.comes_back(f'save guest {SAVED} --running', f'restore {SAVED}')
    yield 'virsh save and restore keep NMIs that are on their way', saved

    def managed():
        domain.comes_back('managedsave guest --running', 'start guest')
        domain.nmi()
        domain.counts()
    yield 'so do managedsave and start, and the next one is counted', managed

    def reset():
        needs_ours()
        domain.machine.stop_on_the_way(domain.count)
        virsh('inject-nmi guest', 'inject-nmi guest', 'reset guest')
        is_reset()
    yield 'virsh reset forgets those that were on their way when the guest was paused, and two sent since', reset
