# SPDX-License-Identifier: GPL-2.0-only
"""'make load' and 'make unload', tried on an emulated host of each vendor: what no vendor's
module changes on one of them, for Bochs takes long."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTING = HERE.parent
ROOT = TESTING.parents[1]
sys.path[:0] = str(TESTING / "harness"), str(TESTING / "hosts")

import suite
from kernel import Kernel, module_field
from process import tool
from records import HOSTS

KVER = os.environ["KVER"]
RE_KVER = re.escape(KVER)
BUILD = ROOT / "build" / KVER

# Make and scripts/load-module use these; a host that does not share the root of
# this machine has busybox's, which lack an option, or none. Its shell takes the
# programs that it has within for those in PATH.
PROGRAMS = "dash", "make", "bash", "find", "modprobe", "modinfo", "insmod", "rmmod"

# Each step prints its name, what it says, and its status. They run in a copy of
# the few files they need: the host may not see where this checkout is.
STEPS = """
step() { name=$1; shift; echo "step $name"; "$@" 2>&1; echo "status $?"; }
loaded() {
	[ -d "/sys/module/$module" ] || echo none
	[ ! -d "/sys/module/$module" ] || cat "/sys/module/$module/version" 2>/dev/null || echo stock
}
with_open() { sh -c 'exec 3</dev/kvm; exec sleep 60' & sleep 1; "$@"; status=$?; kill $!; wait $!; return $status; }
with_vm() {
	./halted_vm >vm 2>&1 &
	until grep . vm; do sleep 0.1; done
	"$@"; status=$?; kill $!; wait $!; return $status
}
covering() { # FILE COMMAND...: the command finds other contents in the file
	cat >cover; file=$1; shift
	mount --bind cover "$file" && { "$@"; status=$?; umount "$file"; return $status; }
}
. ./.host/job
kver=$(uname -r)
# What the host does not share it brings along.
[ -d /lib/modules ] || ln -s "$PWD/modules" /lib/modules
[ -e /bin/bash ] || ln -s /usr/bin/bash /bin
case $(readlink -f /bin/sh) in */busybox) ln -sf /usr/bin/dash /bin/sh ;; esac
mkdir /run/modprobe.d
echo "options $module $host_params" >/run/modprobe.d/host.conf
cd checkout
mv ../halted_vm .
ours=build/$kver/$(echo $module | tr _ -).ko
load="make load" unload="make unload"
once() { [ $module = kvm_amd ]; }

step unload-stock $unload
step load $load; loaded
step load-again $load
if once; then
	mkdir dkms; printf '#!/bin/sh\\necho 0.9\\n' >dkms/modinfo; chmod +x dkms/modinfo
	step unload-dkms env PATH="$PWD/dkms:$PATH" $unload; loaded
	printf '#!/bin/sh\\nexit 1\\n' >dkms/modinfo
	step unload-nothing env PATH="$PWD/dkms:$PATH" $unload; loaded
	step unload-busy with_open $unload; loaded
fi
step unload-vm with_vm $unload; loaded
step unload $unload; loaded
step unload-again $unload; loaded
step load-vm with_vm $load; loaded
nested() { cat "/sys/module/$module/parameters/nested"; }
swap=scripts/load-module
if once; then
	step load-busy with_open $load; loaded
	step check $swap check; loaded
	export CALLER=report; step check-vm with_vm $swap check; unset CALLER; loaded
	echo "kernel/arch/x86/kvm/$(basename $ours)" |
		step check-built-in covering "/lib/modules/$kver/modules.builtin" $swap check; loaded
	echo Y | step check-signed covering /sys/module/module/parameters/sig_enforce $swap check; loaded
fi
step anew $swap load --anew nested=0; nested
step anew-vm with_vm $swap unload --anew; loaded
step anew-again $swap load --anew; nested
step anew-stock $swap unload --anew nested=0; nested
step anew-stock-again $swap unload --anew; loaded

# Only a CPU with VMX has a line "vmx flags".
grep -v '^vmx flags' /proc/cpuinfo >plain
sed 's/^\\(flags.*\\) \\(vmx\\|svm\\)\\b/\\1/' plain | step no-cpu covering /proc/cpuinfo $load; loaded
sed '/^flags/{s/ vmx / wasvmx /;s/ svm / vmx /;s/ wasvmx / svm /}' plain |
	step other-vendor covering /proc/cpuinfo $load; loaded

once || exit 0

