# SPDX-License-Identifier: GPL-2.0-only
"""What selftests/kvm/x86/nmi_cost.c prints, what its rows mean to a reader, and
how much ours may cost in each: measured against that of the distribution's modules
which does best there."""

import re
from dataclasses import dataclass, replace

ROWS = {
    "plain-exit": "an exit without any NMI (CPUID)",
    "lone": "an NMI into running code: end of its handler to that code",
    "lone-irqs-off": "the same with IRQs off",
    "halted": "an NMI into HLT: the same",
    "pair": "two back to back: end of one handler to the next",
    "pair-irqs-off": "the same with IRQs off",
    "irq-behind": "an IRQ waits after the NMI: to the IRQ's handler",
    "ten-in-handler": "ten more come in a handler: all of it",
    "ten-thousand": "one of 10,000 in a row, from its sending to its return",
    "nested-round": "no NMI: an L1's VMRUN or VMRESUME of an L2 that exits to it",
}

# (host, row): how many times the ticks of the best of the distribution's may be taken.
LIMITS = {("amd", "lone"): 0.25, ("amd", "pair"): 0.35}
# Of the rows without an NMI.
PLAIN_LIMIT, PLAIN = 1.01, ("plain-exit", "nested-round")
LIMIT = 1.0

# Ticks of a row whatever the distribution's module does, and how many no reason excuses.
TICKS_LIMITS = {("amd", "lone"): 360, ("amd", "pair"): 1220, ("intel", "pair"): 420,
                ("intel-soft", "pair-irqs-off"): 1000}
MOST_TICKS = {("intel", "pair"): 455, ("intel-soft", "pair-irqs-off"): 1015}

# Of the ticks, by how much two boots may differ. A mean has the host's own timer in it,
# which comes where it comes.
REPEATS_TO = 0.001
MEAN, MEAN_REPEATS_TO = "ten-thousand", 0.01

# What counts as equal to the best: to the tick, but for one host in another.
EQUAL_TO = {"amd-vnmi": REPEATS_TO}

# What a row cannot do without: its own CPUID, HLT or writes of the ICR, and the
# window of the IRQ. With vNMI nothing comes on top.
NEEDED_EXITS = {"plain-exit": 1, "halted": 1, "irq-behind": 1, "ten-in-handler": 10, "ten-thousand": 1,
                "nested-round": 2}
NO_EXTRA_EXITS = "amd-vnmi"

# Said below the table, where a host has such a row. It is the reason that the row
# may miss its limit.
LENT_ANEW = ("a V_NMI that the CPU has not taken is taken back at each exit, so that user space, a halting vCPU and "
             "nested virtualization see it, and lent again")
AS_EVENTS = ("6.12 and 7.3 hand an NMI to the CPU where requests are looked at, and so does ours with their kvm.ko; "
             "that of 6.1 has no hook for it")
CALLS = "one call at L2's entry and one at its exit find that no NMI is in play"
IRQ_FIRST = ("6.12 and 7.3 inject the IRQ and leave the NMI to the CPU, which takes it inside its handler: the wrong "
             "order, and so no exit; here the IRQ waits for its window")
INJECTION = ("here the exit that finds a handler's end takes some 25 instructions more and an injection some 20, for "
             "what is told of them and for the window that is served without leaving vmx_vcpu_run()")
TOLD = "some 45 of them are what is told of a handler's end and of an injection, in debugfs and by tracepoints"
REMARKS = {
    ("intel", "pair"): TOLD,
    ("intel-soft", "pair-irqs-off"): TOLD,
    ("intel", "irq-behind"): INJECTION,
    ("intel", "ten-thousand"): INJECTION,
    ("intel-soft", "nested-round"):
        "soft vNMI looks at each entry of L1 and of L2 whether NMIs are blocked there",
    ("amd-vnmi", "irq-behind"): IRQ_FIRST,
    ("amd-strict", "nested-round"): CALLS,
    ("amd-strict-vnmi", "nested-round"): CALLS,
    ("amd-strict-vnmi", "irq-behind"): IRQ_FIRST,
    ("amd-strict-vnmi", "ten-in-handler"): f"{AS_EVENTS}; {LENT_ANEW}",
    ("amd-strict-vnmi", "ten-thousand"): f"{AS_EVENTS}; {LENT_ANEW}",
    ("amd-vnmi", "ten-in-handler"): LENT_ANEW,
    ("amd-vnmi", "ten-thousand"): LENT_ANEW,
    ("intel-soft", "lone-irqs-off"):
        "no window opens by itself where IRQs are off: one exit tells the very instruction to which "
        "the handler returned",
}


