# SPDX-License-Identifier: GPL-2.0-only
"""Firmware that is sent NMIs: with KVM it answers as on the emulated CPU alone."""

import re
import time

from machine import BOOT, Qemu, check

OVMF = '/usr/share/ovmf/OVMF.fd'


def answer(firmware):
    """What it says of an exception, when it is sent NMIs until it says something of one."""
    sent, deadline = 0, time.monotonic() + BOOT
    # That is the end of what it says. Before it has handlers no NMI is answered.
    while not firmware.has_said('Find image based on IP'):
        check(time.monotonic() < deadline, f'after {sent} NMIs it has not answered')
        firmware.nmi()
        sent += 1
    return re.findall(r'!!!! .* Exception Type .*!!!!', '\n'.join(firmware.said))


def firmware_test():
    answers = []
    for accelerator in 'tcg', 'kvm':
        def answers_nmi():
            here = Qemu('-bios', OVMF, cpus=1, memory=128, accelerator=accelerator)
            try:
                answers.append(answer(here))
            finally:
                here.end()
            check('Exception Type - 02' in ' '.join(answers[-1]), f'it tells another exception: {answers[-1]}')
            check(answers[-1] == answers[0], f'it says {answers[-1]}, but without KVM {answers[0]}')
        yield f'OVMF by {accelerator} answers an NMI with its registers', answers_nmi
