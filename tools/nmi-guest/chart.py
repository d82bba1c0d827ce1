# SPDX-License-Identifier: GPL-2.0-only
"""All claims in all environments as a picture: a row an environment, a field a claim."""

from html import escape

MARGIN, LABEL, FIELD, ROW, GAP = 16, 178, 9, 15, 5

# What claims are about, by the first of each group.
GROUPS = {
    'an NMI that a CPU sends to itself comes, once': 'blocking',
    'an IRQ comes before the instruction that the IRET goes to': 'order',
    'an IRET in the shadow of STI leaves no shadow': 'shadow',
    'code that is stepped sees the same steps with NMIs between them': 'stepping',
    'an IRET to a CS beyond the GDT: #GP at the IRET, then the NMI that waits': 'IRET faults',
    "IRET to 64-bit user code: the NMI's frame shows user CS, SS, RSP": 'targets',
    'an NMI to another CPU comes there, once': 'CPUs',
    'NMIs are open after an SMI if they were before': 'SMI',
    '32-bit: the second NMI waits for IRET, and comes before its target': 'other modes',
    'STI; HLT ends with an IRQ, behind the HLT': 'HLT',
}
TITLES = ('bare CPU, emulated', 'domain of Xen (HVM)', "guest of KVM, the distribution's module",
          "guest of KVM, this project's module")
KEY = {'passed': 'holds', 'hypervisor': 'fails, the hypervisor', 'emulator': 'fails, the emulator',
       'ours': "fails, this project's module", 'open': 'fails, not known why', 'skipped': 'could not be tried'}

# Readable on white and on black, and told apart without colours, too.
STYLE = """
text { fill: #24292f; } .quiet { fill: #57606a; }
.passed { fill: #b6d4f5; } .emulator { fill: #8c959f; } .hypervisor { fill: #bc4c00; }
.ours { fill: #8250df; } .open { fill: #cf222e; }
.skipped { fill: none; stroke: #afb8c1; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .quiet { fill: #9198a1; }
.passed { fill: #1f4b7a; } .emulator { fill: #8b949e; } .hypervisor { fill: #ffa657; }
.ours { fill: #d2a8ff; } .open { fill: #ff7b72; }
.skipped { stroke: #484f58; }
}"""


def kind(run):
    """Bare, Xen's, the distribution's or ours: which of TITLES."""
    if 'module' in run.facts:
        return 3 if 'this project' in run.facts['module'] else 2
    return 1 if 'Xen' in run.facts else 0


def text(x, y, words, extra=''):
    return f'<text x="{x:.0f}" y="{y}"{extra}>{escape(words)}</text>'


def field(x, y, state, said):
    title = f'<title>{escape(said)}</title>' if said else ''
    return f'<rect x="{x:.0f}" y="{y - FIELD}" width="{FIELD - 2}" height="{FIELD}" class="{state}">{title}</rect>'


def columns(claims):
    """({claim: x}, {x: group})"""
    places, groups, x = {}, {}, MARGIN + LABEL
    for claim in claims:
        if claim in GROUPS:
            x += GAP if places else 0
            groups[x] = GROUPS[claim]
        places[claim] = x
        x += FIELD
    return places, groups


def lines(runs, claims, state):
    """runs: {name: Run} in their order; state(name, run, claim): one of KEY, or None."""
    places, groups = columns(claims)
    width = max(places.values()) + FIELD + MARGIN
    out, y = [], MARGIN + 12
    out.append(text(MARGIN, y, f'What CPUs, emulators and hypervisors do with NMIs: {len(claims)} claims of nmi-guest',
                    ' font-size="15" font-weight="bold"'))
    y += 22
    used = {state(name, run, claim) for name, run in runs.items() for claim in claims}
    x = MARGIN
    for name, words in KEY.items():
        if name in used:
            out += [field(x, y, name, ''), text(x + FIELD + 4, y, words)]
            x += 26 + 6.3 * len(words)
    y += 8
    # Some are narrower than their names.
    for number, (x, words) in enumerate(groups.items()):
        out.append(text(x, y + 14 + 13 * (number % 2), words, ' class="quiet"'))
    y += 34
    last = None
    for name, run in runs.items():
        if kind(run) != last:
            last = kind(run)
            y += ROW + 3
            out.append(text(MARGIN, y, TITLES[last], ' font-weight="bold"'))
        y += ROW
        out.append(text(MARGIN + 8, y, name, ' class="quiet"'))
        for claim, x in places.items():
            found = state(name, run, claim)
            if found:
                out.append(field(x, y, found, f'{name}: {claim}: {KEY[found]}'))
    y += MARGIN
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" '
           'font-family="sans-serif" font-size="12">')
    yield f'<style>{STYLE}</style>'
    yield from out
    yield '</svg>'
