# SPDX-License-Identifier: GPL-2.0-only
"""The CPU of "make strict-cpu", asked by a guest of its own without KVM."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import qemu
from records import AMD_STRICT, AMD_STRICT_VNMI

STRICT = Path(__file__).resolve().parent / 'strict'
TIMEOUT = 300

# With which of them left out which claims fail.
RULES = {'nextrip': 'NextRIP is', 'nextrip-inject': 'returns to NextRIP', 'rubbish': 'is rubbish',
         'int3': 'INT 3 is|NextRIP is after',
         'event-type': 'INT3 is an exception|NextRIP is after|EXITINTINFO has the NMI|says nothing of the mask',
         'vnmi-mask': 'waits while NMIs are masked|an IRET unmasks|IRET that faults',
         'vnmi-shadow': 'end of the interrupt shadow|INTn in the shadow',
         'vnmi-first': 'leaves IF set',
         'vnmi-inject': 'an NMI that is injected masks|says nothing of the mask',
         'vnmi-abort': 'while V_NMI is delivered|says nothing of the mask',
         'vnmi-intercept': 'without the NMI intercept', 'vnmi-iret': 'an IRET unmasks',
         'decode-assists': "EXITINFO1 has its|15.8.4",
         'canonical': 'not canonical|whose frame ends there',
         'event-rf': 'pushes no RF|nor does an NMI', 'db-dr7': '#DB that is intercepted',
         'tlb': 'is kept|leaves those of others',
         'event-mode': 'no such vector|vector that is|BOUND is to|INTO is to', 'refused': 'VMRUN refuses',
         'nested-paging': 'paging begins|PAT has a'}

EVENT_RESERVED, FIRST_RUN, FAILED_RUN, TLB_RESERVED = 100, 101, 102, 103


def fields():
    """What strict.c has in its table: (clean bit, offset, name)."""
    table = re.findall(r'\{ (\d+), (0x[0-9a-f]+), \d, "([\w.]+)" \}', (STRICT / 'strict.c').read_text())
    return [(int(clean), int(offset, 16), name) for clean, offset, name in table]


@unittest.skipUnless(qemu.STRICT.exists(), 'the CPU of the hosts amd-strict is not built: make strict-cpu')
class StrictCpu(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix='strict-')
        cls.addClassCleanup(cls.folder.cleanup)
        subprocess.run(['make', '-s', '-C', STRICT / 'bare', f'OUTPUT={cls.folder.name}'], check=True)

    def boot(self, host=AMD_STRICT_VNMI, arguments='all', **environment):
        names = {f'KVM_NMI_STRICT_{name.upper()}': value for name, value in environment.items()}
        done = subprocess.run(
            [*map(str, qemu.program(host)), '-accel', 'tcg', '-cpu', host.cpu, '-m', '64', '-display', 'none',
             '-nodefaults', '-no-reboot', '-serial', 'stdio', '-device', 'isa-debug-exit,iobase=0xf4,iosize=4',
             '-kernel', f'{self.folder.name}/bare', '-append', arguments],
            env={**os.environ, **names}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)
        return done.returncode, done.stdout.replace('\r', ''), done.stderr

    def failed(self, *args, **environment):
        status, said, errors = self.boot(*args, **environment)
        self.assertRegex(said, r'(?m)^1\.\.\d+$', errors)
        failed = re.findall(r'^not ok \d+ (.*)', said, re.M)
        self.assertEqual(status, 3 if failed else 1)
        return failed

    def test_claims(self):
        """all that the manual promises holds, with vNMI and without"""
        for host in AMD_STRICT, AMD_STRICT_VNMI:
            self.assertEqual(self.failed(host), [])

    def test_lax(self):
        """a CPU on which a rule does not hold fails the claim about it"""
        for rule, claim in RULES.items():
            with self.subTest(rule):
                failed = self.failed(lax=rule)
                self.assertTrue(failed)
                self.assertEqual([text for text in failed if not re.search(claim, text)], [])

    def test_seed(self):
        """rubbish repeats with its seed, and differs with another"""
        seen = [re.findall('rubbish is (.*)', self.boot(seed=seed)[1]) for seed in ('5', '5', '6')]
        self.assertEqual(seen[0], seen[1])
        self.assertNotEqual(seen[0], seen[2])

    def violate(self, offset, clean, **environment):
        status, said, errors = self.boot(arguments=f'violate {offset} {clean}', **environment)
        vmrun = re.search(r'# vmrun (\w+)', said)
        self.assertTrue(vmrun, said + errors)
        return status, said, errors, f'; VMRUN at rip 0x{vmrun[1]} of CPU 0, VMCB 0x'

    def test_clean_bits(self):
        """each field changed under its clean bit ends the machine with the field, its values, the VMRUN"""
        for clean, offset, name in fields():
            with self.subTest(name):
                status, said, errors, where = self.violate(offset, clean)
                self.assertEqual(status, 125, said + errors)
                self.assertRegex(errors, rf'^strict: clean: {re.escape(name)} is \w+ and was \w+, '
                                         rf'but clean bit {clean} is set{where}\w+\n$')

    def test_first_run(self):
        """clean bits of a VMCB that has not run end the machine"""
        status, _, errors, where = self.violate(0, FIRST_RUN)
        self.assertEqual(status, 125)
        self.assertIn('strict: clean: clean bits 0x1 of a VMCB that has not run yet' + where, errors)

    def test_failed_run(self):
        """a VMRUN that fails brings nothing up to date: clean bits after it end the machine"""
        status, _, errors, where = self.violate(0, FAILED_RUN)
        self.assertEqual(status, 125)
        self.assertIn('strict: clean: intercept_exceptions is 0x1 and was 0x0, but clean bit 0 is set' + where, errors)

    def test_tlb_reserved(self):
        """a reserved value of TLB_CONTROL ends the machine"""
        status, _, errors, where = self.violate(0, TLB_RESERVED)
        self.assertEqual(status, 125)
        self.assertIn('strict: tlb: TLB_CONTROL is 0x2, which is reserved' + where, errors)

    def test_event_reserved(self):
        """reserved bits in EVENTINJ end the machine"""
        status, _, errors, where = self.violate(0, EVENT_RESERVED)
        self.assertEqual(status, 125)
        self.assertIn('strict: eventinj: reserved bits in event_inj 0x80001202' + where, errors)

    def test_lax_violations(self):
        """where the rules do not hold nothing happens"""
        for clean, rule in (0, 'clean'), (FIRST_RUN, 'clean'), (EVENT_RESERVED, 'eventinj'):
            _, said, errors, _ = self.violate(0, clean, lax=rule)
            self.assertIn('nothing has happened', said)
            self.assertEqual(errors, '')

    def test_patches(self):
        """what the CPU is made of is written as patches that QEMU's source takes, in QEMU's form"""
        written = qemu.STRICT.parent / 'patches'
        done = subprocess.run([STRICT / 'patches'], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ''), done.stdout)
        text = [path.read_text() for path in sorted(written.glob('*.patch'))]
        self.assertEqual(len(text), 5)
        for patch in text:
            self.assertRegex(patch, r'(?m)^Subject: \[PATCH \d/5\] target/i386/tcg: \S')
            self.assertRegex(patch, r'(?m)^Signed-off-by: ')
            self.assertNotRegex(patch, r'(?m)^\+.*\t')
