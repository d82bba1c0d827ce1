# SPDX-License-Identifier: GPL-2.0-only
"""A guest that moves to another QEMU, or to another vendor module, in a storm of NMIs."""

from functools import partial

from machine import BOOT, Guest, await_, check, cpu_has_vnmi, load

STORM = 30                  # NMIs


def has_moved(source):
    status = source.qmp('query-migrate')['status']
    check(status != 'failed', 'the migration has failed')
    return status == 'completed'


def migrate(source, address, count):
    """Send NMIs while a guest moves, and two right before it is stopped for the last step. Returns how
    many it is to have counted.

    Not later: QEMU has read the state of its vCPUs then, and does not read it again."""
    # Too slow to end before it is told to.
    source.qmp('migrate-set-parameters', **{'max-bandwidth': 1 << 18})
    source.qmp('migrate', uri=address)
    for count in range(count + 1, count + STORM + 1):
        source.nmi()
        source.counts(count)
    check(source.qmp('query-migrate')['status'] == 'active', 'the migration is over before the NMIs are')
    source.nmi(2)
    source.qmp('stop')
    source.qmp('migrate-set-parameters', **{'max-bandwidth': 1 << 40})
    await_(lambda: has_moved(source), BOOT, lambda: 'the migration is not over')
    return count + 2


def migration_test():
    here = Guest(cpus=1).booted()
    count = here.nmis()[0]
    try:
        for number in 'first', 'second', 'third':
            def live():
                nonlocal here, count
                target = Guest('-incoming', 'unix:/tmp/migration', cpus=1)
                count = migrate(here, 'unix:/tmp/migration', count)
                here.end()
                here = target.go_on()
                here.counts(count)
            yield f'the {number} live migration, in a storm of NMIs, loses none', live

        moves = [(partial(load, stock=True), "from ours to the distribution's module"), (load, 'and back to ours')]
        if cpu_has_vnmi():
            moves += [(partial(load, 'vnmi=0'), "from the CPU's vNMI to the IRET window"), (load, 'and back to vNMI')]
        for change_module, where in moves:
            def by_file():
                nonlocal here, count
                count = migrate(here, 'exec:cat >/tmp/saved', count)
                here.end()
                change_module()
                here = Guest('-incoming', 'exec:cat /tmp/saved', cpus=1).go_on()
                here.counts(count)
            yield f'a guest saved and restored, {where}, in a storm of NMIs loses none', by_file
    finally:
        here.end()
