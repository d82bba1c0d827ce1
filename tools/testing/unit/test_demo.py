# SPDX-License-Identifier: GPL-2.0-only
"""tools/demo/demo believes only what the guest says."""

import contextlib
import io
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from as_module import as_module

PROGRAM = Path(__file__).resolve().parents[2] / 'demo/demo'
demo = as_module(PROGRAM)

# The demo has made the folder of the hosts known.
import programs

COUNT = 'NMI:          {}   Non-maskable interrupts'


class Demo(unittest.TestCase):
    def verdict(self, counted, status=0, still=0):
        """(last line or message, exit status) of a run that ended so, after some that stood still."""
        runs = [(125, None, True)] * still + [(status, counted, False)]
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name, 'build/1.2').mkdir(parents=True)
        out = io.TextIOWrapper(io.BytesIO())
        with mock.patch.object(demo, 'run_in_host', side_effect=runs), \
             mock.patch.object(demo, 'show_timeline', return_value=0), \
             mock.patch.object(demo, 'ROOT', Path(folder.name)), \
             mock.patch.dict(os.environ, KVER='1.2'), contextlib.redirect_stdout(out):
            try:
                result = demo.main()
            except SystemExit as error:
                return error.code, 1
        out.seek(0)
        return out.read().splitlines()[-1], result

    def test_count(self):
        """the demo succeeds with three NMIs, with no other number"""
        self.assertEqual(self.verdict(COUNT.format(3)), ('demo: guest counted 3 of 3 NMIs', 0))
        for count in 0, 2, 4:
            self.assertEqual(self.verdict(COUNT.format(count)), (f'demo: guest counted {count} of 3 NMIs', 1))

    def test_stands_still(self):
        """a host that stands still is started anew, twice and no more"""
        self.assertEqual(self.verdict(COUNT.format(3), still=2), ('demo: guest counted 3 of 3 NMIs', 0))
        said, status = self.verdict(COUNT.format(3), still=3)
        self.assertIn('did not come up', said)
        self.assertEqual(status, 1)

    def test_silence(self):
        """a run counts as standing still if it failed after a long silence, not if it crashed"""
        for status, silence, still in (125, 121, True), (125, 1, False), (0, 121, False):
            with tempfile.TemporaryDirectory() as folder, mock.patch.object(demo, 'Kernel') as image, \
                 mock.patch.object(demo, 'initramfs', return_value=b''), \
                 mock.patch.object(demo.subprocess, 'Popen') as start, \
                 mock.patch.object(demo.time, 'monotonic', side_effect=[0, 0, silence]), \
                 contextlib.redirect_stdout(io.StringIO()):
                image.return_value.vmlinuz = Path('/vmlinuz')
                run = start.return_value.__enter__.return_value
                run.stdout, run.returncode = ['guest: ' + COUNT.format(0)], status
                with mock.patch.object(demo, 'say'):
                    self.assertEqual(demo.run_in_host('amd', '1.2', Path(folder, 'trace'))[2], still)

    def test_hosts(self):
        """there is a demo on a host of each vendor, and on no other"""
        with mock.patch.dict(os.environ, HOST='vax'):
            self.assertEqual(self.verdict(COUNT.format(3)),
                             ('demo: there is no demo on a host vax, only on amd and intel', 1))
        for host in demo.HOSTS:
            with mock.patch.dict(os.environ, HOST=host):
                self.assertEqual(self.verdict(COUNT.format(3))[1], 0)

    def test_command(self):
        """a host gets the kernel that it can start in time, and all that QEMU reads"""
        for host, kernel in ('amd', 'vmlinuz'), ('intel', 'vmlinux'):
            with tempfile.TemporaryDirectory() as folder, \
                 mock.patch.object(demo, 'Kernel') as image, mock.patch.object(demo, 'initramfs', return_value=b''), \
                 mock.patch.object(demo.subprocess, 'Popen') as start, contextlib.redirect_stdout(io.StringIO()):
                image.return_value.vmlinuz = Path('/vmlinuz')
                image.return_value.vmlinux.return_value = Path('/vmlinux')
                start.return_value.__enter__.return_value.stdout = []
                demo.run_in_host(host, '1.2', Path(folder, 'trace'))
            words = [str(word) for word in start.call_args[0][0]]
            self.assertEqual(words[1], host)
            self.assertIn(f'/{kernel}', words)
            needed = [words[i + 1] for i, word in enumerate(words) if word == '--needs']
            self.assertEqual([name for name in needed if not programs.find(name)], [])
            self.assertTrue(needed)

    def test_interrupted(self):
        """a demo that is interrupted ends its host, too, and leaves no files"""
        def interrupted():
            raise KeyboardInterrupt
            yield

        with tempfile.TemporaryDirectory() as folder, \
             mock.patch.object(demo.tempfile, 'tempdir', folder), \
             mock.patch.object(demo, 'Kernel') as image, mock.patch.object(demo, 'initramfs', return_value=b''), \
             mock.patch.object(demo.subprocess, 'Popen') as start, contextlib.redirect_stdout(io.StringIO()):
            image.return_value.vmlinuz = Path('/vmlinuz')
            run = start.return_value.__enter__.return_value
            run.stdout = interrupted()
            with self.assertRaises(KeyboardInterrupt):
                demo.run_in_host('amd', '1.2', Path(folder, 'trace'))
            run.terminate.assert_called_once_with()
            self.assertEqual(os.listdir(folder), ['trace'])

    def test_failed_host(self):
        """three NMIs on a host that failed are no success"""
        for counted in COUNT.format(3), None:
            said, status = self.verdict(counted, status=125)
            self.assertIn('see above', said)
            self.assertEqual(status, 1)

    def test_listener(self):
        """the guest's last count is taken, nobody else's, and the trace is kept apart"""
        trace, out = io.StringIO(), io.StringIO()
        listener = demo.Listener(trace)
        with contextlib.redirect_stdout(out):
            for line in ('guest: ' + COUNT.format(1), 'guest: ' + COUNT.format(3), 'host: ' + COUNT.format(7),
                         'guest: [    4.6] Uhhuh. NMI received', 'trace:  qemu-7 [000] 1.0: kvm_nmi: x', 'trace: '):
                listener.line(line + '\n')
        self.assertEqual(listener.counted, COUNT.format(3))
        self.assertEqual(trace.getvalue(), ' qemu-7 [000] 1.0: kvm_nmi: x\n\n')
        self.assertEqual(len(out.getvalue().splitlines()), 4)


if __name__ == '__main__':
    unittest.main()
