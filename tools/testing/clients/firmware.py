# SPDX-License-Identifier: GPL-2.0-only
"""Firmware that is sent NMIs: with KVM it answers as on the emulated CPU alone."""

import re
import time

from machine import BOOT, Console, Qemu, check

OVMF = '/usr/share/ovmf/OVMF.fd'


class Firmware(Qemu, Console):
    def __init__(self, accelerator):
        socket = f'/tmp/guest-{Qemu.made + 1}.serial'
        Qemu.__init__(self, '-chardev', f'socket,id=console,path={socket},server=on,wait=off',
                      '-device', 'isa-serial,chardev=console', '-bios', OVMF,
                      cpus=1, memory=128, accelerator=accelerator)
        Console.__init__(self, socket)

    def answer(self):
        """What it says of an exception, when it is sent NMIs until it says something of one."""
        sent, deadline = 0, time.monotonic() + BOOT
        # That is the end of what it says. Before it has handlers no NMI is answered.
        while not self.has_said('Find image based on IP'):
            check(time.monotonic() < deadline, f'after {sent} NMIs it has not answered')
            self.nmi()
            sent += 1
        return re.findall(r'!!!! .* Exception Type .*!!!!', '\n'.join(self.said))


def firmware_test():
    answers = []
    for accelerator in 'tcg', 'kvm':
        def answers_nmi():
            here = Firmware(accelerator)
            try:
                answers.append(here.answer())
            finally:
                here.end()
            check('Exception Type - 02' in ' '.join(answers[-1]), f'it tells another exception: {answers[-1]}')
            check(answers[-1] == answers[0], f'it says {answers[-1]}, but without KVM {answers[0]}')
        yield f'OVMF by {accelerator} answers an NMI with its registers', answers_nmi
