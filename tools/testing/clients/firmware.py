# SPDX-License-Identifier: GPL-2.0-only
"""Firmware, boot loaders and other programs that run without a kernel, sent NMIs.

What one that meets GRUB does depends on where that is: GRUB goes to and fro between real mode, where
SeaBIOS's handler returns from the NMI, and protected mode without any handler, which a CPU leaves by a
reset only. So each guest is paused, its registers tell what has to come of an NMI right there, and it is
sent one. With LONG the same is asked of QEMU's own CPU, without KVM, of OVMF and SeaBIOS: GRUB changes its
mode too often for that, it takes minutes to start."""

import re
import time

from machine import ANSWER, BOOT, LONG, WORK, Qemu, await_, check, delivered, is_ours

OVMF = '/usr/share/ovmf/OVMF.fd'
SMM_OVMF, SMM_VARIABLES = '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'
GRUB = '/usr/lib/grub-rescue/grub-rescue-floppy.img'
MEMTEST = '/boot/memtest86+x64.bin'
PAUSE = 0.5     # s. NMIs without one are in the way of the start that they wait for.
NMIS = 30       # to a program that goes on
TRIES = 30      # pauses until GRUB was found both ways
CURSOR = re.compile(rb'\x1b\[[\d;?]*[A-Za-z]')     # where it is to go, also in the middle of words
GOES_ON, STARTS_ANEW, OWN = 'goes on', 'starts anew', 'is up to its own handler'
ACCELERATORS = ('kvm', 'tcg') if LONG else ('kvm',)
ALIKE = ', with KVM and without' if LONG else ''


def hmp(here, command):
    return here.qmp('human-monitor-command', **{'command-line': command})


def registers(here):
    return hmp(here, 'info registers')


class Program(Qemu):
    """What is on the serial port has no lines, and SeaBIOS puts its screen and keyboard there."""

    def __init__(self, *options, accelerator='kvm', memory=64):
        self.sent, self.accelerator = 0, accelerator
        # By KVM, of those sent: our module tells.
        self.is_told = accelerator == 'kvm' and is_ours()
        super().__init__('-machine', 'pc,graphics=off', *options, cpus=1, memory=memory, accelerator=accelerator)
        self.begun = delivered() if self.is_told else 0

    def said_yet(self, pattern, patience):
        """Whether it has, by then; what comes up to there is over if so."""
        deadline = time.monotonic() + patience
        while not (found := re.search(pattern.encode(), text := CURSOR.sub(b'', self.serial.rest))):
            if not self.serial.more(deadline - time.monotonic()):
                return False
        for line in text[:found.end()].decode(errors='replace').splitlines():
            self.heard(line)
        self.serial.rest = text[found.end():]
        return True

    def says(self, pattern):
        check(self.said_yet(pattern, BOOT),
              f'it has not said {pattern!r} within {BOOT} s, but {self.serial.rest[-300:]}')

    def answers(self, keys, pattern):
        """Whoever asks for a key may have thrown away those that were typed right then."""
        def typed():
            self.serial.socket.sendall(keys.encode())
            return self.said_yet(pattern, 2)
        await_(typed, ANSWER, lambda: f'at {keys!r} it has not said {pattern!r}, but {self.serial.rest[-300:]}')

    def fate(self):
        """What has to come of an NMI right where it is, None if that is left to chance."""
        said = registers(self)
        cr0 = int(re.search(r'CR0=(\w+)', said)[1], 16)
        base, limit = (int(word, 16) for word in re.search(r'IDT= *(\w+) (\w+)', said).groups())
        # After SMM it is elsewhere. QEMU's CPU takes NMIs also between MOV SS and what comes next, on half a
        # stack; none else does.
        if 'SMM=1' in said or self.accelerator == 'tcg' and 'II=1' in said:
            return None
        # Right after a switch segments are still those of the other mode, and not once a handler has saved
        # them and loaded them again; and the vectors of real mode may still be taken for gates.
        real = [int(start, 16) == int(name, 16) << 4 for name, start in re.findall(r'(?m)^[CSDE]S *=(\w+) (\w+)', said)]
        if not cr0 & 1:
            return GOES_ON if all(real) else None
        if limit < 2 * 8 + 7:
            return STARTS_ANEW
        return OWN if base and not all(real) else None

    def meets_nmi(self, *wanted):
        """Pause, send it one where it is if what has to come of that is among these, and tell what that is."""
        self.qmp('stop')
        fate = self.fate()
        if fate in wanted:
            self.nmi()
            self.sent += 1
        self.qmp('cont')
        return fate

    def has_taken(self):
        """All that it was sent, each once, and QEMU goes on."""
        if self.is_told:
            await_(lambda: delivered() - self.begun >= self.sent, ANSWER,
                   lambda: f'of {self.sent} NMIs KVM has injected {delivered() - self.begun},')
            check(delivered() - self.begun == self.sent,
                  f'{self.sent} NMIs were sent, and KVM has injected {delivered() - self.begun}')
        status = self.qmp('query-status')['status']
        check(status == 'running', f'QEMU says that it is not running, but {status}')


