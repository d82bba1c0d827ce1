# SPDX-License-Identifier: GPL-2.0-only
"""make strict-cpu: what it does with bad input. The CPU itself is tried in hosts/test_strict.py."""

import contextlib
import io
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from as_module import as_module

ROOT = Path(__file__).resolve().parents[3]
building = as_module(ROOT / "tools/testing/hosts/strict/build")
in_their_form = as_module(ROOT / "tools/testing/hosts/strict/qemu_form.py").in_their_form

OURS = """\
int f(int a)
{
>/* a (comment */
>if (a)
>>return g(a, ")",
>>> 2);
>else if (a == 3 &&
>> a)
>>a++;
>else
>>for (;;)
>>>if (b)
>>>>h();
>while (a--)
>>g();>>/* (so */
>if (a) {
>>b();
>} else if (c)
>>d();
>do {
>>e();
>} while (a);
>return 0;
}
""".replace(">", "\t")
THEIRS = """\
int f(int a)
{
    /* a (comment */
    if (a) {
        return g(a, ")",
                 2);
    } else if (a == 3 &&
               a) {
        a++;
    } else {
        for (;;) {
            if (b) {
                h();
            }
        }
    }
    while (a--) {
        g(); /* (so */
    }
    if (a) {
        b();
    } else if (c) {
        d();
    }
    do {
        e();
    } while (a);
    return 0;
}
"""


class StrictCpu(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.build = Path(temporary.name, "strict-cpu")
        self.build.mkdir()
        self.program = self.build / "qemu-system-x86_64"
        for name, value in ("BUILD", self.build), ("PROGRAM", self.program), ("ROOT", self.build):
            self.enterContext(mock.patch.object(building, name, value))
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))

    def tarball(self, version="10.0.13", cut=None):
        """A source package with the files that the build looks at, all but empty."""
        top = self.build / f"qemu-{version}"
        names = {name for path in building.HERE.glob("*.cocci")
                 for name in building.grafting.SemanticPatch(building.HERE, path).files}
        for name in [*names, building.COMPILED[0], building.NO_FIRMWARE[0], "roms/huge",
                     "configs/devices/x86_64-softmmu/x"]:
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text("int nothing;\n" if name.endswith((".c", ".h")) else "")
        (top / "VERSION").write_text(version + "\n")
        path = self.build / f"qemu_{version}+ds.orig.tar.xz"
        subprocess.run(["tar", "-C", self.build, "-cJf", path, top.name], check=True)
        if cut:
            path.write_bytes(path.read_bytes()[:-cut])
        return path

    def test_unpacked(self):
        """the source is unpacked without firmware, and with our file among its sources"""
        building.unpack(self.tarball())
        self.assertFalse((self.build / "qemu/roms").exists())
        self.assertIn("strict.c", (self.build / "qemu" / building.COMPILED[0]).read_text())

    def test_damaged(self):
        """a tarball that is cut short is one line, and nothing is left of it"""
        with self.assertRaisesRegex(building.BuildError, "^cannot unpack .*is the disk full.*$"):
            building.unpack(self.tarball(cut=50))
        self.assertFalse((self.build / "qemu").exists() or (self.build / "qemu.new").exists())

    def test_another_series(self):
        """a QEMU of another series is named, with the one that the patches are for"""
        with self.assertRaisesRegex(building.BuildError, "Debian's QEMU is 10.2.1 now, and .* are for 10.0"):
            building.unpack(self.tarball("10.2.1"))
        self.assertEqual(list(self.build.glob("qemu*")), [self.build / "qemu-10.2.1"])

    def test_moved(self):
        """a source in which rules do not match stops the build and names them"""
        building.unpack(self.tarball())
        with self.assertRaisesRegex(building.BuildError, "rule vmrun in strict.cocci matched 0 times .*expected 1"):
            building.graft(self.build / "qemu")
        self.assertFalse((self.build / "qemu/target/i386/tcg/strict.h").exists())

    def test_unreachable(self):
        """without the suite it says so"""
        failed = subprocess.CompletedProcess([], 1, stdout="")
        with mock.patch.object(building.subprocess, "run", return_value=failed), \
                self.assertRaisesRegex(building.BuildError, "cannot get the source package of QEMU from trixie"):
            building.fetch()
        self.assertEqual(list(self.build.iterdir()), [])

    def test_broken_off(self):
        """one that was built before is not taken for what could not be built now"""
        self.program.write_text("old")
        (self.build / ".built").write_text("of other inputs")
        (self.build / "qemu").mkdir()
        (self.build / "packages/.packages").mkdir(parents=True)
        (self.build / "packages/.packages" / building.TOOLS[-1]).write_text("1\n")
        with mock.patch.object(building, "graft"), \
                mock.patch.object(building, "compile_it", side_effect=building.BuildError("disk full")), \
                self.assertRaisesRegex(building.BuildError, "disk full"):
            building.main()
        self.assertFalse(self.program.exists() or (self.build / ".built").exists())

    def test_folder_moved(self):
        """what is configured has its folder's name in it: in another one it is configured anew, else once"""
        tools, times = self.build / "tools", self.build / "times"
        for path, text in ((tools / "ninja", f"touch $2/{self.program.name}"),
                           (self.build / "qemu/configure", f"echo >>{times}")):
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        with mock.patch.object(building, "environment", return_value={"PATH": f"{tools}:{os.environ['PATH']}"}):
            building.compile_it(self.build / "qemu")
            building.compile_it(self.build / "qemu")
            self.assertEqual(times.read_text(), "\n")
            (self.build / "qemu").rename(self.build / "elsewhere")
            building.compile_it(self.build / "elsewhere")
        self.assertEqual(times.read_text(), "\n\n")

    def test_kept(self):
        """what is built of the same is left alone, without a network"""
        self.program.write_text("built")
        (self.build / ".built").write_text(building.inputs())
        with mock.patch.object(building, "fetch", side_effect=AssertionError):
            building.main()
        self.assertEqual(self.program.read_text(), "built")


class QemuForm(unittest.TestCase):
    def test_form(self):
        """C in the kernel's form comes out with QEMU's braces and spaces, and is the same else"""
        self.assertEqual(in_their_form(OURS), THEIRS)
        for name in "strict.c", "strict.h":
            text = (building.HERE / name).read_text()
            bare = [re.sub(r"[\s{}]", "", form) for form in (text, in_their_form(text))]
            self.assertEqual(*bare)
