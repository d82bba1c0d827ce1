# SPDX-License-Identifier: GPL-2.0-only
"""nmi-guest builds, says of QEMU's TCG what is known of it, and its page is what its
results make it."""

import ctypes
import functools
import mmap
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[3]
GUEST = ROOT / 'tools/nmi-guest'
sys.path.insert(0, str(GUEST))

sys.path.insert(0, str(ROOT / 'tools/testing/hosts'))

import results
import screen
import xen
from as_module import as_module
from bootdisk import program_headers

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


@functools.cache
def built():
    """The folder of the programs, made once for all tests."""
    subprocess.run(['make', '-s', '-C', GUEST, f'OUTPUT={ROOT}/build/nmi-guest', 'VERSION=test'], check=True)
    return ROOT / 'build/nmi-guest'


OVMF = '/usr/share/ovmf/OVMF.fd'
UD2, NOPS, WRMSR = b'\x0f\x0b', b'\x90\x90', b'\x0f\x30'


def patched(target, function, old, new):
    """nmi-guest with an instruction of a function replaced; where there is no old one, its first."""
    program = built() / 'nmi-guest64'
    names = subprocess.run(['nm', '-S', program], check=True, text=True, stdout=subprocess.PIPE).stdout
    address, size = (int(number, 16) for number in re.search(rf'(?m)^(\S+) (\S+) . {function}$', names).groups())
    elf = bytearray(program.read_bytes())
    _, at, start, *_ = next(header for header in program_headers(elf) if header[2] <= address < header[2] + header[3])
    at += address - start
    if old:
        at = elf.index(old, at, at + size)
    elf[at:at + len(new)] = new
    target.write_bytes(elf)
    # QEMU wants what has a header for multiboot to be of 32 bits.
    subprocess.run(['objcopy', '-O', 'elf32-i386', target], check=True)
    return target


