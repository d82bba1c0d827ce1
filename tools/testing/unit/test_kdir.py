# SPDX-License-Identifier: GPL-2.0-only
"""KDIR= and SRC=: a kernel that somebody built is built for, or refused in one line."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MAKEFILE = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 5\nEXTRAVERSION =\n"
CONFIG = "CONFIG_KVM=m\nCONFIG_KVM_INTEL=m\nCONFIG_KVM_AMD=m\n"
SYMVERS = "0x01234567\tkvm_read\tarch/x86/kvm/kvm\tEXPORT_SYMBOL_GPL\t\n"


class OwnKernel(unittest.TestCase):
    """A source, and a build folder with a link to it, as O= leaves it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.src, self.kdir, self.dest = (Path(folder.name, name) for name in ("linux", "kbuild", "src"))
        self.write(self.src / "Makefile", MAKEFILE)
        for name in "arch/x86/kvm/x86.c", "arch/x86/kvm/x86.h", "virt/kvm/kvm_main.c", "tools/include/a.h":
            self.write(self.src / name, f"/* {name} */\n")
        self.write(self.src / "drivers/big.c", "")
        self.write(self.kdir / "include/config/kernel.release", "6.12.5-mine\n")
        self.write(self.kdir / "Module.symvers", SYMVERS)
        self.write(self.kdir / ".config", CONFIG)
        (self.kdir / "source").symlink_to(self.src)

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run_script(self, *command, **variables):
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        done = subprocess.run([ROOT / "scripts" / command[0], *command[1:]], text=True, capture_output=True,
                              env=env | {"KVER": "", "KDIR": str(self.kdir), "SRC": ""} | variables)
        return done.returncode, done.stdout, done.stderr

    def unpack(self, **variables):
        return self.run_script("unpack-source", self.dest, **({"KVER": "6.12.5-mine"} | variables))

    def assert_refused(self, said, script="unpack-source", **variables):
        arguments = [self.dest] if script == "unpack-source" else []
        status, output, errors = self.run_script(script, *arguments, **({"KVER": "6.12.5-mine"} | variables))
        self.assertEqual((status, output), (1, ""))
        self.assertEqual(errors.count("\n"), 1, errors)
        self.assertIn(said, errors)
        self.assertFalse(self.dest.exists())

    def test_chosen(self):
        """the build folder says which kernel it is, and where the source is"""
        self.assertEqual(self.run_script("kernel"), (0, "6.12.5-mine\n", ""))
        self.assertEqual(self.run_script("kernel", "--headers"), (0, f"{self.kdir}\n", ""))
        self.assertEqual(self.run_script("kernel", "--source"), (0, f"{self.src.resolve()}\n", ""))

    def test_no_build_folder(self):
        """what is no build folder of a finished kernel is refused"""
        self.assert_refused("is the build folder of 6.12.5-mine, not of KVER=6.1", "kernel", KVER="6.1")
        (self.kdir / "Module.symvers").unlink()
        self.assert_refused("has no Module.symvers: build that kernel", "kernel")
        (self.kdir / "include/config/kernel.release").unlink()
        self.assert_refused("is not the build folder of a kernel", "kernel")

    def test_no_source(self):
        """a build folder without its source wants SRC, and SRC has to be one"""
        (self.kdir / "source").unlink()
        self.assert_refused("has no source of KVM beside it: say where it is with SRC=", "kernel")
        self.assertEqual(self.run_script("kernel", "--source", SRC=str(self.src))[1], f"{self.src.resolve()}\n")
        status, _, errors = self.run_script("kernel", SRC=str(self.kdir))
        self.assertNotEqual(status, 0)
        self.assertIn("is not the source of a kernel: it has no arch/x86/kvm/x86.c", errors)

    def test_unsupported(self):
        """a kernel of another series is refused with those that are supported"""
        self.write(self.kdir / "include/config/kernel.release", "6.99.1\n")
        self.assert_refused("6.99.1 is not supported, only ", "kernel", KVER="")

    def test_allowed(self):
        """unless that series is allowed, and no other is"""
        self.write(self.kdir / "include/config/kernel.release", "6.99.1\n")
        self.assertEqual(self.run_script("kernel", KVER="", ALLOW_SERIES="6.99"), (0, "6.99.1\n", ""))
        self.assert_refused("ALLOW_SERIES=6.99 tries it untested", "kernel", KVER="", ALLOW_SERIES="6.9")

    def test_copied(self):
        """only what is needed is copied, without objects, and again when a file has changed"""
        self.write(self.src / "arch/x86/kvm/x86.o", "")
        self.write(self.src / "arch/x86/kvm/kvm-amd.mod.c", "")
        before = sorted(self.src.rglob("*"))
        status, output, errors = self.unpack()
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(output, f"copying what is needed of {self.src.resolve()} (6.12.5)\n")
        self.assertEqual(sorted(str(path.relative_to(self.dest)) for path in self.dest.rglob("*") if path.is_file()),
                         [".state", ".version", "arch/x86/kvm/x86.c", "arch/x86/kvm/x86.h", "tools/include/a.h",
                          "virt/kvm/kvm_main.c"])
        self.assertTrue((self.dest / ".version").read_text().startswith("6.12.5 "))
        self.assertEqual(sorted(self.src.rglob("*")), before)
        self.assertEqual(self.unpack(), (0, "", ""))
        self.write(self.src / "arch/x86/kvm/x86.c", "/* another */\n")
        self.assertEqual(self.unpack()[1], output)
        self.assertEqual((self.dest / "arch/x86/kvm/x86.c").read_text(), "/* another */\n")

    def test_other_configuration(self):
        """a kernel whose KVM is no pair of modules is refused"""
        for config, said in (("CONFIG_KVM=y\n", "has KVM built in (CONFIG_KVM=y)"),
                             ("# CONFIG_KVM is not set\n", "has no KVM (CONFIG_KVM is not set in"),
                             (CONFIG.replace("KVM_INTEL=m", "KVM_INTEL=n"), "has no module CONFIG_KVM_INTEL=m"),
                             (CONFIG.replace("CONFIG_KVM_AMD=m\n", ""), "has no module CONFIG_KVM_AMD=m")):
            with self.subTest(config):
                self.write(self.kdir / ".config", config)
                self.assert_refused(said)

    def test_no_modules(self):
        """a kernel whose modules were not built is refused"""
        self.write(self.kdir / "Module.symvers", SYMVERS.replace("arch/x86/kvm/kvm", "vmlinux"))
        self.assert_refused("Module.symvers has nothing of kvm.ko: build the modules")

    def test_other_source(self):
        """a source of another version than the build folder is refused with both"""
        self.write(self.src / "Makefile", MAKEFILE.replace("SUBLEVEL = 5", "SUBLEVEL = 50"))
        self.assert_refused("is the source of 6.12.50, but")
        (self.src / "Makefile").rename(self.src / "away")
        self.assert_refused("has no Makefile that says which version it is")
        (self.src / "away").rename(self.src / "Makefile")
        # Ubuntu's names have a 0 for the update.
        self.write(self.kdir / "include/config/kernel.release", "6.12.0-49-generic\n")
        self.assertEqual(self.unpack(KVER="6.12.0-49-generic")[0], 0)

    def test_newer_source(self):
        """a source edited since kvm.ko was built is built, with a warning"""
        self.write(self.kdir / "arch/x86/kvm/kvm.ko", "")
        for name in "arch/x86/kvm/x86.c", "virt/kvm/kvm_main.c":
            os.utime(self.src / name, (1, 1))
        os.utime(self.kdir / "arch/x86/kvm/kvm.ko", (2, 2))
        status, _, errors = self.unpack()
        self.assertEqual(status, 0)
        self.assertRegex(errors, r"^unpack-source: warning: \S+/x86\.h is newer than kvm\.ko of 6\.12\.5-mine; .*\n$")

    def image(self, *folder):
        """Status and errors of laying out the kernel for the hosts, in a tree with nothing else."""
        tree = self.dest.with_name("tree")
        (tree / "scripts").mkdir(parents=True, exist_ok=True)
        for name in "own-image", "kernel":
            shutil.copy2(ROOT / "scripts" / name, tree / "scripts")
        done = subprocess.run([tree / "scripts/own-image", *folder], text=True, capture_output=True,
                              env=os.environ | {"KVER": "6.12.5-mine", "KDIR": str(self.kdir), "SRC": "",
                                                "KHEADERS": str(self.kdir)})
        return done.returncode, done.stderr, tree / "build/6.12.5-mine/image"

    def test_image_built(self):
        """the hosts get the kernel from where it was built, and its modules from there"""
        self.assertEqual(self.image()[:2], (1, f"image: {self.kdir} has no arch/x86/boot/bzImage: build the kernel "
                                               "there, or say with IMAGE= where it is installed\n"))
        self.write(self.kdir / "arch/x86/boot/bzImage", "a kernel\n")
        status, errors, image = self.image()
        self.assertEqual(status, 1)
        self.assertRegex(errors, r"^image: make modules_install failed in \S+: make(\[\d+\])?: \*\*\* No rule .*\n$")
        self.assertFalse(image.exists())
        self.write(self.kdir / "Makefile", "modules_install:\n\tmkdir -p $(INSTALL_MOD_PATH)/lib/modules/6.12.5-mine\n"
                                           "\tln -s /nowhere $(INSTALL_MOD_PATH)/lib/modules/6.12.5-mine/build\n")
        self.assertEqual(self.image(), (0, "", image))
        self.assertEqual((image / "boot/vmlinuz-6.12.5-mine").read_text(), "a kernel\n")
        self.assertEqual(list((image / "lib/modules/6.12.5-mine").iterdir()), [])

    def test_image_installed(self):
        """or from a folder that it was installed in, which has to hold both"""
        folder = self.dest.with_name("installed")
        folder.mkdir()
        self.assertIn(f"IMAGE={folder} has no vmlinuz, nor boot/vmlinuz-6.12.5-mine", self.image(folder)[1])
        self.write(folder / "vmlinuz", "a kernel\n")
        self.assertIn("has no lib/modules/6.12.5-mine with a modules.dep", self.image(folder)[1])
        self.write(folder / "lib/modules/6.12.5-mine/modules.dep", "")
        status, errors, image = self.image(folder)
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual((image / "boot/vmlinuz-6.12.5-mine").read_text(), "a kernel\n")
        self.assertTrue((image / "lib/modules/6.12.5-mine/modules.dep").exists())


