# SPDX-License-Identifier: GPL-2.0-only
"""The two tables: what each test says of each module, and what NMIs cost."""

from dataclasses import dataclass

from comparison import costs

MARKS = {"passed": "ok", "failed": "FAIL", "skipped": "skip"}
NOT_RUN = "-"


@dataclass(frozen=True)
class Cell:
    mark: str = NOT_RUN
    why: str = ""           # what was skipped for, what failed


@dataclass(frozen=True)
class Row:
    test: str
    parameters: str
    claim: str
    cells: tuple            # a Cell a column


def claim_of(results):
    """A case that was skipped has the reason behind its claim; another host may
    have the claim alone."""
    for result in results:
        if result.outcome != "skipped":
            return result.claim
    return results[0].claim


def cell(result, claim):
    if result is None:
        return Cell()
    if result.number == 0:
        return Cell(MARKS[result.outcome], result.claim)
    why = result.claim.removeprefix(claim).removeprefix(": ") if result.outcome == "skipped" else \
        "; ".join(result.comments)
    return Cell(MARKS[result.outcome], why)


def conformance_rows(columns):
    """columns: the results of each column, as comparison.boots has them."""
    keys = {key for results in columns for key in results}
    cases = {key for key in keys if key[2]}
    programs = {key[:2] for key in cases}
    # A program gets a row of its own only if nobody could run any of its cases.
    rows = cases | {key for key in keys if key[:2] not in programs}
    for key in sorted(rows):
        found = [results[key] for results in columns if key in results]
        claim = claim_of(found) if key[2] else "(the whole program)"
        yield Row(*key[:2], claim, tuple(
            cell(results.get(key) or results.get((*key[:2], 0)), claim) for results in columns))


def host_row(columns):
    """columns: why the host failed, a list a column."""
    return Row("", "", "the host keeps running and its kernel does not complain", tuple(
        Cell("FAIL", "; ".join(failures)) if failures else Cell("ok") for failures in columns))


class Notes:
    """Reasons, each told once below the table."""

    def __init__(self):
        self.texts = []

    def number(self, text):
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


WIDTH = 9


def conformance_lines(names, rows):
    """names: (host, module) of each column."""
    notes = Notes()
    hosts, modules = zip(*names)
    shown = [host if i == 0 or hosts[i - 1] != host else "" for i, host in enumerate(hosts)]
    for heading in shown, modules:
        yield "  ".join(f"{word:{WIDTH}}" for word in heading).rstrip()
    test = None
    for row in rows:
        if (row.test, row.parameters) != test:
            test = row.test, row.parameters
            yield ""
            if row.test:
                yield " " * (WIDTH + 2) * len(names) + row.test + (f" with {row.parameters}" if row.parameters else "")
        words = []
        for cell in row.cells:
            # Why a check failed is long, and in compare.json.
            told = cell.why and (cell.mark == "skip" or not row.test or row.claim.startswith("("))
            words.append(f"{cell.mark} {notes.number(cell.why)}" if told else cell.mark)
        yield "  ".join(f"{word:{WIDTH}}" for word in words) + "  " + row.claim
    yield ""
    for mark in "ok", "FAIL", "skip", NOT_RUN:
        counts = [sum(row.cells[i].mark == mark for row in rows) for i in range(len(names))]
        yield "  ".join(f"{count:<{WIDTH}}" for count in counts) + \
            f"  {'not run there' if mark == NOT_RUN else mark}"
    if notes.texts:
        yield ""
    for i, text in enumerate(notes.texts, 1):
        yield f"{i:3}  {text}"


def number(cost, name):
    return cost.problem.split(" ")[0].rstrip(",:") if cost.problem else str(getattr(cost, name))


def quotient(ours, stock, name):
    value = None if ours.problem or stock.problem else costs.ratio(getattr(ours, name), getattr(stock, name))
    return "" if value is None else f"{value:.2f}"


def cost_lines(host, stock, ours):
    """One host; stock, ours: {row: Cost}."""
    yield f"{host:66}{'exits':>6}{'':16}{'ticks':>6}"
    yield f"{'':66}{'stock':>6}{'ours':>7}{'ratio':>7}  {'stock':>6}{'ours':>7}{'ratio':>7}"
    remarks = []
    for row, text in costs.ROWS.items():
        a, b = stock[row], ours[row]
        figures = "  ".join(f"{number(a, name):>6}{number(b, name):>7}{quotient(b, a, name):>7}"
                            for name in ("exits", "ticks"))
        over = costs.over_limit(host, row, b, a)
        remark = costs.REMARKS.get((host, row))
        yield f"{text:66}{figures}" + ("  !" if over else "") + ("  *" if remark else "")
        remarks += [f"  ! {text}: {over}"] if over else []
        remarks += [f"  * {text}: {remark}"] if remark else []
    problems = sorted({cost.problem for cost in (*stock.values(), *ours.values()) if cost.problem})
    for problem in problems:
        remarks.append(f"  {problem.split(' ')[0].rstrip(',:')}: " +
                       ("some NMI did not arrive within four seconds of the host" if problem == "never" else problem))
    yield from remarks


def target_lines(hosts):
    """Whether each target was met; hosts: {host: (stock, ours)}."""
    yield "targets"
    for host, (stock, ours) in hosts.items():
        missed = {row: (over, reason) for row, over, reason in costs.verdicts(host, stock, ours)}
        for row, text in costs.ROWS.items():
            over, reason = missed.get(row, ("", ""))
            mark = "met" if not over else "missed, with a reason" if reason else "MISSED"
            yield f"  {mark}: {host}, {row}: {costs.target(host, row)}" + \
                (f" ({over})" if over else "") + (f": {reason}" if over and reason else "")


def markdown(hosts):
    """The cost table for README."""
    yield "| | " + " | ".join(f"{host}: stock | ours | ratio" for host in hosts) + " |"
    yield "|---" * (1 + 3 * len(hosts)) + "|"
    for row, text in costs.ROWS.items():
        cells = []
        for stock, ours in hosts.values():
            a, b = stock[row], ours[row]
            figures = [number(cost, "ticks") + ("" if cost.problem else f" ({cost.exits})") for cost in (a, b)]
            cells += [*figures, quotient(b, a, "ticks")]
        yield f"| {text} | " + " | ".join(cells) + " |"
    yield ""
    yield "Instructions of the emulated host; VM exits in parentheses."
    for host in hosts:
        for (where, row), remark in costs.REMARKS.items():
            if where == host:
                yield ""
                yield f"{host}, {costs.ROWS[row]}: {remark}."