# make report: tests of its own, of which that of our module does not end.
mkdir rep
printf '#!/bin/sh\\necho vendor any\\n' >rep/cpu_facts
printf '#!/bin/sh\\n[ ! -e /sys/module/%s/version ] || exec sleep 300\\n' "$module" >rep/run-tests
chmod +x rep/*
export TESTS=none PROGRAMS=0 SAMPLES=0
report="sh tools/report/in-machine rep"
report_broken_off() {
	$report >record 2>&1 &
	until grep -q '^@run ours' record; do sleep 0.1; done
	sleep 1; kill $!; wait $!
}
step report-vm with_vm $report; loaded
step report-broken-off report_broken_off; loaded
grep '^@run' record
echo Y | step signed covering /sys/module/module/parameters/sig_enforce $load; loaded
mkdir sign
printf '#!/bin/sh\\n[ "$2" != signer ] || exec echo me\\nexec %s "$@"\\n' "$(command -v modinfo)" >sign/modinfo
chmod +x sign/modinfo
echo Y | step signed-by-me covering /sys/module/module/parameters/sig_enforce env PATH="$PWD/sign:$PATH" $load; loaded
step unload-signed $unload
echo 'options '$module' nested=0' >/run/modprobe.d/kvm.conf
step options $load; cat /sys/module/$module/parameters/nested
step options-again $load
rm /run/modprobe.d/kvm.conf
step unload-last $unload

# A kernel update: what was built is for the kernel before, and then also called so.
step other-kernel $load KVER=9.9.9; loaded
mv "build/$kver" build/6.1.0-1-amd64
step updated $load; loaded
mv build/6.1.0-1-amd64 "build/$kver"
sed -i 's/SMP preempt mod_unload/SMP preempt mod_never_/' "$ours"
step refused $load; loaded
"""


def checkout(folder):
    """What there is of a checkout after make, as far as load and unload go."""
    (folder / "build" / KVER).mkdir(parents=True)
    for file in "Makefile", "dkms.conf", "scripts", "tools/report":
        (folder / file).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-a", ROOT / file, (folder / file).parent], check=True)
    for module in "kvm-intel.ko", "kvm-amd.ko":
        shutil.copy(BUILD / module, folder / "build" / KVER)


def distribution(folder):
    """The vendor modules of the distribution and what they need, where modprobe finds them."""
    image = BUILD / "image"
    tree = folder / "lib/modules" / KVER
    tree.mkdir(parents=True)
    for table in "modules.order", "modules.builtin", "modules.builtin.modinfo":
        shutil.copy(image / "lib/modules" / KVER / table, tree)
    for file in Kernel(ROOT / "build", KVER).modules("kvm_intel", "kvm_amd"):
        target = folder / file.relative_to(image)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    tool("depmod", "-b", folder, KVER)
    return folder / "lib/modules"


def run_steps(host):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkout(folder / "checkout")
        subprocess.run(["gcc", "-Wall", "-Werror", "-O2", "-static", "-o", folder / "halted_vm",
                        HERE / "halted_vm.c"], check=True)
        (folder / "steps").write_text(STEPS)
        needs = [word for program in PROGRAMS for word in ("--needs", program)]
        files = [word for file in
                 (folder / "checkout", folder / "halted_vm", folder / "steps", distribution(folder))
                 for word in ("--with", file)]
        return subprocess.run([TESTING / "hosts/run", host, "--stock", *needs, *files, "--", "dash", "steps"],
                              text=True, capture_output=True)


RUNS = {}


def setUpModule():
    """Both hosts at once: each keeps one CPU busy, in Bochs for a minute and a half."""
    hosts = [host for host in ("amd", "intel") if host in (os.environ.get("HOSTS") or host).split()]
    with concurrent.futures.ThreadPoolExecutor(suite.HOSTS_AT_ONCE) as pool:
        RUNS.update(zip(hosts, pool.map(run_steps, hosts)))


class Load:
    host = module = None
    USERS = [("vm", "halted_vm")]

    @classmethod
    def setUpClass(cls):
        if cls.host not in RUNS:
            raise unittest.SkipTest(f"make load: HOSTS leaves out {cls.host}")
        done = RUNS[cls.host]
        if done.returncode:
            raise AssertionError(f"the host ended with status {done.returncode}\n{done.stdout}{done.stderr}")
        cls.steps = {name: (int(status), said, after.strip()) for name, said, status, after in
                     re.findall(r"^step (\S+)\n(.*?)^status (\d+)\n(.*?)(?=^step |\Z)", done.stdout, re.M | re.S)}
        cls.ours = module_field(BUILD / f"{cls.module.replace('_', '-')}.ko", "version")

    def assert_step(self, name, succeeds, said, after=None):
        """A step says a line like SAID; AFTER is the version loaded then."""
        self.assertIn(name, self.steps)
        status, was_said, was_after = self.steps[name]
        self.assertRegex(was_said, f"(?m)^{said}")
        self.assertEqual(status == 0, succeeds, was_said)
        if after:
            self.assertEqual(was_after, after, was_said)

    def loaded_already(self, params):
        """All of the line, with what modprobe has for the module."""
        words = " ".join(params)
        return f"load: this {self.module} is loaded already " \
            f'\\(modprobe has "{words}" for it: if that is new, make unload first\\)$'

    def test_load(self):
        """load replaces the distribution's module, and says so when done before"""
        self.assert_step("load", True, f"load: {self.module} {self.ours} is loaded", self.ours)
        self.assert_step("load-again", True, self.loaded_already(HOSTS[self.host].params))

    def test_unload(self):
        """unload brings the distribution's back, and leaves it when it is there"""
        self.assert_step("unload-stock", True, f"unload: {self.module} is the distribution's already$")
        self.assert_step("unload", True, f"unload: the distribution's {self.module} is loaded$", "stock")
        self.assert_step("unload-again", True, f"unload: {self.module} is the distribution's already$", "stock")

    def test_busy(self):
        """neither touches a module in use, by a virtual machine or a program, and both name it"""
        for user, process in self.USERS:
            for action, after in ("load", "stock"), ("unload", self.ours):
                with self.subTest(f"{action} {process}"):
                    self.assert_step(f"{action}-{user}", False,
                                     rf"{action}: {self.module} is in use: .*; held by: {process} \d+$", after)

    def test_anew(self):
        """with --anew each is loaded again, with parameters or without, and not while a VM runs"""
        without, by_default = ("N", "Y") if self.module == "kvm_intel" else ("0", "1")
        self.assert_step("anew", True, "load: .* is loaded", without)
        self.assert_step("anew-vm", False, f"unload: {self.module} is in use: ", self.ours)
        self.assert_step("anew-again", True, "load: .* is loaded", by_default)
        self.assert_step("anew-stock", True, "unload: the distribution's .* is loaded", without)
        self.assert_step("anew-stock-again", True, "unload: the distribution's .* is loaded", "stock")

    def test_other_vendor(self):
        """the other vendor's module does not load, and this one's stays"""
        other = {"kvm_intel": "amd", "kvm_amd": "intel"}[self.module]
        self.assert_step("other-vendor", False,
                         rf"load: the kernel refuses build/{RE_KVER}/kvm-{other}.ko \(see dmesg\)$",
                         "stock")

    def test_no_cpu(self):
        """a CPU without SVM and VMX is refused"""
        self.assert_step("no-cpu", False, "load: this CPU has neither VMX nor SVM", "stock")


class LoadAmd(Load, unittest.TestCase):
    host, module = "amd", "kvm_amd"
    USERS = [*Load.USERS, ("busy", "sleep")]

    def test_dkms(self):
        """unload does not take what DKMS has installed for the distribution's"""
        self.assert_step("unload-dkms", False, "unload: DKMS has installed .*: sudo make dkms-remove", self.ours)

    def test_nothing_to_go_back_to(self):
        """unload leaves ours where the distribution's is gone"""
        self.assert_step("unload-nothing", False, f"unload: modprobe finds no {self.module} for {RE_KVER}", self.ours)

    def test_check(self):
        """check says what would be refused, for whom it was asked, and touches nothing"""
        self.assert_step("check", True, "", "stock")
        self.assert_step("check-vm", False, rf"report: {self.module} is in use: .*; held by: halted_vm \d+$", "stock")
        self.assert_step("check-built-in", False, f"check: {self.module} is built into the kernel {RE_KVER}", "stock")
        self.assert_step("check-signed", False, "check: this kernel takes signed modules only", "stock")

    def test_report(self):
        """make report touches nothing while a VM runs; broken off with ours loaded, it brings the distribution's"""
        self.assert_step("report-vm", False, rf"report: {self.module} is in use: .*; held by: halted_vm \d+$", "stock")
        self.assertNotIn("@record", self.steps["report-vm"][1])
        self.assertEqual(self.steps["report-broken-off"][0], 143)
        self.assertRegex(self.steps["report-broken-off"][2], r"\Astock\n(@run stock .*\n)+@run ours ")

    def test_options(self):
        """options in modprobe.d hold for our module too"""
        self.assert_step("options", True, "load: .* is loaded", "0")
        self.assert_step("options-again", True, self.loaded_already((*HOSTS[self.host].params, "nested=0")))

    def test_signed(self):
        """a kernel that wants signed modules is not asked to take ours"""
        self.assert_step("signed", False, "load: this kernel takes signed modules only", "stock")

    def test_signed_module(self):
        """unless it is signed: whether the key is one that it knows is the kernel's to say"""
        self.assert_step("signed-by-me", True, f"load: {self.module} {self.ours} is loaded", self.ours)

    def test_other_kernel(self):
        """a module for another kernel is refused, also one from before a kernel update"""
        self.assert_step("other-kernel", False, f"load: .* is for 9.9.9, running is {RE_KVER}", "stock")
        self.assert_step("updated", False, f"load: build/{RE_KVER}/kvm-.*.ko is missing: run make first", "stock")

    def test_refused(self):
        """a module that the kernel refuses gives way to the distribution's again"""
        self.assert_step("refused", False, f"load: the kernel refuses .*the stock {self.module} is loaded again$",
                         "stock")


class LoadIntel(Load, unittest.TestCase):
    host, module = "intel", "kvm_intel"


if __name__ == "__main__":
    unittest.main()