@dataclass(frozen=True)
class Cost:
    ticks: int = 0
    exits: int = 0
    problem: str = ""       # why there are no figures
    again: str = ""         # what another boot said, where that was not the same

    def words(self):
        return self.problem or f"{self.ticks} ticks, {self.exits} exit{'' if self.exits == 1 else 's'}"


def agreed(row, first, second):
    """What two boots say of a row."""
    near = first.ticks * (MEAN_REPEATS_TO if row == MEAN else REPEATS_TO)
    same = replace(first, ticks=second.ticks) == second and abs(first.ticks - second.ticks) <= near
    # Neither has figures, and why not has the time of a boot in it.
    same |= bool(first.problem and second.problem)
    return first if same else replace(first, again=second.words())


def parse(line):
    """(row, Cost) of a line that is one, else None."""
    words = line.split()
    if words[:1] != ["cost"] or len(words) < 3:
        return None
    figures = re.fullmatch(r"ticks (\d+) exits (\d+) alike \d+ of \d+", " ".join(words[2:]))
    if figures:
        return words[1], Cost(int(figures[1]), int(figures[2]))
    return words[1], Cost(problem=" ".join(words[2:]))


def best(rivals):
    """The one of the distribution's costs to compare with, None if none of them has figures."""
    return min((cost for cost in rivals if not cost.problem), key=lambda cost: cost.ticks, default=None)


def rivals(modules, row):
    """The costs of a row of all modules but ours; modules: {module: {row: Cost}}"""
    return [rows[row] for module, rows in modules.items() if module != "ours"]


def ratio(ours, other):
    """Ours to the other's ticks; None where there is nothing to compare."""
    if not other or ours.problem or other.problem:
        return None
    if ours.ticks == other.ticks:
        return 1.0
    return ours.ticks / other.ticks if other.ticks else None


def limit(host, row):
    return LIMITS.get((host, row), PLAIN_LIMIT if row in PLAIN else LIMIT)


def has_own_limit(host, row):
    return (host, row) in LIMITS or (host, row) in TICKS_LIMITS or row in PLAIN


def over_limit(host, row, modules):
    """Why the costs of ours are not good enough, "" if they are."""
    ours = modules["ours"][row]
    if ours.problem:
        return ours.problem
    if host == NO_EXTRA_EXITS and ours.exits > NEEDED_EXITS.get(row, 0):
        return f"{ours.exits} exits, {NEEDED_EXITS.get(row, 0)} would do"
    if ours.ticks > TICKS_LIMITS.get((host, row), ours.ticks):
        return f"{ours.ticks} ticks, wanted {TICKS_LIMITS[host, row]}"
    other = best(rivals(modules, row))
    if not other:
        return ""
    if ours.exits > other.exits:
        return f"VM exits {ours.exits}, of the best of the distribution's {other.exits}"
    if ours.ticks > other.ticks * (limit(host, row) + EQUAL_TO.get(host, 0)):
        return f"{ours.ticks / other.ticks:.3f} of the best's ticks, wanted {limit(host, row):.2f}"
    return ""


def target(host, row):
    """What is wanted of a row, in words."""
    wanted = [f"at most {limit(host, row):.2f} of the best's ticks"]
    if (host, row) in TICKS_LIMITS:
        wanted.append(f"at most {TICKS_LIMITS[host, row]} ticks")
    if host == NO_EXTRA_EXITS:
        wanted.append("no extra exit")
    return " and ".join(wanted)


def verdicts(host, modules):
    """(row, over, reason): every row that missed its target; no reason is nobody's excuse."""
    for row in ROWS:
        over = over_limit(host, row, modules)
        if over:
            ticks = modules["ours"][row].ticks
            excused = ticks <= MOST_TICKS.get((host, row), ticks)
            yield row, over, REMARKS.get((host, row), "") if excused else ""


def unsteady(hosts):
    """The rows for which two boots had different figures, in words."""
    for host, modules in hosts.items():
        for module, rows in modules.items():
            for row, cost in rows.items():
                if cost.again:
                    yield f"{host}, {module}, {row}: {cost.words()}, then {cost.again}"
