# SPDX-License-Identifier: GPL-2.0-only
"""The comparison for readers: the whole of it for Documentation, and short tables
for whoever writes about it."""

import suite
from comparison import costs, table


def version(build, kver):
    """What the package of that kernel says, its name alone where it is not known."""
    try:
        package = (build / kver / "image/.packages" / f"linux-image-{kver}").read_text().strip()
    except OSError:
        return kver
    return f"{kver} ({package})"


def names(kernels, build):
    """What to call each module in a title; kernels: {module: kernel}."""
    return {module: "this project's" if module == "ours" else f"Debian's {version(build, kver)}"
            for module, kver in kernels.items()}


def cost_text(hosts):
    for host, modules in hosts.items():
        yield from table.cost_lines(host, modules)
        yield ""
    yield from table.target_lines(hosts)


MARKS = {"ok": "✓", "FAIL": "**✗**", "skip": "–", table.NOT_RUN: "·"}


def ordered(columns):
    """{host: its columns' numbers}, ours last, as the eye goes from left to right."""
    hosts = {}
    for number, (host, module) in sorted(enumerate(columns), key=lambda column: column[1][1] == "ours"):
        hosts.setdefault(host, []).append(number)
    return hosts


def is_told(row, hosts):
    """Whether some module differs from ours on some host, or ours fails."""
    for numbers in hosts.values():
        marks = [row.cells[number].mark for number in numbers]
        if marks[-1] == "FAIL" or len(set(marks)) > 1:
            return True
    return False


def marks_of(row, numbers, notes):
    """One host's cell: a mark a module, and why something was skipped."""
    cells = [row.cells[number] for number in numbers]
    why = sorted({notes.number(cell.why) for cell in cells if cell.mark == "skip" and cell.why})
    return " ".join(MARKS[cell.mark] for cell in cells) + ("\\ " + superscript(why) if why else "")


def superscript(numbers):
    return ":sup:`{}`".format(" ".join(map(str, numbers))) if numbers else ""


def escaped(text):
    return "".join(f"\\{letter}" if letter in "*`|_\\" else letter for letter in text)


def list_table(heading, rows, widths):
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield f"   :widths: {' '.join(map(str, widths))}"
    yield ""
    for row in [heading, *rows]:
        for number, cell in enumerate(row):
            yield f"   {'*' if number == 0 else ' '} - {cell}".rstrip()
    yield ""


def conformance_rst(columns, rows):
    """A table a program, the claim first; programs on which all modules agree are a line each."""
    hosts = ordered(columns)
    notes = table.Notes()
    programs = {}
    for row in rows:
        name = row.test + (f" with {row.parameters}" if row.parameters else "")
        programs.setdefault(name, []).append(row)
    alike = []
    for name, claims in programs.items():
        told = [row for row in claims if is_told(row, hosts)]
        if name and not told:
            alike.append((escaped(name), str(len(claims))))
            continue
        heading = escaped(name) or "The host"
        yield heading
        yield "^" * len(heading)
        yield ""
        yield from list_table(("claim", *hosts), (
            (escaped(row.claim), *(marks_of(row, numbers, notes) for numbers in hosts.values()))
            for row in told), (40, *[15] * len(hosts)))
        if len(told) < len(claims):
            yield f"Alike with all modules: {len(claims) - len(told)} more."
            yield ""
    if alike:
        yield "All modules alike"
        yield "^^^^^^^^^^^^^^^^^"
        yield ""
        yield from list_table(("program", "claims"), alike, (60, 15))
    if notes.texts:
        yield "Skipped because"
        yield "^^^^^^^^^^^^^^^"
        yield ""
        for number, text in enumerate(notes.texts, 1):
            yield f"{number}. {escaped(text)}"
        yield ""


