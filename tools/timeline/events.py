# SPDX-License-Identifier: GPL-2.0-only
"""Read the kvm_nmi events of a trace, in any of the texts that the kernel,
trace-cmd and perf make of it."""

import re
from dataclasses import dataclass, field

# TASK-PID [CPU] FLAGS SECONDS: EVENT: TEXT, with (TGID) if the kernel was asked
# to record it. trace-cmd leaves out FLAGS; perf does, too, puts a space before
# PID and the system before EVENT.
LINE = re.compile(r'\s*(?P<task>.+?)[-\s]+(?P<pid>\d+)\s+(?:\([\s\d-]+\)\s+)?\[\d+\]\s+(?:[^\s:]+\s+)?'
                  r'(?P<s>\d+)\.(?P<fraction>\d+):\s+(?:kvm_nmi:)?kvm_nmi_(?P<kind>\w+):\s+(?P<text>.*?)\s*')

# The fields of each event, after vcpu_id.
FIELDS = {
    'inject': ('level', 'rip', 'rsp', 'rflags', 'cpl', 'again'),
    'window': ('level', 'window'),
    'taken': ('pending',),
    'unblock': ('level', 'blocked_ns', 'reason'),
}

EVENT = re.compile(r'\bkvm_nmi_(?:' + '|'.join(FIELDS) + '):')
LOST = re.compile(r'\[LOST (\d+) EVENTS\]|EVENTS DROPPED')


class BadTrace(Exception):
    """The file is not what it should be; the text is for people."""


@dataclass(frozen=True)
class Event:
    time: int               # ns
    task: str               # the vCPU's thread: TASK-PID
    vcpu: int
    kind: str               # a key of FIELDS
    fields: dict


@dataclass
class Trace:
    events: list = field(default_factory=list)
    resolution: int = 1000  # of the time stamps, in ns
    lost: bool = False      # the kernel says that the buffer was too small


def parse(line):
    """The event in a line, None if the line is not understood."""
    head = LINE.fullmatch(line)
    if not head:
        return None
    fields = dict(word.partition('=')[::2] for word in head['text'].split())
    if tuple(fields) != ('vcpu_id', *FIELDS[head['kind']]) or '' in fields.values():
        return None
    time = int(head['s']) * 10**9 + int(head['fraction'].ljust(9, '0')[:9])
    return Event(time, f'{head["task"]}-{head["pid"]}', int(fields['vcpu_id']), head['kind'], fields)


def read_trace(file, name):
    trace = Trace()
    for number, line in enumerate(file, 1):
        if LOST.search(line):
            trace.lost = True
        if not EVENT.search(line):
            continue
        event = parse(line)
        if not event:
            raise BadTrace(f'{name}:{number}: not understood: {line.strip()}')
        trace.events.append(event)
        if event.time % 1000:
            trace.resolution = 1
    if not trace.events:
        raise BadTrace(f'{name}: no kvm_nmi events. Were they enabled (/sys/kernel/tracing/events/kvm_nmi), '
                       'and did the guest get an NMI? Of a trace.dat trace-cmd report makes text.')
    # perf orders by CPU, a vCPU may have moved.
    trace.events.sort(key=lambda event: event.time)
    return trace
