# SPDX-License-Identifier: GPL-2.0-only
"""The host runner without an emulator: verdicts on recorded console logs, the
watch over an emulator that a script stands in for, and what a host is handed."""

import contextlib
import io
import json
import lzma
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path[:0] = str(HERE), str(HERE.parent / 'unit')

import bochs
import bootdisk
import kernel
import nested
import programs
import qemu
import session
import snapshot
from as_module import as_module
from process import HostError, NotHere, OwnTime, emulator
from records import HOSTS
from verdict import COMPLAINT, judge

TOKEN = 'verdict-0123456789abcdef'

runner = as_module(HERE / 'run')


def recorded(name):
    return (HERE / f'recorded/{name}.console').read_text()


class Folder(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)


class VerdictTest(unittest.TestCase):
    def test_taint_lines_are_no_complaint(self):
        self.assertEqual(judge(recorded('passed'), TOKEN).status, 0)

    def test_status_of_the_command_comes_back(self):
        log = recorded('passed').replace('exit 0', 'exit 42')
        self.assertEqual(judge(log, TOKEN).status, 42)

    def test_serial_line_ends_do_not_matter(self):
        log = recorded('passed').replace('\n', '\r\r\n')
        self.assertEqual(judge(log, TOKEN).status, 0)

    def failure(self, log, limit=None, below=''):
        verdict = judge(log, TOKEN, limit, below)
        self.assertEqual(verdict.status, 125)
        return verdict.reason

    def test_complaints_outweigh_success(self):
        for name, words in (('warning', 'WARNING: CPU: 0 PID: 129'),
                            ('oops', 'BUG: kernel NULL pointer dereference'),
                            ('bug', 'kernel BUG at')):
            with self.subTest(name):
                self.assertIn(words, self.failure(recorded(name) + f'{TOKEN} exit 0\n'))

    def test_a_complaint_is_quoted_to_its_end(self):
        for name, first, last in (('warning', 'WARNING: CPU: 0', 'entry_SYSCALL_64_after_hwframe'),
                                  ('bug', 'kernel BUG at', 'entry_SYSCALL_64_after_hwframe')):
            with self.subTest(name):
                reason = self.failure(recorded(name) + '[    9.9] something else\n' * 50)
                self.assertIn(first, reason.splitlines()[0])
                self.assertIn(last, reason)
                self.assertNotIn('something else', reason)
        self.assertLessEqual(len(self.failure('[    9.9] WARNING: one\n' + 'more\n' * 99).splitlines()), 40)

    def test_a_truncated_verdict_is_none(self):
        self.assertIn('crashed', self.failure(recorded('truncated')))

    def test_a_hang_tells_the_limit_and_the_last_line(self):
        reason = self.failure(recorded('hung'), limit=6)
        self.assertIn("hung: nothing printed for 6 s of the emulator's own time", reason)
        self.assertIn('SVM: PMU virtualization is disabled', reason)

    def test_a_host_that_its_own_qemu_has_paused_says_why(self):
        verdict = judge(recorded('hung'), TOKEN, 6, said='KVM internal error. Suberror: 3\nextra data\n')
        self.assertIn('its QEMU said: KVM internal error. Suberror: 3; its QEMU said: extra data', verdict.reason)

    def test_a_rule_broken_on_the_strict_cpu_is_the_hosts_failure(self):
        said = 'qemu: some warning\nstrict: clean: cr0 is 0x1 and was 0x2\n'
        for log in recorded('passed'), recorded('truncated'):
            verdict = judge(log, TOKEN, emulator=said)
            self.assertEqual(verdict.status, 125)
            self.assertIn('a rule is broken: clean: cr0 is 0x1 and was 0x2', verdict.reason)
        self.assertEqual(judge(recorded('passed'), TOKEN, emulator='qemu: some warning\n').status, 0)

    def test_an_empty_log_is_a_crash(self):
        self.assertIn('last console line: none', self.failure(''))

    def test_another_runs_verdict_does_not_count(self):
        self.assertIn('crashed', self.failure('verdict-fedcba9876543210 exit 0\n'))

    def test_the_guests_own_reason_is_passed_on(self):
        self.assertEqual(self.failure(f'{TOKEN} failed kvm_amd has version none, expected 1.0\n'),
                         'kvm_amd has version none, expected 1.0')

    def test_complaints_of_the_host_below_count(self):
        self.assertIn('the kernel of the host below complained: [',
                      self.failure(recorded('passed'), below=recorded('warning')))
        self.assertEqual(judge(recorded('passed'), TOKEN, below=recorded('passed')).status, 0)

    def test_the_host_below_may_say_why_there_is_no_verdict(self):
        self.assertIn('the host below reports failed kvm_amd',
                      self.failure('', below=f'{TOKEN} failed kvm_amd has version none\n'))
        self.assertIn('crashed', self.failure('', below='[    1.0] booting\n'))

    def test_nonsense_after_the_token_is_no_success(self):
        for text in 'exit', 'exit -1', 'exit 0x0', 'done':
            with self.subTest(text):
                self.assertIn('not understood', self.failure(f'{TOKEN} {text}\n'))

    def test_kernel_reports(self):
        for line in ('[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!',
                     '[    1.0] unchecked MSR access error: RDMSR from 0x12345 at rIP: 0xf',
                     '[    1.0][  T12] general protection fault, probably for non-canonical address',
                     '[    1.0] rcu: INFO: rcu_preempt self-detected stall on CPU',
                     '[    1.0] kvm_amd: disagrees about version of symbol kvm_set_cr0',
                     '[    1.0] Uhhuh. NMI received for unknown reason 20 on CPU 0.',
                     '[    1.0] BUG: KASAN: use-after-free in svm_inject_nmi+0x12/0x80 [kvm_amd]',
                     '[    1.0] UBSAN: shift-out-of-bounds in vmx/nmi.c:12:3',
                     '[    1.0] BUG: sleeping function called from invalid context at mm/slab.h:494',
                     '[    1.0] BUG: using smp_processor_id() in preemptible [00000000] code: a/1',
                     '[    1.0] BUG: scheduling while atomic: a/1/0x00000002',
                     '[    1.0] WARNING: possible circular locking dependency detected',
                     '[    1.0] WARNING: suspicious RCU usage',
                     '[    1.0] INFO: trying to register non-static key.',
                     '[    1.0] INFO: lockdep is turned off.',
                     '[    1.0] DEBUG_LOCKS_WARN_ON(lockdep_hardirqs_enabled())',
                     '[    1.0] ODEBUG: free active (active state 0) object type: hrtimer hint: 0x0'):
            with self.subTest(line):
                self.assertTrue(COMPLAINT.match(line))

    def test_reports_about_programs_and_guests_are_none(self):
        for line in ('[    1.0] traps: test[130] general protection fault ip:401136 sp:7ffd error:0',
                     '[    1.0] kvm_amd: loading out-of-tree module taints kernel.',
                     '[    1.0] kvm: SMP vm created on host with unstable TSC',
                     '[    1.0] This is not a BUG: really'):
            with self.subTest(line):
                self.assertFalse(COMPLAINT.match(line))


