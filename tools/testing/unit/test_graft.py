# SPDX-License-Identifier: GPL-2.0-only
"""scripts/graft stops when a rule does not match as often as it says."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from as_module import as_module

ROOT = Path(__file__).resolve().parents[3]
grafting = as_module(ROOT / "scripts/graft")
SRC = ROOT / "build" / os.environ["KVER"] / "src"

VMX_C = """\
struct vcpu { int pending; };
static void inject(struct vcpu *vcpu)
{
	vcpu->pending--;	/* inject() once more: a comment is not a definition */
}

static struct ops { void (*inject)(struct vcpu *vcpu); } ops = {
	.inject = inject,
};

void run(struct vcpu *vcpu)
{
	enter(vcpu);
}
"""

COCCI = """\
/// Inject anew
//# files: vmx/vmx.c
//# matches: take_out 1 hook 6.1=1 6.12=2
//# gone: inject

virtual never

@take_out@
type T;
parameter list params;
position p;
@@
- T inject@p(params) { ... }

@hook@
symbol vcpu;
position p;
@@
  enter@p(vcpu);
+ entered(vcpu);
"""


# What to do about a kernel that our patches do not fit.
ADVICE = "graft: (this|get a newer) kvm-nmi"


class Scratch(unittest.TestCase):
    """A folder with a kernel's source, files of ours, and where they meet."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.src, self.ours, self.dest = (Path(folder.name, name) for name in ("src", "ours", "dest"))

    def graft(self):
        done = subprocess.run([ROOT / "scripts/graft", self.src, self.ours, self.dest],
                              text=True, capture_output=True)
        self.stderr = done.stderr
        return done.returncode

    def assert_refused(self, *messages):
        """The graft fails with exactly these lines, but for advice, and leaves nothing behind."""
        self.assertEqual(self.graft(), 1)
        self.assertEqual([line for line in self.stderr.splitlines() if not re.match(ADVICE, line)],
                         [f"graft: {message}" for message in messages])
        self.assertEqual(sorted(path.name for path in self.dest.parent.iterdir()), ["ours", "src"])


