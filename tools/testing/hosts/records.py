# SPDX-License-Identifier: GPL-2.0-only
"""The emulated hosts, one record each. A host is data: what differs between
emulators is in their modules, and nothing else looks at a host's name."""

from dataclasses import dataclass

import qemu


@dataclass(frozen=True)
class Host:
    name: str
    emulator: object        # module with transport, modules and start()
    cpu: str                # model, in the emulator's terms
    memory: int             # MiB
    vendor: str             # as in /proc/cpuinfo
    module: str             # the vendor module, as in /sys/module
    params: tuple = ()      # the module's parameters this host needs


HOSTS = {host.name: host for host in (
    Host(name='amd', emulator=qemu,
         cpu='qemu64,+svm,+npt,+vgif', memory=3072,
         vendor='AuthenticAMD', module='kvm_amd'),
)}
