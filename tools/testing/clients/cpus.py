# SPDX-License-Identifier: GPL-2.0-only
"""A guest takes NMIs while its vCPUs move and CPUs of the host go and come; a module does, too."""

import itertools
import os
import re
import subprocess
import time
from pathlib import Path

from machine import AT_END, BOOT, HOST_CPUS, Guest, check, load, meanwhile
from monitor import backtraces, busy

CPU1 = Path('/sys/devices/system/cpu/cpu1/online')
ROUNDS, LOADS = 3, 50


def storm(here):
    """The monitor's NMIs, one at a time, and sysrq-l in between. All have to be counted."""
    for _ in range(ROUNDS):
        backtraces(here, 1)
        for _ in range(10):
            before = here.nmis()[0]
            here.nmi()
            here.counts(before + 1)


def other_cpu():
    for online in '0', '1':
        CPU1.write_text(online)
        time.sleep(0.2)


def cpus_test():
    here = Guest().booted()
    busy(here)
    places = itertools.cycle([(0, 1), (1, 0), (1, 1), (0, 0)])

    def move():
        for thread, cpu in zip(vcpus, next(places)):
            os.sched_setaffinity(thread, {HOST_CPUS[cpu]})
        time.sleep(0.01)

    def moved():
        with meanwhile(move):
            storm(here)
        for thread in vcpus:
            os.sched_setaffinity(thread, HOST_CPUS)
    vcpus = here.threads()
    yield 'while its vCPUs are moved between CPUs a guest loses no NMI', moved

    def hotplug():
        AT_END.callback(CPU1.write_text, '1')
        with meanwhile(other_cpu):
            storm(here)
    yield 'while a CPU of the host goes offline and comes back a guest loses no NMI', hotplug
    here.end()

    def reload():
        for _ in range(LOADS):
            load()
            done = subprocess.run(['./nmi_no_irqchip_test'], stdout=subprocess.PIPE, text=True, timeout=BOOT)
            cases = re.search(r'(?m)^1\.\.(\d+)$', done.stdout)
            check(not done.returncode and cases and done.stdout.count('\nok ') == int(cases[1]),
                  f'after it was loaded anew: {done.stdout}')
    yield f'loaded anew {LOADS} times, with VMs in between, the module works each time', reload
