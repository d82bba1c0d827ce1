# SPDX-License-Identifier: GPL-2.0-only
"""nmi-guest as a domain of Xen with its own CPU and chipset (HVM). Xen is the first in QEMU's own
CPU emulation; its dom0 is the distribution's kernel with what xl needs.

Xen's packages are unpacked, not installed."""

import gzip
import re
import subprocess
from pathlib import Path

from bootdisk import write_boot_disk
from kernel import Kernel, initramfs
from process import HostError, environment, tool

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ROOT / 'build/nmi-guest/xen'
MODULES = 'xenfs', 'xen_privcmd', 'xen_evtchn', 'xen_gntdev'
TOOLS = 'xenstored', 'xenconsoled', 'xen-init-dom0', 'xl', 'libxl-save-helper'
# Loaded where a thread is cancelled.
CANCEL = '/lib/x86_64-linux-gnu/libgcc_s.so.1'
# What a domain with a chipset needs: that is another QEMU, which reads the files.
CHIPSET = 'hvmloader', 'xen-qemu-system-i386'
FIRMWARE = '/usr/share/seabios/bios-256k.bin', '/usr/share/qemu/kvmvapic.bin', '/usr/share/qemu/keymaps/en-us'
DOMAIN = """\
name = "nmi-guest"
type = "hvm"
memory = 128
vcpus = {cpus}
device_model_args = ["-drive", "file=/disk,format=raw,if=ide"]
boot = "c"
serial = "file:/run/serial"
vga = "none"
usb = 0
vnc = 0
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
"""


def fetch():
    """Unpack the newest Xen that apt knows, and what of its dependencies this machine does not have."""
    known = re.findall(r'(?m)^xen-hypervisor-([\d.]+)-amd64$', tool('apt-cache', 'pkgnames', 'xen-').decode())
    if not known:
        raise HostError('apt knows no package of Xen: run sudo apt-get update')
    series = max(known, key=lambda name: [int(number) for number in name.split('.')])
    wanted = {name: name for name in (f'xen-hypervisor-{series}-amd64', f'xen-utils-{series}', 'qemu-system-xen')}
    said = tool('apt-get', '-s', '--no-install-recommends', 'install', *wanted).decode()
    wanted |= {name: f'{name}={version}' for name, version in
               re.findall(r'(?m)^Inst (\S+) (?:\[\S+\] )?\((\S+) ', said)}
    tool(ROOT / 'scripts/fetch-packages', PACKAGES, *wanted.values())


def libraries(file):
    """What a program is linked with, of the packages or of this machine."""
    said = subprocess.run(['ldd', file], text=True, capture_output=True, env={
        **environment(), 'LD_LIBRARY_PATH': f'{PACKAGES}/usr/lib/x86_64-linux-gnu:{PACKAGES}/lib/x86_64-linux-gnu'})
    return [Path(word) for word in re.findall(r'(?m)^.*?(/\S+) \(0x', said.stdout)]


def fill(root, tools, files=()):
    """What xl needs, below a folder that becomes dom0's root."""
    wanted = [file for file in PACKAGES.glob('usr/lib*/**/*') if file.name in tools]
    wanted += map(Path, (CANCEL, *files))
    for file in {file: None for program in wanted for file in (program, *libraries(program))}:
        try:
            target = root / file.relative_to(PACKAGES)
        except ValueError:
            target = root / file.relative_to('/')
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
        target.chmod(0o755)
    (root / 'etc/xen').mkdir(parents=True)
    (root / 'etc/xen/xl.conf').write_text('autoballoon="off"\n')


def write_hypervisor(target):
    """Xen itself, unpacked."""
    target.write_bytes(gzip.decompress(next(PACKAGES.glob('boot/xen-*.gz')).read_bytes()))


def initrd(kernel, root, job):
    """That of dom0: a folder that was filled, and what it is to do once xl works."""
    return initramfs(root, HERE / 'dom0-init', kernel.modules(*MODULES), {'job': job.read_text()})


def command(kver, emulator, cpus, program, line, folder):
    """The command that boots Xen with the domain, and the file of what that writes to its serial port."""
    kernel = Kernel(ROOT / 'build', kver)
    write_hypervisor(folder / 'xen')
    root = folder / 'root'
    root.mkdir()
    fill(root, TOOLS + CHIPSET, FIRMWARE)
    write_boot_disk(root / 'disk', folder, program, b'', line, 8 << 20)
    (root / 'domain').write_text(DOMAIN.format(cpus=cpus))
    (folder / 'initrd').write_bytes(initrd(kernel, root, HERE / 'dom0-job'))
    serial = folder / 'serial'
    serial.touch()
    return [*emulator, '-m', '2048', '-display', 'none', '-nodefaults', '-no-reboot',
            '-serial', f'file:{folder}/console', '-serial', f'file:{serial}', '-kernel', folder / 'xen',
            '-append', 'com1=115200,8n1 console=com1 dom0_mem=1024M,max:1024M dom0_max_vcpus=1',
            '-initrd', f'{kernel.vmlinux()} console=hvc0 quiet,{folder}/initrd'], serial


def facts(console):
    """What ran it, in the form of nmi-guest's own facts."""
    version = re.search(r'(?m)^\(XEN\) Xen version (\S+) \(Debian ([^)]*)\)', console)
    dom0 = re.search(r'(?m)^dom0: (Linux .*?)\r?$', console)
    return ''.join((f'# Xen: Xen {version[1]} (Debian {version[2]})\n' if version else '',
                    f'# control domain: {dom0[1]}\n' if dom0 else ''))


def problems(console):
    """What there is to be told where the domain did not run."""
    return ''.join(f'{line}\n' for line in console.splitlines()
                   if re.match('libxl: error|xl: |dom0: .* cannot', line))