MODULE = """
struct {{ unsigned long crc; char name[56]; }} versions[] __attribute__((section("__versions"), used)) =
	{{ {{ {crc}, "kvm_read" }}, {{ 0x99, "not_in_symvers" }} }};
char info[] __attribute__((section(".modinfo"), used)) = "vermagic={release} SMP mod_unload";
"""


class SameKernel(unittest.TestCase):
    """What was built is held to the kernel that it was built for."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.kdir, self.installed = Path(folder.name, "kbuild"), Path(folder.name, "installed")
        self.beside = self.kdir / "arch/x86/kvm/kvm-amd.ko"
        self.old = self.installed / "kernel/arch/x86/kvm/kvm-amd.ko"
        for file in self.beside, self.old:
            file.parent.mkdir(parents=True)
        (self.kdir / "Module.symvers").write_text(SYMVERS)
        (self.kdir / ".config").write_text("CONFIG_MODVERSIONS=y\n")
        self.module = Path(folder.name, "kvm-amd.ko")
        self.build(self.module)

    def build(self, path, crc="0x01234567", release="6.12.5-mine"):
        subprocess.run(["gcc", "-c", "-x", "c", "-o", path, "-"], check=True, text=True,
                       input=MODULE.format(crc=crc, release=release))

    def check(self):
        done = subprocess.run([ROOT / "scripts/same-kernel", self.installed, self.module], text=True,
                              capture_output=True, env=os.environ | {"KVER": "6.12.5-mine", "KHEADERS": str(self.kdir)})
        self.assertEqual(done.stdout, "")
        return done.returncode, done.stderr

    def assert_refused(self, said):
        status, errors = self.check()
        self.assertEqual((status, errors.count("\n")), (1, 1), errors)
        self.assertIn(said, errors)

    def test_same(self):
        """modules of this very build are taken without a word, also beside the kernel's own"""
        self.assertEqual(self.check(), (0, ""))
        self.build(self.beside)
        self.build(self.old)
        self.assertEqual(self.check(), (0, ""))

    def test_vermagic(self):
        """one that has become a module of another release is refused"""
        self.build(self.module, release="6.12.5-mine2")
        self.assert_refused("kvm-amd.ko became one for 6.12.5-mine2, but")

    def test_crc(self):
        """so is one that imports a symbol of another kernel, which is named"""
        self.build(self.module, crc="0x07654321")
        self.assert_refused("kvm-amd.ko imports kvm_read with another CRC than")

    def test_no_crc(self):
        """without CONFIG_MODVERSIONS there is nothing to compare, with it there has to be"""
        subprocess.run(["objcopy", "--remove-section", "__versions", self.module], check=True)
        self.assertIn("kvm-amd.ko has no CRCs to compare", self.check()[1])
        for config in "# CONFIG_MODVERSIONS is not set", "CONFIG_MODVERSIONS=y\n# CONFIG_BASIC_MODVERSIONS is not set":
            (self.kdir / ".config").write_text(config + "\n")
            self.assertEqual(self.check(), (0, ""))

    def test_other_build(self):
        """a Module.symvers that is not of the modules which lie beside it is refused"""
        self.build(self.beside, crc="0x07654321")
        self.assert_refused("Module.symvers is not of the build that ")

    def test_not_installed_yet(self):
        """one that is installed may be older, and the user is told"""
        self.build(self.old, crc="0x07654321")
        status, errors = self.check()
        self.assertEqual((status, errors.count("\n")), (0, 1), errors)
        self.assertIn(f"warning: {self.old} is of another build than {self.kdir} (kvm_read differs)", errors)


if __name__ == "__main__":
    unittest.main()
