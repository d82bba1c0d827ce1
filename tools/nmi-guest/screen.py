# SPDX-License-Identifier: GPL-2.0-only
"""What is to be read on the screen of a machine in QEMU: characters of a VGA's text, or dots that
nmi-guest has drawn."""

import re
import subprocess
import time
from pathlib import Path

FONT = Path(__file__).resolve().with_name('font.c')
VGA, COLUMNS, ROWS = 0xb8000, 80, 25
# Of a character with its gaps, as in console.c.
WIDTH, HEIGHT = 6, 8
ANSWER = 60                 # seconds for the monitor, on a busy machine


def glyphs():
    """{its rows: character}"""
    rows = re.findall(r'\{ ((?:0\d\d(?:, )?){7}) \}', FONT.read_text())
    return {tuple(int(row, 8) for row in glyph.split(', ')): chr(ord(' ') + n) for n, glyph in enumerate(rows)}


def lines(text, columns):
    """Its rows; one that is full goes on in the next."""
    rows = (text[at:at + columns].rstrip() for at in range(0, len(text), columns))
    return ''.join(row if len(row) == columns else row + '\n' for row in rows)


def read_dots(picture):
    """The text of a picture, a PPM; what is no character of the font is a question mark upside down."""
    _, size, _, dots = picture.split(b'\n', 3)
    width, height = map(int, size.split())
    scale = 1 if width < 1024 else width // 512
    known = glyphs()

    def white(x, y):
        return dots[3 * (y * width + x)] > 127

    def character(column, row):
        x, y = column * WIDTH * scale, row * HEIGHT * scale
        rows = tuple(sum(white(x + i * scale, y + j * scale) << 4 - i for i in range(WIDTH - 1))
                     for j in range(HEIGHT - 1))
        return known.get(rows, '\N{INVERTED QUESTION MARK}')

    columns, rows = width // (WIDTH * scale), height // (HEIGHT * scale)
    return lines(''.join(character(column, row) for row in range(rows) for column in range(columns)), columns)


class Machine:
    """A QEMU with a screen, as a context; what it keeps for us is in a folder."""

    def __init__(self, command, folder):
        self.command = [*command, '-display', 'none', '-vga', 'std', '-monitor', 'stdio']
        self.file = Path(folder, 'screen')

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def saved(self, command, complete):
        """What a command of the monitor writes into a file."""
        self.file.unlink(missing_ok=True)
        self.process.stdin.write(f'{command}\n'.encode())
        self.process.stdin.flush()
        late = time.monotonic() + ANSWER
        while self.process.poll() is None and time.monotonic() < late:
            if self.file.exists() and complete(saved := self.file.read_bytes()):
                return saved
            time.sleep(0.05)
        raise EOFError(f'QEMU does not answer: {command}')

    def text(self):
        """In VGA's text mode."""
        size = 2 * COLUMNS * ROWS
        saved = self.saved(f'pmemsave {VGA:#x} {size} "{self.file}"', lambda saved: len(saved) == size)
        return lines(''.join(chr(byte) if byte else ' ' for byte in saved[::2]), COLUMNS)

    def dots(self):
        def complete(saved):
            head = re.match(rb'P6\n(\d+) (\d+)\n255\n', saved)
            return head and len(saved) == head.end() + 3 * int(head[1]) * int(head[2])
        return read_dots(self.saved(f'screendump "{self.file}"', complete))

    def until(self, words, read, limit, pause=0.2):
        """All different texts that were read until there was one with these words, or so many seconds were over."""
        seen = []
        late = time.monotonic() + limit
        while time.monotonic() < late and not (seen and words in seen[-1]):
            now = read()
            if not seen or now != seen[-1]:
                seen.append(now)
            time.sleep(pause)
        return seen
