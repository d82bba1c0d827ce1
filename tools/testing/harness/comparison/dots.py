# SPDX-License-Identifier: GPL-2.0-only
"""The cost table as a picture: for each row a dot per kernel of the distribution, at
what ours takes divided by what that one takes, on a logarithmic axis with 1 in the
middle. Left of it ours is cheaper; a loss is red and has its figure."""

import math
from html import escape

from comparison import costs

# Of all rows, those that are no copy of their neighbour. Soft vNMI is for IRQs off.
SHOWN = ("plain-exit", "lone", "pair", "irq-behind", "ten-in-handler")
INSTEAD = {("intel-soft", "lone"): "lone-irqs-off", ("intel-soft", "pair"): "pair-irqs-off"}

LABELS = {
    "plain-exit": "an exit without any NMI",
    "lone": "a handler's end, no NMI waits",
    "lone-irqs-off": "a handler's end, IRQs off, no NMI waits",
    "pair": "two NMIs back to back",
    "pair-irqs-off": "two NMIs back to back, IRQs off",
    "irq-behind": "an IRQ waits after the NMI",
    "ten-in-handler": "ten more come in a handler",
}

# Of the dots, a look for each kernel of the distribution.
LOOKS = (" hollow", "", " faint")

# In pixels; the axis goes from 1/SPAN to SPAN.
MARGIN, LABEL, AXIS, FIGURES, ROW, SPAN = 16, 250, 360, 150, 20, 20
WIDTH = 2 * MARGIN + LABEL + AXIS + FIGURES
GRID = (1 / 20, 1 / 10, 1 / 5, 1 / 2, 1, 2, 5, 10, 20)

# Readable on white and on black: a viewer chooses by the reader's colour scheme.
STYLE = """
text { fill: #24292f; } .quiet { fill: #57606a; } .grid { stroke: #d0d7de; } .one { stroke: #57606a; }
.dot { fill: #0969da; stroke: #0969da; } .loss { fill: #cf222e; stroke: #cf222e; }
.hollow { fill: none; } .faint { fill-opacity: 0.35; } text.loss { stroke: none; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .quiet { fill: #9198a1; } .grid { stroke: #3d444d; } .one { stroke: #9198a1; }
.dot { fill: #58a6ff; stroke: #58a6ff; } .loss { fill: #ff7b72; stroke: #ff7b72; }
.hollow { fill: none; } text.loss { stroke: none; }
}"""


def x_of(ratio):
    ratio = min(max(ratio, 1 / SPAN), SPAN)
    return MARGIN + LABEL + AXIS * (math.log(ratio) / math.log(SPAN) + 1) / 2


def shown_rows(host):
    return [INSTEAD.get((host, row), row) for row in SHOWN]


class Picture:
    def __init__(self, others):
        self.others = others
        self.out = []
        self.y = MARGIN

    def text(self, x, y, text, **attributes):
        words = "".join(f' {name.rstrip("_").replace("_", "-")}="{value}"' for name, value in attributes.items())
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}"{words}>{escape(text)}</text>')

    def dot(self, x, y, index, loss, title):
        kind = ("loss" if loss else "dot") + LOOKS[index]
        self.out.append(f'<circle cx="{x:.1f}" cy="{y}" r="5" stroke-width="2" class="{kind}">'
                        f'<title>{escape(title)}</title></circle>')

    def grid(self, top, bottom):
        for ratio in GRID:
            self.out.append(f'<path d="M{x_of(ratio):.1f} {top}V{bottom}" class="{"one" if ratio == 1 else "grid"}"/>')

    def row(self, host, row, modules):
        self.text(MARGIN, self.y + 4, LABELS[row])
        ours = modules["ours"][row]
        never, figures = [], []
        for index, module in enumerate(self.others):
            other = modules[module][row]
            ratio = costs.ratio(ours, other)
            if ratio is None:
                never.append(module)
                continue
            loss = ratio > 1 + max(costs.EQUAL_TO.get(host, 0), costs.PLAIN_LIMIT - 1)
            figures.append((f"{ratio:.2f}", loss))
            self.dot(x_of(ratio), self.y, index, loss, f"{host}, {LABELS[row]}: {ours.words()}, "
                     f"{module} {other.words()}")
        if never:
            which = "the distribution's" if never == self.others else " and ".join(never)
            self.text(MARGIN + LABEL + 6, self.y + 4, f"never comes with {which}", class_="quiet")
        for index, (figure, loss) in enumerate(figures):
            self.text(WIDTH - MARGIN - 44 * (len(figures) - 1 - index), self.y + 4, figure, text_anchor="end",
                      **({"class_": "loss"} if loss else {}))
        self.y += ROW

    def host(self, host, modules):
        self.text(MARGIN, self.y + 4, host, font_weight="bold")
        self.y += ROW
        self.grid(self.y - ROW / 2, self.y + ROW * (len(SHOWN) - 0.5))
        for row in shown_rows(host):
            self.row(host, row, modules)
        self.y += 10

    def heading(self, names):
        self.text(MARGIN, self.y + 12, "Instructions of the host: ours divided by the distribution's",
                  font_size=15, font_weight="bold")
        self.y += 34
        for index, module in enumerate(self.others):
            self.dot(MARGIN + 6, self.y - 4, index, False, module)
            self.text(MARGIN + 18, self.y, f"to {names[module]}")
            self.y += ROW
        self.y += 2
        for ratio in GRID:
            word = f"{ratio:g}" if ratio >= 1 else f"1/{1 / ratio:.0f}"
            self.text(x_of(ratio), self.y, word, text_anchor="middle", class_="quiet")
        self.text(MARGIN, self.y, "left: ours is cheaper", class_="quiet")
        self.y += 18


def lines(names, hosts):
    """names: {module: what to call it}; hosts: {host: {module: {row: Cost}}}."""
    picture = Picture([module for module in names if module != "ours"])
    picture.heading(names)
    for host, modules in hosts.items():
        picture.host(host, modules)
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {picture.y + MARGIN}" width="{WIDTH}" '
           f'height="{picture.y + MARGIN}" font-family="sans-serif" font-size="12">')
    yield f"<style>{STYLE}</style>"
    yield from picture.out
    yield "</svg>"
