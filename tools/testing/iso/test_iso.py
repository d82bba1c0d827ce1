# SPDX-License-Identifier: GPL-2.0-only
"""The image of 'make iso' boots under QEMU's own CPU emulation: as a CD by SeaBIOS, as a stick by OVMF."""

import concurrent.futures
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
ROOT = TESTING.parents[1]
sys.path[:0] = [str(TESTING / "hosts")]

from process import environment

KVER = os.environ["KVER"]
OVMF = "/usr/share/ovmf/OVMF.fd"
CPU = "qemu64,+svm,+npt,+vgif,model-id=QEMU TCG CPU"
AMOUNTS = "poweroff PROGRAMS=12 SAMPLES=64 TRUST_TSC=y TESTS=nmi_delivery_test"
# Of wall-clock time: a boot takes one minute on an idle machine.
LIMIT = 1200
REPORT, GUEST = 0, 1


def build(target, entry, options):
    subprocess.run([ROOT / "tools/iso/build", target, KVER, "--wait", "1", "--entry", str(entry),
                    "--options", options], check=True, stdout=subprocess.PIPE)


def boot(name, *media):
    """What is said on the first serial port until the machine is off."""
    command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", CPU, "-m", "1024", "-display", "none", "-nodefaults",
               "-no-reboot", "-vga", "std", "-serial", "stdio",
               "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *media]
    try:
        done = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=LIMIT)
        return done.stdout.decode(errors="replace").replace("\r", "")
    except subprocess.TimeoutExpired as hung:
        return (hung.stdout or b"").decode(errors="replace") + f"\n{name}: not off after {LIMIT} s\n"


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
        if "amd" not in (os.environ.get("HOSTS") or "amd").split():
            raise unittest.SkipTest("make iso: HOSTS leaves out amd")
        folder = tempfile.TemporaryDirectory(prefix="kvm-nmi-iso-")
        cls.addClassCleanup(folder.cleanup)
        cls.report, guest = Path(folder.name, "report.iso"), Path(folder.name, "guest.iso")
        build(cls.report, REPORT, AMOUNTS)
        build(guest, GUEST, "poweroff")
        stick = ("-device", "qemu-xhci", "-drive", f"file={cls.report},format=raw,if=none,id=stick",
                 "-device", "usb-storage,drive=stick")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            cls.by_bios = pool.submit(boot, "SeaBIOS", "-cdrom", guest, "-boot", "d")
            cls.by_uefi = pool.submit(boot, "OVMF", "-bios", OVMF, *stick)
        cls.by_bios, cls.by_uefi = cls.by_bios.result(), cls.by_uefi.result()

    def test_uefi(self):
        """as a stick by OVMF: both modules are tried, the result is on the serial port and on the stick"""
        said = self.by_uefi
        self.assertRegex(said, r"(?m)^stock SVM IRET window: claims \d+ hold", said)
        self.assertRegex(said, r"(?m)^ours SVM IRET window: claims \d+ hold, 0 do not, .*"
                               "programs 12, 0 not as modelled$")
        self.assertRegex(said, r"(?m)^    pair +1 % \d+, median \d+, 99 % \d+ cycles$")
        self.assertIn("iso: kept on the stick as report.txt and report.rec\n", said)
        self.assertIn("iso: report ended with status 0\n", said)
        self.assertRegex(on_stick(self.report, "report.txt"), "(?m)^ours SVM IRET window: claims")
        self.assertRegex(on_stick(self.report, "report.rec"), "(?m)^@done")

    def test_bios(self):
        """as a CD by SeaBIOS: nmi-guest runs to its end"""
        self.assertRegex(self.by_bios, r"(?m)^# Totals: ", self.by_bios)
        self.assertRegex(self.by_bios, r"(?m)^ok 1 ")


if __name__ == "__main__":
    unittest.main()
