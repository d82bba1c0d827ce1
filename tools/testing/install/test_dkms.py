# SPDX-License-Identifier: GPL-2.0-only
"""'make dkms', 'make dkms-remove' and 'make deb', without touching this machine:
the folders that DKMS writes to are covered by a scratch layer in a mount
namespace, and the kernel's own modules are those of the emulated hosts."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
KVER = os.environ["KVER"]
IMAGE = ROOT / "build" / KVER / "image/lib/modules"

LAYERS = """
set -e
trap 'umount -l "$(realpath /lib/modules)" /var/lib/dkms /usr/src /boot "$SCRATCH"' EXIT
mount -t tmpfs tmpfs "$SCRATCH"
cover() {
	mkdir -p "$1" "$SCRATCH$1/upper" "$SCRATCH$1/work"
	mount -t overlay -o "lowerdir=$2,upperdir=$SCRATCH$1/upper,workdir=$SCRATCH$1/work" overlay "$1"
}
cover /usr/src /usr/src
cover /boot /boot
cover /var/lib/dkms /var/lib/dkms
cover "$(realpath /lib/modules)" "$IMAGE:$(realpath /lib/modules)"
set +e
"""

# As "make dkms" leaves a machine, one step after the other. Kernels made up here
# have headers that say just enough to be declined.
STEPS = LAYERS + """
step() { name=$1; shift; echo "step $name"; "$@" 2>&1; echo "status $?"; }
found() { for name in kvm_intel kvm_amd; do modinfo -k "$KVER" -n $name | sed "s|^/lib/modules/$KVER/||"; done; }
headers() { # KERNEL VERSION CONFIG_KVM_AMD
	build=/lib/modules/$1/build
	mkdir -p $build/include/generated
	touch $build/Module.symvers
	echo "#define LINUX_PACKAGE_ID \\" Debian $2\\"" >$build/include/generated/package.h
	printf 'CONFIG_KVM_INTEL=m\\n%s\\n' "$3" >$build/.config
}
# One that was removed in the meantime has its dkms.conf, and dkms reads it.
dkms remove kvm-nmi --all >/dev/null 2>&1; rm -rf /var/lib/dkms/kvm-nmi /usr/src/kvm-nmi-*


# An initramfs with KVM in it, as it is on a machine that is told to have all modules there.
tools="$SCRATCH/tools" image=/boot/initrd.img-$KVER
mkdir "$tools"; PATH=$tools:$PATH
tool() { { echo '#!/bin/sh'; cat; } >"$tools/$1"; chmod +x "$tools/$1"; }
echo 'echo usr/lib/modules/kernel/arch/x86/kvm/kvm-amd.ko' | tool lsinitramfs
echo 'echo "$@" >>/boot/updated; touch "/boot/initrd.img-$KVER"' | tool update-initramfs
touch -d 2020-01-01 "$image"
updated() { cat /boot/updated; }

