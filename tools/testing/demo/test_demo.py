# SPDX-License-Identifier: GPL-2.0-only
"""tools/demo/demo believes only what the guest says."""

import contextlib
import importlib.machinery
import importlib.util
import io
import os
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

PROGRAM = Path(__file__).resolve().parents[2] / 'demo/demo'
loader = importlib.machinery.SourceFileLoader('demo', str(PROGRAM))
demo = importlib.util.module_from_spec(importlib.util.spec_from_loader('demo', loader))
loader.exec_module(demo)

# The demo has made the folder of the hosts known.
import programs

COUNT = 'NMI:          {}   Non-maskable interrupts'


class Demo(unittest.TestCase):
    def verdict(self, counted, status=0):
        """(last line or message, exit status) of a run that ended so."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name, 'build/1.2').mkdir(parents=True)
        out = io.TextIOWrapper(io.BytesIO())
        with mock.patch.object(demo, 'run_in_host', return_value=(status, counted)), \
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
                 mock.patch.object(demo, 'Kernel') as image, mock.patch.object(demo, 'write_initramfs'), \
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

    def test_initramfs(self):
        """the guest's initramfs holds its init and a busybox, both to be run"""
        with tempfile.TemporaryDirectory() as folder:
            initrd = Path(folder, 'initrd')
            demo.write_initramfs(initrd, Path(folder, 'root'))
            listing = subprocess.run(['cpio', '-itv', '--quiet'], input=initrd.read_bytes(), check=True,
                                     stdout=subprocess.PIPE).stdout.decode()
        files = {line.split()[-1]: line.split()[0] for line in listing.splitlines()}
        self.assertEqual(set(files), {'bin', 'dev', 'proc', 'bin/busybox', 'init'})
        self.assertEqual((files['init'], files['bin/busybox']), ('-rwxr-xr-x', '-rwxr-xr-x'))


if __name__ == '__main__':
    unittest.main()
