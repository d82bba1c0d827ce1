# SPDX-License-Identifier: GPL-2.0-only
"""tools/testing/compare puts what each module did into one row, hosts that did
not survive included."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from xml.etree import ElementTree

TESTING = Path(__file__).resolve().parents[1]

# What a host prints and how it ends; the tests it is asked for are in $tests.
HOST = """#!/bin/sh
name=$1 module=ours
case " $* " in *" --stock "*) module=stock ;; esac
case $* in
*nmi_cost*) what=cost ;;
*) what=tests ;;
esac
here=$(dirname "$0")
echo "$name $module $what" >>"$here/boots"
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
        "ten-in-handler", "ten-thousand")
NEEDED = {"plain-exit": 1, "halted": 1, "irq-behind": 1, "ten-in-handler": 10, "ten-thousand": 1}


def cost(ticks):
    return "echo rows " + " ".join(ROWS) + "\n" + \
        "".join(f"echo cost {row} ticks {ticks} exits 1 alike 30 of 32\n" for row in ROWS)


class Compare(unittest.TestCase):
    host = "amd"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.testing = self.root / "tools/testing"
        (self.root / "build").mkdir()
        (self.testing / "hosts").mkdir(parents=True)
        (self.testing / "selftests/kvm/x86").mkdir(parents=True)
        for name in "nmi_one_test", "nmi_two_test":
            (self.testing / f"selftests/kvm/x86/{name}.c").touch()
        for name in "compare", "suite.py", "tap.py":
            shutil.copy(TESTING / name, self.testing)
        shutil.copytree(TESTING / "comparison", self.testing / "comparison")
        (self.testing / "hosts/run").write_text(HOST)
        (self.testing / "hosts/run").chmod(0o755)

    def compare(self, **records):
        """Records by name with _ for the dots; those not given are good."""
        for name, text in {"tests": GOOD, "stock_cost": cost(1000), "ours_cost": cost(400), **records}.items():
            (self.testing / "hosts" / name.replace("_", ".")).write_text(text)
        done = subprocess.run([self.testing / "compare"], text=True, capture_output=True,
                              env=os.environ | {"HOSTS": self.host, "KVER": "6.1"})
        self.lines = done.stdout.splitlines()
        self.json = json.loads((self.root / "build/compare.json").read_text())
        return done.returncode

    def marks(self, claim):
        """What the row with this claim says in its columns, stock and ours."""
        row = next(row for row in self.json["conformance"] if row["claim"] == claim)
        return tuple(row["results"][column]["mark"] for column in ("amd stock", "amd ours"))

    def costs(self, row):
        return next(entry for entry in self.json["cost"] if entry["row"] == row)

    def test_good(self):
        """two good modules are one row a case"""
        self.assertEqual(self.compare(), 0)
        self.assertEqual(self.marks("it comes once: not twice"), ("ok", "ok"))
        self.assertIn("ok         ok         an NMI comes", self.lines)
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
        boots = (self.testing / "hosts/boots").read_text()
        self.assertEqual(boots.count("amd stock tests"), 1)

    def test_cost(self):
        """costs come with their ratio, and repeat to the byte"""
        self.compare()
        first = (self.root / "build/compare.json").read_bytes()
        self.assertEqual(self.costs("lone")["ours"]["ticks"], 400)
        self.assertRegex("\n".join(self.lines), r"two back to back.* 1 +1 +1\.00 +1000 +400 +0\.40")
        self.compare()
        self.assertEqual((self.root / "build/compare.json").read_bytes(), first)

    def test_over_limit(self):
        """ours may not cost more than its limit"""
        self.assertEqual(self.compare(ours_cost=cost(500)), 1)
        self.assertEqual([entry["row"] for entry in self.json["cost"] if entry["over limit"]], ["lone"])
        self.assertEqual(self.compare(ours_cost=cost(1005)), 1)
        self.assertEqual(self.costs("plain-exit")["over limit"], "")

    def test_cost_crash(self):
        """a row that takes the host down is marked, and the rows behind it are measured"""
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
        self.assertRegex("\n".join(self.lines), r"into running code.* never +1 +never +400")

    def test_soft_limit(self):
        """soft vNMI has a limit of its own, also where the distribution never delivers"""
        self.host = "intel-soft"
        never = cost(1000).replace("cost pair-irqs-off ticks 1000 exits 1 alike 30 of 32", "cost pair-irqs-off never")
        self.assertEqual(self.compare(stock_cost=never), 0)
        slow = cost(400).replace("cost pair-irqs-off ticks 400", "cost pair-irqs-off ticks 4001")
        self.assertEqual(self.compare(stock_cost=never, ours_cost=slow), 1)
        self.assertIn("  MISSED: intel-soft, pair-irqs-off: at most 1.00 of the distribution's ticks "
                      "and at most 4000 ticks (4001 ticks, wanted 4000)", self.lines)

    def test_reason(self):
        """a target that is missed for a stated reason is said, and is no failure"""
        self.host = "intel-soft"
        more = cost(400).replace("cost lone-irqs-off ticks 400", "cost lone-irqs-off ticks 2000")
        self.assertEqual(self.compare(ours_cost=more), 0)
        self.assertRegex("\n".join(self.lines), r"missed, with a reason: intel-soft, lone-irqs-off: .*no window opens")

    def test_vnmi_exits(self):
        """vNMI may take no exit that the guest does not make itself"""
        self.host = "amd-vnmi"
        free = "echo rows " + " ".join(ROWS) + "\n" + "".join(
            f"echo cost {row} ticks 400 exits {NEEDED.get(row, 0)} alike 9 of 9\n" for row in ROWS)
        stock = free.replace("exits 0", "exits 1")
        self.assertEqual(self.compare(stock_cost=stock, ours_cost=free), 0)
        one = free.replace("cost lone ticks 400 exits 0", "cost lone ticks 400 exits 1")
        self.assertEqual(self.compare(stock_cost=stock, ours_cost=one), 1)
        self.assertEqual([entry["row"] for entry in self.json["cost"] if entry["over limit"]], ["lone"])

    def test_markdown(self):
        """the cost table is there for README"""
        self.compare()
        text = (self.root / "build/compare.md").read_text()
        self.assertIn("| two back to back: end of one handler to the next | 1000 (1) | 400 (1) | 0.40 |", text)

    def test_picture(self):
        """the picture is well-formed and has two bars a row"""
        self.compare()
        picture = ElementTree.parse(self.root / "build/compare.svg").getroot()
        bars = [bar for bar in picture.findall("{*}rect") if bar.get("height") == "12"]
        self.assertEqual(len(bars), 2 * len(ROWS) + 2)


if __name__ == "__main__":
    unittest.main()