step before true; found
step install scripts/dkms install; found; modinfo -k "$KVER" -F version kvm_amd
step again scripts/dkms install
step initramfs true; updated
echo 'exit 1' | tool update-initramfs
touch -d 2020-01-01 "$image"
step stale scripts/dkms install
echo 'case $1 in -k) echo /lib/modules/other.ko ;; esac' | tool modinfo
step hidden scripts/dkms install
rm "$tools/modinfo"
echo 'echo kernel/drivers/other.ko' | tool lsinitramfs
step without-kvm scripts/dkms install
headers 6.1.0-1-builtin 6.1.1-1 CONFIG_KVM_AMD=y
step builtin dkms install kvm-nmi/$VERSION -k 6.1.0-1-builtin
headers 6.1.0-2-unset 6.1.1-1 '# CONFIG_KVM_AMD is not set'
step unset dkms install kvm-nmi/$VERSION -k 6.1.0-2-unset
headers 6.1.0-3-older 6.1.1-1 CONFIG_KVM_AMD=m
step older dkms install kvm-nmi/$VERSION -k 6.1.0-3-older
step older-by-make env KVER=6.1.0-3-older scripts/dkms install
headers 6.5.0-1-other 6.5.1-1 CONFIG_KVM_AMD=m
step other dkms install kvm-nmi/$VERSION -k 6.5.0-1-other
step missing env KVER=6.1.0-9-missing scripts/dkms install
step kept true; found
# Trees with an error in them, as somebody works on one.
changed="$SCRATCH/changed"
mkdir "$changed"
(cd "$ROOT" && cp -R dkms.conf Makefile Kbuild arch scripts "$changed")
echo '#error broken' >>"$changed/arch/x86/kvm/svm/nmi.c"
step broken "$changed/scripts/dkms" install; found; dkms status kvm-nmi -k "$KVER" | grep -o installed
step remove scripts/dkms remove; found; ls -d /usr/src/kvm-nmi-* /var/lib/dkms/kvm-nmi 2>/dev/null
step remove-again scripts/dkms remove
step broken-first "$changed/scripts/dkms" install
found; dkms status kvm-nmi; ls -d /usr/src/kvm-nmi-* 2>/dev/null
"""

VERSION = re.search(r'(?m)^PACKAGE_VERSION="(.*)"$', (ROOT / "dkms.conf").read_text()).group(1)


class Dkms(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not Path("/lib/modules", KVER, "build").exists():
            raise unittest.SkipTest(f"make dkms: the headers of {KVER} are not installed here, only fetched")
        # Where / is a folder of a mount, in a chroot, nothing can be said of that mount.
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        is_mount = any(line.split()[4] == "/" for line in mounts)
        propagation = [] if is_mount else ["--propagation", "unchanged"]
        own_user = [] if os.geteuid() == 0 else ["--map-root-user"]
        with tempfile.TemporaryDirectory() as scratch:
            done = subprocess.run(["unshare", "--mount", *propagation, *own_user, "sh", "-c", STEPS],
                                  cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env=os.environ | {"ROOT": str(ROOT), "SCRATCH": scratch, "IMAGE": str(IMAGE),
                                                    "VERSION": VERSION})
        cls.steps = {name: (int(status), said, after.split()) for name, said, status, after in
                     re.findall(r"^step (\S+)\n(.*?)^status (\d+)\n(.*?)(?=^step |\Z)", done.stdout, re.M | re.S)}
        if "broken-first" not in cls.steps:
            raise AssertionError(f"the steps did not end\n{done.stdout}")

    OURS = ["updates/dkms/kvm-intel.ko", "updates/dkms/kvm-amd.ko"]
    STOCK = ["kernel/arch/x86/kvm/kvm-intel.ko", "kernel/arch/x86/kvm/kvm-amd.ko"]

    def assert_step(self, name, succeeds, said):
        status, was_said, after = self.steps[name]
        self.assertRegex(was_said, rf"(?m){said}")
        self.assertEqual(status == 0, succeeds, was_said)
        return [re.sub(r"\.ko\.\w+$", ".ko", word) for word in after]

    def test_install(self):
        """modprobe finds ours once DKMS has installed them, and a second time changes nothing"""
        self.assertEqual(self.assert_step("before", True, ""), self.STOCK)
        self.assertEqual(self.assert_step("install", True, f"^dkms-install: kvm-nmi {VERSION} is installed for "
                                          f"{re.escape(KVER)};"), self.OURS + [VERSION])
        self.assert_step("again", True,
                         rf"\Adkms-install: kvm-nmi {VERSION} is installed for {re.escape(KVER)} already$")

    def test_initramfs(self):
        """an initramfs with KVM's modules is made anew, once, and one without is left alone"""
        image = f"/boot/initrd.img-{KVER}"
        self.assert_step("install", True, f"^dkms-install: {re.escape(image)} has modules of KVM in it: making it")
        self.assertEqual(self.assert_step("initramfs", True, ""), ["-u", "-k", KVER])
        self.assert_step("stale", False, f"^dkms-install: update-initramfs -u -k .* failed: {re.escape(image)} still")
        self.assert_step("without-kvm", True, r"\Adkms-install: kvm-nmi .* already$")

    def test_hidden(self):
        """modules that modprobe does not find are not called installed"""
        self.assert_step("hidden", False, "^dkms-install: DKMS has installed .* modprobe finds /lib/modules/other.ko:")

    def test_remove(self):
        """modprobe finds the distribution's after removal, nothing else is left, and twice is once"""
        self.assertEqual(self.assert_step("remove", True, "^dkms-remove: modprobe finds the distribution's"),
                         self.STOCK)
        self.assert_step("remove-again", True, r"\Adkms-remove: DKMS has no kvm-nmi$")

    def test_broken(self):
        """a tree that does not build leaves all as it was: what is installed, or nothing for DKMS to know of"""
        said = "^dkms-install: the modules do not build for .* Nothing was"
        self.assertEqual(self.assert_step("broken", False, f"{said} changed"), self.OURS + ["installed"])
        self.assertEqual(self.assert_step("broken-first", False, f"{said} installed"), self.STOCK)

    def test_declined(self):
        """DKMS declines kernels that cannot have these modules, with the reason"""
        for step, kver, reason in (
                ("builtin", "6.1.0-1-builtin", r"its KVM is built in \(CONFIG_KVM_AMD=y\)"),
                ("unset", "6.1.0-2-unset", r"it has no module of KVM to replace \(CONFIG_KVM_AMD is not set\)"),
                ("other", "6.5.0-1-other", r"only 6\.1 .*are supported"),
                ("older", "6.1.0-3-older", r"the headers of .* are version 6\.1\.1-1, linux-source-6\.1 is .*, "
                                           r"and apt knows no linux-source-6\.1 6\.1\.1-1: run .*"),
                ("older-by-make", "6.1.0-3-older", "the headers of .*, and apt knows no")):
            with self.subTest(step):
                self.assert_step(step, False, f"^kvm-nmi: not built for {kver}: {reason}")
        self.assert_step("missing", False,
                         "^dkms-install: the headers of .* apt-get install linux-headers-6.1.0-9-missing$")
        self.assertEqual(self.assert_step("kept", True, ""), self.OURS)

    def test_series(self):
        """dkms.conf names the series that can be built, and only those"""
        supported = subprocess.run([ROOT / "scripts/kernel", "--supported"], check=True, text=True,
                                   capture_output=True).stdout.split()
        pattern = re.search(r'(?m)^BUILD_EXCLUSIVE_KERNEL="(.*)"$', (ROOT / "dkms.conf").read_text()).group(1)
        self.assertEqual([f"{major}.{minor}" for major in range(5, 9) for minor in range(30)
                          if re.search(pattern, f"{major}.{minor}.0-1-amd64")], supported)


class Deb(unittest.TestCase):
    def test_deb(self):
        """the package is built, lintian finds nothing in it, and it holds what DKMS needs"""
        done = subprocess.run(["scripts/deb"], cwd=ROOT, text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        deb = ROOT / "build/deb" / f"kvm-nmi-dkms_{VERSION}_all.deb"
        with tempfile.TemporaryDirectory() as folder:
            tree, package = Path(folder, "tree"), Path(folder, "package")
            subprocess.run([ROOT / "scripts/dkms-tree", tree], check=True)
            subprocess.run(["dpkg-deb", "-x", deb, package], check=True)
            same = subprocess.run(["diff", "-r", tree, package / f"usr/src/kvm-nmi-{VERSION}"],
                                  text=True, capture_output=True)
        self.assertEqual((same.returncode, same.stdout), (0, ""))


if __name__ == "__main__":
    unittest.main()
