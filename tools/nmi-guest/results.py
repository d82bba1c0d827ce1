# SPDX-License-Identifier: GPL-2.0-only
"""What nmi-guest has printed, of one boot or of several that went on behind a
claim which ended the one before."""

import re
from dataclasses import dataclass, field


@dataclass
class Result:
    claim: str
    manual: str             # titles of the sections that it is from
    outcome: str            # passed, failed, skipped
    comments: tuple = ()    # what was printed ahead of it
    reason: str = ''        # of a skip

    def seen(self):
        return [comment.partition(': ')[2] for comment in self.comments if comment.startswith('seen: ')]


@dataclass
class Run:
    plan: int = 0
    facts: dict = field(default_factory=dict)       # CPU, kernel, module and so on, as printed
    cycles: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)     # by number

    def complete(self):
        return bool(self.plan) and sorted(self.results) == list(range(1, self.plan + 1))


def parse(text):
    run = Run()
    at = None           # the claim that was announced last
    comments = []

    def end(outcome, reason=''):
        number, claim, manual = at
        run.results[number] = Result(claim, manual, outcome, tuple(comments), reason)

    for line in text.splitlines():
        line = line.rstrip('\r')
        announced = re.fullmatch(r'# (\d+): (.*) \[(.*)\]', line)
        result = re.fullmatch(r'(not )?ok (\d+) - (.*?)(?: # SKIP (.*))?', line)
        plan = re.fullmatch(r'1\.\.(\d+)', line)
        fact = re.fullmatch(r'# ([A-Z]?[A-Za-z ]+): (.*)', line)
        cycles = re.fullmatch(r'# cycles, (.*): (min .*)', line)
        if (announced or line == 'TAP version 13' or line.startswith('# Totals')) and at:
            comments.append('the machine hung or ended here')
            end('failed')
            at = None
        if announced:
            at = (int(announced[1]), announced[2], announced[3])
            comments = []
        elif result and at and int(result[2]) == at[0]:
            end('failed' if result[1] else 'skipped' if result[4] else 'passed', result[4] or '')
            at = None
        elif plan:
            run.plan = int(plan[1])
        elif cycles:
            run.cycles[cycles[1]] = cycles[2]
        elif at:
            comments.append(line.removeprefix('# '))
        elif fact and fact[1] != 'Totals':
            run.facts[fact[1]] = fact[2]
    if at:
        comments.append('the machine hung or ended here')
        end('failed')
    return run


def tap(run):
    """One TAP of what may have taken several boots."""
    lines = ['TAP version 13', *(f'# {name}: {value}' for name, value in run.facts.items()), f'1..{run.plan}']
    for number, result in sorted(run.results.items()):
        lines.append(f'# {number}: {result.claim} [{result.manual}]')
        lines += [f'# {comment}' for comment in result.comments]
        skip = f' # SKIP {result.reason}' if result.outcome == 'skipped' else ''
        lines.append(f"{'not ' if result.outcome == 'failed' else ''}ok {number} - {result.claim}{skip}")
    lines += [f'# cycles, {what}: {figures}' for what, figures in run.cycles.items()]
    return '\n'.join(lines) + '\n'


def tsv(run):
    """claim, outcome, what was seen or why it was skipped"""
    return ''.join(f"{number}\t{result.claim}\t{result.outcome}\t{result.reason or '; '.join(result.seen())}\n"
                   for number, result in sorted(run.results.items()))