class RelayTest(Folder):
    """The watch over the emulator; here it is a shell script that writes the two ports."""

    def watch(self, script, limit=60, consoles=('console',)):
        for name in *consoles, 'output':
            (self.folder / name).touch()
        said = io.BytesIO()
        with mock.patch('sys.stdout', SimpleNamespace(buffer=said)), \
                emulator(['sh', '-c', script], self.folder / 'said', cwd=self.folder) as process:
            started = time.monotonic()
            late = runner.relay(process, self.folder / 'output', [self.folder / name for name in consoles],
                                TOKEN, limit)
        return late, said.getvalue(), time.monotonic() - started

    def test_output_comes_through_unchanged_up_to_the_verdict(self):
        late, said, _ = self.watch(f"printf 'a\\377\\r\\n' >output; echo '{TOKEN} exit 0' >console; sleep 99")
        self.assertEqual((late, said), (False, b'a\xff\r\n'))

    def test_the_last_output_of_an_emulator_that_ends_is_not_lost(self):
        late, said, _ = self.watch('printf end >output')
        self.assertEqual((late, said), (False, b'end'))

    def test_a_panic_is_not_waited_out(self):
        late, _, seconds = self.watch("echo '[ 1.0] ---[ end Kernel panic - not syncing: x ]---' >console; sleep 99")
        self.assertFalse(late)
        self.assertLess(seconds, 50)

    def test_a_hang_ends_at_the_limit(self):
        for hang in 'sleep 99', 'while :; do :; done':
            with self.subTest(hang):
                late, said, _ = self.watch(f'printf begun >output; {hang}', limit=3)
                self.assertEqual((late, said), (True, b'begun'))

    def test_what_goes_on_printing_does_not_hang(self):
        late, said, _ = self.watch('for i in 1 2 3 4 5 6; do sleep 0.5; printf . >>output; done', limit=1)
        self.assertEqual((late, said), (False, b'......'))

    def test_a_kernel_that_repeats_its_complaint_hangs(self):
        late, _, _ = self.watch("while sleep 0.5; do echo '[ 1.0] rcu: INFO: rcu_preempt self-detected stall on "
                                "CPU' >>console; done", limit=3)
        self.assertTrue(late)

    def test_waiting_for_a_cpu_is_not_the_emulators_time(self):
        cpu = str(min(os.sched_getaffinity(0)))
        busy = [subprocess.Popen(['taskset', '-c', cpu, 'sh', '-c', 'while :; do :; done']) for _ in range(4)]
        try:
            with emulator(['taskset', '-c', cpu, 'nice', 'sh', '-c', 'while :; do :; done'],
                          self.folder / 'said') as process:
                clock, started = OwnTime(process.pid), time.monotonic()
                for _ in range(30):
                    time.sleep(0.1)
                    had = clock.seconds()
                self.assertLess(had, (time.monotonic() - started) / 2)
                self.assertGreater(had, 0)
        finally:
            for process in busy:
                process.kill()
                process.wait()

    def test_the_host_below_ends_last(self):
        late, said, _ = self.watch(f"echo '{TOKEN} exit 0' >console; sleep 0.3; printf late >output; "
                                   f"echo '{TOKEN} exit 0' >below; sleep 99", consoles=('console', 'below'))
        self.assertEqual((late, said), (False, b'late'))

    def test_no_emulator_is_left_behind(self):
        with emulator(['sleep', '9'], self.folder / 'said') as process:
            pass
        self.assertIsNotNone(process.returncode)

    def test_a_missing_emulator_is_named(self):
        with self.assertRaisesRegex(HostError, 'no-such-emulator is missing'), \
                emulator(['no-such-emulator'], self.folder / 'said'):
            pass


