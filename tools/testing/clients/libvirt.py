# SPDX-License-Identifier: GPL-2.0-only
"""What people do by libvirt: inject-nmi, suspend, reset, save, managedsave."""

import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

from machine import ANSWER, CMDLINE, CPUS, INITRD, KERNEL, LONG, Console, await_, check, tool

SERIAL = '/tmp/libvirt-guest.serial'
SAVED = '/tmp/libvirt-saved'
# Nothing of a distribution's users and services is in the host.
CONFIG = 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\ncgroup_controllers = []\n' \
         'namespaces = []\nstdio_handler = "file"\nremember_owner = 0\n'
DOMAIN = f'''
<domain type='kvm'>
  <name>guest</name>
  <memory unit='MiB'>192</memory>
  <vcpu>{CPUS}</vcpu>
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
    <serial type='unix'><source mode='bind' path='{SERIAL}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
'''


def virsh(*words):
    return tool('virsh', '-q', *words)


def does(*words, said=subprocess.DEVNULL):
    """Whether libvirt does this, where it may be right that it does not."""
    return not subprocess.run(['virsh', '-q', *words], stdin=subprocess.DEVNULL, stdout=said, stderr=said).returncode


@contextmanager
def daemon():
    """libvirtd, which ends with the block."""
    for folder in '/etc/libvirt', '/run/libvirt', '/var/log/libvirt':
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path('/etc/libvirt/qemu.conf').write_text(CONFIG)
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
                return does('uri', said=errors)
            await_(answers, ANSWER, lambda: 'libvirtd does not answer')
            yield
        finally:
            libvirtd.terminate()


class Domain:
    """The guest as libvirt sees it. Its console is another one whenever it has been started."""

    def __init__(self):
        Path('/tmp/guest.xml').write_text(DOMAIN)
        virsh('define', '/tmp/guest.xml')
        virsh('start', 'guest')
        self.console = Console(SERIAL).booted()
        self.count = self.first = self.console.nmis()[0]

    def nmi(self, times=1):
        for _ in range(times):
            virsh('inject-nmi', 'guest')
        self.count += times

    def counts(self):
        self.console.counts(self.count)

    def storm(self):
        """NMIs, one after the other, until libvirt takes no more: the guest has been saved.

        It takes none from when it has paused the guest to when that has been saved. What is sent to a
        paused guest is lost: QEMU then has read the state of its vCPUs, and does not read it again."""
        while does('inject-nmi', 'guest'):
            self.count += 1

    def is_back(self):
        self.console = Console(SERIAL)
        self.counts()


def libvirt_test():
    with daemon():
        domain = Domain()
        try:
            yield from claims(domain)
        finally:
            does('destroy', 'guest')


def claims(domain):
    def lone():
        for _ in range(10):
            domain.nmi()
            domain.counts()
    yield '10 by virsh inject-nmi, one at a time, are counted one by one', lone

    def suspended():
        for _ in range(2):
            virsh('suspend', 'guest')
            domain.nmi(2)
            virsh('resume', 'guest')
            domain.counts()
    yield 'two by virsh inject-nmi while the guest is suspended are both counted, twice', suspended

    rounds = 2 if LONG else 1
    for what, there, back in (('save and restore', ('save', 'guest', SAVED), ('restore', SAVED)),
                              ('managedsave and start', ('managedsave', 'guest'), ('start', 'guest'))):
        def storm():
            for _ in range(rounds):
                before = domain.count
                sender = threading.Thread(target=domain.storm)
                sender.start()
                await_(lambda: domain.count > before + 5, ANSWER, lambda: 'virsh inject-nmi takes too long')
                virsh(*there)
                sender.join()
                virsh(*back)
                domain.is_back()
        yield f'virsh {what} in a storm of NMIs lose none', storm

    def reset():
        virsh('suspend', 'guest')
        domain.nmi(2)
        virsh('reset', 'guest')
        virsh('resume', 'guest')
        domain.console.booted()
        check(domain.console.nmis()[0] == domain.first, f'NMIs after the reset: {domain.console.nmis()}')
        domain.count = domain.first
        domain.nmi()
        domain.counts()
    yield 'virsh reset forgets two that wait, and the next one is counted', reset