def answer(accelerator, *options):
    """What OVMF says of an exception, when it is sent NMIs until it says something of one."""
    firmware = Qemu(*options, cpus=1, accelerator=accelerator)
    sent, deadline = 0, time.monotonic() + BOOT
    # That is the end of what it says. Before it has handlers no NMI is answered.
    while not firmware.has_said('Find image based on IP'):
        check(time.monotonic() < deadline, f'after {sent} NMIs it has not answered')
        firmware.nmi()
        sent += 1
        time.sleep(PAUSE)
    firmware.end()
    return re.findall(r'!!!! .* Exception Type .*!!!!', '\n'.join(firmware.said))


def answers_nmi(accelerators, *options):
    told = [answer(accelerator, *options) for accelerator in accelerators]
    check('Exception Type - 02' in ' '.join(told[0]), f'it tells another exception: {told[0]}')
    check(told[0] == told[-1], f'it says {told[0]}, but without KVM {told[-1]}')


class Sector(Qemu):
    """guest/boot-sector.S, as SeaBIOS has booted it. Not without KVM: SeaBIOS changes its stack at each call,
    and QEMU's CPU takes NMIs between MOV SS and what comes next, as no other does."""

    def __init__(self):
        super().__init__('-machine', 'pc,smm=on', '-drive',
                         f'file={WORK}/boot-sector,format=raw,if=floppy,snapshot=on', cpus=1, memory=32)
        self.until('^sector: ready', BOOT)
        self.sent = 0

    def tells(self):
        """What it has counted: NMIs, those of them in the handler of another one, SMIs."""
        self.serial.send('n')
        return [int(word, 16) for word in self.until('^sector: nmis')[-1].split()[-3:]]

    def counts(self, sent):
        """Those, too, and all of them, each when the one before is over."""
        self.sent += sent
        await_(lambda: self.tells()[0] >= self.sent, ANSWER,
               lambda: f'of {self.sent} NMIs it has counted {self.tells()[0]},')
        nmis, nested, _ = self.tells()
        check((nmis, nested) == (self.sent, 0),
              f'of {self.sent} NMIs it has counted {nmis}, {nested} of them in the handler of another')