class StrictCpuTest(unittest.TestCase):
    def test_without_the_cpu_a_host_says_what_to_do_and_others_do_not_mind(self):
        with mock.patch('qemu.STRICT', Path('/nonexistent')):
            with self.assertRaisesRegex(HostError, '/nonexistent is missing: run make strict-cpu$'):
                qemu.program(HOSTS['amd-strict'])
            self.assertEqual(qemu.program(HOSTS['amd']), ['qemu-system-x86_64'])


class CommandLineTest(unittest.TestCase):
    def test_bad_usage_is_told_from_the_commands_status(self):
        for arguments in ['amd'], ['vax', '--', 'true'], ['amd', '--shell', '--', 'true'], \
                ['amd', '--cpus', 'x', '--', 'true'], ['amd', 'true'], ['amd', '--'], \
                ['intel', '--over', '/', '--', 'true'], ['amd-vnmi', '--keep', '/', '--', 'true']:
            with self.subTest(arguments), contextlib.redirect_stderr(io.StringIO()), \
                    self.assertRaises(SystemExit) as end:
                runner.parse(arguments)
            self.assertEqual(end.exception.code, 125)

    def test_everything_behind_the_dashes_is_the_command(self):
        options = runner.parse(['intel', '--stock', '--', 'ls', '--stock', '--', 'a b'])
        self.assertEqual(options.command, ['ls', '--stock', '--', 'a b'])
        self.assertEqual(session.shell_text(options.command), "ls --stock -- 'a b'")
        self.assertEqual(session.shell_text(['exit 3; true']), 'exit 3; true')


