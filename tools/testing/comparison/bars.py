# SPDX-License-Identifier: GPL-2.0-only
"""The cost table as a picture: a bar for each module in each row, the longest of a
row filling the width, so that rows of very different size can be seen side by side."""

from html import escape

from comparison import costs

# In pixels.
MARGIN, LABEL, BAR_WIDTH, FIGURES, RATIO = 20, 400, 400, 140, 50
BAR, GAP = 12, 10
WIDTH = 2 * MARGIN + LABEL + BAR_WIDTH + FIGURES + RATIO

STOCK, OURS, OTHER = "#8b98a5", "#1f6fb2", "#c3ccd4"


def colour(module):
    return {"stock": STOCK, "ours": OURS}.get(module, OTHER)


def figures(cost):
    """1 234 ticks, 2 exits"""
    return cost.problem.partition(",")[0] or \
        cost.words().replace(str(cost.ticks), f"{cost.ticks:,}".replace(",", "\u202f"), 1)


def widths(row):
    """The lengths of the bars. Never is infinitely long: nothing beside it is."""
    if any(cost.problem for cost in row):
        return [BAR_WIDTH if cost.problem else 2 for cost in row]
    longest = max(max(cost.ticks for cost in row), 1)
    return [max(BAR_WIDTH * cost.ticks / longest, 2) for cost in row]


class Picture:
    def __init__(self):
        self.out = []
        self.y = MARGIN

    def text(self, x, y, text, **attributes):
        words = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}"{words}>{escape(text)}</text>')

    def bar(self, y, width, module, cost):
        endless = ' fill-opacity="0.35" stroke-dasharray="4 3"' if cost.problem else ""
        self.out.append(f'<rect x="{MARGIN + LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" '
                        f'fill="{colour(module)}" stroke="{colour(module)}"{endless}/>')
        self.text(MARGIN + LABEL + width + 8, y + BAR - 2, figures(cost), font_size=11, fill="#444")

    def host(self, host, modules):
        self.y += 30
        self.text(MARGIN, self.y, host, font_size=16, font_weight="bold")
        self.y += 14
        for row, text in costs.ROWS.items():
            stock, ours = modules["stock"][row], modules["ours"][row]
            middle = self.y + len(modules) * (BAR + 1) / 2 + 4
            self.text(MARGIN, middle, text)
            if not (stock.problem or ours.problem):
                over = costs.over_limit(host, row, ours, stock)
                self.text(WIDTH - MARGIN, middle, f"{costs.ratio(ours.ticks, stock.ticks):.2f}", font_size=15,
                          text_anchor="end", font_weight="bold", fill="#b03030" if over else "#222")
            for width, module in zip(widths([rows[row] for rows in modules.values()]), modules):
                self.bar(self.y, width, module, modules[module][row])
                self.y += BAR + 1
            self.y += GAP

    def heading(self, names):
        """names: {module: what to call it}"""
        self.text(MARGIN, self.y + 14, "What an NMI costs", font_size=20, font_weight="bold")
        self.y += 40
        x = MARGIN
        for module, name in names.items():
            self.out.append(f'<rect x="{x}" y="{self.y - 10}" width="14" height="{BAR}" fill="{colour(module)}"/>')
            self.text(x + 22, self.y, name)
            # Letters are about so wide.
            x += 50 + 7.5 * len(name)
        self.text(WIDTH - MARGIN, self.y, "ours / stock", text_anchor="end")
        self.y += 6


def lines(names, hosts):
    """names: {module: what to call it}; hosts: {host: {module: {row: Cost}}}."""
    picture = Picture()
    picture.heading(names)
    for host, modules in hosts.items():
        picture.host(host, modules)
    picture.text(MARGIN, picture.y + 16,
                 "One tick is one instruction of the emulated host. The longest bar of each row fills the width; "
                 "dashed: never delivered.", fill="#666")
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{picture.y + 16 + MARGIN}" '
           'font-family="sans-serif" font-size="13">')
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    yield from picture.out
    yield "</svg>"