def sector_counts(with_smis):
    here = Sector()
    if with_smis:
        here.serial.send('s')
    before = here.tells()[2]
    for _ in range(NMIS):
        here.nmi()
        here.counts(1)
    for _ in range(NMIS // 3):
        here.qmp('stop')
        # Where NMIs are blocked a CPU keeps one of two.
        kept = 1 if 'SMM=1' in registers(here) else 2
        here.nmi(2)
        here.qmp('cont')
        here.counts(kept)
    smis = here.tells()[2] - before
    check(smis >= here.sent if with_smis else not smis, f'beside {here.sent} NMIs it has counted {smis} SMIs')
    here.end()


def seabios_goes_on():
    for accelerator in ACCELERATORS:
        here = Program('-boot', 'menu=on,splash-time=60000', accelerator=accelerator)
        here.says('Press ESC for boot menu')
        # It waits in real mode, most of the time.
        for _ in range(NMIS):
            here.meets_nmi(GOES_ON)
            here.has_taken()
        check(here.sent > NMIS // 2, f'in {NMIS} pauses it was met in real mode {here.sent} times')
        here.answers('\033', 'Select boot device')
        here.end()


def grub_fares():
    here = Program('-drive', f'file={GRUB},format=raw,if=floppy,snapshot=on')
    fate, met = STARTS_ANEW, set()
    for _ in range(TRIES):
        if fate == STARTS_ANEW:
            here.says('executed automatically')
            here.answers('c', 'grub>')
        fate = here.meets_nmi(GOES_ON, STARTS_ANEW)
        check(fate != OWN, 'GRUB has an IDT')
        if fate == STARTS_ANEW:
            here.says('SeaBIOS')
        elif fate == GOES_ON:
            here.answers('x', 'x')
        here.has_taken()
        met.add(fate)
        if {GOES_ON, STARTS_ANEW} <= met:
            break
    check({GOES_ON, STARTS_ANEW} <= met, f'in {TRIES} pauses it was met only where an NMI {met}')
    here.end()


def ipxe_goes_on():
    here = Program('-netdev', 'user,id=net,restrict=on', '-device', 'e1000,netdev=net', '-boot', 'n', memory=128)
    here.says('Press Ctrl-B')
    here.answers('\x02', 'iPXE>')
    for _ in range(NMIS):
        fate = here.meets_nmi(GOES_ON, OWN)
        check(fate != STARTS_ANEW, f'where it waits for a key an NMI {fate}')
        here.has_taken()
    here.answers('x', 'x')
    here.end()


def screen(here):
    """VGA's text."""
    said = hmp(here, 'xp /2000hx 0xb8000')
    return ''.join(chr(int(word, 16) & 0xff) for word in re.findall(r'0x(\w+)', said))


def memtest_tells():
    here = Program('-vga', 'std', '-kernel', MEMTEST, '-append', 'console=ttyS0,115200')
    here.says('Status: Testing')
    fate = here.meets_nmi(OWN)
    check(fate == OWN, f'where it tests an NMI {fate}')
    await_(lambda: 'NMI' in screen(here), ANSWER, lambda: f'it has not told, but has {screen(here)}')
    here.has_taken()
    here.qmp('send-key', keys=[{'type': 'qcode', 'data': 'spc'}])
    here.says('SeaBIOS')
    here.end()


def firmware_test():
    yield 'OVMF answers an NMI with its registers' + ALIKE, lambda: answers_nmi(ACCELERATORS, '-bios', OVMF)
    yield 'so does OVMF whose variables are kept by code in SMM', lambda: answers_nmi(
        ('kvm',), '-machine', 'q35,smm=on', '-global', 'driver=cfi.pflash01,property=secure,value=on',
        '-drive', f'file={SMM_OVMF},format=raw,if=pflash,readonly=on',
        '-drive', f'file={SMM_VARIABLES},format=raw,if=pflash,snapshot=on')
    yield 'a boot sector that calls SeaBIOS counts NMIs, alone or two at once, none in the handler of another', \
        lambda: sector_counts(False)
    yield 'so does one that enters SMM all the time, in the handler, too', lambda: sector_counts(True)
    yield f'SeaBIOS, waiting for a key, goes on after some {NMIS} NMIs' + ALIKE, seabios_goes_on
    if not LONG:
        return
    yield 'GRUB goes on after an NMI in real mode, starts anew after one in protected mode', grub_fares
    yield f'iPXE, waiting for a key, goes on after {NMIS} NMIs', ipxe_goes_on
    yield 'memtest86+ tells an NMI, and starts anew at a key', memtest_tells
