# SPDX-License-Identifier: GPL-2.0-only
"""A distribution's kernel as unpacked by scripts/fetch-packages: its modules,
and an initramfs made of them."""

import lzma
import os
import struct
import tempfile
from pathlib import Path

from process import HostError, tool

HERE = Path(__file__).resolve().parent
GUEST = HERE / 'guest'


def decompress(data):
    if data.startswith(b'\xfd7zXZ\0'):
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b'\x28\xb5\x2f\xfd'):
        return tool('zstd', '-dcq', input=data)
    return data


def unpack_kernel(vmlinuz):
    """What a bzImage holds, found by the fields of its boot header. The last
    four bytes of the compressed part say how long it was before."""
    file = vmlinuz.read_bytes()
    setup_sectors = file[0x1f1] or 4
    offset, length = struct.unpack_from('<II', file, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    end = start + length - 4
    vmlinux = decompress(file[start:end])
    size, = struct.unpack_from('<I', file, end)
    if len(vmlinux) != size or not vmlinux.startswith(b'\x7fELF'):
        raise HostError(f'{vmlinuz} is damaged, or compressed in an unknown way')
    return vmlinux


def default_kernel():
    """The kernel that make builds for."""
    return os.environ.get('KVER') or tool(HERE.parents[2] / 'scripts/kernel').decode().strip()


class Kernel:
    def __init__(self, build, kver):
        self.kver = kver
        self.folder = build / kver
        self.keep = self.folder / 'hosts'
        self.image = self.folder / 'image'
        self.vmlinuz = self.image / 'boot' / f'vmlinuz-{kver}'
        if not self.vmlinuz.exists():       # from 7 on
            self.vmlinuz = self.image / 'usr/lib/modules' / kver / 'vmlinuz'
        if not self.vmlinuz.exists():
            raise HostError(f'{self.vmlinuz} is missing: run scripts/fetch-packages '
                            f'{self.image} linux-image-{kver}')

    def vmlinux(self):
        """The kernel proper, taken out of its self-unpacking file: emulated CPUs unpack slowly.

        The copy carries the time stamp of the file it came from, which tells whether it is current."""
        stamp = self.vmlinuz.stat().st_mtime_ns
        kept = self.keep / 'vmlinux'
        if not kept.exists() or kept.stat().st_mtime_ns != stamp:
            self.keep.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.keep) as file:
                file.write(unpack_kernel(self.vmlinuz))
                file.flush()
                os.utime(file.name, ns=(stamp, stamp))
                kept.unlink(missing_ok=True)
                os.link(file.name, kept)
        return kept

    def modules(self, *names):
        """Files of the named modules and all they depend on, in the order to load them."""
        files = []
        for name in names:
            shown = tool('modprobe', '-d', self.image, '-S', self.kver, '--show-depends', name)
            for line in shown.decode().splitlines():
                kind, _, file = line.strip().partition(' ')
                if kind == 'insmod' and Path(file.strip()) not in files:
                    files.append(Path(file.strip()))
        return files

    def dependencies(self, name):
        """Names of the modules that must be there before the named one."""
        return [module_name(file) for file in self.modules(name)[:-1]]


def module_name(file):
    return file.name.partition('.')[0].replace('-', '_')


def module_field(file, field):
    """A field of modinfo, or 'none'; a module has a version only if its author set one."""
    return tool('modinfo', '-F', field, file).decode().strip() or 'none'


def copy_module(source, target):
    """Unpack a module and leave out what only debuggers read: most of its size."""
    target.write_bytes(decompress(source.read_bytes()))
    # .BTF_ids holds what the module itself reads when it is loaded.
    tool('objcopy', '--strip-debug', '-R', '.BTF', target)


def initramfs(folder, init, modules=(), files=None):
    """Pack busybox, the first program, modules to load in this order, and {name: text}."""
    for name in 'bin', 'dev', 'modules', 'proc', 'run', 'sys', 'tmp':
        (folder / name).mkdir(parents=True)
    busybox = next((p for p in map(Path, ('/bin/busybox', '/usr/bin/busybox')) if p.exists()), None)
    if not busybox:
        raise HostError('busybox is missing: run make deps')
    tool('cp', busybox, folder / 'bin/busybox')
    tool('cp', init, folder / 'init')
    for module in modules:
        copy_module(module, folder / 'modules' / f'{module_name(module)}.ko')
    files = {'modules/order': ''.join(f'{module_name(m)}.ko\n' for m in modules), **(files or {})}
    for name, text in files.items():
        (folder / name).write_text(text)
    return archive(folder)


def archive(folder):
    """A folder as the kernel unpacks it at its start."""
    names = '\0'.join(sorted(str(p.relative_to(folder)) for p in folder.rglob('*')))
    return tool('cpio', '-o', '-0', '-H', 'newc', '--quiet', cwd=folder, input=names.encode())
