# SPDX-License-Identifier: GPL-2.0-only
"""The emulated hosts, one record each. A host is data: what differs between
emulators is in their modules, and nothing else looks at a host's name."""

from dataclasses import dataclass, replace

import bochs
import nested
import qemu


@dataclass(frozen=True)
class Host:
    name: str
    emulator: object        # module with running(), which boots a host
    cpu: str                # model, in the emulator's terms
    memory: int             # MiB
    vendor: str             # as in /proc/cpuinfo
    module: str             # the vendor module, as in /sys/module
    params: tuple = ()      # the module's parameters this host needs
    reads: tuple = ()       # parameters as our module then has to show them
    inside: object = None   # the host in which this one runs
    strict: bool = False    # on the CPU of "make strict-cpu", not on the distribution's


AMD = Host(
    name='amd', emulator=qemu, cpu='qemu64,+svm,+npt,+vgif,model-id=QEMU TCG CPU', memory=3072,
    vendor='AuthenticAMD', module='kvm_amd', params=('nested_vnmi=1',))

# The CPU's vNMI is what our module offers to nested hypervisors.
AMD_VNMI = replace(AMD, name='amd-vnmi', emulator=nested, cpu='host,migratable=off', params=(),
                   memory=1536, reads=('vnmi=Y',), inside=AMD)

# What most AMD machines in use have: NextRIP, clean bits, no vNMI; and those from Zen 4 on.
AMD_STRICT = replace(AMD, name='amd-strict', strict=True,
                     cpu='qemu64,+svm,+npt,+vgif,+nrip-save,+vmcb-clean,+flushbyasid,+decodeassists,'
                         '+v-vmsave-vmload,+smep,+smap,model-id=QEMU TCG strict CPU')
AMD_STRICT_VNMI = replace(AMD_STRICT, name='amd-strict-vnmi', cpu=AMD_STRICT.cpu.replace('+vgif', '+vgif,+vnmi'),
                          reads=('vnmi=Y',))

# Bochs's VMX preemption timer stalls guests. What no parameter cures in 2.7: an
# entry into a guest with IRQs off holds back the host's interrupts as well, until
# the guest changes IF or causes an exit of its own. A guest that spins in an NMI
# handler stops the host: no timer, no other thread.
INTEL = Host(
    name='intel', emulator=bochs, cpu='corei7_haswell_4770', memory=384,
    vendor='GenuineIntel', module='kvm_intel', params=('preemption_timer=0',))

INTEL_SOFT = replace(INTEL, name='intel-soft', params=(*INTEL.params, 'vnmi=0'))

# A later model, with a page-modification log. No APICv: Bochs 2.7 has no posted interrupts,
# and 3.0 fails the entry of a VMCS whose descriptor for them is not at the start of a page.
INTEL_PML = replace(INTEL, name='intel-pml', cpu='corei7_skylake_x', params=(*INTEL.params, 'enable_apicv=0'),
                    reads=('pml=Y',))

# The latest model of Bochs 3.0; 2.7 does not have it.
INTEL_ARROW_LAKE = replace(INTEL_PML, name='intel-arrow-lake', cpu='arrow_lake')

HOSTS = {host.name: host for host in (
    AMD, AMD_VNMI, AMD_STRICT, AMD_STRICT_VNMI, INTEL, INTEL_SOFT, INTEL_PML, INTEL_ARROW_LAKE)}
