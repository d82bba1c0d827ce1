# SPDX-License-Identifier: GPL-2.0-only
"""'make report': the machine is left as it was whatever happens, and reports say what was seen."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools/report"
sys.path[:0] = [str(Path(__file__).resolve().parent), str(TOOL)]

import page
import picture
import record
import text
from as_module import as_module

CPUINFO = """\
vendor_id	: AuthenticAMD
model name	: Some CPU
microcode	: 0x1000065
flags		: fpu svm {flags}
"""

# In a folder of the PATH, or beside in-machine's tests. $MODULES notes what is loaded.
PROGRAMS = {
    "id": "echo 0",
    "dmesg": '[ ! -e "$MACHINE/dev/kmsg" ] || sed "s/^/[  12.3456] /" "$MACHINE/dev/kmsg"',
    "sync": 'echo synced >>"$MODULES.syncs"',
    "rmmod": 'rm -r "$MACHINE/sys/module/$1"',
    "insmod": """\
file=$1; shift
echo "$(basename "$(dirname "$file")") $*" | sed 's/ $//' >>"$MODULES"
refused=$REFUSE
[ "$refused" != last ] || ! grep -q ours "$MODULES" || refused=stock
[ "$refused" != "$(basename "$(dirname "$file")")" ] || { echo "insmod: refused" >&2; exit 1; }
parameters=$MACHINE/sys/module/kvm_amd/parameters
mkdir -p "$parameters"
case " $* " in *' vnmi=0 '*) echo N ;; *) echo Y ;; esac >"$parameters/vnmi"
case $file in */ours/*) echo 9.9 >"$MACHINE/sys/module/kvm_amd/version" ;; esac""",
}
TESTS = {
    "cpu_facts": """\
printf 'vendor AuthenticAMD\\nfamily 25\\nmodel 97\\nstepping 2\\nbrand Some CPU\\nsvm npt vnmi\\nmsr not read\\n'""",
    "nmi_a_test": """\
echo 1..3; echo ok 1 one; echo '# why'; echo not ok 2 two; echo 'ok 3 # SKIP three: no reason'; exit 1""",
    "nmi_fuzz_test": """\
echo "failed: nmi_fuzz_test 7 1"
echo "$2 programs from seed $1 on, 12 to their end, 1 not as the model says"; exit 1""",
    "nmi_cost": """\
echo "on CPU $([ "$3" != -p ] || echo "$4, core type 0x40")" | sed 's/ $/ 3/'
echo "rows plain-exit pair"
echo "cycles plain-exit samples $2 p1 1000 median 1010 p99 1100 exits 1"
echo "cost halted never"
echo "cycles pair samples $2 p1 5000 median 5100 p99 9000 exits 2"
echo "cycles plain-exit samples $2 p1 1000 median 1012 p99 1100 exits 1" """,
}


def write_program(path, lines):
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)


class Machine:
    """A machine of files, with both modules to load and tests that print what they are told to."""

    def __init__(self, folder, flags="constant_tsc nonstop_tsc", **tests):
        self.folder = folder
        self.root = folder / "machine"
        clock = self.root / "sys/devices/system/clocksource/clocksource0"
        folders = clock, *(self.root / name for name in ("sys/module/kvm_amd", "proc/sys/kernel", "dev"))
        for part in (*folders, folder / "bin", folder / "tests"):
            part.mkdir(parents=True)
        (clock / "current_clocksource").write_text("tsc\n")
        (self.root / "proc/cpuinfo").write_text(CPUINFO.format(flags=flags))
        (self.root / "proc/sys/kernel/tainted").write_text("12288\n")
        for name, lines in PROGRAMS.items():
            write_program(folder / "bin" / name, lines)
        for name, lines in {**TESTS, **tests}.items():
            write_program(folder / "tests" / name, lines)
        shutil.copy(ROOT / "tools/testing/selftests/kvm/run-tests", folder / "tests")
        for which in "stock", "ours":
            (folder / "tests/modules" / which).mkdir(parents=True)

    def start(self, **settings):
        environment = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "MACHINE": str(self.root),
                       "MODULES": str(self.folder / "loads"), "TESTS": "", "PROGRAMS": "24", "SAMPLES": "100",
                       **settings}
        return subprocess.Popen(["sh", TOOL / "in-machine", self.folder / "tests"], env=environment, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, **settings):
        with self.start(**settings) as process:
            said, errors = process.communicate()
        return process.returncode, said, errors

    def loads(self):
        """What was loaded, one after the other."""
        file = self.folder / "loads"
        return file.read_text().splitlines() if file.exists() else []


class WithMachine(unittest.TestCase):
    def machine(self, **kwargs):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Machine(Path(folder.name), **kwargs)

    def wait_for(self, pid):
        """Until a test that is to be broken off runs, and has said its number in this file."""
        deadline = time.monotonic() + 60
        while not pid.exists() or not pid.read_text().endswith("\n"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)


class InMachine(WithMachine):
    def test_whole(self):
        """each module on each path, and the distribution's at the end"""
        machine = self.machine()
        status, said, errors = machine.run()
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(machine.loads(), ["stock", "stock vnmi=0", "ours", "ours vnmi=0", "stock"])
        report = record.parse(said)
        self.assertEqual([(run["module"], run["path"], run["parameters"]) for run in report["runs"]],
                         [("stock", "SVM vNMI", ""), ("stock", "SVM IRET window", "vnmi=0"),
                          ("ours", "SVM vNMI", ""), ("ours", "SVM IRET window", "vnmi=0")])
        self.assertEqual([run["version"] for run in report["runs"]], ["the distribution's"] * 2 + ["9.9"] * 2)
        self.assertEqual(report["cpu"]["microcode"], "0x1000065")

    def test_one_path(self):
        """PATHS narrows to one of them, PARAMETERS go to both modules"""
        machine = self.machine()
        status, said, _ = machine.run(PATHS="vnmi=0", PARAMETERS="x=1")
        self.assertEqual(status, 0)
        self.assertEqual([run["path"] for run in record.parse(said)["runs"]], ["SVM IRET window"] * 2)
        self.assertEqual(machine.loads(), ["stock x=1", "stock x=1 vnmi=0", "ours x=1", "ours x=1 vnmi=0", "stock x=1"])

    def test_hybrid(self):
        """costs are those of a fast core, where there are others, and the report says of which"""
        for cpus, where in ((None, "CPU 3"), ("0-7,10-11\n", "CPU 11, a performance core"),
                            ("4\n", "CPU 4, a performance core")):
            with self.subTest(cpus):
                machine = self.machine()
                if cpus:
                    file = machine.root / "sys/devices/cpu_core/cpus"
                    file.parent.mkdir(parents=True)
                    file.write_text(cpus)
                report = record.parse(machine.run()[1])
                self.assertEqual([run["costs-on"] for run in report["runs"]], [where] * 4)
                report.update({"name": "x"})
                self.assertIn(f"samples of each cost on {where}", " ".join("\n".join(text.screen(report)).split()))
        self.assertEqual(record.measured_on(["on CPU 2, core type 0x20"]), "CPU 2, an efficient core")

    def test_progress(self):
        """what is done, and from that how long all of it takes"""
        record_of_two = ("@amount tests nmi_a_test nmi_b_test|@amount programs 24|@amount samples 0|@plan 2|"
                         "@run stock SVM IRET window|@part tests|# nmi_a_test|ok 1 a|# nmi_b_test|"
                         "@part programs|24 programs|@plan 2|@run ours SVM IRET window|@part tests|# nmi_a_test|")
        with tempfile.TemporaryDirectory() as folder:
            # A clock that goes on by half a minute whenever it is looked at.
            write_program(Path(folder, "date"), f'echo x >>{folder}/looks; echo $((30 * $(wc -l <{folder}/looks)))')
            done = subprocess.run([TOOL / "progress"], input=record_of_two.replace("|", "\n"), text=True,
                                  capture_output=True, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"})
        stock, ours = (f"{whose} module, SVM IRET window: " for whose in ("the distribution's", "this project's"))
        self.assertEqual((done.stdout.splitlines(), done.stderr), ([
            f"0:30  {stock}selftests",
            "1:00    nmi_a_test",
            "1:30 of about 9:00    nmi_b_test",             # 30 of 180 shares
            f"2:00 of about 6:00  {stock}random programs",  # 60
            f"2:30 of about 5:00  {ours}selftests",         # 90
            "3:00 of about 6:00    nmi_a_test",
        ], ""))

    def test_plan(self):
        """how many runs there will be is told before the first, and told again if ours has more paths"""
        said = self.machine().run()[1]
        self.assertEqual([line for line in said.splitlines() if line.startswith("@plan")], ["@plan 4", "@plan 4"])
        machine = self.machine()
        # As kvm-amd of 6.1, which knows no vNMI.
        write_program(machine.folder / "bin/insmod", PROGRAMS["insmod"].replace(
            "case $file in", 'case $file in */stock/*) rm "$parameters/vnmi" ;; esac\ncase $file in'))
        said = machine.run()[1]
        self.assertEqual([line for line in said.splitlines() if line.startswith("@plan")], ["@plan 2", "@plan 3"])
        self.assertEqual(len(record.parse(said)["runs"]), 3)

    def test_broken_off(self):
        """a signal ends what runs, also what has left its group, and loads the distribution's module"""
        for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
            with self.subTest(number.name):
                machine = self.machine(nmi_a_test='echo $$ >"$MODULES.pid"; exec sleep 300')
                pid = machine.folder / "loads.pid"
                with machine.start() as process:
                    self.wait_for(pid)
                    process.send_signal(number)
                    said, errors = process.communicate(timeout=60)
                self.assertEqual((process.returncode, errors), (128 + number, ""))
                self.assertEqual(machine.loads(), ["stock", "stock"])
                self.assertFalse(Path(f"/proc/{pid.read_text().strip()}").exists())
                with self.assertRaisesRegex(record.BrokenRecord, "broken off in nmi_a_test .the distribution's module, "
                                                                 "SVM vNMI.$"):
                    record.parse(said)

    def test_left_behind(self):
        """what a test had set in kvm.ko is set back when it is broken off, and nothing is traced any more"""
        machine = self.machine(nmi_a_test='echo 1 >"$MACHINE/sys/module/kvm/parameters/force_emulation_prefix"; '
                                          'mkdir "$MACHINE/sys/kernel/tracing/instances/nmi_test-$$"; '
                                          'echo $$ >"$MODULES.pid"; exec sleep 300')
        prefix = machine.root / "sys/module/kvm/parameters/force_emulation_prefix"
        instances = machine.root / "sys/kernel/tracing/instances"
        for path in prefix.parent, instances / "another":
            path.mkdir(parents=True)
        prefix.write_text("0\n")
        pid = machine.folder / "loads.pid"
        with machine.start() as process:
            self.wait_for(pid)
            self.assertEqual(prefix.read_text(), "1\n")
            process.terminate()
            self.assertEqual(process.communicate(timeout=60)[1], "")
        self.assertEqual(prefix.read_text(), "0\n")
        self.assertEqual([path.name for path in instances.iterdir()], ["another"])

    def test_ours_refused(self):
        """if the kernel refuses our module the distribution's is loaded again"""
        machine = self.machine()
        status, said, errors = machine.run(REFUSE="ours")
        self.assertEqual((status, errors), (1, "report: kvm_amd (ours) does not load: insmod: refused "
                                               "(dmesg may tell more)\n"))
        self.assertEqual(machine.loads(), ["stock", "stock vnmi=0", "ours", "stock"])
        self.assertRaises(record.BrokenRecord, record.parse, said)

    def test_not_restored(self):
        """if the distribution's does not load again in the end there is a report, and the status says so"""
        status, said, errors = self.machine().run(REFUSE="last")
        self.assertEqual((status, errors.partition(" could")[0]), (1, "report: the distribution's kvm_amd"))
        record.parse(said)

    def test_none_before(self):
        """where no vendor module was loaded none is in the end, whatever the end: VMX or SVM may be another's"""
        for refused in "", "ours":
            with self.subTest(refused):
                machine = self.machine()
                (machine.root / "sys/module/kvm_amd").rmdir()
                self.assertEqual(machine.run(REFUSE=refused)[0], 1 if refused else 0)
                self.assertEqual(machine.loads()[0], "stock")
                self.assertTrue(machine.loads()[-1].startswith("ours"))
                self.assertFalse((machine.root / "sys/module/kvm_amd").exists())

    def test_first_refused(self):
        """a refusal at the very first load leaves it at that"""
        machine = self.machine()
        self.assertEqual(machine.run(REFUSE="stock")[0], 1)
        self.assertEqual(machine.loads(), ["stock"])

    def test_no_tsc(self):
        """where the TSC cannot be trusted there are no cycles, and the record says why"""
        for flags, clock, why in (("constant_tsc", "tsc", "the CPU has no nonstop_tsc"),
                                  ("constant_tsc nonstop_tsc", "hpet", "the kernel's clock is hpet")):
            with self.subTest(why):
                machine = self.machine(flags=flags)
                file = machine.root / "sys/devices/system/clocksource/clocksource0/current_clocksource"
                file.write_text(f"{clock}\n")
                report = record.parse(machine.run()[1])
                self.assertEqual(report["tsc"], why)
                self.assertFalse(any("costs" in run for run in report["runs"]))
                report.update({"name": "x", "kvm-nmi": "9.9"})
                self.assertIn(f"! the TSC cannot be trusted: {why}; no cycles", list(text.screen(report)))
                report = record.parse(machine.run(TRUST_TSC="y")[1])
                self.assertTrue(all("costs" in run for run in report["runs"]))

    def test_refusals(self):
        """no SVM or VMX, and not root, are a line each, and nothing is touched"""
        machine = self.machine()
        (machine.root / "proc/cpuinfo").write_text("flags : fpu\n")
        said = "report: this CPU has neither VMX nor SVM, or the firmware turned it off\n"
        self.assertEqual(machine.run(), (1, "", said))
        for which, setting in ("VMX", "Intel Virtualization Technology"), ("SVM", "SVM Mode"):
            write_program(machine.folder / "tests/cpu_facts", f"echo brand Some CPU; echo off {which}; echo msr read")
            said = f"report: this CPU has {which}, but the firmware turned it off: look for {setting} in its setup\n"
            self.assertEqual(machine.run(), (1, "", said))
        write_program(machine.folder / "bin/id", "echo 1000")
        self.assertEqual(machine.run(), (1, "", "report: must be root: sudo make report\n"))
        self.assertEqual(machine.loads(), [])

    def test_signed_only(self):
        """a kernel that takes signed modules only is told from an image, before anything is loaded"""
        machine = self.machine()
        write_program(machine.folder / "tests/signed-only", "exit 0")
        said = ("report: this kernel takes signed modules only (lockdown or module.sig_enforce), "
                "and those here are not\n")
        self.assertEqual(machine.run(), (1, "", said))
        self.assertEqual(machine.loads(), [])
        write_program(machine.folder / "tests/signed-only", "exit 1")
        self.assertEqual(machine.run()[0], 0)

    def test_complaint(self):
        """a warning of KVM while a module is tried is told, and who it names, also if it is not the first"""
        ours = "WARNING: CPU: 1 PID: 77 at arch/x86/kvm/vmx/nmi.c:9 vmx_x+0x1/0x2 [kvm_intel]"
        another = ("WARNING: CPU: 1 PID: 77 at drivers/net/x.c:9 x+0x1/0x2 [x]|RIP: 0010:x+0x1/0x2 [x]|"
                   "Modules linked in: kvm_intel kvm [last unloaded: kvm]| kvm_run+0x1/0x2 [kvm]|---[ end trace 0 ]---")
        crash = ("BUG: unable to handle page fault for address: 0|Oops: 0000 [#1] SMP|RIP: 0010:memset+0x1/0x2|"
                 " y+0x1/0x2 [y]| kvm_run+0x1/0x2 [kvm]")
        told = "WARNING: at arch/x86/kvm/vmx/nmi.c:9 vmx_x+0x1/0x2 [kvm_intel]"
        fault = "BUG: unable to x|RIP: 0010:memset+0x1/0x2| y+0x1/0x2 [y]"
        for said, first in ((ours, told), (another, None), (f"{another}|{ours}", told), (fault, None),
                            (crash, "BUG: unable to handle page fault for address: 0"), ("kvm_intel: fine", None)):
            with self.subTest(said):
                # The kernel has warned before.
                log = f"if [ ! -e $MODULES.told ]; then cat >>$MACHINE/dev/kmsg <<'E'|{said}|E|fi; touch $MODULES.told|"
                machine = self.machine(nmi_a_test=log.replace("|", "\n") + "echo 1..1; echo ok 1 a")
                (machine.root / "proc/sys/kernel/tainted").write_text("512\n")
                (machine.root / "dev/kmsg").write_text(f"{ours}\n")
                report = record.parse(machine.run(PATHS="default", PROGRAMS="0", SAMPLES="0")[1])
                self.assertEqual([run.get("complaint") for run in report["runs"]], [first, None])

    def test_no_log(self):
        """without the kernel's log only the first warning since the start can be told, and not whose it is"""
        machine = self.machine(nmi_a_test='echo 12800 >"$MACHINE/proc/sys/kernel/tainted"; echo 1..1; echo ok 1 a')
        write_program(machine.folder / "bin/dmesg", "exit 1")
        report = record.parse(machine.run()[1])
        first, *others = [run.get("complaint") for run in report["runs"]]
        self.assertEqual(first, "the kernel has warned or crashed (see dmesg); whether that was KVM cannot be told")
        self.assertEqual(others, ["whether the kernel has warned cannot be told: it had before, and its log is not to "
                                  "be had"] * 3)

    def test_safe(self):
        """before a module is swapped or a test, the programs or the costs begin, the disks have what was said"""
        machine = self.machine(**{name: f'echo {name} >>"$MODULES.syncs"\n{lines}' for name, lines in TESTS.items()})
        write_program(machine.folder / "bin/insmod", f'echo load >>"$MODULES.syncs"\n{PROGRAMS["insmod"]}')
        self.assertEqual(machine.run()[0], 0)
        steps = (machine.folder / "loads.syncs").read_text().split()
        begun = [at for at, step in enumerate(steps) if step not in ("synced", "cpu_facts")]
        self.assertEqual([steps[at] for at in begun[:5]], ["load", "nmi_a_test", "nmi_fuzz_test", "nmi_cost", "load"])
        for at in begun:
            with self.subTest(steps[at]):
                self.assertEqual(steps[at - 1], "synced", steps)

    def test_folders(self):
        """nor is a folder of a user, in the reasons of a failure or elsewhere"""
        for said, left in (
                ("/home/ann/kvm-nmi/build/6.1/src/tools/testing/selftests/kvm/lib/kvm_util.c:98: fd >= 0",
                 "lib/kvm_util.c:98: fd >= 0"),
                ("sh: cannot open '/home/ann'", "sh: cannot open '/~'"),
                ("(/srv/kvm-nmi/größe/d.c)", "(größe/d.c)"),
                ("x86/nmi_a_test.c:1: a/b/c/d", "x86/nmi_a_test.c:1: a/b/c/d"),
                *((file, file) for file in ("/sys/module/kvm/parameters/force_emulation_prefix", "/dev/cpu/0/msr")),
                ("1 / 2 / 3 //x/y/z", "1 / 2 / 3 //x/y/z")):
            self.assertEqual(record.without_folders(said), left)
        path = "/home/ann/kvm-nmi/src/lib/kvm_util.c"
        said = self.machine(nmi_a_test=f"echo 1..1; echo '# {path}:9: no'; echo not ok 1 a").run()[1]
        self.assertIn(path, said)
        report = record.parse(said)
        self.assertEqual(report["runs"][0]["failures"][0]["said"], ["lib/kvm_util.c:9: no"])
        self.assertNotIn("ann", json.dumps(report))

    def test_built_in(self):
        """nor in the programs, whose library is the kernel's and names its files"""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "home/ann")
            for name in "linux/kvm.h", "arch/x86/asm/kvm.h", "arch/x86/asm/svm.h", "arch/x86/asm/vmx.h":
                tree, _, header = name.rpartition("asm/") if "asm/" in name else name.rpartition("linux/")
                uapi = source / "tools" / tree / "include/uapi" / ("asm" if tree else "linux")
                uapi.mkdir(parents=True, exist_ok=True)
                (uapi / header).touch()
            file = "tools/testing/selftests/kvm/lib/named.c"
            (source / file).parent.mkdir(parents=True)
            (source / file).write_text("const char *file = __FILE__;\n")
            built = Path(folder, "out/klib/lib/named.o")
            subprocess.run(["make", "-s", "-C", ROOT / "tools/testing/selftests/kvm", f"KSRC={source}",
                            f"OUTPUT={folder}/out", "KHEADERS=", "CFLAGS=-O2", built], check=True, capture_output=True)
            self.assertIn(file.encode(), built.read_bytes())
            self.assertNotIn(b"/home/ann", built.read_bytes())

    def test_last_place(self):
        """what a record came to that was broken off, in it and in the summary of an image"""
        for lines, place in ((("@record 1",), "its beginning"),
                             (("@swap ours vnmi=0",), "loading this project's module with vnmi=0"),
                             (("@run stock SVM vNMI", "@part programs"),
                              "the (random )?programs .the distribution's module, SVM vNMI."),
                             (("@run ours VMX soft vNMI", "@part tests", "# nmi_a_test", "ok 1 a", "# nmi_b_test"),
                              "nmi_b_test .this project's module, VMX soft vNMI.")):
            with self.subTest(place), tempfile.NamedTemporaryFile("w+") as file:
                said = "".join(f"{line}\n" for line in lines)
                self.assertRegex(record.last_place(said), rf"\A{place}\Z")
                file.write(said)
                file.flush()
                done = subprocess.run([ROOT / "tools/iso/summary", file.name], text=True, capture_output=True)
                self.assertRegex(done.stdout, rf"the run was broken off in {place}\n\Z")

    def test_private(self):
        """no name of machine or user is in a record"""
        said = self.machine().run()[1]
        for name in os.uname().nodename, os.environ.get("USER", "root"):
            self.assertNotRegex(said, rf"\b{name}\b")


def sample(test, **changes):
    """A report as it would be kept."""
    report = record.parse(test.machine().run()[1])
    report.update({"name": "a", "kvm-nmi": "9.9", **changes})
    return report


class Report(WithMachine):
    def test_record(self):
        """results, programs and costs are those that were printed"""
        report = sample(self)
        run = report["runs"][0]
        self.assertEqual(run["counts"], {"passed": 1, "failed": 1, "skipped": 1})
        self.assertEqual(run["failures"], [{"test": "nmi_a_test", "claim": "two", "said": ["why"]}])
        self.assertEqual(run["programs"], {"wanted": 24, "ran": 24, "failed": [7], "ended": 12})
        self.assertEqual(run["costs"]["pair"], {"samples": 100, "p1": 5000, "median": 5100, "p99": 9000, "exits": 2})
        self.assertEqual(run["costs"]["halted"], "never")
        self.assertIsNone(run["noise"])
        self.assertIsNone(report["drift"])
        self.assertEqual(report["claims"], {"nmi_a_test": {"one": "++++", "two": "----", "three: no reason": "...."}})

    def test_stopped_programs(self):
        """programs that ended after so many failures, or by a signal, are counted as far as they came"""
        lines = ["failed: nmi_fuzz_test 3 1", "failed: nmi_fuzz_test 25 1"]
        self.assertEqual(record.parse_programs(lines, 1, 2000), {"wanted": 2000, "ran": 26, "failed": [3, 25]})
        self.assertEqual(record.parse_programs([], 137, 2000)["problem"], "ended with status 137")

    def test_noise(self):
        """a machine that is too noisy is called that"""
        plain = {"p1": 900, "median": 1000, "p99": 1200}
        self.assertIsNone(record.noise({"plain-exit": plain}, plain))
        self.assertRegex(record.noise({"plain-exit": plain}, {**plain, "median": 1100}), "1000 .* 1100 at the end")
        self.assertRegex(record.noise({"plain-exit": {**plain, "p99": 9000}}, plain), "9.0 times the median")
        self.assertRegex(record.noise({"plain-exit": "failed"}, None), "no figures")
        runs = [{"costs": {"plain-exit": {**plain, "median": median}}} for median in (1000, 1500)]
        self.assertRegex(record.drift(runs), "1000 cycles with one module, 1500 with another")
        self.assertIsNone(record.drift(runs[:1]))

    def test_screen(self):
        """one report fits on a screen, with all there is to it"""
        report = sample(self)
        lines = list(text.screen(report))
        self.assertLessEqual(max(map(len, lines)), 80, lines)
        self.assertLessEqual(len(lines), 30, lines)
        said = "\n".join(lines)
        for words in ("AuthenticAMD family 25 model 97 stepping 2, microcode 0x1000065", "without nrips",
                      "1 tests, 24 random programs, 100 samples", "1/1/1", "23 of 24", "5.00 5.10 9.00", "never",
                      "fails with ours, SVM vNMI: nmi_a_test: two"):
            self.assertIn(words, said)
        self.assertNotIn("noisy", said)

    def test_summary(self):
        """where there is no Python all of it is on a screen of 80 columns and 25 lines, with what is said after it"""
        rows = "".join(f"echo cycles {row} samples 9 p1 {1000 << at} median {1010 << at} p99 {90000 << at} exits 1\n"
                       for at, row in enumerate(text.COSTS) if row != "halted")
        machine = self.machine(nmi_cost=f"echo 'on CPU 9, core type 0x40'\n{rows}echo cost halted never\n"
                                        "echo cycles plain-exit samples 9 p1 1 median 2 p99 3 exits 1")
        said = machine.run()[1].replace("@cpu brand Some CPU", f"@cpu brand {'A long name of a CPU ' * 5}")
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(said)
            file.flush()
            done = subprocess.run([ROOT / "tools/iso/summary", file.name], text=True, capture_output=True)
        self.assertEqual(done.stderr, "")
        lines = done.stdout.splitlines()
        self.assertLessEqual(max(map(len, lines)), 79, done.stdout)
        self.assertLessEqual(len(lines), 24 - 3, done.stdout)
        self.assertRegex(done.stdout, r"(?m)^4 ours  SVM IRET window, vnmi=0 +1 +1 +1 +24 +1$")
        self.assertRegex(done.stdout, r"(?m)^plain-exit( +1\.01 +90\.0){4}$")
        self.assertRegex(done.stdout, r"(?m)^halted( +never){4}$")
        self.assertRegex(done.stdout, "(?m)^costs are those on CPU 9, core type 0x40 +hold")
        self.assertTrue(done.stdout.endswith("\n1 more and 3: not ok 2 two\n"), done.stdout)

    def test_comparison(self):
        """several beside each other: what differs, and no more; a skip with its reason is the same claim"""
        first, second = sample(self), sample(self, name="b")
        second["claims"] = {"nmi_a_test": {"one: lacking": "....", "two": "----", "three": "++++"}}
        said = "\n".join(text.comparison([first, second]))
        self.assertIn("+  +  +  +  .  .  .  .   nmi_a_test: one\n", said)
        self.assertIn(".  .  .  .  +  +  +  +   nmi_a_test: three\n", said)
        self.assertIn("two back to back      5.10  5.10  5.10  5.10  5.10  5.10  5.10  5.10\n", said)
        same = "\n".join(text.comparison([first]))
        self.assertNotIn("nmi_a_test: one", same)
        self.assertIn("nmi_a_test: two", same)

    def test_picture(self):
        """the picture is XML with a dot for each figure, and none without figures"""
        report = sample(self)
        drawn = xml.etree.ElementTree.fromstring("\n".join(picture.lines([report])))
        dots = [dot for dot in drawn.iter("{http://www.w3.org/2000/svg}circle") if list(dot)]
        self.assertEqual(len(dots), 2 * 4)
        for run in report["runs"]:
            del run["costs"]
        self.assertEqual(list(picture.lines([report])), [])

    def test_files(self):
        """a report becomes JSON and text, and its JSON can be compared"""
        tool = as_module(TOOL / "report")
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
            tool.FOLDER = Path(folder)
            tool.keep(self.machine().run()[1], "", {"kvm-nmi": "9.9"})
            kept = Path(folder, f"AuthenticAMD-25-97-2-0x1000065-{'.'.join(os.uname().release.split('.')[:2])}-"
                                f"{time.strftime('%Y-%m-%d')}.json")
            self.assertEqual(json.loads(kept.read_text())["runs"][0]["path"], "SVM vNMI")
            self.assertTrue(kept.with_suffix(".txt").read_text().startswith("kvm-nmi 9.9: AuthenticAMD-25-97-2-"))
            # The same again is a report of its own, unless it is given the name of another.
            tool.keep(self.machine().run()[1], "", {"kvm-nmi": "9.10"})
            second = kept.with_name(f"{kept.stem}-2.json")
            self.assertEqual([json.loads(file.read_text())["kvm-nmi"] for file in (kept, second)], ["9.9", "9.10"])
            self.assertTrue(second.with_suffix(".txt").exists() and second.with_suffix(".record").exists())
            tool.keep(self.machine().run()[1], second.stem, {"kvm-nmi": "9.11"})
            self.assertEqual(json.loads(second.read_text())["kvm-nmi"], "9.11")
            tool.compare([kept, kept])
            again = Path(folder, "report.rec")
            again.write_text(kept.with_suffix(".record").read_text())
            for file in Path(folder).glob(f"{kept.stem}*"):
                file.unlink()
            tool.main(["--record", str(again)])
            # Whoever makes a report of a record may have another version by now.
            self.assertEqual(json.loads(kept.read_text())["kvm-nmi"], "9.9")
            self.assertNotEqual(tool.version(), "9.9")
            again.write_text(again.read_text().replace("@version 9.9", "@version"))
            tool.main(["--record", str(again), "--name", "unknown"])
            self.assertEqual(json.loads(Path(folder, "unknown.json").read_text())["kvm-nmi"], tool.version())
            self.assertTrue(Path(folder, "compare.svg").exists())
            with self.assertRaisesRegex(tool.Refused, "broken off in its beginning; what was .* in .*broken.record"):
                tool.keep("@record 1\n@amount tests\n", "", {})
        self.assertIn("compare.txt and .svg", out.getvalue())

    def test_hang(self):
        """what is about to begin is in a file before it comes back, and that file is named by the next run"""
        tool = as_module(TOOL / "report")
        with tempfile.TemporaryDirectory() as folder:
            tool.FOLDER = Path(folder)
            tool.PARTIAL = Path(folder, "partial.record")
            ran = ["sh", "-c", 'echo "@run ours SVM vNMI"; echo "@part tests"; echo "# nmi_a_test"; tries=0; '
                               f'until grep -q nmi_a_test {tool.PARTIAL}; do tries=$((tries + 1)); '
                               '[ $tries -lt 100 ] || exit 7; sleep 0.1; done; '
                               f'[ ! -e {folder}/hang ] || cp {tool.PARTIAL} {folder}/hang']
            with open(os.devnull, "w") as nobody, contextlib.redirect_stderr(nobody):
                self.assertEqual(tool.run(ran, {}, tool.PARTIAL)[0], 0)
                self.assertFalse(tool.PARTIAL.exists())
                # As the machine leaves it that hangs then.
                Path(folder, "hang").touch()
                tool.run(ran, {}, tool.PARTIAL)
            Path(folder, "hang").rename(tool.PARTIAL)
            with contextlib.redirect_stderr(io.StringIO()) as errors:
                tool.tell_leftover()
                tool.tell_leftover()
            self.assertEqual(errors.getvalue(), "report: the last run came to no end: it was in nmi_a_test (this "
                             "project's module, SVM vNMI); what it had printed is in "
                             f"{folder}/broken-off.record, which is worth sending\n")

    def test_settings(self):
        """amounts that make no sense are refused in a line"""
        tool = as_module(TOOL / "report")
        with tempfile.TemporaryDirectory() as folder:
            for name, value, why in (("PROGRAMS", "many", "'many' is no number"), ("SAMPLES", "7", "0, or 64 to 10000"),
                                     ("SAMPLES", "20000", "to 10000"), ("TESTS", "nmi_x_test", "no test nmi_x_test")):
                with self.subTest(f"{name}={value}"), unittest.mock.patch.dict(os.environ, {name: value}):
                    self.assertRaisesRegex(tool.Refused, why, tool.settings, Path(folder))

    def test_no_report(self):
        """what is no report is named"""
        with tempfile.TemporaryDirectory() as folder:
            bad = Path(folder, "bad.json")
            for contents in "{", "[]", '{"format": 99}', None:
                with self.subTest(contents):
                    if contents is None:
                        bad.unlink()
                    else:
                        bad.write_text(contents)
                    done = subprocess.run([TOOL / "report", bad], text=True, capture_output=True)
                    self.assertEqual((done.returncode, done.stdout), (1, ""))
                    self.assertRegex(done.stderr, rf"\Areport: {bad} is .*report.*\n\Z")

    def test_cut_report(self):
        """one that lacks something, or has it of another kind, is named as well"""
        whole = sample(self, name="cut")
        with tempfile.TemporaryDirectory() as folder:
            cut, tool = Path(folder, "cut.json"), as_module(TOOL / "report")

            def refused(report, why):
                cut.write_text(json.dumps(report))
                self.assertRaisesRegex(tool.Refused, rf"\A{cut} is {why}\Z", tool.load, cut)

            cut.write_text(json.dumps(whole))
            self.assertEqual(tool.load(cut), whole)
            for lacks in "cpu", "kernel", "amounts", "runs", "claims", "name", "date", "kvm-nmi":
                with self.subTest(lacks):
                    refused({name: value for name, value in whole.items() if name != lacks},
                            f"no whole report: it has no {lacks}")
            for name, value in ("cpu", {}), ("runs", [{}]), ("runs", [{**whole["runs"][0], "counts": {}}]):
                with self.subTest(name):
                    refused({**whole, name: value}, r"no whole report: it has no \w+")
            for name, value in ("claims", []), ("amounts", 7), ("cpu", "x"), ("runs", "x"):
                with self.subTest(f"{name} {value}"):
                    refused({**whole, name: value}, r"no report: \w+")

    def test_refused_here(self):
        """this machine, without SVM or VMX, is refused before anything is built"""
        flags = Path("/proc/cpuinfo").read_text().split()
        if "svm" in flags or "vmx" in flags:
            self.skipTest("this CPU has SVM or VMX")
        done = subprocess.run(["make", "report"], cwd=ROOT, text=True, capture_output=True)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertEqual(done.stderr.splitlines()[0],
                         "report: this CPU has neither VMX nor SVM, or the firmware turned it off")

    def test_page(self):
        """the page of the reports is what is made of them"""
        reports = [json.loads(file.read_text()) for file in sorted(page.FOLDER.glob("*.json"))]
        self.assertTrue(reports)
        self.assertEqual(page.PAGE.read_text(), page.page(reports))
        self.assertEqual(page.PICTURE.read_text(), "\n".join(picture.lines(reports)) + "\n")


if __name__ == "__main__":
    unittest.main()