class SmallKernel(Scratch):
    def setUp(self):
        super().setUp()
        self.write_source(".version", "6.1.192-2\n")
        self.write_source("virt/kvm/kvm_main.c", "")
        self.write_source("arch/x86/kvm/vmx/vmx.c", VMX_C)
        self.write_ours("vmx/nmi.cocci", COCCI)
        self.write_ours("vmx/nmi.c", "/* ours */\n")

    def write_source(self, name, text):
        self.write(self.src / name, text)

    def write_ours(self, name, text):
        self.write(self.ours / "arch/x86/kvm" / name, text)

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def patch(self):
        folder = self.ours / "arch/x86/kvm"
        return grafting.SemanticPatch(folder, folder / "vmx/nmi.cocci")

    def result(self, name):
        return self.dest / "arch/x86/kvm" / name

    def test_applies(self):
        """rules take functions out, put calls in, and our files are beside them"""
        self.assertEqual(self.graft(), 0, self.stderr)
        text = self.result("vmx/vmx.c").read_text()
        self.assertNotIn("static void inject", text)
        self.assertIn(".inject = inject,", text)
        self.assertIn("\tenter(vcpu);\n\tentered(vcpu);\n", text)
        self.assertEqual(self.result("vmx/nmi.c").read_text(), "/* ours */\n")

    def test_label(self):
        """a label that a rule adds stands where labels do"""
        self.write_ours("vmx/nmi.cocci", COCCI.replace("  enter@p(vcpu);\n", "+ again:\n  enter@p(vcpu);\n"))
        self.assertEqual(self.graft(), 0, self.stderr)
        self.assertIn("{\nagain:\n\tenter(vcpu);\n", self.result("vmx/vmx.c").read_text())

    def test_renamed_function(self):
        """a renamed function stops the graft, which names rule, file and kernel"""
        self.write_source("arch/x86/kvm/vmx/vmx.c", VMX_C.replace("void inject(", "void inject_one("))
        self.assert_refused("rule take_out in vmx/nmi.cocci matched 0 times in vmx/vmx.c "
                            "of 6.1.192, expected 1")

    def test_advice(self):
        """who has a kernel that does not fit is told which one does, and how to stay with it"""
        self.write_source("arch/x86/kvm/vmx/vmx.c", "")
        for version, known in ("6.1.500", "; it is known to fit 6.1."), ("6.12.1", "; it is known to fit 6.12."), \
                              ("6.99.1", ". Nothing was changed"):
            self.write_ours("vmx/nmi.cocci", COCCI.replace("6.12=2", "6.12+=2"))
            self.write_source(".version", version + "-1\n")
            self.assertEqual(self.graft(), 1)
            fits, stay = self.stderr.splitlines()[-2:]
            self.assertTrue(fits.startswith(f"graft: this kvm-nmi does not fit {version}{known}"), fits)
            self.assertEqual(stay, "graft: get a newer kvm-nmi; or start an older kernel and keep it: "
                                   "sudo apt-mark hold linux-image-amd64 linux-headers-amd64")

    def test_advice_for_those_with_another(self):
        """one for which the modules are built is named if this machine can start it"""
        builds = self.dest.parent / "build"
        for kver in [path.parent.name for path in Path("/lib/modules").glob("*/kernel")] + ["6.1.0-0-gone"]:
            self.write(builds / kver / "kvm-amd.ko", "")
        self.write(builds / "new/src/.version", "6.1.500-1\n")
        self.src.joinpath(".version").unlink()
        self.src, self.dest = self.src.rename(self.src.with_name("source")), builds / "new/graft"
        self.write_source(".version", "6.1.500-1\n")
        self.write_source("arch/x86/kvm/vmx/vmx.c", "")
        self.assertEqual(self.graft(), 1)
        self.assertNotIn("6.1.0-0-gone", self.stderr)
        if any(Path("/lib/modules").glob("*/kernel")):
            self.assertRegex(self.stderr, r"; or start \S+, which has the modules, and keep it: sudo apt-mark hold")

    def test_no_advice(self):
        """what is wrong with spatch is no reason to keep a kernel"""
        self.write_ours("vmx/nmi.cocci", COCCI.replace("- T inject", "- T T inject"))
        self.assertEqual(self.graft(), 1)
        self.assertNotRegex(self.stderr, ADVICE)

    def test_too_many_matches(self):
        """a rule that matches too often is told with the functions it matched in"""
        more = VMX_C.replace("	enter(vcpu);\n", "	enter(vcpu);\n	enter(vcpu);\n")
        self.write_source("arch/x86/kvm/vmx/vmx.c", more)
        self.assert_refused("rule hook in vmx/nmi.cocci matched 2 times in vmx/vmx.c of 6.1.192, "
                            "expected 1 (in run run)")

    def test_report(self):
        """for a kernel that the heads do not know, each rule is told with its matches"""
        self.write_source(".version", "7.2.1-1\n")
        self.write_source("arch/x86/kvm/vmx/vmx.c", VMX_C.replace("void inject(", "void inject_one("))
        done = subprocess.run([ROOT / "scripts/graft", "--report", self.src, self.ours], text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line.split() for line in done.stdout.splitlines()],
                         ["vmx/nmi.cocci".split(), "take_out 0 1 in 6.12".split(), "hook 1 2 in 6.12 run".split(),
                          "0 of 2 rules match in 7.2.1 as often as in 6.12".split()])

    def test_report_of_a_structure(self):
        """what matches outside of any function is told with its file"""
        self.write_ours("vmx/nmi.cocci", "//# files: vmx/vmx.c\n//# matches: more 1 6.12=1\n@more@\nposition p;\n@@\n"
                                         "  struct vcpu@p { ... };\n+ struct more { int a; };\n")
        done = subprocess.run([ROOT / "scripts/graft", "--report", self.src, self.ours], text=True, capture_output=True)
        self.assertRegex(done.stdout, r"(?m)^  more +1  as in \S+ +vmx/vmx.c$", done.stderr)

    def test_report_of_what_is_left_out(self):
        """a rule that the newest update of the newest series leaves out is left out, and told"""
        self.write_source(".version", "7.2.1-1\n")
        self.write_ours("vmx/nmi.cocci", COCCI.replace("6.12=2", "6.12.118+=0 5.10=3"))
        done = subprocess.run([ROOT / "scripts/graft", "--report", self.src, self.ours], text=True, capture_output=True)
        self.assertEqual([line.split() for line in done.stdout.splitlines()],
                         ["vmx/nmi.cocci".split(), "take_out 1 as in 6.12 inject".split(),
                          "hook - left out as in 6.12".split(),
                          "1 of 1 rules match in 7.2.1 as often as in 6.12".split()])

    def test_failure_keeps_the_old_tree(self):
        """a graft that fails leaves the tree of the one before"""
        self.assertEqual(self.graft(), 0, self.stderr)
        before = self.result("vmx/vmx.c").read_text()
        self.write_source("arch/x86/kvm/vmx/vmx.c", "")
        self.assertEqual(self.graft(), 1)
        self.assertEqual(self.result("vmx/vmx.c").read_text(), before)

    def test_counts_are_per_kernel(self):
        """counts hold for their series, and one without a count is refused"""
        self.write_source(".version", "6.12.95-1\n")
        self.assert_refused("rule hook in vmx/nmi.cocci matched 1 times in vmx/vmx.c of 6.12.95, "
                            "expected 2 (in run)")
        self.write_source(".version", "6.6.1-1\n")
        self.assert_refused("rule hook in vmx/nmi.cocci does not say how often it matches in 6.6.1 "
                            "(only for: 6.1 6.12)")

    def test_counts_of_ranges(self):
        """a count holds from a series or an update on; the one that says most is taken"""
        expected = {"5.10.9": 1, "6.1.5": 3, "6.1.192": 3, "6.6.200": 3, "6.12.117": 4, "6.12.118": 5,
                    "6.12.120": 6, "6.13.1": 3, "7.3.4": 2, "7.4": 2}
        self.write_ours("vmx/nmi.cocci", COCCI.replace(
            "hook 6.1=1 6.12=2", "hook 1 6.1+=3 7.3+=2 6.12=4 6.12.118+=5 6.12.120+=6"))
        patch = self.patch()
        self.assertEqual({version: patch.expect("hook", version) for version in expected}, expected)

    def test_counts_of_an_update(self):
        """an update of one series says nothing of another series"""
        self.write_ours("vmx/nmi.cocci", COCCI.replace("hook 6.1=1 6.12=2", "hook 6.1.150+=1"))
        self.assertEqual(self.graft(), 0, self.stderr)
        self.write_source(".version", "6.1.149-1\n")
        self.assertEqual(self.graft(), 1)
        self.assertIn("does not say how often it matches in 6.1.149 (only for: 6.1.150+)", self.stderr)
        self.write_source(".version", "6.12.200-1\n")
        self.assertEqual(self.graft(), 1)

    def test_left_out(self):
        """a rule whose count is 0 is not applied, though it would match"""
        for head in "@hook@", "@hook depends on take_out@":
            self.write_ours("vmx/nmi.cocci", COCCI.replace("hook 6.1=1 6.12=2", "hook 1 6.1.192+=0")
                            .replace("@hook@", head))
            self.assertEqual(self.graft(), 0, self.stderr)
            self.assertNotIn("entered", self.result("vmx/vmx.c").read_text())
            self.assertNotIn("static void inject", self.result("vmx/vmx.c").read_text())

    def test_all_left_out(self):
        """a semantic patch of which no rule applies asks for none of its files"""
        self.write_ours("vmx/new.cocci", "//# files: vmx/new.c\n//# matches: new 1 6.1=0\n"
                                         "@new@\nposition p;\n@@\n- f@p();\n")
        self.assertEqual(self.graft(), 0, self.stderr)

    def place(self, place, **source):
        """Graft with the hook's place asserted, into a run() that has more in it."""
        self.write_source("arch/x86/kvm/vmx/vmx.c", VMX_C.replace(
            "	enter(vcpu);\n", source.get("run", "	load(vcpu);\n	enter(vcpu);\n	if (on(vcpu)) {\n"
                                                 "		leave(vcpu);\n	}\n")))
        self.write_ours("vmx/nmi.cocci", COCCI.replace("@hook@\n", f"@hook@\n//# place: {place}\n"))
        return self.graft()

    def test_in_its_place(self):
        """a rule that lands where it says it has to is content"""
        for place in ("run: entered", "run: load enter entered {leave}", "walk|run: load entered {leave|exit}",
                      "run: entered !load {leave}", "run: load !leave entered", "run: entered(vcpu) {leave} !load",
                      "run: if(on(vcpu)) {leave(vcpu)}"):
            with self.subTest(place):
                self.assertEqual(self.place(place), 0, self.stderr)

    def test_out_of_place(self):
        """a rule that lands elsewhere than it says stops the graft, which says what is where"""
        for place, wrong in (("walk: entered", "there is no such function"),
                             ("run: entered load", "there is no load after entered"),
                             ("run: leave", "there is no leave"),
                             ("run: {entered}", "there is no {entered}"),
                             ("run: ent", "there is no ent"),
                             ("run: load !enter entered", "there is enter after load"),
                             ("run: entered !{leave}", "there is {leave} after entered"),
                             ("run: !load entered", "there is load"),
                             ("run: load left|right", "there is no left|right after load")):
            with self.subTest(place):
                function, _, words = place.partition(": ")
                self.assertEqual(self.place(place), 1)
                self.assertEqual(self.stderr.splitlines()[0], "graft: rule hook in vmx/nmi.cocci has to land in "
                                 f"{function}() as {words}, but in 6.1.192 {wrong}")

    def test_moved_into_a_branch(self):
        """so does one whose neighbour an update has moved into a branch"""
        self.assertEqual(self.place("run: load entered", run="	load(vcpu);\n	if (on(vcpu))\n		enter(vcpu);\n"), 1)
        self.assertIn("there is no entered after load", self.stderr)

    def test_place_of_a_rule_left_out(self):
        """a rule that does not apply has no place"""
        self.write_ours("vmx/nmi.cocci", COCCI.replace("6.1=1", "6.1=0").replace(
            "@hook@\n", "@hook@\n//# place: walk: entered\n"))
        self.assertEqual(self.graft(), 0, self.stderr)

    def test_place_misspelt(self):
        """a place without a function or a word is refused"""
        for place in "run entered", "run:":
            self.assertEqual(self.place(place), 1)
            self.assertEqual(self.stderr, f"graft: rule hook in vmx/nmi.cocci: '//# place: {place}' is not "
                                          "'//# place: FUNCTION: WORD...'\n")

    def test_uncounted_rules(self):
        """a rule without a name, a position or a count is refused"""
        self.write_ours("vmx/nmi.cocci", COCCI.replace("@hook@", "@@"))
        self.assert_refused("vmx/nmi.cocci:15: a rule without a name cannot be counted")
        self.write_ours("vmx/nmi.cocci", COCCI.replace("symbol vcpu;\nposition p;", "symbol vcpu;"))
        self.assert_refused("rule hook in vmx/nmi.cocci declares no position to count it by")
        self.write_ours("vmx/nmi.cocci", COCCI.replace(" hook 6.1=1 6.12=2", ""))
        self.assert_refused("rule hook in vmx/nmi.cocci has no '//# matches:' line")
        self.write_ours("vmx/nmi.cocci", COCCI.replace("take_out 1", "take_out 1 other 1"))
        self.assert_refused("rule other in vmx/nmi.cocci is expected but not there")

    def test_no_part_of_it(self):
        """what mends the distribution's own code is left out of the graft, and in the report"""
        self.write_ours("fixes/run.cocci", "//# files: vmx/vmx.c\n//# until: vmx/nmi.cocci\n//# matches: again 1\n"
                                           "@again@\nsymbol vcpu;\nposition p;\n@@\n  enter@p(vcpu);\n+ again();\n")
        self.assertEqual(self.graft(), 0, self.stderr)
        self.assertNotIn("again", self.result("vmx/vmx.c").read_text())
        done = subprocess.run([ROOT / "scripts/graft", "--report", self.src, self.ours], text=True, capture_output=True)
        self.assertIn("fixes/run.cocci\n  again                 1  as in 6.1    run\n", done.stdout)

    def test_left_over(self):
        """a function that should be gone is found in any file"""
        self.write_source("arch/x86/kvm/vmx/other.c", "int *\ninject(int a,\n       int (*b)(void))\n{\n}\n")
        self.assert_refused("vmx/nmi.cocci should have taken inject out of vmx/other.c of 6.1.192, "
                            "but it is there still")

    def test_left_over_field(self):
        """so is a variable or field of that name, while a use is none"""
        for text, left in (("struct s { int inject; };", True), ("bool inject = 1;", True),
                           ("void f(void) { return inject; }", False),
                           ("void inject(void);", False), ("/* int inject; */", False)):
            with self.subTest(text):
                self.write_source("arch/x86/kvm/vmx/other.h", text + "\n")
                self.assertEqual(self.graft(), int(left), self.stderr)

    def test_broken_rule(self):
        """what spatch says about a broken rule is passed on"""
        self.write_ours("vmx/nmi.cocci", COCCI.replace("- T inject", "- T T inject"))
        self.assertEqual(self.graft(), 1)
        self.assertIn("graft: spatch failed with vmx/nmi.cocci on vmx/vmx.c", self.stderr)
        self.assertIn("parse error", self.stderr)

    def test_no_patches(self):
        """without any semantic patch there is nothing to graft"""
        (self.ours / "arch/x86/kvm/vmx/nmi.cocci").unlink()
        self.assert_refused(f"no semantic patches below {self.ours}/arch/x86/kvm")

    def test_unknown_file(self):
        """a file that the kernel does not have is named"""
        self.write_ours("vmx/nmi.cocci", COCCI.replace("files: vmx/vmx.c", "files: vmx/vmx.c vmx/main.c"))
        self.assert_refused("vmx/nmi.cocci is for vmx/main.c, which 6.1.192 does not have")

    def test_regraft(self):
        """grafting again keeps the time of what stays and removes what left"""
        self.assertEqual(self.graft(), 0, self.stderr)
        old = 10 ** 18
        os.utime(self.result("vmx/vmx.c"), ns=(old, old))
        self.result("vmx/vmx.o").touch()
        self.result("vmx/nmi.o").touch()
        (self.ours / "arch/x86/kvm/vmx/nmi.c").unlink()
        self.assertEqual(self.graft(), 0, self.stderr)
        self.assertEqual(self.result("vmx/vmx.c").stat().st_mtime_ns, old)
        self.assertTrue(self.result("vmx/vmx.o").exists())
        self.assertFalse(self.result("vmx/nmi.c").is_symlink())
        self.assertFalse(self.result("vmx/nmi.o").exists())

    def test_linked_folder(self):
        """a graft in a folder that is a link to another place finds our files"""
        real = self.dest.parent / "far/away"
        real.mkdir(parents=True)
        (self.dest.parent / "link").symlink_to(real)
        self.dest = self.dest.parent / "link/dest"
        self.assertEqual(self.graft(), 0, self.stderr)
        self.assertEqual(self.result("vmx/nmi.c").read_text(), "/* ours */\n")

    def test_other_version(self):
        """objects of another version of the kernel do not stay"""
        self.assertEqual(self.graft(), 0, self.stderr)
        self.result("vmx/vmx.o").touch()
        self.write_source(".version", "6.1.192-3\n")
        self.assertEqual(self.graft(), 0, self.stderr)
        self.assertFalse(self.result("vmx/vmx.o").exists())