class SessionTest(Folder):
    def test_a_reading_is_not_expected_where_the_user_decides(self):
        def expected(host, stock=False, param=()):
            return session.expected_readings(HOSTS[host], SimpleNamespace(stock=stock, param=param))

        self.assertEqual(expected('amd-vnmi'), ['vnmi=Y'])
        self.assertEqual(expected('amd-vnmi', param=['nested=0']), ['vnmi=Y'])
        self.assertEqual(expected('amd-vnmi', param=['vnmi=0']), [])
        self.assertEqual(expected('amd-vnmi', stock=True), [])
        self.assertEqual(expected('amd'), [])

    def test_unknown_parameters_are_refused(self):
        with mock.patch('session.module_field', return_value='vnmi:bool\nnested:int'):
            session.check_parameters('kvm-amd.ko', ['vnmi=0'])
            with self.assertRaisesRegex(HostError, 'no parameter vnni; it has nested, vnmi'):
                session.check_parameters('kvm-amd.ko', ['vnni=0'])

    def test_a_module_without_version_is_not_ours(self):
        (self.folder / 'kvm-amd.ko').touch()
        tree = SimpleNamespace(folder=self.folder, kver='6.1')
        with mock.patch('session.module_field', return_value='none'), \
                self.assertRaisesRegex(HostError, 'has no version'):
            session.vendor_module(HOSTS['amd'], tree, stock=False)
        with self.assertRaisesRegex(HostError, 'kvm-intel.ko is missing: run make KVER=6.1'):
            session.vendor_module(HOSTS['intel'], tree, stock=False)

    def test_guest_scripts_are_valid_in_both_shells(self):
        for script in 'init', 'session', 'reload-module', 'transport-9p', 'transport-disk', 'transport-memory':
            for shell in ['sh'], ['busybox', 'sh']:
                with self.subTest(f'{shell} {script}'):
                    subprocess.run([*shell, '-n', HERE / 'guest' / script], check=True)


class NudgeTest(Folder):
    def test_keys_are_pressed_while_the_block_lasts_and_no_longer(self):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self.folder / 'qmp'))
            server.listen()
            with qemu.nudged(self.folder / 'qmp', 0.01):
                connection, _ = server.accept()
                said = b''
                while said.count(b'send-key') < 3:
                    said += connection.recv(65536)
                connection.sendall(b'{"return": {}}\n')
            with connection, contextlib.suppress(ConnectionResetError):
                while more := connection.recv(65536):
                    said += more
        first, *others = map(json.loads, said.splitlines()[:4])
        self.assertEqual(first['execute'], 'qmp_capabilities')
        self.assertEqual({command['execute'] for command in others}, {'send-key'})

    def test_an_emulator_that_opens_no_monitor_or_ends_is_none_to_wait_for(self):
        with qemu.nudged(self.folder / 'none', 0.01):
            pass
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self.folder / 'qmp'))
            server.listen()
            with qemu.nudged(self.folder / 'qmp', 0.01):
                server.accept()[0].close()
                time.sleep(0.1)


