# SPDX-License-Identifier: GPL-2.0-only
"""The image of 'make iso' boots on QEMU's own CPU emulation: as a CD by SeaBIOS, as a stick by OVMF.
nmi-guest out of it runs on bare Bochs, with HOSTS=amd-strict its files on the strict CPU, with LONG
it is a guest in hosts. With KVERS each kernel of an image with several boots."""

import concurrent.futures
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
ROOT = TESTING.parents[1]
sys.path[:0] = [str(TESTING / "harness"), str(TESTING / "hosts"), str(ROOT / "tools/nmi-guest")]

import qemu
import screen
import snapshot
import suite
from bochs import without_network
from process import environment, tool
from records import AMD_STRICT

KVER = os.environ["KVER"]
# What QEMU reads at its start, for hosts that have not all of this machine.
QEMU_FILES = ("qemu-system-x86_64", "/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/kvmvapic.bin")
OVMF = "/usr/share/ovmf/OVMF.fd"
CPU = "qemu64,+svm,+npt,+vgif,model-id=QEMU TCG CPU"
AMOUNTS = "poweroff PROGRAMS=12 SAMPLES=64 TRUST_TSC=y TESTS=nmi_delivery_test"
# With a test that takes long enough for the machine to be turned off in the midst of it.
CUT_AMOUNTS = "PROGRAMS=0 SAMPLES=0 TESTS=nmi_delivery_test,nmi_stress_test"
CUT_AT = "nmi_stress_test"
# Of wall-clock time: a boot takes one minute on an idle machine.
LIMIT = 1200
REPORT, GUEST, SHELL = 0, 1, 2
# In the summary: claims that hold, none that fails, programs that ran, none that is not as modelled.
OURS_HOLDS = r"ours  SVM IRET window +[1-9]\d* +0 +\d+ +12 +0$"
PROMPT = "iso: a root prompt"
# At the prompt, on a CPU without SVM. kvm.ko is loaded there all the same.
COMMANDS = """\
PS1=; stty -echo
sh /report/in-machine /report; echo "status $?"
trace-cmd record -q -o /tmp/trace.dat -e sched:sched_switch -e kvm:kvm_exit sleep 1 >/dev/null && echo "recorded"
trace-cmd report /tmp/trace.dat | grep -c sched_switch
trace-cmd list -e kvm:kvm_exit; find / -name plugin_kvm.so
poweroff -f
"""


def build(target, entry, options, kvers=(KVER,), wait=1):
    subprocess.run([ROOT / "tools/iso/build", target, *kvers, "--wait", str(wait), "--entry", str(entry),
                    "--options", options], check=True, stdout=subprocess.PIPE)


@functools.cache
def guest_image():
    """The image with nmi-guest as its choice, made once for all tests."""
    folder = tempfile.TemporaryDirectory(prefix="kvm-nmi-iso-")
    unittest.addModuleCleanup(folder.cleanup)
    image = Path(folder.name, "guest.iso")
    build(image, GUEST, "poweroff")
    return image


def until_off(command, typed="", cut=""):
    """What is said on the first serial port until the machine is off. At its prompt lines may be typed.
    It loses its power at once when it says what is to be CUT."""
    with tempfile.TemporaryFile() as out, \
            subprocess.Popen(command, env=environment(), stdout=out, stderr=subprocess.STDOUT,
                             stdin=subprocess.PIPE if typed else subprocess.DEVNULL) as process:
        def said():
            out.seek(0)
            return out.read().decode(errors="replace").replace("\r", "")

        late = time.monotonic() + LIMIT
        try:
            while process.poll() is None and time.monotonic() < late:
                if typed and PROMPT in said():
                    process.stdin.write(typed.encode())
                    process.stdin.flush()
                    typed = ""
                if cut and cut in said():
                    process.kill()
                time.sleep(0.5)
        finally:
            process.kill()
        hung = process.wait() == -signal.SIGKILL and not (cut and cut in said())
        return said() + (f"\nnot off after {LIMIT} s\n" if hung else "")


