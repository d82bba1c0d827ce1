# SPDX-License-Identifier: GPL-2.0-only
"""Tables of cases that come out otherwise than the rest, and why: the reason in a
line of its own, and below it, indented, lines of TEST and CLAIM."""

import sys


def read(path):
    """{(test, claim): reason}"""
    table = {}
    reason = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not line[0].isspace():
            reason = line
            continue
        test, _, claim = line.strip().partition(" ")
        if not reason or not claim:
            sys.exit(f"{path}:{number}: expected a reason, and below it indented lines TEST CLAIM")
        table[test, claim.strip()] = reason
    return table
