# SPDX-License-Identifier: GPL-2.0-only
"""A guest that moves to another QEMU, to another vendor module, or to where it was, in a storm
of NMIs."""

from functools import partial

from machine import ANSWER, BOOT, LONG, MODULE, Guest, await_, check, cpu_has_vnmi, delivered, is_ours, load, \
    on_their_way

STORM = 30                  # NMIs
DISK = '/tmp/disk.qcow2'
# With the CPU's help, and without.
WITH, WITHOUT = {'kvm_intel': ('virtual NMIs', 'soft vNMI'), 'kvm_amd': ("the CPU's vNMI", 'the IRET window')}[MODULE]


def has_moved(source):
    status = source.qmp('query-migrate')['status']
    check(status != 'failed', 'the migration has failed')
    return status == 'completed'


def storm(source, count):
    """NMIs, each when the one before is over, and how many the guest is to have counted then. Where the module
    does not tell that the guest has to."""
    if not is_ours():
        for count in range(count + 1, count + STORM // 5 + 1):
            source.nmi()
            source.counts(count)
        return count
    begun = delivered()
    for sent in range(1, STORM + 1):
        source.nmi()
        await_(lambda: delivered() - begun >= sent and not on_their_way(), ANSWER,
               lambda: f'of {sent} NMIs {delivered() - begun} were injected, on their way are {on_their_way()},')
    source.counts(count + STORM)
    return count + STORM


def migrate(source, address, count):
    """Send NMIs while a guest moves, and some right before it is stopped for the last step. Returns how
    many it is to have counted."""
    # Too slow to end before it is told to.
    source.qmp('migrate-set-parameters', **{'max-bandwidth': 1 << 18})
    source.qmp('migrate', uri=address)
    count = storm(source, count)
    check(source.qmp('query-migrate')['status'] == 'active', 'the migration is over before the NMIs are')
    count = source.stop_on_the_way(count)
    source.qmp('migrate-set-parameters', **{'max-bandwidth': 1 << 40})
    await_(lambda: has_moved(source), BOOT, lambda: 'the migration is not over')
    return count


def job(here, command, **arguments):
    """What QEMU does by the way, to its end."""
    here.qmp(command, **{'job-id': 'job'}, **arguments)
    await_(lambda: here.qmp('query-jobs')[0]['status'] == 'concluded', BOOT, lambda: f'{command} is not over')
    error = here.qmp('query-jobs')[0].get('error')
    here.qmp('job-dismiss', id='job')
    check(not error, f'{command}: {error}')


def make_disk(here):
    """One that can hold the state of a guest, by the name of disk."""
    job(here, 'blockdev-create', options={'driver': 'file', 'filename': DISK, 'size': 0})
    here.qmp('blockdev-add', **{'node-name': 'file', 'driver': 'file', 'filename': DISK})
    job(here, 'blockdev-create', options={'driver': 'qcow2', 'file': 'file', 'size': 1 << 20})
    here.qmp('blockdev-add', **{'node-name': 'disk', 'driver': 'qcow2', 'file': 'file'})


def migration_test():
    here = Guest(cpus=1).booted()
    count = here.nmis()[0]

    for number in ('first', 'second', 'third') if LONG else ('first',):
        def live():
            nonlocal here, count
            target = Guest('-incoming', 'unix:/tmp/migration', cpus=1)
            count = migrate(here, 'unix:/tmp/migration', count)
            here.end()
            here = target.go_on()
            here.counts(count)
        yield f'the {number} live migration, in a storm of NMIs, loses none', live

    moves = [(partial(load, stock=True), "from ours to the distribution's module"), (load, 'and back to ours')]
    if not is_ours():
        moves = [(load, "under the distribution's module loaded anew")]
    elif cpu_has_vnmi():
        moves += [(partial(load, 'vnmi=0'), f'from {WITH} to {WITHOUT}'), (load, f'and back to {WITH}')]
    elif MODULE == 'kvm_intel':
        moves += [(partial(load, 'vnmi=1'), f'from {WITHOUT} to {WITH}'), (load, f'and back to {WITHOUT}')]
    for change_module, where in moves:
        def by_file():
            nonlocal here, count
            count = migrate(here, 'exec:cat >/tmp/saved', count)
            here.end()
            change_module()
            here = Guest('-incoming', 'exec:cat /tmp/saved', cpus=1).go_on()
            here.counts(count)
        yield f'a guest saved and restored, {where}, in a storm of NMIs loses none', by_file

    def snapshot():
        make_disk(here)
        saved = here.stop_on_the_way(count)
        job(here, 'snapshot-save', tag='saved', vmstate='disk', devices=['disk'])
        here.qmp('cont')
        here.counts(saved)
        here.nmi()
        here.counts(saved + 1)
        here.qmp('stop')
        job(here, 'snapshot-load', tag='saved', vmstate='disk', devices=['disk'])
        here.qmp('cont')
        here.counts(saved)
    yield 'savevm keeps NMIs that are on their way, and so does loadvm', snapshot
