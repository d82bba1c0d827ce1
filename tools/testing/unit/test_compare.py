# SPDX-License-Identifier: GPL-2.0-only
"""tools/testing/harness/compare puts what each module did into one row, hosts that did
not survive included."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from xml.etree import ElementTree

TESTING = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTING / "harness"))

from comparison import costs

# What a host prints and how it ends; the tests it is asked for are in $tests.
HOST = """#!/bin/sh
name=$1 module=ours
case " $* " in
*" --stock --kver 6.12.9 "*) module=other ;;
*" --stock "*) module=stock ;;
esac
case $* in
*nmi_cost*) what=cost ;;
*) what=tests ;;
esac
here=$(dirname "$0")/../../../records
echo "$name $module $what" $* >>"$here/boots"
for record in "$here/$name.$module.$what" "$here/$module.$what" "$here/$what"; do
	[ -e "$record" ] && exec sh "$record" "$@"
done
"""

GOOD = """cat <<'END'
# nmi_one_test
TAP version 13
1..2
ok 1 an NMI comes
ok 2 it comes once: not twice
# nmi_one_test: status 0
# nmi_two_test
TAP version 13
1..1
ok 1 it ends
# nmi_two_test: status 0
END
"""

OTHER = """cat <<'END'
# nmi_one_test
TAP version 13
1..2
# expected 1, seen 2
not ok 1 an NMI comes
ok 2 # SKIP it comes once: not twice: no second one here
# nmi_one_test: status 1
# nmi_two_test
TAP version 13
1..0 # SKIP no NMIs
# nmi_two_test: status 4
END
exit 1
"""

# Hangs in its first program; without that one the rest is good.
CRASH = """case $* in
*nmi_one_test*)
	echo '# nmi_one_test'
	echo 'run: amd: crashed: the end' >&2
	echo 'run: the console log is somewhere' >&2
	exit 125
