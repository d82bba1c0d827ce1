# SPDX-License-Identifier: GPL-2.0-only
"""The two tables as text: what each test says of each module, and what NMIs cost."""

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
    """A case that was skipped has the reason after its claim; another host may
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


WIDTH = 8


def conformance_lines(names, rows):
    """names: (host, module) of each column."""
    notes = Notes()
    hosts, modules = zip(*names)
    shown = [host if i == 0 or hosts[i - 1] != host else "" for i, host in enumerate(hosts)]
    for heading in shown, modules:
        yield line_of(heading)
    test = None
    for row in rows:
        if (row.test, row.parameters) != test:
            test = row.test, row.parameters
            yield ""
            if row.test:
                yield line_of([""] * len(names), row.test + (f" with {row.parameters}" if row.parameters else ""))
        words = []
        for cell in row.cells:
            # Why a check failed is long, and in compare.json.
            told = cell.why and (cell.mark == "skip" or not row.test or row.claim.startswith("("))
            words.append(f"{cell.mark} {notes.number(cell.why)}" if told else cell.mark)
        yield line_of(words, row.claim)
    yield ""
    for mark in "ok", "FAIL", "skip", NOT_RUN:
        yield line_of([str(count) for count in counts(rows, mark)], "not run there" if mark == NOT_RUN else mark)
    if notes.texts:
        yield ""
    for i, text in enumerate(notes.texts, 1):
        yield f"{i:3}  {text}"


def line_of(words, text=""):
    return (" ".join(f"{word:{WIDTH}}" for word in words) + " " + text).rstrip()


def counts(rows, mark):
    """How many rows have this mark, a number a column."""
    return [sum(cell.mark == mark for cell in cells) for cells in zip(*(row.cells for row in rows))]


def number(cost, name):
    return cost.problem.split(" ")[0].rstrip(",:") if cost.problem else str(getattr(cost, name))


def quotient(value):
    return "" if value is None else f"{value:.2f}"


def cost_lines(host, modules):
    """One host; modules: {module: {row: Cost}}. The ratio is that to the best of the others."""
    others = [module for module in modules if module != "ours"]
    headings = [f"{word:>7}" for word in (*others, "ours")]
    yield f"{host:66}" + f"{'  exits':{7 * len(headings)}}    ticks"
    yield f"{'':66}" + "".join(headings) + "  " + "".join(headings) + "  ratio"
    remarks = []
    for row, text in costs.ROWS.items():
        figures = "  ".join("".join(f"{number(modules[module][row], name):>7}" for module in (*others, "ours"))
                            for name in ("exits", "ticks"))
        ratio = quotient(costs.ratio(modules["ours"][row], costs.best(costs.rivals(modules, row))))
        over = costs.over_limit(host, row, modules)
        remark = costs.REMARKS.get((host, row))
        yield f"{text:66}{figures}{ratio:>7}".rstrip() + ("  !" if over else "") + ("  *" if remark else "")
        remarks += [f"  ! {text}: {over}"] if over else []
        remarks += [f"  * {text}: {remark}"] if remark else []
    problems = sorted({cost.problem for rows in modules.values() for cost in rows.values() if cost.problem})
    yield from (*remarks, *(f"  {in_words(problem)}" for problem in problems))


def in_words(problem):
    """Why there are no figures."""
    return f"{problem}: some NMI did not arrive within four seconds of the host" if problem == "never" else problem


def target_lines(hosts):
    """Whether each target was met; hosts: {host: {module: {row: Cost}}}."""
    yield "targets, against the best of the distribution's kernels on that row"
    for host, modules in hosts.items():
        missed = {row: (over, reason) for row, over, reason in costs.verdicts(host, modules)}
        for row in costs.ROWS:
            over, reason = missed.get(row, ("", ""))
            mark = "met" if not over else "missed, with a reason" if reason else "MISSED"
            yield f"  {mark}: {host}, {row}: {costs.target(host, row)}" + \
                (f" ({over})" if over else "") + (f": {reason}" if over and reason else "")
    unsteady = list(costs.unsteady(hosts))
    yield (f"  {'MISSED' if unsteady else 'met'}: two boots give the same figures within {costs.REPEATS_TO:.1%}, "
           f"{costs.MEAN} within {costs.MEAN_REPEATS_TO:.0%}")
    for words in unsteady:
        yield f"    {words}"
