# SPDX-License-Identifier: GPL-2.0-only
"""nmi-guest builds, says of QEMU's TCG what is known of it, and its page is what its
results make it."""

import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[3]
GUEST = ROOT / 'tools/nmi-guest'
sys.path.insert(0, str(GUEST))

sys.path.insert(0, str(ROOT / 'tools/testing/hosts'))

import results
import xen
from as_module import as_module

matrix = as_module(GUEST / 'matrix')

HUNG = """\
TAP version 13
# CPU: One, two, family 0xf
1..3
# 1: first [SDM 3: One]
# seen: this
ok 1 - first
# 2: second [SDM 3: Two]
# half a
TAP version 13
# CPU: One, two, family 0xf
1..3
# 3: third [SDM 3: Three]
ok 3 - third # SKIP no such thing
# cycles, all: min 1, median 2, p99 3, max 4
# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:1 error:0
"""


def unexpected(name, run, faults):
    """What differs from the table of known faults, a line each."""
    for result in run.results.values():
        reason = faults.reason(name, result.claim)
        if result.outcome == 'failed' and not reason:
            yield f'{name}: {result.claim}: ' + ' / '.join(result.comments)
        elif result.outcome == 'passed' and reason:
            yield f'{name}: {result.claim}: holds, though it is listed as failing: {reason}'


def environment_of(run):
    """The kept environment of this series of QEMU."""
    series = re.search(r'version (\d+\.\d+)', run.facts['emulator']).group(1)
    return f'tcg-amd-{series}'


class ResultsTest(unittest.TestCase):
    def test_boot_that_hangs(self):
        """a claim at which a boot ends has failed, and the next boot goes on behind it"""
        run = results.parse(HUNG)
        self.assertTrue(run.complete())
        self.assertEqual([run.results[n].outcome for n in (1, 2, 3)], ['passed', 'failed', 'skipped'])
        self.assertEqual(run.results[1].seen(), ['this'])
        self.assertEqual(run.results[3].reason, 'no such thing')
        self.assertEqual(run.cycles, {'all': 'min 1, median 2, p99 3, max 4'})
        self.assertEqual(run.facts, {'CPU': 'One, two, family 0xf'})

    def test_one_of_many_boots(self):
        """what is kept reads as what was printed"""
        run = results.parse(HUNG)
        self.assertEqual(results.parse(results.tap(run)).results.keys(), run.results.keys())
        self.assertEqual(results.tap(results.parse(results.tap(run))), results.tap(run))

    def test_early_end(self):
        """a boot that ends before its last claim is not complete"""
        self.assertFalse(results.parse(HUNG.partition('# 3:')[0]).complete())
        self.assertFalse(results.parse('').complete())


CONSOLE = """\
(XEN) Xen version 4.20.5-pre (Debian 4.20.4+63-g7abfd2bce2-0+deb13u1) (list) (gcc) debug=n Tue Nov  3\r
dom0: Linux 6.12.118+deb13-amd64 #1 SMP Debian 6.12.118-1 (2026-11-20)\r
libxl: error: libxl_dm.c:3607: Domain 1: it failed\r
dom0: the domain cannot be made\r
"""


class XenTest(unittest.TestCase):
    def test_facts(self):
        """the page tells which Xen it was, with which dom0 and where"""
        run = results.parse('# emulator: QEMU 10.0\n' + xen.facts(CONSOLE))
        self.assertEqual(matrix.software(run), 'Xen 4.20.5-pre (Debian 4.20.4+63-g7abfd2bce2-0+deb13u1); '
                                               'dom0 Linux 6.12.118+deb13-amd64; all in QEMU 10.0')
        self.assertEqual(matrix.chart.TITLES[matrix.chart.kind(run)], 'domain of Xen (HVM)')

    def test_problems(self):
        """why there is no domain is told, and is no fact"""
        said = xen.problems(CONSOLE)
        self.assertEqual(said.splitlines(), ['libxl: error: libxl_dm.c:3607: Domain 1: it failed',
                                             'dom0: the domain cannot be made'])
        self.assertEqual(results.parse(said).facts, {})


class MatrixTest(unittest.TestCase):
    def test_page(self):
        """Documentation/nmi-matrix.rst is what tools/nmi-guest/matrix makes"""
        runs, faults = matrix.environments(), matrix.Faults()
        self.assertEqual(matrix.page(runs, faults), matrix.PAGE.read_text())
        self.assertEqual(matrix.picture(runs, faults), matrix.PICTURE.read_text())

    def test_picture(self):
        """the picture has a field for each result, and a name for each group of claims"""
        runs, faults = matrix.environments(), matrix.Faults()
        drawn = xml.etree.ElementTree.fromstring(matrix.picture(runs, faults))
        fields = [field for field in drawn.iter('{http://www.w3.org/2000/svg}rect') if list(field)]
        self.assertEqual(len(fields), sum(len(run.results) for run in runs.values()))
        self.assertEqual(set(matrix.chart.GROUPS) - set(matrix.claims(runs)), set())

    def test_complete(self):
        """each result kept has all claims"""
        for name, run in matrix.environments().items():
            with self.subTest(name):
                self.assertTrue(run.complete())

    def test_faults(self):
        """each failure kept has a reason, and each reason a failure"""
        faults = matrix.Faults()
        runs = matrix.environments()
        failures = {(name, result.claim) for name, run in runs.items()
                    for result in run.results.values() if result.outcome == 'failed'}
        self.assertEqual([failure for failure in sorted(failures) if not faults.reason(*failure)], [])
        for pattern, claim in faults.table:
            with self.subTest(f'{pattern} {claim}'):
                self.assertTrue(any(matrix.fnmatchcase(name, pattern) and claim == failed
                                    for name, failed in failures))


class TcgTest(unittest.TestCase):
    def test_bare_tcg(self):
        """on QEMU's AMD CPU all claims hold but those known to fail there"""
        subprocess.run(['make', '-s', '-C', GUEST, f'OUTPUT={ROOT}/build/nmi-guest', 'VERSION=test'], check=True)
        done = subprocess.run([GUEST / 'run', 'tcg-amd'], text=True, capture_output=True)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        run = results.parse(done.stdout)
        self.assertEqual(list(unexpected(environment_of(run), run, matrix.Faults())), [])
        # Two in three: what fails is known, and not the most.
        passed = sum(result.outcome == 'passed' for result in run.results.values())
        self.assertGreater(passed, 2 * len(run.results) / 3)


if __name__ == '__main__':
    unittest.main()
