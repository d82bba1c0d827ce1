# SPDX-License-Identifier: GPL-2.0-only
"""The results on a stick of 'make iso': none takes the place of another, and what broke off is named."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

STICK = Path(__file__).resolve().parents[3] / "tools/iso/stick"
RECORD = "@record 1\n@run ours SVM vNMI\n@part tests\n# nmi_a_test\n"


class Stick(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.partition = self.folder / "stick"
        self.environment = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "PATIENCE": "3",
                            "STICK": str(self.partition),
                            **{name.upper(): str(self.folder / name) for name in ("kept", "record", "summary")}}
        for name in "findfs", "mount", "umount", "sync", "sleep":
            self.program(name, "exit 0")
        (self.folder / "record").write_text(f"{RECORD}@done\n")
        (self.folder / "summary").write_text("sum\n")

    def program(self, name, lines):
        (self.folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (self.folder / name).chmod(0o755)

    def stick(self, action):
        done = subprocess.run(["sh", STICK, action], text=True, capture_output=True, env=self.environment)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def kept(self):
        """The file that is to be written to; none is where the shell cannot go on."""
        file = self.folder / "kept"
        return Path(file.read_text().strip()) if file.exists() else None

    def whole(self):
        """A run to its end."""
        said = self.stick("open")
        self.kept().write_text((self.folder / "record").read_text())
        return said + self.stick("close")

    def test_several(self):
        """one after the other has files of its own"""
        for name in "report01", "report02":
            self.assertEqual(self.whole(), f"iso: kept on the stick as {name}.rec and {name}.txt\n")
        self.assertEqual(sorted(file.name for file in self.partition.iterdir()),
                         ["report01.rec", "report01.txt", "report02.rec", "report02.txt"])

    def test_leftover(self):
        """a record whose machine hung is named once, with what ran last, and stays"""
        self.stick("open")
        self.kept().write_text(RECORD)
        self.assertEqual(self.stick("open"), "iso: report01.rec on the stick is of a run that came to no end: the run "
                                             "was broken off in nmi_a_test (this project's module, SVM vNMI)\n")
        self.assertEqual(self.kept().name, "report02.rec")
        self.assertEqual((self.partition / "report01.rec").read_text(), RECORD)
        self.kept().unlink()
        self.assertEqual(self.stick("open"), "")

    def test_no_stick(self):
        """no stick, one that cannot be mounted, written to, or is full, is a line each"""
        self.program("findfs", "echo none >&2; exit 1")
        self.assertEqual(self.stick("open"), "iso: no stick to write to; the result is here only\n")
        self.program("findfs", "echo /dev/sdx1")
        self.program("mount", "echo bad >&2; exit 1")
        self.assertEqual(self.stick("open"), "iso: the stick cannot be mounted; the result is here only\n")
        # The superuser can write anywhere but into a folder that is none.
        self.program("mount", 'rmdir "$6"; ln -s /proc/self/fdinfo "$6"')
        self.assertEqual(self.stick("open"), "iso: the stick cannot be written to; the result is here only\n")
        self.assertEqual((self.kept(), self.stick("close")), (None, ""))
        self.program("mount", "exit 0")
        self.partition.unlink()
        self.stick("open")
        self.kept().write_text(RECORD)
        self.assertEqual(self.stick("close"), "iso: the stick is full, or was taken out; the result is here only\n")

    def test_late(self):
        """a stick that shows up late is waited for, but not for long"""
        self.program("findfs", f"echo x >>{self.folder}/tries; [ $(wc -l <{self.folder}/tries) = 4 ] && echo /dev/sdx3")
        self.assertEqual(self.stick("open"), "")
        self.assertEqual(self.kept().name, "report01.rec")
        self.assertEqual(self.stick("open"), "iso: no stick to write to; the result is here only\n")

    def test_refusal(self):
        """a run that was refused leaves no file"""
        self.stick("open")
        (self.folder / "record").write_text("")
        self.assertEqual(self.stick("close"), "")
        self.assertEqual(list(self.partition.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
