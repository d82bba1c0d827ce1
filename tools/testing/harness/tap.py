# SPDX-License-Identifier: GPL-2.0-only
"""What the runner of the selftests prints: the TAP of one program after the
other, each after a comment '# NAME'."""

import re
from dataclasses import dataclass

MARKS = {"passed": "ok", "failed": "not ok", "skipped": "skip"}


@dataclass(frozen=True)
class Result:
    outcome: str            # a key of MARKS
    test: str               # the program, "" for what is none's
    claim: str              # what the case says it shows
    comments: tuple = ()    # what was printed ahead of a failure
    number: int = 0         # of the case in its program, 0: of the program as a whole
    log: tuple = ()         # what its guest has seen, if it was asked to print that

    def lines(self, where):
        """For the reader: the result, and below a failure what led to it."""
        name = f"{where} {self.test}".strip()
        return [f"{MARKS[self.outcome]} {name}: {self.claim}"] + \
               [f"    {comment}" for comment in self.comments]


class Tap:
    """Takes lines as they come and gives a Result for those that are one."""

    def __init__(self):
        self.test = ""
        self.comments = []
        self.log = []
        self.ended = {}     # the programs that came to their end: how long that took, if it is told

    def line(self, text):
        text = text.rstrip("\r\n")
        program = re.fullmatch(r"# (\w+_test)", text)
        case = re.fullmatch(r"(not )?ok\b(?: (\d+))?(?: -)?(?: (# SKIP))? ?(.*)", text)
        whole = re.fullmatch(r"1\.\.0 # SKIP (.*)", text)
        ended = re.fullmatch(r"# (\w+_test): status \d+(?: after (.*))?", text)
        if ended:
            self.ended[ended.group(1)] = ended.group(2)
        if program:
            self.test, self.comments, self.log = program.group(1), [], []
        elif whole:
            return Result("skipped", self.test, whole.group(1))
        elif case:
            failed, number, skipped, claim = case.groups()
            comments, self.comments = tuple(self.comments), []
            log, self.log = tuple(self.log), []
            outcome = "failed" if failed else "skipped" if skipped else "passed"
            return Result(outcome, self.test, claim, comments if failed else (), int(number or 0), log)
        elif text.startswith("# log: "):
            self.log.append(text.removeprefix("# log: "))
        elif not re.match(r"TAP version|1\.\.\d|# Totals:", text):
            self.comments.append(text.removeprefix("# "))
        return None
