# SPDX-License-Identifier: GPL-2.0-only
"""The cost table as a picture: two bars a row, the distribution's module being
100 %, so that rows of very different size can be seen side by side."""

from html import escape

from comparison import costs

# In pixels.
MARGIN, LABEL, BAR_WIDTH, FIGURES = 20, 400, 420, 130
ROW, BAR = 34, 12
STOCK, OURS = "#9aa5b1", "#1f6fb2"


def figures(cost):
    if cost.problem:
        return cost.problem.partition(",")[0]
    return f"{cost.ticks:,} ticks, {cost.exits} exit{'' if cost.exits == 1 else 's'}".replace(",", "\u202f", 1) \
        if cost.ticks >= 1000 else f"{cost.ticks} ticks, {cost.exits} exit{'' if cost.exits == 1 else 's'}"


def widths(stock, ours):
    """The lengths of the two bars. Never is infinitely long: nothing beside it is."""
    if stock.problem:
        return BAR_WIDTH, BAR_WIDTH if ours.problem else 2
    if ours.problem:
        return 2, BAR_WIDTH
    longest = max(stock.ticks, ours.ticks)
    return max(BAR_WIDTH * stock.ticks / longest, 2), max(BAR_WIDTH * ours.ticks / longest, 2)


class Picture:
    def __init__(self):
        self.out = []
        self.y = MARGIN

    def text(self, x, y, text, **attributes):
        words = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}"{words}>{escape(text)}</text>')

    def bar(self, y, width, colour, cost):
        endless = ' fill-opacity="0.35" stroke-dasharray="4 3"' if cost.problem else ""
        self.out.append(f'<rect x="{MARGIN + LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" '
                        f'fill="{colour}" stroke="{colour}"{endless}/>')
        self.text(MARGIN + LABEL + width + 8, y + BAR - 2, figures(cost), font_size=11, fill="#444")

    def host(self, host, stock, ours):
        self.y += 30
        self.text(MARGIN, self.y, host, font_size=16, font_weight="bold")
        self.y += 12
        for row, text in costs.ROWS.items():
            over = costs.over_limit(host, row, ours[row], stock[row])
            self.text(MARGIN, self.y + BAR + 3, text)
            for i, (width, colour, cost) in enumerate(zip(widths(stock[row], ours[row]), (STOCK, OURS),
                                                          (stock[row], ours[row]))):
                self.bar(self.y + i * (BAR + 1), width, colour, cost)
            if not (stock[row].problem or ours[row].problem):
                self.text(MARGIN + LABEL + BAR_WIDTH + FIGURES + 60, self.y + BAR + 5,
                          f"{costs.ratio(ours[row].ticks, stock[row].ticks):.2f}", font_size=15,
                          text_anchor="end", font_weight="bold", fill="#b03030" if over else "#222")
            self.y += ROW

    def heading(self):
        self.text(MARGIN, self.y + 14, "What an NMI costs", font_size=20, font_weight="bold")
        self.y += 36
        for x, colour, text in ((0, STOCK, "the distribution's module"), (220, OURS, "this project's")):
            self.out.append(f'<rect x="{MARGIN + x}" y="{self.y - 10}" width="14" height="{BAR}" fill="{colour}"/>')
            self.text(MARGIN + x + 22, self.y, text)
        self.text(MARGIN + LABEL + BAR_WIDTH + FIGURES + 60, self.y, "ours / stock", text_anchor="end")
        self.y += 6


def lines(hosts):
    """hosts: {host: (stock, ours)}, each {row: Cost}."""
    picture = Picture()
    picture.heading()
    for host, (stock, ours) in hosts.items():
        picture.host(host, stock, ours)
    width = 2 * MARGIN + LABEL + BAR_WIDTH + FIGURES + 60
    picture.text(MARGIN, picture.y + 16,
                 "One tick is one instruction of the emulated host. The longer bar of each row fills the width; "
                 "dashed: never delivered.", fill="#666")
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{picture.y + 16 + MARGIN}" '
           'font-family="sans-serif" font-size="13">')
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    yield from picture.out
    yield "</svg>"
