# SPDX-License-Identifier: GPL-2.0-only
"""Another hypervisor on ours: Xen sends itself NMIs, gets the monitor's and tells its dom0 of them, and
injects those that xl sends to a domain."""

import re
import time

from machine import ANSWER, AT_END, BOOT, HOST_CPUS, KERNEL, MODULE, TRACING, WORK, Qemu, Skipped, await_, check

XEN, DOM0_INITRD = WORK / 'xen', WORK / 'dom0-initrd'
# Its watchdog needs performance counters, and with it Xen does not tell its dom0 of NMIs.
XEN_CMDLINE = 'com1=115200,8n1 console=com1 dom0_mem=512M,max:512M dom0_max_vcpus=1'
DOM0_CMDLINE = 'console=hvc0 loglevel=0 cryptomgr.notests panic=-1'
DOMAIN_LOG = '/var/log/xen/console/guest-domain.log'
EXITS = TRACING / 'events/kvm/kvm_nested_vmexit_inject'
TIMES = 10


class Xen(Qemu):
    """Its dom0 takes commands as a Linux guest does, and has xl."""
    at_boot = 0     # NMIs that Xen had counted when that was up

    def __init__(self):
        # With more than the host's they wait for each other: each lock's holder may not be running.
        super().__init__('-kernel', str(XEN), '-append', XEN_CMDLINE,
                         '-initrd', f'{KERNEL} {DOM0_CMDLINE},{DOM0_INITRD}',
                         cpus=len(HOST_CPUS), memory=1024)

    def own(self):
        """NMIs that Xen has counted on its first CPU, the one that is sent the monitor's."""
        said = self.run('xl debug-keys n')
        found = [re.match(r'\(XEN\)\s+0\s+(\d+)$', line) for line in said]
        counts = [int(one[1]) for one in found if one]
        check(len(counts) == 1, f'Xen does not tell its NMIs, but {said}')
        return counts[0]

    def domain(self):
        """Those that the domain's CPU has told of last."""
        return int(self.run(f"sed -n 's/^domain: NMIs //p' {DOMAIN_LOG}")[-1])

    def counts_own(self, count):
        """Xen has counted so many, and its dom0 has been told of as many."""
        self.counts(count - self.at_boot)
        found = self.own()
        check(found == count, f'Xen has counted {found} NMIs on its first CPU, there should be {count}')

    def domain_counts(self, expected):
        def reached():
            nonlocal count
            count = self.domain()
            check(count <= expected, f'the domain has counted {count} NMIs, {expected} were sent')
            return count == expected
        count = None
        await_(reached, ANSWER, lambda: f'the domain has counted {count} NMIs, {expected} were sent,')


def xen_test():
    here = Xen().booted()
    here.at_boot = here.own()

    def boots():
        check(any(re.search('HVM: (SVM|VMX) enabled', line) for line in here.said), 'Xen has no use for SVM or VMX')
        check(here.at_boot and here.nmis() == [0], f'Xen has counted {here.at_boot}, and its dom0 {here.nmis()}')
    yield 'Xen comes up, which sends itself NMIs to change its own code, and counts them', boots

    def external():
        for sent in range(1, TIMES + 1):
            here.nmi()
            here.counts_own(here.at_boot + sent)
    yield f"{TIMES} of the monitor's NMIs, one at a time, are counted one by one by Xen and by its dom0", external

    if MODULE == 'kvm_intel':
        def domain():
            raise Skipped('in Bochs a domain has said nothing within a quarter of an hour, why is not known')
        yield "xl's NMIs are the domain's, the monitor's end its run", domain
        here.end()
        return

    here.run('xl create /domain', BOOT)
    # To ask again and again from here would keep it from booting, where there is one CPU for all.
    here.run(f"until grep -q '^domain: NMIs' {DOMAIN_LOG}; do sleep 2; done", 2 * BOOT)

    def triggered():
        for sent in range(1, 4):
            here.run('xl trigger domain nmi')
            here.domain_counts(sent)
        here.counts_own(here.at_boot + TIMES)
    yield "three by xl trigger, one at a time, are counted one by one by a domain's Linux, by nobody else", triggered

    def in_domain():
        # It never halts, and has the CPU that gets them, where there are two to itself.
        if len(HOST_CPUS) > 1:
            here.run('xl vcpu-pin 0 0 1; xl vcpu-pin domain 0 0')
        AT_END.callback((EXITS / 'enable').write_text, '0')
        (EXITS / 'filter').write_text('exit_code == 0x61')
        (EXITS / 'enable').write_text('1')
        for sent in range(TIMES + 1, 2 * TIMES + 1):
            # Xen still writes to its console, on that CPU.
            time.sleep(1)
            here.nmi()
            here.counts_own(here.at_boot + sent)
        (EXITS / 'enable').write_text('0')
        exits = (TRACING / 'trace').read_text().count(f'{EXITS.name}: ')
        check(exits, 'none of them has met the domain')
        here.domain_counts(3)
    yield f"{TIMES} of the monitor's while the domain runs end its run, and are for Xen and its dom0 alone", in_domain

    def both():
        for sent in range(1, 4):
            here.nmi()
            here.run('xl trigger domain nmi')
            here.domain_counts(3 + sent)
            here.counts_own(here.at_boot + 2 * TIMES + sent)
    yield "three more of each, the monitor's and xl's, are counted where they belong", both
    here.end()