class MachinesTest(unittest.TestCase):
    """Machines that are not as QEMU's own: it runs or says in a line why not, and does not hang."""

    SMP_CLAIMS = 47
    SMI_CLAIMS = 51
    HALT_CLAIMS = 63
    NO_CLAIMS = 69

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='nmi-guest-')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)

    def boot(self, *machine, cpu='qemu64,+svm,+npt', memory=64, wait=120):
        """What is said on the serial port until it is over, or for so many seconds."""
        command = ['qemu-system-x86_64', '-accel', 'tcg', '-cpu', cpu, '-m', str(memory), '-display', 'none',
                   '-nodefaults', '-no-reboot', '-serial', 'stdio', '-device', 'isa-debug-exit,iobase=0xf4,iosize=4',
                   *machine]
        try:
            said = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=wait).stdout
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b'') + b'\nnot over\n'
        return said.decode(errors='replace').replace('\r', '')

    def start(self, first, program=None):
        return '-kernel', program or built() / 'nmi-guest', '-append', f'from={first}'

    def need_x2apic(self):
        """TCG has that mode, and IDs of more than eight bits, from some version on."""
        said = subprocess.run(['qemu-system-x86_64', '--version'], check=True, text=True, stdout=subprocess.PIPE).stdout
        if tuple(map(int, re.search(r'version (\d+)\.(\d+)', said).groups())) < (9, 1):
            self.skipTest('x2APIC needs a newer QEMU')

    def by_grub(self, program, first, *commands):
        """A CD whose GRUB gives these commands first."""
        if not shutil.which('grub-mkrescue'):
            self.skipTest('grub-mkrescue is missing: make deps')
        tree = self.folder / 'tree'
        shutil.rmtree(tree, ignore_errors=True)
        (tree / 'boot/grub').mkdir(parents=True)
        shutil.copy(program, tree / 'nmi-guest')
        lines = *commands, f'multiboot2 /nmi-guest from={first}', 'boot'
        (tree / 'boot/grub/grub.cfg').write_text('\n'.join(lines) + '\n')
        subprocess.run(['grub-mkrescue', '-o', self.folder / 'cd', tree], check=True, capture_output=True)
        return '-cdrom', self.folder / 'cd', '-boot', 'd'

    def test_early_exception(self):
        """an exception ahead of the first claim is told in a line, and is the end"""
        program = patched(self.folder / 'early', 'start_cpu1', b'', UD2)
        said = self.boot(*self.start(self.NO_CLAIMS, program), wait=60)
        # QEMU may end with some of its last line in the serial port.
        self.assertRegex(said[:said.rfind('\n') + 1],
                         r'(?m)^# unexpected exception 6, .*\nBail out! .*\n(# this is all, .*\n)?\Z')

    def test_x2apic(self):
        """x2APIC mode that the firmware has left on is left, or where that has no effect it says so"""
        self.need_x2apic()
        on = 'insmod wrmsr', 'wrmsr 0x1b 0xfee00d00'
        locked = patched(self.folder / 'locked', 'leave_x2apic', WRMSR, NOPS)
        said = self.boot(*self.by_grub(built() / 'nmi-guest', self.NO_CLAIMS, *on), cpu='qemu64,+x2apic')
        self.assertRegex(said, '(?m)^# Totals')
        # Which GRUB has used ahead.
        self.assertIn('by the PIT;', said)
        self.assertRegex(self.boot(*self.by_grub(locked, self.NO_CLAIMS, *on), cpu='qemu64,+x2apic'),
                         r'(?m)^Bail out! .*x2APIC')

    def test_interrupts_left_on(self):
        """a timer that firmware has left on is no event of a claim"""
        # HPET, its first comparator: each millisecond, at pin 16, which is vector 0x50.
        on = ('insmod memrw', 'write_dword 0xfed00100 0x204c', 'write_dword 0xfed00108 100000',
              'write_dword 0xfed00010 1', 'write_dword 0xfec00000 0x30', 'write_dword 0xfec00010 0x50')
        said = self.boot('-machine', 'q35', *self.by_grub(built() / 'nmi-guest', self.HALT_CLAIMS, *on))
        self.assertRegex(said, rf'(?m)^ok {self.HALT_CLAIMS} - ')
        self.assertRegex(said, '(?m)^# Totals: .* fail:0 ')

    def test_no_pit(self):
        """without a PIT time is that of ACPI's timer; what it was to send an NMI for is skipped"""
        said = self.boot('-machine', 'pc,pit=off', *self.start(self.HALT_CLAIMS))
        self.assertRegex(said, "(?m)^# CPUs used: 1; TSC: [0-9]{6,7} per ms, by ACPI's timer; .*: no$")
        self.assertRegex(said, rf'(?m)^ok {self.HALT_CLAIMS} - [^#]*\n')
        self.assertRegex(said, '(?m)^# Totals: pass:1 fail:0 .* skip:5')

    def test_no_clock(self):
        """without any clock it says so, and skips what goes by time"""
        said = self.boot('-machine', 'pc,pit=off,acpi=off', *self.start(self.HALT_CLAIMS))
        self.assertRegex(said, '(?m)^# CPUs used: 1; no clock: .*: no$')
        self.assertRegex(said, '(?m)^# Totals: pass:0 fail:0 .* skip:6')
        self.assertIn('# SKIP no clock was found\n', said)

    def test_uefi(self):
        """started by UEFI it finds ACPI's tables, which tell of SMIs"""
        said = self.boot('-bios', OVMF, *self.by_grub(built() / 'nmi-guest', self.SMI_CLAIMS), memory=256, wait=300)
        self.assertRegex(said, rf'(?m)^ok {self.SMI_CLAIMS} - [^#]*\n', said)

    def test_no_rsdp(self):
        """where nobody tells where ACPI's tables are the SMIs are skipped for that"""
        said = self.boot('-machine', 'pc,acpi=off', *self.start(self.SMI_CLAIMS))
        self.assertRegex(said, rf'(?m)^ok {self.SMI_CLAIMS} - .* # SKIP no RSDP was found')

    def test_screen(self):
        """without a serial port, on a framebuffer: at the end what failed and was skipped, and the totals"""
        cd = self.by_grub(built() / 'nmi-guest', self.HALT_CLAIMS, 'insmod all_video')
        command = ['qemu-system-x86_64', '-accel', 'tcg', '-cpu', 'qemu64', '-machine', 'pit=off', '-m', '64',
                   '-nodefaults', '-serial', 'none', *cd]
        with screen.Machine(command, self.folder) as machine:
            end = machine.until('can be turned off', machine.dots, 300)[-1]
        self.assertRegex(end, r'\Anmi-guest \S+, what has failed or was skipped:\n# CPU: ', end)
        # After a line as long as the screen is wide there is no other to be seen.
        self.assertRegex(end, r"(?m)^ok 64 - .* # SKIP no NMI by PIT and I/O APIC\n(.*\n)*.*# Totals: pass:1 .* skip:5")
        self.assertNotRegex(end, '(?m)^ok 63')

    def test_apic_id(self):
        """a CPU whose APIC ID has more than eight bits is not used"""
        self.need_x2apic()
        cpu = 'qemu64,+svm,+npt,+x2apic'
        said = self.boot('-machine', 'q35', '-smp', '1,maxcpus=512,sockets=2,cores=256', '-device',
                         'qemu64-x86_64-cpu,socket-id=1,core-id=0,thread-id=0,x2apic=on,svm=on,npt=on',
                         *self.start(self.SMP_CLAIMS), cpu=cpu)
        self.assertRegex(said, rf'(?m)^ok {self.SMP_CLAIMS} - .* # SKIP one CPU\n')
        self.assertRegex(said, '(?m)^# Totals')


