# SPDX-License-Identifier: GPL-2.0-only
"""Firmware that is sent NMIs answers one."""

import re
import time

from machine import BOOT, LONG, Qemu, check

OVMF = '/usr/share/ovmf/OVMF.fd'
PAUSE = 0.5     # s. NMIs without one are in the way of the start that they wait for.


def answer(accelerator):
    """What it says of an exception, when it is sent NMIs until it says something of one."""
    firmware = Qemu('-bios', OVMF, cpus=1, memory=128, accelerator=accelerator)
    sent, deadline = 0, time.monotonic() + BOOT
    # That is the end of what it says. Before it has handlers no NMI is answered.
    while not firmware.has_said('Find image based on IP'):
        check(time.monotonic() < deadline, f'after {sent} NMIs it has not answered')
        firmware.nmi()
        sent += 1
        time.sleep(PAUSE)
    firmware.end()
    return re.findall(r'!!!! .* Exception Type .*!!!!', '\n'.join(firmware.said))


def firmware_test():
    def answers_nmi():
        told = answer('kvm')
        check('Exception Type - 02' in ' '.join(told), f'it tells another exception: {told}')
        if LONG:
            alone = answer('tcg')
            check(told == alone, f'it says {told}, but without KVM {alone}')
    yield 'OVMF answers an NMI with its registers' + (', as it does without KVM' if LONG else ''), answers_nmi