def head(title, page, names, hosts):
    """The beginning of a page: what it is, and of whose modules."""
    yield ".. SPDX-License-Identifier: GPL-2.0-only"
    yield f".. Written by make compare: {page}"
    yield ""
    yield title
    yield "=" * len(title)
    yield ""
    for module, name in names.items():
        yield f"* {module}: {name}"
    yield ""
    if len(names) > 2:
        yield "Other series are whole kernels with a kvm.ko of their own." + (
            " On ``amd-vnmi`` they run on the\nvNMI that our module emulates in the host below, as ours does."
            if suite.NESTED in hosts else "")
        yield ""


def claims_page(names, columns, rows):
    """Documentation/compare.rst"""
    hosts = " ".join(ordered(columns))
    yield from head("Comparison", "cp build/compare.rst Documentation/", names, hosts.split())
    order = ", ".join([module for module in names if module != "ours"] + ["ours"])
    chosen = "" if hosts == suite.HOSTS else f' HOSTS="{hosts}"'
    yield "Each claim of the selftests, one a row, as this found it::"
    yield ""
    yield f"    make compare PARTS=claims{chosen}"
    yield ""
    yield f"Each cell has {order}: ✓ holds, ✗ fails, – skipped, · not run there. Claims that are alike"
    yield "with all modules are left out; ``build/compare.json`` has them. What NMIs cost is in"
    yield ":doc:`costs`."
    yield ""
    yield from conformance_rst(columns, rows)


STRICT_COSTS = ("A CPU with NextRIP and decode assists, once with a vNMI of its own. Its exits cost a "
                "twentieth of those on ``amd-vnmi``, which is a host in a host, so that what NMIs cost stands out.")


def costs_page(names, hosts):
    """Documentation/costs.rst, or costs-strict.rst of the hosts on the strict CPU."""
    strict = all(host.startswith("amd-strict") for host in hosts)
    title, copy = ("Costs on the strict CPU", "cp build/costs.rst Documentation/costs-strict.rst") if strict else \
        ("Costs", "cp build/costs.rst build/compare.svg Documentation/")
    yield from head(title, copy, names, hosts)
    chosen = " ".join(hosts)
    yield "What NMIs cost in ticks (instructions of the emulated host) and, in brackets, in VM exits, as"
    yield "this found it::"
    yield ""
    yield "    make compare PARTS=costs" + ("" if chosen == suite.HOSTS else f' HOSTS="{chosen}"')
    yield ""
    yield "A ratio is that of ours to the best of the others on that row; plain exits of another kernel take"
    yield "another time as well. What NMIs cost in cycles is in :doc:`reports`."
    yield ""
    if strict:
        yield STRICT_COSTS
    else:
        yield ".. image:: compare.svg"
    yield ""
    yield from cost_rst(hosts)


def cost_rst(hosts):
    """A table a host; why a ratio is what it is stands below all of them."""
    notes = table.Notes()
    for host, modules in hosts.items():
        others = [module for module in modules if module != "ours"]
        missed = {row: over for row, over, _ in costs.verdicts(host, modules)}
        yield f"``{host}``"
        yield "-" * (len(host) + 4)
        yield ""
        rows = []
        for row, text in costs.ROWS.items():
            ours = modules["ours"][row]
            reasons = dict.fromkeys((missed.get(row), costs.REMARKS.get((host, row)),
                                     *(table.in_words(modules[module][row].problem) for module in modules)))
            why = [notes.number(reason) for reason in reasons if reason]
            ratio = table.quotient(costs.ratio(ours, costs.best(costs.rivals(modules, row))))
            rows.append((text, *(figure(modules[module][row]) for module in (*others, "ours")),
                         ratio + (" " if ratio and why else "") + superscript(why)))
        yield from list_table(("ticks (exits)", *others, "ours", "ratio"), rows, (44, *[12] * (len(modules) + 1)))
        free = " and none but the guest's own exits" if host == costs.NO_EXTRA_EXITS else ""
        yield f"Of {len(rows)} targets {len(rows) - len(missed)} are met: at most the best's ticks and exits{free}" + \
            "".join(f"; {costs.ROWS[row]}: {costs.target(host, row)}" for row in costs.ROWS
                    if costs.has_own_limit(host, row)) + "."
        yield ""
    for number, text in enumerate(notes.texts, 1):
        yield f"{number}. {escaped(text)}"
    yield ""
    unsteady = list(costs.unsteady(hosts))
    yield f"Two boots give the same figures within {costs.REPEATS_TO:.1%}, {costs.ROWS[costs.MEAN]!r} within " \
        f"{costs.MEAN_REPEATS_TO:.0%}" + (", but for these:" if unsteady else ".")
    yield ""
    for words in unsteady:
        yield f"* {escaped(words)}"


