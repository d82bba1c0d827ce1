# SPDX-License-Identifier: GPL-2.0-only
"""What the monitor's nmi is sent for: a dump of a guest, and the stack of one that hangs."""

from machine import BOOT, CPUS, CRASH_INITRD, LONG, MODULE, Guest, check, delivered, is_ours

# In the memory of the kernel that crashes, as nobody else writes it.
MARK = 'a-mark-in-the-memory-of-the-kernel-that-crashed'
SECOND = 'crash-kernel'     # a word of the second kernel's command line, see guest/init


def load_crash_kernel(here):
    here.run('sysctl -w kernel.unknown_nmi_panic=1')
    here.run(f'echo {MARK} >/tmp/mark')
    here.run('load_crash_kernel /boot/kernel /boot/initrd '
             f'"$(sed "s/crashkernel=[^ ]*//" /proc/cmdline) {SECOND} nr_cpus=1 reset_devices irqpoll"')


def has_dumped(here):
    """The second kernel comes up and finds the first one's memory."""
    here.until('^guest: ready', BOOT)
    command_line = here.run('cat /proc/cmdline')
    check(any(SECOND in line for line in command_line), f'this is not the crash kernel: {command_line}')
    size, magic = here.run('stat -c %s /proc/vmcore; head -c 4 /proc/vmcore | tail -c 3; echo', BOOT)
    check(magic == 'ELF' and int(size) > 100 << 20, f'the vmcore has {size} bytes and begins with {magic!r}')
    # Each page is mapped for itself, which takes minutes for all of them.
    if LONG:
        read, marks = here.run(
            f'wc -c </proc/vmcore; tr -d "\\000" </proc/vmcore | grep -a -c {MARK}', BOOT)
        check(size == read, f'of the {size} bytes of the vmcore {read} can be read')
        check(int(marks) > 0, 'the vmcore does not have what was in memory')
    else:
        read = here.run('head -c 1048576 /proc/vmcore | wc -c', BOOT)
        check(read == ['1048576'], f'of the first MiB of the vmcore {read} bytes can be read')


def hang(here):
    """Three NMIs are answered, by name of where the guest hangs; the next one is its kernel's."""
    here.start('insmod /modules/hang.ko all=1 answers=3')
    here.until('hang: IRQs are off')
    for number in range(1, 4):
        here.nmi()
        line = here.until(f'hang: NMI {number} ')[-1]
        check('hang_with_irqs_off' in line and 'IRQs off' in line, f'the guest was elsewhere: {line}')


def crash_test():
    # Bochs would take minutes to unpack another kernel.
    if MODULE == 'kvm_intel':
        here = Guest(initrd=CRASH_INITRD, memory=192).booted()
        yield 'a guest that hangs with IRQs off answers three NMIs', lambda: hang(here)
        here.end()
        return

    # A kernel loads no other that takes more than half of what is left to itself.
    options = {'append': 'crashkernel=112M', 'memory': 352, 'initrd': CRASH_INITRD}

    def hung():
        here = Guest(**options).booted()
        load_crash_kernel(here)
        hang(here)
        here.nmi()
        has_dumped(here)
        here.end()
    yield f'a guest that hangs with IRQs off, on {CPUS} CPUs, answers three and dumps at the fourth', hung

    if not LONG:
        return

    def two():
        here = Guest(**options).booted()
        load_crash_kernel(here)
        # The first NMI blocks the second until an IRET, and it is the crash kernel's.
        taken = delivered() if is_ours() else 0
        here.qmp('stop')
        here.nmi(2)
        here.qmp('cont')
        has_dumped(here)
        # Two, and that by which the kernel that crashes stops its other CPU. The guest has not counted the
        # second: before the crash kernel's handler is there that of its decompressor takes it.
        if is_ours():
            check(delivered() - taken == 1 + CPUS, f'of {1 + CPUS} NMIs {delivered() - taken} were taken')
        before = here.nmis()[0]
        here.nmi()
        here.counts(before + 1)
        here.end()
    yield "of two of the monitor's nmi at once one leads to a crash kernel and one is taken there, as is the next", two