# Besides the CPU: what ends with the program that runs there, and speaks on its first serial port.
MACHINE = ("-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio",
           "-device", "isa-debug-exit,iobase=0xf4,iosize=4")


def boot(*media, cpu=CPU, **until):
    return until_off(["qemu-system-x86_64", "-accel", "tcg", "-cpu", cpu, "-m", "1024", *MACHINE, "-vga", "std",
                      *media], **until)


def as_stick(image):
    return ("-device", "qemu-xhci", "-drive", f"file={image},format=raw,if=none,id=stick",
            "-device", "usb-storage,drive=stick")


def partition(image):
    """Where the last partition of the image begins, by its table."""
    table = image.read_bytes()[:512][446:510]
    starts = [int.from_bytes(table[at + 8:at + 12], "little") for at in range(0, 64, 16)]
    return max(starts) * 512


def on_stick(image, file):
    done = subprocess.run(["mtype", "-i", f"{image}@@{partition(image)}", f"::{file}"], text=True, capture_output=True)
    return done.stdout + done.stderr


class Iso(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if "amd" not in suite.chosen_hosts():
            raise unittest.SkipTest("make iso: HOSTS leaves out amd")
        folder = tempfile.TemporaryDirectory(prefix="kvm-nmi-iso-")
        cls.addClassCleanup(folder.cleanup)
        cls.report, cls.cut, shell = (Path(folder.name, f"{name}.iso") for name in ("report", "cut", "shell"))
        build(cls.report, REPORT, AMOUNTS)
        build(cls.cut, REPORT, CUT_AMOUNTS)
        build(shell, SHELL, "")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            uefi = pool.submit(boot, "-bios", OVMF, *as_stick(cls.report))
            bios = pool.submit(boot, "-cdrom", guest_image(), "-boot", "d")
            cut = pool.submit(boot, *as_stick(cls.cut), cut=CUT_AT)
            prompt = pool.submit(boot, "-cdrom", shell, "-boot", "d", cpu="qemu64,-svm", typed=COMMANDS)
        cls.by_bios, cls.by_uefi, cls.cut_off, cls.prompt = (boot.result() for boot in (bios, uefi, cut, prompt))

    def test_uefi(self):
        """as a stick by OVMF: both modules are tried, the result is on the serial port and on the stick"""
        said = self.by_uefi
        self.assertNotIn("blind mode", said)
        self.assertRegex(said, r"(?m)^1 stock SVM IRET window +\d+ +\d+ ", said)
        self.assertRegex(said, rf"(?m)^2 {OURS_HOLDS}")
        self.assertRegex(said, r"(?m)^pair( +[\d.]+){4}$")
        self.assertIn("iso: kept on the stick as report01.rec and report01.txt\n", said)
        self.assertIn("iso: report ended with status 0\n", said)
        self.assertRegex(on_stick(self.report, "report01.txt"), "(?m)^2 ours  SVM IRET window ")
        self.assertRegex(on_stick(self.report, "report01.rec"), "(?m)^@done")

    def test_cut(self):
        """of a machine that stops in the midst of a test the stick has what ran last"""
        kept = on_stick(self.cut, "report01.rec").replace("\r", "").split("\n")
        self.assertIn(f"# {CUT_AT}", kept, self.cut_off)
        self.assertRegex("\n".join(kept), "(?m)^ok 1 ")
        self.assertNotIn("@done", kept)

    def test_progress(self):
        """it says where it is and how long it will take"""
        self.assertRegex(self.by_uefi, r"(?m)^iso: \d+:\d\d  the distribution's module, SVM IRET window: selftests$")
        self.assertRegex(self.by_uefi, r"(?m)^iso: \d+:\d\d of about \d+:\d\d  this project's module, "
                                       "SVM IRET window: what NMIs cost$")

    def test_prompt(self):
        """at the root prompt there is trace-cmd, which knows KVM's events"""
        self.assertRegex(self.prompt, r"(?m)^recorded\n[1-9]\d*\nkvm:kvm_exit\n/.*/plugin_kvm.so$")

    def test_no_svm(self):
        """a CPU without SVM is told in a line"""
        self.assertRegex(self.prompt, "(?m)^report: this CPU has neither VMX nor SVM, or the firmware turned it off\n"
                                      "status 1$")

    def test_bios(self):
        """as a CD by SeaBIOS: nmi-guest runs to its end"""
        self.assertRegex(self.by_bios, r"(?m)^# Totals: ", self.by_bios)
        self.assertRegex(self.by_bios, r"(?m)^ok 1 ")


@unittest.skipUnless("amd" in suite.chosen_hosts(), "the image without a serial port: HOSTS leaves out amd")
class NoSerial(unittest.TestCase):
    """A machine without a serial port has nothing but its screen."""

    COMMAND = ("qemu-system-x86_64", "-accel", "tcg", "-cpu", CPU, "-m", "1024", "-nodefaults", "-no-reboot",
               "-serial", "none")

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="kvm-nmi-iso-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.image = self.folder / "guest.iso"

    def test_menu(self):
        """GRUB shows its menu, without a word about the port"""
        build(self.image, GUEST, "", wait=1000)
        with screen.Machine([*self.COMMAND, "-cdrom", self.image, "-boot", "d"], self.folder) as machine:
            seen = machine.until("3: a root prompt", machine.text, LIMIT, 0.01)
        self.assertIn("3: a root prompt", seen[-1])
        for text in seen:
            self.assertNotIn("error", text)

    def test_guest(self):
        """by OVMF: nmi-guest ends with what failed, and with its totals"""
        build(self.image, GUEST, "")
        with screen.Machine([*self.COMMAND, "-bios", OVMF, *as_stick(self.image)], self.folder) as machine:
            end = machine.until("can be turned off", machine.dots, LIMIT)[-1]
        self.assertIn("what has failed or was skipped", end)
        self.assertRegex(end, r"(?m)^# Totals: pass:[1-9]\d* ", end)


@unittest.skipUnless("intel" in suite.chosen_hosts(), "the image on Bochs, and in hosts: HOSTS leaves out intel")
class Elsewhere(unittest.TestCase):
    """nmi-guest out of the image on bare Bochs, and where it is a guest, which takes longer."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="kvm-nmi-iso-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder, cls.guest = Path(folder.name), guest_image()

    def test_bochs(self):
        """as a CD by the BIOS of Bochs: nmi-guest runs to its end"""
        config = snapshot.config("corei7_haswell_4770", 128, panic="report")
        config, disks = re.subn("ata0-master: .*\nboot: disk", f"ata0-master: type=cdrom, path={self.guest}, "
                                "status=inserted\nboot: cdrom", config)
        self.assertEqual(disks, 1)
        (self.folder / "config").write_text(config)
        console = self.folder / "console"
        console.touch()
        late = time.monotonic() + LIMIT
        with snapshot.bochs(["-f", "config"], self.folder, without_network()) as process:
            # It has no power button that nmi-guest knows.
            while process.poll() is None and time.monotonic() < late and \
                    "the machine halts" not in console.read_text(errors="replace"):
                time.sleep(0.5)
        said = console.read_text(errors="replace").replace("\r", "")
        self.assertRegex(said, r"(?m)^# Totals: ", said)
        self.assertRegex(said, r"(?m)^ok 1 ")

    @unittest.skipUnless(suite.long_run(), "the image as a guest in the hosts amd and intel: make check-long")
    def test_hosts(self):
        """as a guest of KVM on a host of each vendor: nmi-guest runs to its end"""
        for host in "amd", "intel":
            with self.subTest(host):
                done = subprocess.run(
                    [TESTING / "hosts/run", host, "--timeout", str(LIMIT), "--with", self.guest,
                     *(word for file in QEMU_FILES for word in ("--needs", file)), "--",
                     "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "96", *MACHINE,
                     "-cdrom", self.guest.name, "-boot", "d"],
                    text=True, errors="replace", capture_output=True)
                self.assertRegex(done.stdout, r"(?m)^# Totals: ", done.stdout + done.stderr)
                self.assertRegex(done.stdout, r"(?m)^ok 1 ")


@unittest.skipUnless(AMD_STRICT.name in suite.chosen_hosts() or suite.long_run() and qemu.STRICT.exists(),
                     f"the image on the strict CPU: HOSTS={AMD_STRICT.name}")
class Strict(unittest.TestCase):
    """On the strict CPU, which has no disks and is given the image's files."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="kvm-nmi-iso-")
        cls.addClassCleanup(folder.cleanup)
        cls.files = Path(folder.name, "boot")
        tool("xorriso", "-osirrox", "on", "-indev", guest_image(), "-extract", "/boot", cls.files)

    def boot(self, *words):
        return until_off([*qemu.program(AMD_STRICT), "-accel", "tcg", "-cpu", AMD_STRICT.cpu, "-m", "1024",
                          *MACHINE, *words])

    def test_report(self):
        """a short report: both modules are tried"""
        said = self.boot("-kernel", self.files / f"vmlinuz-{KVER}", "-append",
                         f"console=ttyS0 quiet report {AMOUNTS}", "-initrd", self.files / f"initrd-{KVER}")
        self.assertRegex(said, rf"(?m)^\d {OURS_HOLDS}")
        self.assertIn("iso: report ended with status 0\n", said)

    def test_guest(self):
        """nmi-guest runs to its end"""
        said = self.boot("-kernel", self.files / "nmi-guest", "-append", "poweroff")
        self.assertRegex(said, r"(?m)^# Totals: ", said)


SEVERAL = os.environ.get("KVERS", "").split()


@unittest.skipUnless(SEVERAL, 'an image with several kernels: make iso KVERS="6.1 6.12 7.3", and the same KVERS here')
class Several(unittest.TestCase):
    """Each kernel of an image with several, by its entry of the menu: a short report."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="kvm-nmi-iso-")
        cls.addClassCleanup(folder.cleanup)
        kvers = [subprocess.run([ROOT / "scripts/kernel"], env={**os.environ, "KVER": kver}, check=True, text=True,
                                stdout=subprocess.PIPE).stdout.strip() for kver in SEVERAL]
        cls.images = {kver: Path(folder.name, f"{kver}.iso") for kver in kvers}
        first = Path(folder.name, "several.iso")
        build(first, 0, AMOUNTS, kvers)
        whole = first.read_bytes()
        for entry, image in enumerate(cls.images.values()):
            # As somebody would choose it: the kernels come first in the menu.
            chosen = whole.replace(b"set default=0\n", b"set default=%d\n" % entry)
            assert entry == 0 or chosen != whole
            image.write_bytes(chosen)

    def tried(self, kver, said):
        self.assertIn(f"iso: kernel {kver};", said, said)
        self.assertRegex(said, r"(?m)^1 stock SVM IRET window +\d+ +\d+ ", said)
        self.assertRegex(said, rf"(?m)^\d {OURS_HOLDS}")
        self.assertIn("iso: report ended with status 0\n", said)

    def test_bare(self):
        """by SeaBIOS from a CD, by OVMF from a stick: the kernel that was chosen tries both modules"""
        # The CD may be in its drive still: the stick keeps nothing.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            places = {kver: (pool.submit(boot, "-cdrom", image, "-boot", "d"),
                             pool.submit(boot, "-snapshot", "-bios", OVMF, *as_stick(image)))
                      for kver, image in self.images.items()}
        for kver, (bios, uefi) in places.items():
            for firmware, said in ("SeaBIOS", bios.result()), ("OVMF", uefi.result()):
                with self.subTest(kver, firmware=firmware):
                    self.tried(kver, said)


if __name__ == "__main__":
    unittest.main()
