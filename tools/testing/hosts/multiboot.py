# SPDX-License-Identifier: GPL-2.0-only
"""Make a bootable CD image of an unpacked kernel and an initramfs.

The kernel is entered at its PVH entry by way of guest/multiboot.S, which sits
in the same flat image directly below it."""

import struct

from kernel import GUEST
from process import HostError, tool

STUB = 0xff0000             # below every x86-64 kernel, which is linked for 16 MiB
PT_LOAD, PT_NOTE = 1, 4
XEN_NOTE_PVH_ENTRY = 18

GRUB_CONFIG = '''set timeout=0
multiboot /kernel {cmdline}
module /initrd
boot
'''


def program_headers(elf):
    """(type, file offset, physical address, size in the file, size in memory) of each."""
    offset, = struct.unpack_from('<Q', elf, 32)
    size, count = struct.unpack_from('<HH', elf, 54)
    for i in range(count):
        kind, _, at, _, address, in_file, in_memory, _ = struct.unpack_from(
            '<IIQQQQQQ', elf, offset + i * size)
        yield kind, at, address, in_file, in_memory


def notes(elf, at, size):
    """(owner, type, description) of each note in a segment."""
    end = at + size
    while at < end:
        name_size, desc_size, kind = struct.unpack_from('<III', elf, at)
        name = at + 12
        desc = name + (name_size + 3 & ~3)
        yield elf[name:name + name_size], kind, elf[desc:desc + desc_size]
        at = desc + (desc_size + 3 & ~3)


def pvh_entry(elf):
    for kind, at, _, size, _ in program_headers(elf):
        if kind == PT_NOTE:
            for owner, note, desc in notes(elf, at, size):
                if owner == b'Xen\0' and note == XEN_NOTE_PVH_ENTRY:
                    return int.from_bytes(desc, 'little')
    raise HostError('this kernel has no PVH entry (CONFIG_PVH): Bochs cannot boot it')


def flat_image(elf, folder):
    """The stub and the kernel's segments as they are to lie in memory from STUB on."""
    segments = [h[1:] for h in program_headers(elf) if h[0] == PT_LOAD]
    end = max(address + in_memory for _, address, _, in_memory in segments)
    tool('as', '--32', '--defsym', f'PVH_ENTRY={pvh_entry(elf)}', '--defsym', f'BSS_END={end}',
         '-o', folder / 'stub.o', GUEST / 'multiboot.S')
    tool('ld', '-m', 'elf_i386', '-Ttext', hex(STUB), '-e', 'start', '--oformat', 'binary',
         '-o', folder / 'stub', folder / 'stub.o')
    stub = (folder / 'stub').read_bytes()
    image = bytearray(end - STUB)
    image[:len(stub)] = stub
    for at, address, in_file, _ in segments:
        image[address - STUB:address - STUB + in_file] = elf[at:at + in_file]
    return image.rstrip(b'\0')


def write_cd(target, folder, vmlinux, initrd, cmdline):
    cd = folder / 'cd'
    (cd / 'boot/grub').mkdir(parents=True)
    (cd / 'kernel').write_bytes(flat_image(vmlinux.read_bytes(), folder))
    (cd / 'boot/grub/grub.cfg').write_text(GRUB_CONFIG.format(cmdline=cmdline))
    initrd.rename(cd / 'initrd')
    tool('grub-mkrescue', '-o', target, cd)