def conformance_summary(names, columns, rows):
    """How many rows of each column are what, one line a host."""
    hosts = list(dict.fromkeys(host for host, _ in columns))
    numbers = {mark: dict(zip(columns, table.counts(rows, mark))) for mark in ("ok", "FAIL", "skip")}
    yield "| | " + " | ".join(names.values()) + " |"
    yield "|---" * (1 + len(names)) + "|"
    for host in hosts:
        yield f"| `{host}` | " + " | ".join(
            f"{numbers['ok'][host, module]} ok, **{numbers['FAIL'][host, module]} fail**, "
            f"{numbers['skip'][host, module]} skipped" for module in names) + " |"


def failures(columns, rows):
    """How many claims fail where, one line a test program; what fails nowhere is left out."""
    programs = {}
    for row in rows:
        counted = programs.setdefault(row.test or row.claim, {column: (0, 0) for column in columns})
        for column, cell in zip(columns, row.cells):
            failed, run = counted[column]
            counted[column] = failed + (cell.mark == "FAIL"), run + (cell.mark in ("ok", "FAIL"))
    programs = {program: counted for program, counted in programs.items()
                if any(failed for failed, _ in counted.values())}
    failing = [column for column in columns if any(counted[column][0] for counted in programs.values())]
    if not failing:
        return
    yield "| failed of run | " + " | ".join(f"{host} {module}" for host, module in failing) + " |"
    yield "|---" * (1 + len(failing)) + "|"
    for program, counted in programs.items():
        yield f"| {program} | " + " | ".join(
            f"{failed} of {run}" if failed else "" for failed, run in map(counted.get, failing)) + " |"


def figure(cost):
    return cost.problem.partition(",")[0] or f"{cost.ticks} ({cost.exits})"


def cost_table(hosts):
    """All modules of a row in one cell, the last of them ours, and the ratio to the best of the others."""
    yield "| | " + " | ".join(f"`{host}`" for host in hosts) + " |"
    yield "|---" * (1 + len(hosts)) + "|"
    for row, text in costs.ROWS.items():
        cells = []
        for modules in hosts.values():
            ours = modules["ours"][row]
            ratio = table.quotient(costs.ratio(ours, costs.best(costs.rivals(modules, row))))
            cells.append(", ".join(map(figure, costs.rivals(modules, row))) + f" → {figure(ours)}" +
                         (f" **{ratio}**" if ratio else ""))
        yield f"| {text} | " + " | ".join(cells) + " |"
    for host in hosts:
        for (where, row), remark in costs.REMARKS.items():
            if where == host:
                yield ""
                yield f"`{host}`, {costs.ROWS[row]}: {remark}."


def markdown(names, columns, rows, hosts):
    """How many claims hold where, what fails where, and the costs."""
    yield from conformance_summary(names, columns, rows)
    yield ""
    yield from failures(columns, rows)
    yield ""
    others = " and ".join(name for module, name in names.items() if module != "ours")
    yield f"Ticks (instructions of the emulated host) and VM exits, {others} → ours, **ratio to the best's ticks**:"
    yield ""
    yield from cost_table(hosts)