class KernelTest(Folder):
    def test_an_initramfs_holds_its_first_program_and_a_busybox_both_to_be_run(self):
        (self.folder / 'first').write_text('#!/bin/busybox sh\n')
        (self.folder / 'first').chmod(0o755)
        packed = kernel.initramfs(self.folder / 'root', self.folder / 'first', files={'more': 'text'})
        listing = subprocess.run(['cpio', '-itv', '--quiet'], input=packed, check=True,
                                 stdout=subprocess.PIPE).stdout.decode()
        modes = {line.split()[-1]: line.split()[0] for line in listing.splitlines()}
        self.assertEqual((modes['init'], modes['bin/busybox']), ('-rwxr-xr-x', '-rwxr-xr-x'))
        self.assertIn('more', modes)
        self.assertIn('proc', modes)

    def test_a_kernel_is_unpacked_and_its_length_checked(self):
        elf = b'\x7fELF' + bytes(1000)
        packed = lzma.compress(elf)
        for name, length in ('good', len(elf)), ('damaged', len(elf) - 1):
            image = bytearray(3 * 512)
            image[0x1f1] = 2
            struct.pack_into('<II', image, 0x248, 0, len(packed) + 4)
            (self.folder / name).write_bytes(image + packed + struct.pack('<I', length))
        self.assertEqual(kernel.unpack_kernel(self.folder / 'good'), elf)
        with self.assertRaisesRegex(HostError, 'damaged'):
            kernel.unpack_kernel(self.folder / 'damaged')

    def test_a_kernel_without_image_names_the_remedy(self):
        with self.assertRaisesRegex(HostError, 'scripts/fetch-packages .*/9.9/image linux-image-9.9'):
            kernel.Kernel(self.folder, '9.9')

    def test_the_kernel_may_be_with_its_modules(self):
        modules = self.folder / '9.9/image/usr/lib/modules/9.9'
        modules.mkdir(parents=True)
        (modules / 'vmlinuz').touch()
        self.assertEqual(kernel.Kernel(self.folder, '9.9').vmlinuz, modules / 'vmlinuz')

    def test_the_pvh_entry_is_found_among_other_notes(self):
        def note(owner, kind, desc):
            pad = lambda data: data + bytes(-len(data) % 4)
            return struct.pack('<III', len(owner), len(desc), kind) + pad(owner) + pad(desc)

        notes = note(b'GNU\0', 3, b'abcde') + note(b'Xen\0', 6, b'linux\0') \
            + note(b'Xen\0', 18, struct.pack('<Q', 0x1000360))
        header = bytearray(64)
        struct.pack_into('<Q', header, 32, 64)
        struct.pack_into('<HH', header, 54, 56, 1)
        segment = struct.pack('<IIQQQQQQ', 4, 0, 120, 0, 0, len(notes), len(notes), 4)
        self.assertEqual(bootdisk.pvh_entry(bytes(header) + segment + notes), 0x1000360)
        with self.assertRaisesRegex(HostError, 'no PVH entry'):
            bootdisk.pvh_entry(bytes(header) + segment + note(b'Xen\0', 6, b'') + bytes(len(notes)))

    def test_a_memory_image_has_everything_at_its_place(self):
        image = bootdisk.MemoryImage()
        image.put(bootdisk.LOAD + 8, b'kernel')
        image.put(bootdisk.LOAD, b'head')
        address = image.append(b'initrd')
        self.assertEqual(address, bootdisk.LOAD + 4096)
        self.assertEqual(bytes(image[:14]), b'head\0\0\0\0kernel')
        self.assertEqual(bytes(image[4096:]), b'initrd')
        with self.assertRaisesRegex(HostError, 'wants to lie at 0x100000'):
            image.put(1 << 20, b'low')

    def test_the_boot_sector_is_one_sector_without_partitions(self):
        names = 'LOAD', 'PVH_ENTRY', 'COMMAND_LINE', 'INITRD', 'INITRD_SIZE', 'CHUNK', 'CHUNKS'
        sector = bootdisk.assemble(dict.fromkeys(names, 1), self.folder)
        self.assertEqual(len(sector), 512)
        self.assertEqual(sector[446:], bytes(64) + b'\x55\xaa')