class Acpi(ctypes.Structure):
    """struct acpi, its beginning"""
    _fields_ = [('smi_cmd', ctypes.c_uint16), ('pm1a_cnt', ctypes.c_uint16), ('pm_timer', ctypes.c_uint16),
                ('acpi_enable', ctypes.c_uint8), ('acpi_disable', ctypes.c_uint8), ('sleep_type', ctypes.c_int),
                ('problem', ctypes.c_char_p)]


class AcpiTest(unittest.TestCase):
    """acpi.c as a library, with tables made up in memory below 4 GiB."""

    MAP_32BIT = 0x40

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='nmi-guest-')
        self.addCleanup(folder.cleanup)
        library = Path(folder.name, 'acpi.so')
        subprocess.run(['gcc', '-O2', '-shared', '-fPIC', '-o', library, GUEST / 'acpi.c'], check=True)
        self.code = ctypes.CDLL(str(library))
        self.memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | self.MAP_32BIT)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))

    def put(self, at, name, size, **fields):
        """A table; a field is called by where it is, and has as many bytes as its value."""
        self.memory[at:at + 8] = name + size.to_bytes(4, 'little')
        for where, value in fields.items():
            where = at + int(where[1:])
            self.memory[where:where + len(value)] = value
        return self.base + at

    def read(self, rsdt, xsdt, revision=2):
        self.memory[0:36] = (b'RSD PTR ' + bytes(7) + bytes([revision]) + rsdt.to_bytes(4, 'little') + bytes(4) +
                             xsdt.to_bytes(8, 'little') + bytes(4))
        self.code.acpi_init(ctypes.c_uint64(self.base))
        return Acpi.in_dll(self.code, 'acpi')

    def fadt(self):
        """One whose PM timer has an address in the later field only."""
        return self.put(256, b'FACP', 276, _64=(0x404).to_bytes(4, 'little'), _48=(0xb2).to_bytes(4, 'little'),
                        _208=b'\1', _212=(0x408).to_bytes(8, 'little'))

    def test_xsdt_alone(self):
        """tables are found by the XSDT where there is no RSDT; one above 4 GiB is left alone"""
        xsdt = self.put(64, b'XSDT', 52, _36=(1 << 40).to_bytes(8, 'little'), _44=self.fadt().to_bytes(8, 'little'))
        found = self.read(0, xsdt)
        self.assertEqual((found.problem, found.smi_cmd, found.pm1a_cnt, found.pm_timer), (None, 0xb2, 0x404, 0x408))

    def test_rsdt(self):
        """they are found by the RSDT of ACPI 1.0, and where the XSDT is above 4 GiB"""
        rsdt = self.put(64, b'RSDT', 40, _36=self.fadt().to_bytes(4, 'little'))
        self.assertEqual(self.read(rsdt, 1, revision=0).smi_cmd, 0xb2)
        self.assertEqual(self.read(rsdt, 1 << 40).smi_cmd, 0xb2)

    def test_out_of_reach(self):
        """tables that are all above 4 GiB are said to be so"""
        self.assertIn(b'not where they can be read', self.read(0, 1 << 40).problem)


class TcgTest(unittest.TestCase):
    def test_bare_tcg(self):
        """on QEMU's AMD CPU all claims hold but those known to fail there"""
        built()
        done = subprocess.run([GUEST / 'run', 'tcg-amd'], text=True, capture_output=True)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        run = results.parse(done.stdout)
        self.assertEqual(list(unexpected(environment_of(run), run, matrix.Faults())), [])
        # Two in three: what fails is known, and not the most.
        passed = sum(result.outcome == 'passed' for result in run.results.values())
        self.assertGreater(passed, 2 * len(run.results) / 3)


if __name__ == '__main__':
    unittest.main()
