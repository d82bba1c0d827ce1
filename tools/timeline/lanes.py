# SPDX-License-Identifier: GPL-2.0-only
"""Make a story of each vCPU's events: what happened one after the other, and
from when to when NMIs were blocked or waited."""

from dataclasses import dataclass, field

WINDOWS = {
    'nmi-window': 'an NMI-window exit',
    'irq-window': 'an interrupt-window exit',
    'iret-intercept': 'the IRET intercept',
    'single-step': 'a single step',
    'stgi-intercept': 'the STGI intercept',
    'v-nmi': 'the CPU to take it',
}

CAUSES = {
    'iret': 'IRET retired',
    'irq-window': 'guest can take interrupts',
    'return': 'back at the interrupted instruction',
    'timeout': 'handler did not return in time',
    'fault': 'IRET faulted',
    'task-switch': 'IRET switched tasks',
    'state-restored': 'software restored the state',
    'reset': 'INIT or RESET',
}


@dataclass
class Step:
    """One thing that happened, or the same thing several times in a row."""
    time: int
    kind: str               # inject, again, window, taken, unblock
    fields: dict
    label: str              # in a word or two
    sentence: str
    times: int = 1


@dataclass
class Span:
    start: int
    end: int
    kind: str               # blocked, waiting
    ended: bool = True      # False: its end is not in the trace


@dataclass
class Lane:
    task: str
    vcpu: int
    name: str = ''
    steps: list = field(default_factory=list)
    spans: list = field(default_factory=list)
    nmis: int = 0


def microseconds(ns, digits=1):
    return f'{ns / 1000:,.{digits}f} µs'


def of_l2(event):
    """To be put after what happened while a nested guest ran."""
    return ' of L2' if event.fields['level'] == '2' else ''


class Story:
    """Follows one vCPU from event to event."""

    def __init__(self, lane):
        self.lane = lane
        self.begun = {}         # kind: Span
        self.vnmi = False       # the CPU delivers NMIs, and nobody sees their end

    def tell(self, event, kind, label, sentence):
        last = self.lane.steps[-1] if self.lane.steps else None
        if last and last.kind == kind and last.sentence == sentence:
            last.times += 1
        else:
            self.lane.steps.append(Step(event.time, kind, event.fields, label, sentence))

    def begin(self, kind, start):
        if kind not in self.begun:
            self.begun[kind] = Span(start, start, kind)
            self.lane.spans.append(self.begun[kind])

    def end(self, kind, time, ended=True):
        span = self.begun.pop(kind, None)
        if span:
            span.end, span.ended = time, ended

    def inject(self, event):
        if event.fields['again'] == '1':
            if not self.vnmi:
                self.begin('blocked', event.time)
            self.tell(event, 'again', 'again', 'injected again: an exit interrupted the delivery')
            return
        blocked = 'blocked' in self.begun
        unseen = '; the end of the one before is not in the trace' if blocked else ''
        self.end('waiting', event.time)
        self.end('blocked', event.time, ended=False)
        if not self.vnmi:
            self.begin('blocked', event.time)
        self.lane.nmis += 1
        self.tell(event, 'inject', f'NMI {self.lane.nmis}',
                  'NMI {nmi} injected at rip {rip}{of_l2} (rsp {rsp}, rflags {rflags}, cpl {cpl}){unseen}'.format(
                      nmi=self.lane.nmis, of_l2=of_l2(event), unseen=unseen, **event.fields))

    def window(self, event):
        which = 'the next' if 'blocked' in self.begun or self.vnmi else 'an'
        if event.fields['window'] == 'v-nmi':
            self.leave_to_cpu()
        label = 'waits for ' + WINDOWS.get(event.fields['window'], event.fields['window'])
        sentence = f'{which} NMI{of_l2(event)} {label}'
        # There is nothing to step over while NMIs are blocked but the IRET, and it is known by its intercept.
        if event.fields['window'] == 'single-step' and 'blocked' in self.begun:
            label, sentence = 'IRET intercepted, one step', f'IRET intercepted, {sentence}'
        self.begin('waiting', event.time)
        self.tell(event, 'window', label, sentence)

    def leave_to_cpu(self):
        self.vnmi = True
        if 'blocked' in self.begun:
            self.lane.spans.remove(self.begun.pop('blocked'))

    def taken(self, event):
        self.leave_to_cpu()
        self.end('waiting', event.time)
        self.lane.nmis += 1
        left = int(event.fields['pending'])
        self.tell(event, 'taken', f'NMI {self.lane.nmis} taken',
                  f'NMI {self.lane.nmis} taken by the CPU at some time since the entry'
                  + (f', {left} more waiting' if left else ''))

    def unblock(self, event):
        length = int(event.fields['blocked_ns'])
        why = CAUSES.get(event.fields['reason'], event.fields['reason'])
        unseen = '' if 'blocked' in self.begun else '; what blocked NMIs is not in the trace'
        self.begin('blocked', event.time - length)
        self.end('blocked', event.time)
        self.tell(event, 'unblock', why, f'open again after {microseconds(length)}: {why}{of_l2(event)}{unseen}')

    def finish(self):
        for kind in list(self.begun):
            self.end(kind, self.lane.steps[-1].time, ended=False)


def lanes_of(events):
    """A lane for each vCPU, named by its number if that is enough to tell it."""
    lanes = {}
    stories = {}
    for event in events:
        key = event.task, event.vcpu
        if key not in lanes:
            lanes[key] = Lane(*key)
            stories[key] = Story(lanes[key])
        getattr(stories[key], event.kind)(event)
    numbers = [lane.vcpu for lane in lanes.values()]
    for key, lane in lanes.items():
        lane.name = f'vCPU {lane.vcpu}'
        if numbers.count(lane.vcpu) > 1:
            lane.name += f' of {lane.task}'
        stories[key].finish()
    return sorted(lanes.values(), key=lambda lane: lane.vcpu)
