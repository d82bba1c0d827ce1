# SPDX-License-Identifier: GPL-2.0-only
"""Judge a run by its console log.

A host counts as crashed until its log holds the verdict line of this run, and
a kernel that complained is a failed host whatever the verdict says. The log of
a host in which that one runs counts as well, and may say why there is no verdict."""

import re
from dataclasses import dataclass

STAMP = r'^(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? )?'

# How the kernel's reports of its own misbehaviour begin. The two lines that
# every module built outside the kernel earns ("loading out-of-tree module
# taints kernel", "module verification failed: signature and/or required key
# missing - tainting kernel") match none of them.
COMPLAINT = re.compile(STAMP + '(?:' + '|'.join((
    r'(?:watchdog: )?BUG[: ]', r'WARNING: ', r'Oops: ', r'kernel BUG at ', r'Kernel panic ',
    r'general protection fault[,:] ', r'(?:invalid opcode|divide error|double fault|stack segment): ',
    r'unchecked MSR access error: ', r'UBSAN: ', r'refcount_t: ', r'Call Trace:', r'ODEBUG: ',
    r'DEBUG_LOCKS_WARN_ON', r'INFO: trying to register non-static key', r'INFO: lockdep is turned off',
    r'INFO: task .* blocked for more than', r'rcu: INFO: rcu_\w+ .*stall', r'(?:NMI )?watchdog: .*hard LOCKUP',
    r'\w+: (?:Unknown symbol|disagrees about version of symbol) ',
    r'Uhhuh\. NMI received for unknown reason',
)) + ')')

# What the CPU of "make strict-cpu" ends with when software breaks a rule of the manual.
VIOLATION = re.compile(r'^strict: (.*)$', re.M)

# Where such a report ends, or it is cut: what comes after it was a test's.
REPORT_END = re.compile(STAMP + r'---\[ end ')
REPORT_LINES = 40

# The last line of a panic; the kernel then stands still.
FATAL = re.compile(STAMP + r'---\[ end Kernel panic ', re.M)

# The status of hosts/run where it is not that of the command.
HOST_FAILED = 125


@dataclass(frozen=True)
class Verdict:
    status: int = HOST_FAILED
    reason: str = ''


def final_line(console, token):
    """What follows the token in the verdict line, None without a whole one."""
    found = re.search(rf'^{token} (.*?)\r*\n', console, re.M)
    return found and found[1]


def is_over(consoles, token):
    """The host that ends last has reported, or a kernel stands still."""
    return final_line(consoles[-1], token) is not None or any(map(FATAL.search, consoles))


def has_complaint(console):
    return any(map(COMPLAINT.match, console.splitlines()))


def complaint(console):
    """The first report of a kernel's own misbehaviour as text, '' if there is none."""
    lines = [line.strip() for line in console.splitlines()]
    start = next((at for at, line in enumerate(lines) if COMPLAINT.match(line)), None)
    if start is None:
        return ''
    report = lines[start:start + REPORT_LINES]
    end = next((at for at, line in enumerate(report) if REPORT_END.match(line)), None)
    return '\n    '.join(report if end is None else report[:end])


def judge(console, token, limit=None, below='', said='', emulator=''):
    """The verdict on a run that has ended; limit: it was stopped after so long a silence.

    said: by a QEMU that runs the host inside another. It may have paused it for an error.
    emulator: said by the one that runs the host itself."""
    violation = VIOLATION.search(emulator)
    if violation:
        return Verdict(reason=f'the CPU ended it, a rule is broken: {violation[1]}')
    lines = console.splitlines()
    for whose, log in (('the kernel', console), ('the kernel of the host below', below)):
        if has_complaint(log):
            return Verdict(reason=f'{whose} complained: {complaint(log)}')
    final = final_line(console, token)
    if final is None and final_line(below, token):
        return Verdict(reason=f'did not start, or ended early: the host below reports {final_line(below, token)}')
    if final is None:
        last = next((line.strip() for line in reversed(lines) if line.strip()), 'none')
        silence = f"hung: nothing printed for {limit} s of the emulator's own time"
        what = silence if limit else 'crashed: the emulator ended early'
        told = ''.join(f'; its QEMU said: {line}' for line in said.splitlines()[:3])
        return Verdict(reason=f'{what}; last console line: {last}{told}')
    kind, _, rest = final.partition(' ')
    if kind == 'exit' and rest.isdecimal():
        return Verdict(status=int(rest))
    return Verdict(reason=rest if kind == 'failed' else f'verdict not understood: {final}')