esac
cat <<'END'
# nmi_two_test
1..1
ok 1 it ends
# nmi_two_test: status 0
END
"""

COMPLAINT = GOOD + """
echo 'run: amd: the kernel complained: WARNING: x' >&2
exit 125
"""

ROWS = ("plain-exit", "lone", "lone-irqs-off", "halted", "pair", "pair-irqs-off", "irq-behind",
        "ten-in-handler", "ten-thousand", "nested-round")
NEEDED = {"plain-exit": 1, "halted": 1, "irq-behind": 1, "ten-in-handler": 10, "ten-thousand": 1,
          "nested-round": 2}


ONLY_6_12 = "[ $1 != 6.12 ] || { echo 6.12.9; exit; }\necho newest-kernel: none of $1 there >&2\nexit 1"


def cost(ticks):
    return "echo rows " + " ".join(ROWS) + "\n" + \
        "".join(f"echo cost {row} ticks {ticks} exits 1 alike 30 of 32\n" for row in ROWS)


class Compare(unittest.TestCase):
    host = "amd"
    parts = ""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.testing = self.root / "tools/testing"
        self.records = self.root / "records"
        self.records.mkdir()
        (self.root / "build").mkdir()
        for name in "harness", "hosts":
            (self.testing / name).mkdir(parents=True)
        (self.testing / "selftests/kvm/x86").mkdir(parents=True)
        for name in "nmi_one_test", "nmi_two_test":
            (self.testing / f"selftests/kvm/x86/{name}.c").touch()
        for name in "compare", "other_l1.py", "suite.py", "tap.py":
            shutil.copy(TESTING / "harness" / name, self.testing / "harness")
        self.script("suite", 'shift 2\nexec "$@"')
        self.script("newest-kernel", ONLY_6_12)
        self.script("fetch-packages", "mkdir -p $1")
        shutil.copytree(TESTING / "harness/comparison", self.testing / "harness/comparison")
        (self.testing / "hosts/run").write_text(HOST)
        (self.testing / "hosts/run").chmod(0o755)

    def script(self, name, text):
        script = self.root / "scripts" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)

    def compare(self, **records):
        """From the beginning."""
        shutil.rmtree(self.root / "build/6.1/compare", ignore_errors=True)
        return self.go_on(**records)

    def go_on(self, **records):
        """Records by name with _ for the dots; those not given are good."""
        for name, text in {"tests": GOOD, "stock_cost": cost(1000), "ours_cost": cost(200),
                           "other_cost": cost(900), **records}.items():
            (self.records / name.replace("_", ".")).write_text(text)
        done = subprocess.run([self.testing / "harness/compare"], text=True, capture_output=True,
                              env=os.environ | {"HOSTS": self.host, "KVER": "6.1", "PARTS": self.parts})
        self.lines = done.stdout.splitlines()
        self.said = done.stderr
        self.json = json.loads((self.root / "build/compare.json").read_text())
        return done.returncode

    def marks(self, claim):
        """What the row with this claim says in its columns, stock and ours."""
        return self.all_marks(claim)[:2]

    def all_marks(self, claim):
        row = next(row for row in self.json["conformance"] if row["claim"] == claim)
        return tuple(result["mark"] for result in row["results"].values())

    def costs(self, row):
        return next(entry for entry in self.json["cost"] if entry["row"] == row)

    def test_good(self):
        """two good modules are one row a case"""
        self.assertEqual(self.compare(), 0)
        self.assertEqual(self.marks("it comes once: not twice"), ("ok", "ok"))
        self.assertIn("ok       ok       ok       an NMI comes", self.lines)
        self.assertEqual(len(self.json["conformance"]), 4)

    def test_stock_fails(self):
        """what fails or skips on the distribution's module is shown, and no failure of ours"""
        self.assertEqual(self.compare(stock_tests=OTHER), 0)
        self.assertEqual(self.marks("an NMI comes"), ("FAIL", "ok"))
        self.assertEqual(self.marks("it comes once: not twice"), ("skip", "ok"))
        self.assertEqual(self.marks("it ends"), ("skip", "ok"))
        self.assertIn("  1  no second one here", self.lines)
        self.assertIn("  2  no NMIs", self.lines)

    def test_ours_fails(self):
        """what fails on ours is a failure"""
        self.assertEqual(self.compare(ours_tests=OTHER), 1)
        self.assertEqual(self.marks("an NMI comes"), ("ok", "FAIL"))

    def test_crash(self):
        """a host that crashes is a cell, and the other tests run in another boot"""
        self.assertEqual(self.compare(stock_tests=CRASH), 0)
        self.assertEqual(self.marks("an NMI comes"), ("FAIL", "ok"))
        self.assertEqual(self.marks("it comes once: not twice"), ("FAIL", "ok"))
        self.assertEqual(self.marks("it ends"), ("ok", "ok"))
        self.assertIn("  1  crashed: the end", self.lines)

    def test_complaint(self):
        """a kernel that complained is a row of its own"""
        self.assertEqual(self.compare(ours_tests=COMPLAINT), 1)
        self.assertEqual(self.marks("it ends"), ("ok", "ok"))
        self.assertEqual(self.marks("the host keeps running and its kernel does not complain"), ("ok", "FAIL"))

    def test_dead(self):
        """a host that says nothing at all fails every test, once"""
        self.assertEqual(self.compare(stock_tests="exit 125"), 0)
        self.assertEqual(self.marks("it ends"), ("FAIL", "ok"))
        boots = (self.records / "boots").read_text()
        self.assertEqual(boots.count("amd stock tests"), 1)

    def test_cost(self):
        """costs come with their ratio to the best of the others, and repeat to the byte"""
        self.compare()
        first = (self.root / "build/compare.json").read_bytes()
        self.assertEqual(self.costs("lone")["ours"]["ticks"], 200)
        self.assertRegex("\n".join(self.lines), r"two back to back.* 1 +1 +1 +1000 +900 +200 +0\.22")
        self.compare()
        self.assertEqual((self.root / "build/compare.json").read_bytes(), first)

    def test_over_limit(self):
        """ours may not cost more than its limit, of the best of the others"""
        self.assertEqual(self.compare(ours_cost=cost(270)), 1)
        self.assertEqual([entry["row"] for entry in self.json["cost"] if entry["over limit"]], ["lone"])
        self.assertEqual(self.compare(ours_cost=cost(905)), 1)
        self.assertEqual(self.costs("plain-exit")["over limit"], "")
        self.assertEqual(self.compare(ours_cost=cost(1005), other_cost=cost(2000)), 1)
        self.assertEqual(self.costs("plain-exit")["over limit"], "")

    def test_cost_crash(self):
        """a row that takes the host down is marked, and the rows after it are measured"""
        rest = "".join(f"echo cost {row} ticks 1000 exits 1 alike 9 of 9\n" for row in ROWS[2:])
        crash = f"""case $* in *" {' '.join(ROWS[2:])}")
            {rest}
            exit
        esac
        echo rows {' '.join(ROWS)}
        echo cost plain-exit ticks 1000 exits 1 alike 9 of 9
        echo 'run: amd: hung, stopped' >&2
        exit 125
        """
        self.assertEqual(self.compare(stock_cost=crash), 0)
        self.assertEqual(self.costs("plain-exit")["stock"]["ticks"], 1000)
        self.assertEqual(self.costs("lone")["stock"]["problem"], "hung, stopped")
        self.assertEqual(self.costs("ten-thousand")["stock"]["ticks"], 1000)

    def test_never(self):
        """an NMI that never comes is no number, and no ratio"""
        never = cost(1000).replace("cost lone ticks 1000 exits 1 alike 30 of 32", "cost lone never")
        self.assertEqual(self.compare(stock_cost=never), 0)
        self.assertEqual(self.costs("lone")["stock"]["problem"], "never")
        self.assertRegex("\n".join(self.lines), r"into running code.* never +1 +1 +never +900 +200 +0\.22")

    def test_ticks_limit(self):
        """a row may have a limit of its own, also where the distribution never delivers"""
        self.host = "amd"
        never = cost(1000).replace("cost pair ticks 1000 exits 1 alike 30 of 32", "cost pair never")
        self.assertEqual(self.compare(stock_cost=never), 0)
        slow = cost(200).replace("cost pair ticks 200", "cost pair ticks 1221")
        self.assertEqual(self.compare(stock_cost=never, ours_cost=slow), 1)
        self.assertIn("  MISSED: amd, pair: at most 0.35 of the best's ticks "
                      "and at most 1220 ticks (1221 ticks, wanted 1220)", self.lines)

    def test_most(self):
        """no reason excuses more than a row's most ticks"""
        self.host = "intel"
        near, far = (cost(200).replace("cost pair ticks 200", f"cost pair ticks {ticks}") for ticks in (455, 456))
        self.assertEqual(self.compare(ours_cost=near), 0)
        self.assertRegex("\n".join(self.lines), r"missed, with a reason: intel, pair: .*455 ticks, wanted 420")
        self.assertEqual(self.compare(ours_cost=far), 1)
        self.assertRegex("\n".join(self.lines), r"MISSED: intel, pair: .*456 ticks, wanted 420")

    def test_reason(self):
        """a target that is missed for a stated reason is said, and is no failure"""
        self.host = "intel-soft"
        more = cost(200).replace("cost lone-irqs-off ticks 200", "cost lone-irqs-off ticks 950")
        self.assertEqual(self.compare(ours_cost=more), 0)
        self.assertRegex("\n".join(self.lines), r"missed, with a reason: intel-soft, lone-irqs-off: .*no window opens")

    def test_vnmi_exits(self):
        """vNMI may take no exit that the guest does not make itself"""
        self.host = "amd-vnmi"
        free = "echo rows " + " ".join(ROWS) + "\n" + "".join(
            f"echo cost {row} ticks 200 exits {NEEDED.get(row, 0)} alike 9 of 9\n" for row in ROWS)
        stock = free.replace("exits 0", "exits 1").replace("ticks 200", "ticks 1000")
        self.assertEqual(self.compare(stock_cost=stock, ours_cost=free, other_cost=free), 0)
        one = free.replace("cost lone ticks 200 exits 0", "cost lone ticks 200 exits 1")
        self.assertEqual(self.compare(stock_cost=stock, ours_cost=one, other_cost=free), 1)
        self.assertEqual([entry["row"] for entry in self.json["cost"] if entry["over limit"]], ["lone"])

    def test_repeats(self):
        """figures that another boot does not repeat are shown, and fail"""
        shaky = "pair=200; mkdir $(dirname $0)/first 2>/dev/null || pair=209\n" + \
            cost(200).replace("cost pair ticks 200", "cost pair ticks $pair")
        self.assertEqual(self.compare(ours_cost=shaky), 1)
        self.assertIn("  MISSED: two boots give the same figures within 0.1%, ten-thousand within 1%", self.lines)
        self.assertRegex("\n".join(self.lines),
                         "    amd, ours, pair: 2(00|09) ticks, 1 exit, then 2(09|00) ticks, 1 exit")
        self.assertEqual([entry["row"] for entry in self.json["cost"] if entry["ours"]["again"]], ["pair"])

    def test_nearly_repeats(self):
        """two boots repeat to a thousandth, a mean to a hundredth, and to the exit"""
        first, near, far, exits = (costs.Cost(1000, 1), costs.Cost(1001, 1), costs.Cost(1002, 1), costs.Cost(1000, 2))
        for row, second, steady in (("pair", near, True), ("pair", far, False), ("pair", exits, False),
                                    ("ten-thousand", far, True), ("ten-thousand", costs.Cost(1011, 1), False)):
            with self.subTest(f"{row}, {second}"):
                self.assertEqual(not costs.agreed(row, first, second).again, steady)

    def test_best(self):
        """the best of the others is what counts, whichever kernel it is, and never what has no figures"""
        never = cost(1000).replace("cost lone ticks 1000 exits 1 alike 30 of 32", "cost lone never")
        for stock, other, wanted in ((1000, 802, True), (802, 1000, True), (1000, 796, False), (796, 1000, False)):
            with self.subTest(f"{stock}, {other}"):
                self.compare(stock_cost=cost(stock), other_cost=cost(other))
                self.assertEqual(not self.costs("lone")["over limit"], wanted)
        self.compare(stock_cost=never, other_cost=cost(100))
        self.assertEqual(self.costs("lone")["over limit"], "2.000 of the best's ticks, wanted 0.25")

    def test_equal(self):
        """one host in another is equal within what two boots of it differ by"""
        for host, wanted in (("amd-vnmi", ""), ("amd", "1.001 of the best's ticks, wanted 1.00")):
            modules = {module: {"halted": costs.Cost(ticks, 1)} for module, ticks in (("6.12", 10000), ("ours", 10009))}
            with self.subTest(host):
                self.assertEqual(costs.over_limit(host, "halted", modules), wanted)

    def test_other_kernel(self):
        """the distribution's 6.12 is a column of its own"""
        self.assertEqual(self.compare(other_tests=OTHER, other_cost=cost(1)), 1)
        self.assertEqual(self.all_marks("an NMI comes"), ("ok", "ok", "FAIL"))
        self.assertEqual(self.costs("lone")["6.12"]["ticks"], 1)
        self.assertEqual(self.json["kernels"], {"stock": "6.1", "ours": "6.1", "6.12": "6.12.9"})

    def test_both_kernels(self):
        """the distribution's 7.3 is one more column"""
        self.script("newest-kernel", "echo $1.9")
        self.assertEqual(self.compare(), 0)
        self.assertEqual(self.json["kernels"], {"stock": "6.1", "ours": "6.1", "6.12": "6.12.9", "7.3": "7.3.9"})
        self.assertEqual(self.costs("lone")["7.3"]["ticks"], 1000)

    def test_no_other_kernel(self):
        """without one of another series the rest is compared, and why is said"""
        self.script("newest-kernel", "echo 'newest-kernel: none there' >&2; exit 1")
        self.assertEqual(self.compare(), 0)
        self.assertEqual(self.all_marks("an NMI comes"), ("ok", "ok"))
        for series in "6.12", "7.3":
            self.assertIn(f"compare: no column for {series}: newest-kernel: none there\n", self.said)
        self.script("newest-kernel", ONLY_6_12)
        self.script("fetch-packages", "echo 'fetch-packages: no network' >&2; exit 1")
        self.assertEqual(self.compare(), 0)
        self.assertIn("compare: no column for 6.12: fetch-packages: no network\n", self.said)

    def boots(self, start):
        """How often a host booted whose line begins so, and the last such line."""
        lines = [line for line in (self.records / "boots").read_text().splitlines() if line.startswith(start)]
        return len(lines), lines[-1]

    def boots_of(self, module):
        return self.boots(f"amd {module} tests")[0], self.boots(f"amd {module} cost")[0]

    def test_kept(self):
        """what a module did is kept until the program or the module changes"""
        self.compare(stock_tests=OTHER)
        first = self.json
        self.assertEqual((self.boots_of("stock"), self.boots_of("ours")), ((1, 2), (1, 2)))
        self.go_on(stock_tests=OTHER)
        self.assertEqual(self.json, first)
        self.assertEqual((self.boots_of("stock"), self.boots_of("ours")), ((1, 2), (1, 2)))
        program = self.root / "build/6.1/selftests/nmi_one_test"
        program.parent.mkdir(parents=True)
        program.write_text("new")
        self.go_on(stock_tests=GOOD)
        boots, last = self.boots("amd stock tests")
        self.assertEqual((boots, "nmi_one_test" in last, "nmi_two_test" in last), (2, True, False))
        self.assertEqual(self.marks("an NMI comes"), ("ok", "ok"))
        (self.root / "build/6.1/kvm-amd.ko").write_text("new")
        self.go_on()
        self.assertEqual((self.boots_of("stock"), self.boots_of("ours")), ((2, 2), (3, 4)))

    def test_host_failure_kept(self):
        """a host that the distribution's module took down is kept as a whole, until a program changes"""
        self.compare(stock_tests=CRASH)
        first = self.json
        boots = self.boots("amd stock tests")
        self.go_on(stock_tests=GOOD)
        self.assertEqual(self.boots("amd stock tests"), boots)
        self.assertEqual(self.json, first)
        program = self.root / "build/6.1/selftests/nmi_two_test"
        program.parent.mkdir(parents=True)
        program.write_text("new")
        self.go_on(stock_tests=GOOD)
        self.assertEqual(self.marks("an NMI comes"), ("ok", "ok"))

    def test_limit(self):
        """the distribution's soft vNMI, and no other column, is not waited for as long as it likes"""
        self.host = "intel-soft amd"
        self.compare()
        limited = {tuple(boot.split()[:2]) for boot in (self.records / "boots").read_text().splitlines()
                   if "run-tests -t 120 " in boot}
        self.assertEqual(limited, {("intel-soft", "stock"), ("intel-soft", "other")})
        boots = [boot for boot in (self.records / "boots").read_text().splitlines() if " tests " in boot]
        self.assertEqual(sum("run-tests -t 600 " in boot for boot in boots), len(boots) - 2)

    def test_not_kept(self):
        """nothing is kept of a failure of ours, its host's included, or of figures that do not repeat"""
        shaky = "pair=1400; mkdir $(dirname $0)/first 2>/dev/null || pair=1409\n" + \
            cost(1400).replace("cost pair ticks 1400", "cost pair ticks $pair")
        self.compare(stock_cost=shaky, ours_tests=OTHER)
        self.go_on(ours_tests=COMPLAINT)
        self.assertEqual(self.go_on(ours_tests=GOOD), 0)
        self.assertEqual((self.boots_of("stock"), self.boots_of("ours")), ((1, 4), (3, 2)))
        self.assertEqual(self.marks("the host keeps running and its kernel does not complain"), ("ok", "ok"))

    def test_markdown(self):
        """the short tables: how many fail where, and the costs"""
        self.compare(stock_tests=OTHER)
        text = (self.root / "build/compare.md").read_text().splitlines()
        self.assertIn("| `amd` | 1 ok, **1 fail**, 2 skipped | 4 ok, **0 fail**, 0 skipped "
                      "| 4 ok, **0 fail**, 0 skipped |", text)
        self.assertIn("| failed of run | amd stock |", text)
        self.assertIn("| nmi_one_test | 1 of 1 |", text)
        self.assertIn("| two back to back: end of one handler to the next "
                      "| 1000 (1), 900 (1) → 200 (1) **0.22** |", text)

    def test_document(self):
        """the page has a row for each claim on which modules differ, the claim first and ours last"""
        self.compare(other_tests=OTHER)
        page = (self.root / "build/compare.rst").read_text().splitlines()
        row = page.index("   * - an NMI comes")
        self.assertEqual(page[row + 1], "     - ✓ **✗** ✓")
        row = page.index("   * - it comes once: not twice")
        self.assertEqual(page[row + 1], "     - ✓ – ✓\\ :sup:`1`")
        self.assertIn("1. no second one here", page)
        self.assertIn('    make compare PARTS=claims HOSTS="amd"', page)
        costs_page = (self.root / "build/costs.rst").read_text().splitlines()
        row = costs_page.index("   * - two back to back: end of one handler to the next")
        self.assertEqual([line.strip() for line in costs_page[row + 1:row + 5]],
                         ["- 1000 (1)", "- 900 (1)", "- 200 (1)", "- 0.22"])
        self.assertIn('    make compare PARTS=costs HOSTS="amd"', costs_page)

    def test_parts(self):
        """one part can be asked for, and the other neither runs nor is written"""
        for self.parts, other, page in (("costs", "tests", "costs.rst"), ("claims", "cost", "compare.rst")):
            for name in "build/costs.rst", "build/compare.rst", "records/boots":
                (self.root / name).unlink(missing_ok=True)
            with self.subTest(self.parts):
                self.assertEqual(self.compare(), 0)
                asked_for = {line.split()[2] for line in (self.records / "boots").read_text().splitlines()}
                self.assertEqual(asked_for, {"tests", "cost"} - {other})
                self.assertEqual([path.name for path in (self.root / "build").glob("*.rst")], [page])
        self.parts = "cost"
        self.assertEqual(self.compare(), 1)
        self.assertIn("PARTS: there is no part cost, only claims, costs", self.said)

    def test_alike(self):
        """a program on which all modules agree is one line of the page, unless ours fails"""
        self.compare()
        page = (self.root / "build/compare.rst").read_text()
        self.assertIn("   * - nmi\\_one\\_test\n     - 2\n", page)
        self.assertNotIn("an NMI comes", page)
        self.compare(stock_tests=OTHER, ours_tests=OTHER, other_tests=OTHER)
        page = (self.root / "build/compare.rst").read_text()
        self.assertIn("   * - an NMI comes\n     - **✗** **✗** **✗**\n", page)

    def test_picture(self):
        """the picture is well-formed, has a dot a row and rival, and shows what never comes and what is lost"""
        slow = cost(200).replace("cost irq-behind ticks 200", "cost irq-behind ticks 950")
        never = cost(1000).replace("cost pair ticks 1000 exits 1 alike 30 of 32", "cost pair never")
        self.compare(ours_cost=slow, stock_cost=never)
        picture = ElementTree.parse(self.root / "build/compare.svg").getroot()
        dots = picture.findall("{*}circle")
        legend, never = 2, 1
        self.assertEqual(len(dots), 2 * 5 + legend - never)
        self.assertEqual([dot.get("class") for dot in dots].count("loss"), 1)
        texts = [text.text for text in picture.findall("{*}text")]
        self.assertIn("never comes with stock", texts)
        self.assertIn("1.06", texts)
        self.compare(stock_cost=cost(1000).replace("cost pair ticks 1000 exits 1 alike 30 of 32", "cost pair never"),
                     other_cost=cost(900).replace("cost pair ticks 900 exits 1 alike 30 of 32", "cost pair never"))
        picture = (self.root / "build/compare.svg").read_text()
        self.assertIn("never comes with the distribution&#x27;s", picture)


if __name__ == "__main__":
    unittest.main()
