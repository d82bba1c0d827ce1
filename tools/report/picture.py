# SPDX-License-Identifier: GPL-2.0-only
"""What NMIs cost by several reports, as a picture: for each run a line from the 1st to the
99th percentile and a dot at the median, on a logarithmic axis."""

import math
from html import escape

from text import MODULES, cost_name, rows_of

MARGIN, LABEL, AXIS, ROW = 16, 240, 460, 15
WIDTH = 2 * MARGIN + LABEL + AXIS + 24

# Readable on white and on black: a viewer chooses by the reader's colour scheme.
STYLE = """
text { fill: #24292f; } .quiet { fill: #57606a; } .grid { stroke: #d0d7de; }
.stock { stroke: #bc4c00; fill: #bc4c00; } .ours { stroke: #0969da; fill: #0969da; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .quiet { fill: #9198a1; } .grid { stroke: #3d444d; }
.stock { stroke: #ffa657; fill: #ffa657; } .ours { stroke: #58a6ff; fill: #58a6ff; }
}"""


class Axis:
    """From the power of ten below the least figure to that above the largest."""

    def __init__(self, figures):
        self.low = math.floor(math.log10(min(figures)))
        self.high = max(math.ceil(math.log10(max(figures))), self.low + 1)

    def x(self, value):
        return MARGIN + LABEL + AXIS * (math.log10(max(value, 1)) - self.low) / (self.high - self.low)

    def powers(self):
        return range(self.low, self.high + 1)


def short(power):
    """A power of ten in as few letters as there is room for."""
    return f'{10 ** (power % 3)}{("", "k", "M", "G", "T")[power // 3]}'


def text(x, y, words, extra=''):
    return f'<text x="{x:.1f}" y="{y}"{extra}>{escape(words)}</text>'


def measured(report):
    return [run for run in report['runs'] if any(isinstance(cost, dict) for cost in run.get('costs', {}).values())]


def lines(reports):
    """Nothing where no report has costs."""
    reports = [report for report in reports if measured(report)]
    figures = [cost[name] for report in reports for run in measured(report) for cost in run['costs'].values()
               if isinstance(cost, dict) for name in ('p1', 'p99')]
    if not figures:
        return
    axis, out, y = Axis(figures), [], MARGIN + 12
    out.append(text(MARGIN, y, 'TSC cycles that NMIs cost: median, 1st to 99th percentile',
                    ' font-size="15" font-weight="bold"'))
    y += 20
    for at, module in ((MARGIN, 'stock'), (MARGIN + 190, 'ours')):
        out.append(f'<circle cx="{at + 6}" cy="{y - 4}" r="4" class="{module}"/>')
        out.append(text(at + 18, y, f'{MODULES[module]} module'))
    y += 22
    for power in axis.powers():
        out.append(text(axis.x(10 ** power), y, short(power), ' text-anchor="middle" class="quiet"'))
    top, y = y + 6, y + 22
    for report in reports:
        title = f'{report["name"]}: {report["cpu"]["brand"].strip()}'
        title += ' (emulated)' if report.get('emulated') else ''
        out.append(text(MARGIN, y, title, ' font-weight="bold"'))
        y += ROW + 4
        for row in rows_of([report]):
            out.append(text(MARGIN + 10, y, cost_name(row), ' class="quiet"'))
            for run in measured(report):
                cost = run['costs'].get(row)
                said = f'{report["name"]}, {MODULES[run["module"]]} module, {run["path"]}: '
                if isinstance(cost, dict):
                    said += f'{cost["median"]}, from {cost["p1"]} to {cost["p99"]} cycles'
                    out.append(f'<path d="M{axis.x(cost["p1"]):.1f} {y - 4}H{axis.x(cost["p99"]):.1f}" '
                               f'class="{run["module"]}"/>')
                    out.append(f'<circle cx="{axis.x(cost["median"]):.1f}" cy="{y - 4}" r="4" class="{run["module"]}">'
                               f'<title>{escape(said)}</title></circle>')
                elif cost:
                    out.append(text(MARGIN + LABEL, y, cost, f' class="{run["module"]}" style="stroke: none"'))
                y += ROW
        y += 12
    grid = [f'<path d="M{axis.x(10 ** power):.1f} {top}V{y - 10}" class="grid"/>' for power in axis.powers()]
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
           'font-family="sans-serif" font-size="12">')
    yield f'<style>{STYLE}</style>'
    yield from grid
    yield from out
    yield '</svg>'
