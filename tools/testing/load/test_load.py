# SPDX-License-Identifier: GPL-2.0-only
"""'make load' and 'make unload', tried on an emulated host."""

import os
import re
import subprocess
import unittest
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
ROOT = TESTING.parents[1]
KVER = os.environ["KVER"]

# Each step prints its name, what it says, and its status. They run in a copy of
# the few files they need: the host may not see where this checkout is.
STEPS = """
step() { name=$1; shift; echo "step $name"; "$@" 2>&1; echo "status $?"; }
loaded() { cat /sys/module/kvm_amd/version 2>/dev/null || echo stock; }
with_vm() {
	sh -c 'exec 3</dev/kvm; exec sleep 999' &
	until ls -l /proc/$!/fd | grep -q /dev/kvm && grep -q sleep /proc/$!/comm; do sleep 0.1; done
	"$@"; status=$?; kill $!; wait $!; return $status
}
export KVER=$(uname -r)
load="./scripts/load-module load" unload="./scripts/load-module unload"
mkdir -p scripts "build/$KVER"
mv load-module scripts
mv kvm-amd.ko "build/$KVER"

step unload-stock $unload
step load $load; loaded
step load-again $load
step unload-busy with_vm $unload; loaded
step unload $unload; loaded
step load-busy with_vm $load; loaded
KVER=9.9.9 step other-kernel $load; loaded
mkdir -p /run/modprobe.d
echo 'options kvm-amd nested=0' >/run/modprobe.d/kvm.conf
step options $load; cat /sys/module/kvm_amd/parameters/nested
rm /run/modprobe.d/kvm.conf
step unload-last $unload

# A module that this kernel does not take, then none.
sed -i 's/SMP preempt mod_unload/SMP preempt mod_never_/' "build/$KVER/kvm-amd.ko"
step refused $load; loaded
rm "build/$KVER/kvm-amd.ko"
step missing $load; loaded

sed 's/\\<svm\\>//' /proc/cpuinfo >cpuinfo
mount --bind cpuinfo /proc/cpuinfo
step other-cpu $load; loaded
umount /proc/cpuinfo
"""


class Load(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if "amd" not in (os.environ.get("HOSTS") or "amd").split():
            raise unittest.SkipTest("make load: HOSTS leaves out amd")
        module = ROOT / "build" / KVER / "kvm-amd.ko"
        done = subprocess.run([TESTING / "hosts/run", "amd", "--stock",
                               "--with", ROOT / "scripts/load-module", "--with", module, "--", STEPS],
                              text=True, capture_output=True)
        if done.returncode:
            raise AssertionError(f"the host ended with status {done.returncode}\n{done.stdout}{done.stderr}")
        cls.steps = {name: (int(status), said, after.strip()) for name, said, status, after in
                     re.findall(r"^step (\S+)\n(.*?)^status (\d+)\n(.*?)(?=^step |\Z)", done.stdout, re.M | re.S)}
        version = subprocess.run(["modinfo", "-F", "version", module], text=True,
                                 check=True, capture_output=True)
        cls.ours = version.stdout.strip()

    def assert_step(self, name, status, said, after):
        """A step ends with STATUS and says one line like SAID; AFTER is the version loaded then."""
        self.assertIn(name, self.steps)
        was_status, was_said, was_after = self.steps[name]
        self.assertRegex(was_said, said)
        self.assertEqual((was_status, was_after), (status, after))

    def test_load(self):
        """load replaces the distribution's module, and says so when done before"""
        self.assert_step("load", 0, f"^load: kvm_amd {self.ours} is loaded", self.ours)
        self.assert_step("load-again", 0, "^load: this kvm_amd is loaded already", "")

    def test_unload(self):
        """unload brings the distribution's back, and leaves it when it is there"""
        self.assert_step("unload-stock", 0, "^unload: kvm_amd is the distribution's already", "")
        self.assert_step("unload", 0, "^unload: the distribution's kvm_amd is loaded", "stock")

    def test_busy(self):
        """neither touches a module in use, and both name the user"""
        for step, after in ("load-busy", "stock"), ("unload-busy", self.ours):
            self.assert_step(step, 1, r"(?m)kvm_amd is in use: .*; held by: sleep \d+$", after)

    def test_options(self):
        """options in modprobe.d hold for our module too"""
        self.assert_step("options", 0, "is loaded", "0")

    def test_other_kernel(self):
        """a module for another kernel is refused"""
        self.assert_step("other-kernel", 1, f"^load: .* is for 9.9.9, running is {re.escape(KVER)}", "stock")

    def test_other_cpu(self):
        """a CPU without SVM and VMX is refused"""
        self.assert_step("other-cpu", 1, "^load: this CPU has neither VMX nor SVM", "stock")

    def test_missing(self):
        """a module that is not built yet is asked for"""
        self.assert_step("missing", 1, "^load: build/.*kvm-amd.ko is missing: run make first", "stock")

    def test_refused(self):
        """a module that the kernel refuses gives way to the distribution's again"""
        self.assert_step("refused", 1, "(?m)^load: the kernel refuses .*the stock kvm_amd is loaded again", "stock")


if __name__ == "__main__":
    unittest.main()