class RealKernel(Scratch):
    """Our own patches on the target kernel's source, with one thing changed."""

    def assert_refused_after(self, folder, change, message):
        (self.src / "virt").mkdir(parents=True)
        for part in ("arch/x86/kvm", "virt/kvm"):
            shutil.copytree(SRC / part, self.src / part)
        stamp = shutil.copyfile(SRC / ".version", self.src / ".version").read_text()
        self.version = re.match(r"[0-9.]+", stamp).group()
        # Only the folder in question: the other one's patches take as long again.
        shutil.copytree(ROOT / "arch/x86/kvm" / folder, self.ours / "arch/x86/kvm" / folder)
        path = self.src / "arch/x86/kvm" / folder / f"{folder}.c"
        path.write_text(change(path.read_text()))
        self.assertEqual(self.graft(), 1)
        self.assertRegex(self.stderr, rf"(?m)^graft: {message}".replace("VERSION", self.version))

    def assert_rename_refused(self, folder, name, rule):
        self.assert_refused_after(folder, lambda text: text.replace(name + "(", name + "_renamed("),
                                  rf"rule {rule} in {folder}/nmi\.cocci matched \d+ times "
                                  rf"in {folder}/{folder}\.c.* of VERSION, expected \d+")

    def test_vmx(self):
        """a renamed function in this kernel's vmx.c stops our graft"""
        self.assert_rename_refused("vmx", "vmx_enable_nmi_window", "take_out")

    def test_svm(self):
        """a renamed function in this kernel's svm.c stops our graft"""
        self.assert_rename_refused("svm", "svm_enable_nmi_window", "take_out")

    def test_vmx_place(self):
        """so does a hook that would come too late, though its rule matches as often as it should"""
        def moved(text):
            call, later = "\tnested_vmx_free_vcpu(vcpu);\n", "\tfree_loaded_vmcs(vmx->loaded_vmcs);\n"
            begin = text.index(call)
            return text[:begin] + text[begin:].replace(call, "", 1).replace(later, later + call, 1)
        self.assert_refused_after("vmx", moved, r"rule free in vmx/nmi\.cocci has to land in vmx_vcpu_free\(\) .*, "
                                                r"but in VERSION there is no free_loaded_vmcs after vmx_nmi_free$")

    def test_svm_place(self):
        """so does a hook that would depend on what it did not depend on"""
        def branched(text):
            return text.replace("\tinit_vmcb(vcpu", "\tif (!init_event)\n\t\tinit_vmcb(vcpu")
        self.assert_refused_after("svm", branched, r"rule reset in svm/nmi\.cocci has to land in svm_vcpu_reset\(\) "
                                                   r".*, but in VERSION there is no init_vmcb$")


if __name__ == "__main__":
    unittest.main()
