# SPDX-License-Identifier: GPL-2.0-only
"""The timeline as text: a paragraph a vCPU, a line for each thing that happened."""

from lanes import microseconds


def lane_lines(lane, start, digits):
    yield lane.name
    waiting = {span.end for span in lane.spans if span.kind == 'waiting'}
    for i, step in enumerate(lane.steps):
        if i and step.kind == 'inject' and step.time not in waiting:
            yield ''
        times = f' ({step.times} times)' if step.times > 1 else ''
        yield f'{(step.time - start) / 1000:14,.{digits}f}  {step.sentence}{times}'


def summary(lanes):
    nmis = sum(lane.nmis for lane in lanes)
    longest = max((int(step.fields['blocked_ns']) for lane in lanes for step in lane.steps
                   if step.kind == 'unblock'), default=None)
    text = f'{nmis} NMI{"s" * (nmis != 1)} on {len(lanes)} vCPU{"s" * (len(lanes) != 1)}'
    return text + (f', blocked for {microseconds(longest)} at most' if longest is not None else '')


def lines(lanes, trace):
    start = trace.events[0].time
    yield 'Times are in µs since the first event.'
    if trace.lost:
        yield 'The kernel lost events, its trace buffer was too small: what follows has holes.'
    for lane in lanes:
        yield ''
        yield from lane_lines(lane, start, 0 if trace.resolution == 1000 else 3)
    yield ''
    yield summary(lanes)
