# SPDX-License-Identifier: GPL-2.0-only
"""The timeline as an SVG picture: a lane a vCPU, with spans for the time in
which NMIs are blocked or wait, and marks for what happened.

NMIs take microseconds and come seconds apart. So the time axis is cut where
nothing happens, and each piece has a scale of its own."""

from dataclasses import dataclass
from html import escape

# In pixels.
MARGIN, CUT = 16, 40
PIECE_MIN, PIECES_MAX, STEP = 240, 12000, 70
BAR, ROW, CHARACTER = 22, 15, 6.3

MAX_PIECES, MAX_ROWS = 24, 14

COLOURS = {'blocked': '#b8cbe6', 'waiting': '#f0b429',
           'inject': '#12407a', 'again': '#12407a', 'taken': '#12407a', 'window': '#9a5b00', 'unblock': '#1b7a3d'}


def duration(ns):
    for unit, size in ('s', 10**9), ('ms', 10**6), ('µs', 10**3):
        if ns >= size:
            return f'{ns / size:.4g} {unit}'
    return f'{ns} ns'


@dataclass(frozen=True)
class Piece:
    """A part of the time in which something happens, and where it is drawn."""
    start: int
    end: int
    left: float
    width: float

    def x(self, time):
        return self.left + (time - self.start) / max(self.end - self.start, 1) * self.width

    def ticks(self):
        """Round distances from the start of the piece, some hundred pixels apart."""
        length = self.end - self.start
        step = next(digit * 10**power for power in range(20) for digit in (1, 2, 5)
                    if length <= digit * 10**power * self.width / 70)
        return range(step, length + 1, step)


def joined(busy, gap):
    """One (start, end) for all that are no further apart than the gap."""
    out = []
    for start, end in busy:
        if out and start - out[-1][1] <= gap:
            out[-1] = out[-1][0], max(out[-1][1], end)
        else:
            out.append((start, end))
    return out


def pieces_of(lanes):
    """Cut the time where nothing happens for longer than NMIs were blocked in all."""
    busy = sorted([(span.start, span.end) for lane in lanes for span in lane.spans] +
                  [(step.time, step.time) for lane in lanes for step in lane.steps])
    gap = max(sum(span.end - span.start for lane in lanes for span in lane.spans), 1000)
    while len(joined(busy, gap)) > MAX_PIECES:
        gap *= 2
    parts = joined(busy, gap)
    pieces = []
    left = MARGIN
    for start, end in parts:
        steps = max(sum(start <= step.time <= end for step in lane.steps) for lane in lanes)
        pieces.append(Piece(start, end, left, min(max(STEP * steps, PIECE_MIN), PIECES_MAX // len(parts))))
        left += pieces[-1].width + CUT
    return pieces


class Drawing:
    def __init__(self, lanes):
        self.pieces = pieces_of(lanes)
        self.out = []
        self.y = 0
        self.width = 0

    def x(self, time):
        return next(piece for piece in self.pieces if time <= piece.end).x(time)

    def draw(self, element, title='', text='', **attributes):
        """One element; names of attributes with _ for -, numbers to a tenth of a pixel."""
        words = ''.join(f' {name.replace("_", "-")}="{value:.1f}"' if isinstance(value, float) else
                        f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
        title = f'<title>{escape(title)}</title>' if title else ''
        self.out.append(f'<{element}{words}>{title}{escape(text)}</{element}>')

    def write(self, x, y, text, fill='#222', **attributes):
        self.draw('text', text=text, x=x, y=y, fill=fill, **attributes)
        self.width = max(self.width, x + CHARACTER * len(text) + MARGIN)

    def rows(self, steps):
        """The row of each label, counted from the bar up, for those that get one.

        A label extends to the right of its mark. If it would cover the line from
        a later label to its mark it goes above that label."""
        rows = {}
        for i in reversed(range(len(steps))):
            end = self.x(steps[i].time) + 12 + CHARACTER * len(steps[i].label)
            row = 0
            for j in range(i + 1, len(steps)):
                if self.x(steps[j].time) >= end:
                    break
                row = max(row, rows.get(j, -1) + 1)
            if row < MAX_ROWS:
                rows[i] = row
        return rows

    def span(self, span, lane):
        x, end = self.x(span.start), self.x(span.end)
        height = BAR if span.kind == 'blocked' else 5
        bar = {'y': self.y + BAR - height, 'height': height, 'fill': COLOURS[span.kind]}
        length = f'for {duration(span.end - span.start)}' if span.ended else 'the end is not in the trace'
        self.draw('rect', f'{lane.name}: {span.kind}, {length}', x=x, width=max(end - x, 1.0), **bar)
        if not span.ended and span.end == lane.steps[-1].time:
            for i in range(4):
                self.draw('rect', x=end + 6 * i, width=3.0, **bar)

    def mark(self, step, row):
        x, colour = self.x(step.time), COLOURS[step.kind]
        top = self.y if row is None else self.y - ROW * (row + 1)
        self.draw('path', step.sentence, d=f'M{x:.1f} {top + 2}V{self.y + BAR}', stroke=colour)
        if row is not None:
            self.write(x + 4, top + 11, step.label, colour)

    def lane(self, lane):
        rows = self.rows(lane.steps)
        self.write(MARGIN, self.y + 20, lane.name, font_weight='bold')
        self.y += 30 + ROW * (max(rows.values(), default=0) + 1)
        for piece in self.pieces:
            self.draw('rect', x=piece.left, y=self.y, width=piece.width, height=BAR, fill='#f2f2f2')
        for span in sorted(lane.spans, key=lambda span: span.kind):     # waiting on top of blocked
            self.span(span, lane)
        for i, step in enumerate(lane.steps):
            self.mark(step, rows.get(i))
        self.y += BAR

    def axis(self):
        self.y += 10
        for piece in self.pieces:
            since = piece.start - self.pieces[0].start
            ticks = [(piece.left, duration(since) if since else '0')] + \
                    [(piece.x(piece.start + tick), f'+{duration(tick)}') for tick in piece.ticks()]
            self.draw('path', d=f'M{piece.left} {self.y}h{piece.width}', stroke='#999')
            for x, text in ticks:
                self.draw('path', d=f'M{x:.1f} {self.y}v4', stroke='#999')
                self.write(x, self.y + 16, text, '#666')
        self.y += 30

    def legend(self):
        x = MARGIN
        for kind, text in ('blocked', 'NMIs are blocked'), ('waiting', 'an NMI waits'):
            self.draw('rect', x=x, y=self.y, width=14, height=10, fill=COLOURS[kind])
            self.write(x + 20, self.y + 9, text)
            x += 140
        if len(self.pieces) > 1:
            self.write(x, self.y + 9, 'Where nothing happens time is cut out; each piece has its own scale.', '#666')
        self.y += 10 + MARGIN


def lines(lanes):
    drawing = Drawing(lanes)
    for lane in lanes:
        drawing.lane(lane)
    drawing.axis()
    drawing.legend()
    width = max(drawing.width, drawing.pieces[-1].left + drawing.pieces[-1].width + MARGIN)
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{drawing.y}" '
           'font-family="sans-serif" font-size="11">')
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    yield from drawing.out
    yield '</svg>'
