# SPDX-License-Identifier: GPL-2.0-only
"""Make the disk a host in Bochs boots from: guest/boot.S, then a memory image
of an unpacked kernel, its command line and an initramfs."""

import struct

from kernel import GUEST
from process import HostError, tool

LOAD = 16 << 20             # what x86-64 kernels are linked for
SECTOR = 512
CHUNK = 127                 # sectors, the most the BIOS reads at once
BOOT_SECTOR_ADDRESS = 0x7c00
PAGE = 4096
PT_LOAD, PT_NOTE = 1, 4
XEN_NOTE_PVH_ENTRY = 18


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


class MemoryImage(bytearray):
    """What is to lie in memory from LOAD on."""

    def put(self, address, data):
        at = address - LOAD
        if at < 0:
            raise HostError(f'this kernel wants to lie at {address:#x}, below {LOAD:#x}')
        self.extend(bytes(max(0, at + len(data) - len(self))))
        self[at:at + len(data)] = data

    def append(self, data):
        """Put data on a page of its own after everything else, return its address."""
        address = LOAD + len(self) + -len(self) % PAGE
        self.put(address, data)
        return address


def assemble(symbols, folder):
    options = [word for name, value in symbols.items() for word in ('--defsym', f'{name}={value}')]
    tool('as', '--32', *options, '-o', folder / 'boot.o', GUEST / 'boot.S')
    tool('ld', '-m', 'elf_i386', '-Ttext', hex(BOOT_SECTOR_ADDRESS), '-e', 'start',
         '--oformat', 'binary', '-o', folder / 'boot', folder / 'boot.o')
    return (folder / 'boot').read_bytes()


def write_boot_disk(target, folder, vmlinux, initrd, cmdline, size):
    elf = vmlinux.read_bytes()
    image = MemoryImage()
    for kind, at, address, in_file, in_memory in program_headers(elf):
        if kind == PT_LOAD:
            image.put(address, elf[at:at + in_file] + bytes(in_memory - in_file))
    symbols = {
        'LOAD': LOAD, 'PVH_ENTRY': pvh_entry(elf),
        'COMMAND_LINE': image.append(cmdline.encode() + b'\0'),
        'INITRD': image.append(initrd), 'INITRD_SIZE': len(initrd),
        'CHUNK': CHUNK, 'CHUNKS': -(-len(image) // (CHUNK * SECTOR)),
    }
    with open(target, 'wb') as disk:
        disk.write(assemble(symbols, folder) + image)
        disk.truncate(size)