class EmulatorTest(Folder):
    def test_the_disk_for_bochs_holds_header_and_archive(self):
        work = self.folder / 'work'
        (work / '.host').mkdir(parents=True)
        (work / '.host/job').write_text('token=x\n' * 5000)
        bochs.write_disk(self.folder / 'disk', work)
        with open(self.folder / 'disk', 'rb') as disk:
            word, blocks = disk.read(bochs.BLOCK).rstrip(b'\0').split()
            archive = disk.read(int(blocks) * bochs.BLOCK)
        self.assertEqual(word, b'payload')
        listed = subprocess.run(['tar', '-t'], input=archive, stdout=subprocess.PIPE, check=True)
        self.assertIn(b'./.host/job\n', listed.stdout)
        self.assertEqual((self.folder / 'disk').stat().st_size, snapshot.DISK_SIZE)

    def test_a_program_comes_with_its_libraries(self):
        programs.copy([programs.find('bash'), programs.find('/etc/passwd')], self.folder)
        copied = {file.name.partition('.')[0] for file in self.folder.rglob('*') if file.is_file()}
        self.assertLessEqual({'bash', 'passwd', 'libc', 'ld-linux-x86-64'}, copied)
        for name in 'no-such-program', '/no/such/file':
            with self.assertRaisesRegex(HostError, f'{name} is not on this machine'):
                programs.find(name)

    def test_files_that_do_not_fit_the_disk_are_refused(self):
        with mock.patch('bochs.DISK_SIZE', 8192), self.assertRaisesRegex(HostError, 'more than the disk'):
            bochs.write_disk(self.folder / 'disk', HERE)

    def saved_configuration(self):
        return ('plugin_ctrl: biosdev=true, usb_uhci=true, serial=true\n'
                'ata0-master: type=disk, path="disk", mode=flat\nlog: bochs.log\nlogprefix: %t\n'
                'com1: enabled=true, mode=file, dev="console"\n'
                'com2: enabled=true, mode=file, dev="output"\n')

    def test_a_saved_configuration_gets_the_runs_paths(self):
        run = SimpleNamespace(folder=Path('/r'), console=Path('/r/console'), port=Path('/dev/pts/7'),
                              interactive=True)
        config = bochs.adapted(self.saved_configuration(), run)
        for line in ('plugin_ctrl: biosdev=true, serial=true, usb_uhci=true',
                     'path="/r/disk"', 'log: /r/bochs.log\n',
                     'mode=file, dev="/r/console"', 'mode=term, dev="/dev/pts/7"'):
            self.assertIn(line, config)
        with self.assertRaisesRegex(HostError, 'matches .* 0 times'):
            bochs.adapted('', run)

    def test_two_runs_at_once_make_one_snapshot(self):
        built = []

        def build(host, tree, cpus, folder):
            built.append(folder)
            time.sleep(0.2)
            folder.mkdir(parents=True)

        def use():
            with snapshot.snapshot(HOSTS['intel'], SimpleNamespace(keep=self.folder, kver='6.1')) as kept:
                self.assertTrue(kept.is_dir())

        def use_twice():
            threads = [threading.Thread(target=use) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        with mock.patch('snapshot.build', build), contextlib.redirect_stderr(io.StringIO()):
            with mock.patch('snapshot.ingredients', return_value='one'):
                use_twice()
                self.assertEqual(len(built), 1)
            with mock.patch('snapshot.ingredients', return_value='another'):
                use_twice()
                self.assertEqual(len(built), 2)

    def test_bochs_says_what_host_it_does_not_have(self):
        heads = {number: f'Bochs x86 Emulator {number}\nSupported CPU models:\n{models}\n'
                 for number, models in (('2.7', 'corei7_haswell_4770'), ('3.0', 'corei7_haswell_4770\narrow_lake'))}
        for number, host, reason in (
                ('2.7', 'intel', None), ('3.0', 'intel-arrow-lake', None),
                ('2.7', 'intel-arrow-lake', 'Bochs x86 Emulator 2.7 has no CPU model arrow_lake')):
            with self.subTest(number=number, host=host), mock.patch('bochs.help_on', return_value=heads[number]), \
                    (self.assertRaises(NotHere) if reason else contextlib.nullcontext()) as refused:
                bochs.must_have(HOSTS[host])
            if reason:
                self.assertEqual(str(refused.exception), f'not on this machine: {reason}')

    def test_a_snapshot_is_for_a_number_of_cpus_and_an_amount_of_memory(self):
        kept = set()
        with mock.patch('snapshot.build', lambda *arguments: arguments[-1].mkdir()), \
                mock.patch('snapshot.ingredients', return_value='some'), contextlib.redirect_stderr(io.StringIO()):
            for memory, cpus in (384, 1), (384, 2), (1024, 2):
                host = replace(HOSTS['intel'], memory=memory)
                with snapshot.snapshot(host, SimpleNamespace(keep=self.folder, kver='6.1'), cpus) as folder:
                    kept.add(folder)
        self.assertEqual(len(kept), 3)

    def test_intel_arrow_lake_is_intel_pml_of_another_model(self):
        self.assertEqual(replace(HOSTS['intel-arrow-lake'], name='intel-pml', cpu=HOSTS['intel-pml'].cpu),
                         HOSTS['intel-pml'])

    def test_intel_soft_is_intel_without_virtual_nmis(self):
        self.assertEqual(set(HOSTS['intel-soft'].params) - set(HOSTS['intel'].params), {'vnmi=0'})
        self.assertEqual(HOSTS['intel-soft'].cpu, HOSTS['intel'].cpu)

    def test_modules_are_shared_from_any_folder(self):
        self.assertIn('path=/image/lib/modules,mount_tag=modules', self.qemu_command())
        (self.folder / 'usr').mkdir()
        (self.folder / 'lib').symlink_to('usr')
        shared, = qemu.share_modules('m', SimpleNamespace(image=self.folder))[1:]
        self.assertIn(f'path={self.folder.resolve()}/usr/modules,', shared)
        self.assertIn('path=/a,,b,', qemu.share('m', '/a,b')[1])

    def test_a_host_alone_has_its_files_in_memory_and_no_share(self):
        work = self.folder / 'work'
        (work / '.host').mkdir(parents=True)
        (work / '.host/job').write_text('the job\n')
        self.assertNotIn('mount_tag', self.qemu_command(alone=True, work=work))
        self.assertIn(b'payload/.host/job', (self.folder / 'initrd').read_bytes())
        self.assertIn(b'the job\n', (self.folder / 'initrd').read_bytes())

    def test_a_host_alone_leaves_nothing_in_files_of_this_machine(self):
        for host, *options in ('amd', '--keep', '/k'), ('amd', '--needs', 'sh'), ('intel',):
            with self.subTest(f'{host} {options}'), contextlib.redirect_stderr(io.StringIO()), \
                    self.assertRaises(SystemExit):
                runner.parse([host, '--alone', *options, '--', 'true'])

    def qemu_command(self, **changes):
        run = dict(folder=self.folder, work=Path('/w'), console=Path('/c'), port=Path('/p'),
                   interactive=False, cpus=1, icount=False, below=None, over=None, alone=False)
        tree = mock.Mock(image=Path('/image'))
        tree.dependencies.return_value = []
        with mock.patch('qemu.initramfs', return_value=b''), mock.patch('qemu.emulator') as start:
            with qemu.running(HOSTS['amd'], tree, SimpleNamespace(**{**run, **changes})):
                pass
        return ' '.join(str(word) for word in start.call_args[0][0])

    def test_a_host_inside_another_speaks_through_its_ports(self):
        tree = mock.Mock(image=Path('/image'), folder=Path('/build/6.1'))
        tree.vmlinux.return_value = self.folder / 'vmlinux'
        tree.vmlinux.return_value.touch()
        tree.dependencies.return_value = []
        run = runner.Run(self.folder, Path('/w'), Path('/c'), Path('/p'), TOKEN, False, 1, False,
                         self.folder / 'below')
        with mock.patch('qemu.initramfs', return_value=b''), mock.patch('nested.session.fill') as fill, \
                mock.patch('nested.Kernel', return_value=tree), \
                mock.patch('nested.default_kernel', return_value='6.1'), \
                mock.patch('qemu.emulator') as start:
            with nested.running(HOSTS['amd-vnmi'], tree, run):
                pass
        outer = ' '.join(str(word) for word in start.call_args[0][0])
        inner, = fill.call_args[0][3].command
        self.assertEqual(fill.call_args[0][1], HOSTS['amd'])
        self.assertIn(f'-serial file:{self.folder}/below/console -serial file:{self.folder}/below/output ', outer)
        self.assertIn('-serial file:/c -serial file:/p ', outer)
        self.assertNotIn('-icount', outer)
        self.assertIn('-accel kvm -cpu host,migratable=off ', inner)
        self.assertIn('-serial /dev/ttyS2 -serial /dev/ttyS3 ', inner)
        self.assertIn('-kernel /run/work/vmlinux ', inner)
        self.assertTrue((self.folder / 'below/work/vmlinux').exists())
        self.assertIn('path=/run/modules,mount_tag=modules', inner)
        self.assertIn('path=/image/lib/modules,mount_tag=l1-modules', outer)

    def test_qemu_is_told_what_was_asked_for(self):
        plain = self.qemu_command()
        self.assertIn('-smp 1 ', plain)
        self.assertIn('-serial file:/c -serial file:/p ', plain)
        self.assertNotIn('-icount', plain)
        with mock.patch('qemu.nudged') as nudged:
            self.assertIn('-icount shift=0,sleep=off', self.qemu_command(icount=True))
            nudged.assert_not_called()
            self.qemu_command()
            nudged.assert_called_once()
        self.assertIn('-smp 2 ', self.qemu_command(cpus=2))
        self.assertIn('-serial /p ', self.qemu_command(interactive=True))

    def test_packages_are_shared_where_there_are_some(self):
        self.assertNotIn('mount_tag=packages', self.qemu_command())
        self.assertIn('readonly=on,path=/unpacked,mount_tag=packages', self.qemu_command(over=Path('/unpacked')))

    def test_what_a_command_leaves_is_kept_with_the_log(self):
        work, log, kept = self.folder / 'work', self.folder / 'amd.log', self.folder / 'a/b'
        work.mkdir()
        log.write_text('booting\n')
        runner.keep_files(work, log, kept)
        self.assertFalse(kept.exists())
        (work / 'kept/some_test').mkdir(parents=True)
        (work / 'kept/some_test/trace').write_text('an event\n')
        runner.keep_files(work, log, kept)
        self.assertEqual((kept / 'some_test/trace').read_text(), 'an event\n')
        self.assertEqual((kept / 'host.log').read_text(), 'booting\n')


if __name__ == '__main__':
    unittest.main()
