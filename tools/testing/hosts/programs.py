# SPDX-License-Identifier: GPL-2.0-only
"""Programs and files of this machine for a host that does not share its root:
copied to where they are here, programs with the libraries they are linked with."""

import re
import shutil
from pathlib import Path

from process import HostError, environment, tool

# What QEMU reads when it starts a Linux guest, its own program first.
QEMU = ('qemu-system-x86_64', '/usr/share/seabios/bios-256k.bin',
        *(f'/usr/share/qemu/{rom}' for rom in ('kvmvapic.bin', 'linuxboot_dma.bin', 'pvh.bin')))


def find(name):
    """The file that a program's name or a path stands for, in its real folder."""
    found = name if '/' in name else shutil.which(name, path=environment()['PATH'])
    if not found or not Path(found).exists():
        raise HostError(f'{name} is not on this machine')
    path = Path(found).absolute()
    return path.parent.resolve() / path.name


def libraries(file):
    """What a program is linked with, its loader too, under the names the program has for them."""
    with open(file, 'rb') as start:
        if start.read(4) != b'\x7fELF':
            return []
    return [Path(word) for word in re.findall(r'(?m)^.*?(/\S+) \(0x', tool('ldd', file).decode())]


def copy(files, root):
    """Copies below a folder that is to become a root."""
    for file in {wanted for file in files for wanted in (file, *libraries(file))}:
        target = root / file.relative_to('/')
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
