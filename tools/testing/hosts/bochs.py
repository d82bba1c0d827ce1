# SPDX-License-Identifier: GPL-2.0-only
"""Run a host in Bochs, which models Intel's virtualization: restore the state
of a booted host and hand it this run's files as a disk.

Time is counted in instructions. Several CPUs take turns, some instructions each."""

import re
import subprocess
from contextlib import contextmanager

import programs
from process import HostError, NotHere, environment, tool
from snapshot import DISK_SIZE, bochs, snapshot

BLOCK = 4096                # as in guest/transport-disk
SAVED_DISK = 'hard_drive.0.drive0.image'


def write_disk(target, work):
    """A header block that says how many follow, then an archive of the work folder."""
    archive = tool('tar', '-c', '--owner=0', '--group=0', '-C', work, '.')
    blocks = -(-len(archive) // BLOCK)
    if (blocks + 1) * BLOCK > DISK_SIZE:
        raise HostError(f'the files of this run take {len(archive) >> 20} MiB, '
                        f'more than the disk of {DISK_SIZE >> 20} MiB can hold')
    with open(target, 'wb') as disk:
        disk.write((b'payload %d\n' % blocks).ljust(BLOCK, b'\0'))
        disk.write(archive)
        disk.truncate(DISK_SIZE)


def adapted(config, run):
    """The saved configuration with this run's paths. usb_uhci has to be loaded
    last, as it was when the machine was saved: timers are numbered in the order
    in which the devices register them."""
    replacements = (
        (r'"disk"', f'"{run.folder}/disk"'),
        (r'"console"', f'"{run.console}"'),
        (r'mode=file, dev="output"', f'mode={"term" if run.interactive else "file"}, dev="{run.port}"'),
        (r'(?m)^log: .*', f'log: {run.folder}/bochs.log'),
        (r'(usb_uhci=true), (.*)', r'\2, \1'),
    )
    for before, after in replacements:
        config, count = re.subn(before, after, config)
        if count != 1:
            raise HostError(f"Bochs's saved configuration matches {before} {count} times")
    return config


def restore_folder(kept, run):
    """A copy of the saved state with links to the large parts, this run's disk and paths."""
    state = run.folder / 'state'
    state.mkdir()
    for file in (kept / 'state').iterdir():
        if file.name not in ('config', SAVED_DISK):
            (state / file.name).symlink_to(file)
    write_disk(state / SAVED_DISK, run.work)
    with open(run.folder / 'disk', 'wb') as disk:
        disk.truncate(DISK_SIZE)
    (state / 'config').write_text(adapted((kept / 'state/config').read_text(), run))
    return state


def without_network():
    """A command prefix, where this machine allows it, that keeps the display to
    itself: Bochs would listen for viewers on every network."""
    for options in ['--net'], ['--net', '--map-root-user']:
        try:
            tool('unshare', *options, 'true')
        except HostError:
            continue
        return ['unshare', *options]
    return []


def help_on(*topic):
    done = subprocess.run(['bochs-bin', '--help', *topic], env=environment(), text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return done.stdout


def version(_host):
    """What it calls itself, at the head of its help."""
    found = re.search(r'Bochs x86 Emulator \S+', help_on())
    if not found:
        raise HostError('bochs-bin does not tell its version')
    return found[0]


def must_have(host):
    """Not every Bochs has every model."""
    if host.cpu not in help_on('cpu').split():
        raise NotHere(f'{version(host)} has no CPU model {host.cpu}')


@contextmanager
def running(host, kernel, run):
    """The restored host, as a context whose value is the emulator's process."""
    must_have(host)
    programs.copy(run.needs, run.work / '.host/root')
    with snapshot(host, kernel, run.cpus) as kept:
        state = restore_folder(kept, run)
        with bochs(['-r', state], run.folder, without_network()) as process:
            yield process
