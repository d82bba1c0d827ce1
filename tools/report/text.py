# SPDX-License-Identifier: GPL-2.0-only
"""Reports as text: one of them on one screen, and several beside each other."""

import textwrap

from record import NOT_RUN, WHOLE

MODULES = {'stock': "the distribution's", 'ours': "this project's"}
SHORT = {'stock': "distribution's", 'ours': 'ours'}
COSTS = {
    'plain-exit': 'exit without an NMI',
    'lone': 'end of a handler',
    'lone-irqs-off': '  with IRQs off',
    'halted': 'NMI into HLT',
    'pair': 'two back to back',
    'pair-irqs-off': '  with IRQs off',
    'irq-behind': 'IRQ after the NMI',
    'ten-in-handler': 'ten in a handler',
    'ten-thousand': 'one in a row',
    'nested-round': 'an L2 and back',
}
WIDTH, LABEL = 80, 20
SHOWN_FAILURES = 2
# What CPUs have that makes a difference here.
SVM = ('npt', 'nrips', 'decodeassists', 'vgif', 'vnmi', 'avic', 'sev-es')
VMX = {'vnmi': 'virtual NMIs', 'mtf': 'monitor trap flag', 'ept': 'EPT',
       'unrestricted_guest': 'unrestricted guest', 'preemption_timer': 'preemption timer'}


def thousands(ticks):
    """Some three digits of thousands of cycles."""
    value = ticks / 1000
    digits = 3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0
    return f'{value:.{digits}f}'


def rows_of(reports):
    """Not every version of the tests has measured all of them."""
    return [row for row in COSTS if any(row in run.get('costs', {}) for report in reports for run in report['runs'])]


def cost_name(row):
    """For where the row before is not in sight."""
    return COSTS[row.removesuffix('-irqs-off')] + (', IRQs off' if row.endswith('-irqs-off') else '')


def cost_cell(cost):
    if not isinstance(cost, dict):
        return cost or ''
    return ' '.join(f'{thousands(cost[name]):>4}' for name in ('p1', 'median', 'p99'))


def features(report):
    """(which, those that the CPU has, those that it lacks) of what matters for NMIs."""
    cpu = report['cpu']
    if 'svm' in cpu:
        has = cpu['svm'].split()
        return 'SVM', [name for name in SVM if name in has], [name for name in SVM if name not in has]
    flags = cpu.get('vmx-flags', '').split()
    return 'VMX', [VMX[name] for name in VMX if name in flags], [VMX[name] for name in VMX if name not in flags]


def cpu_line(cpu):
    return f'{cpu["vendor"]} family {cpu["family"]} model {cpu["model"]} stepping {cpu["stepping"]}, ' \
           f'microcode {cpu.get("microcode") or "unknown"}'


def kernel_name(report):
    """Its release and, where it is Debian's, the package's version."""
    release, _, rest = report['kernel'].partition(' ')
    debian = rest.partition('Debian ')[2].split(' ')[0]
    return release + (f' ({debian})' if debian else '')


def where(report):
    """Real, or what it was in."""
    if report.get('emulated'):
        return f'emulated by {report.get("emulator") or report["emulated"]}'
    hypervisor = report['cpu'].get('hypervisor')
    return f'in a VM of {hypervisor}' if hypervisor else 'a real CPU'


def line(label, cells, width):
    return (f'{label:{LABEL}}' + ''.join(f' {cell:>{width - 1}}' for cell in cells)).rstrip()


def tests_cell(run):
    counts = run['counts']
    return f'{counts["passed"]}/{counts["failed"]}/{counts["skipped"]}'


def programs_cell(run):
    programs = run.get('programs')
    if not programs:
        return 'not run'
    good = programs['ran'] - len(programs['failed'])
    return f'{good} of {programs["ran"]}' + (' !' if 'problem' in programs else '')


def why_no_costs(report):
    """What there is to be said of the costs, in the order of its weight."""
    said = []
    taken = any(run.get('costs') for run in report['runs'])
    if report.get('tsc'):
        said.append(f'the TSC cannot be trusted: {report["tsc"]}' + ('' if taken else '; no cycles'))
    if report.get('emulated') and taken:
        said.append('cycles of an emulator say nothing of a CPU')
    noisy = [f'{run["module"]}: {run["noise"]}' for run in report['runs'] if run.get('noise')]
    if report.get('drift'):
        noisy.append(report['drift'])
    if noisy and taken:
        said.append(f'too noisy to compare: {noisy[0]}' + (f' (and {len(noisy) - 1} more)' if noisy[1:] else ''))
    return said


def screen(report):
    """One report, on one screen of 80 columns."""
    runs = report['runs']
    width = (WIDTH - LABEL) // max(len(runs), 2)
    which, has, lacks = features(report)
    tests = report['amounts']['tests'].split()
    yield f'kvm-nmi {report["kvm-nmi"]}: {report["name"]}, {report["date"]}, {where(report)}'
    yield f'CPU     {cpu_line(report["cpu"])}'
    words = f'        {report["cpu"]["brand"].strip()}; {which}: {", ".join(has) or "none"}'
    yield from textwrap.wrap(words, WIDTH, subsequent_indent='        ')
    if lacks:
        yield from textwrap.wrap(f'        without {", ".join(lacks)}', WIDTH, subsequent_indent='        ')
    yield f'kernel  {kernel_name(report)}'
    words = f'amounts {len(tests)} tests, {report["amounts"]["programs"]} random programs, ' \
            f'{report["amounts"]["samples"]} samples of each cost'
    places = dict.fromkeys(run['costs-on'] for run in runs if run.get('costs-on'))
    yield from textwrap.wrap(words + ''.join(f' on {place}' for place in places), WIDTH, subsequent_indent='        ')
    yield ''
    yield line('', [SHORT[run['module']] for run in runs], width)
    yield line(which, [run['path'].removeprefix(f'{which} ') for run in runs], width)
    yield line('claims ok/no/skip', [tests_cell(run) for run in runs], width)
    yield line('programs as modelled', [programs_cell(run) for run in runs], width)
    if any(run.get('costs') for run in runs):
        yield line('thousand cycles', ['1% median 99%' if run.get('costs') else '' for run in runs], width)
        for row in rows_of([report]):
            yield line(COSTS[row], [cost_cell(run.get('costs', {}).get(row)) for run in runs], width)
    remarks = [f'{MODULES[run["module"]]} module: {run["complaint"]}' for run in runs if run.get('complaint')]
    remarks += [f'programs on {MODULES[run["module"]]} module: {run["programs"]["problem"]}'
                for run in runs if 'problem' in run.get('programs', {})]
    failures = [(run['path'], failure) for run in runs if run['module'] == 'ours' for failure in run['failures']]
    remarks += [f'fails with ours, {path}: {failure["test"]}: {failure["claim"]}'
                for path, failure in failures[:SHOWN_FAILURES]]
    if failures[SHOWN_FAILURES:]:
        remarks.append(f'and {len(failures) - SHOWN_FAILURES} more: see {report["name"]}.json')
    for remark in why_no_costs(report) + remarks:
        yield from textwrap.wrap(remark, WIDTH, initial_indent='! ', subsequent_indent='  ')


# --- several reports ----------------------------------------------------------

def columns(reports):
    """(report, its run) of each column."""
    return [(report, index) for report in reports for index in range(len(report['runs']))]


def same_claim(skipped, claims):
    """A case that was skipped everywhere in its report has the reason after its claim."""
    return next((claim for claim in claims if skipped.startswith(f'{claim}: ')), skipped)


def merged(reports):
    """{(test, claim): marks, one for each column}"""
    known = {}
    for report in reports:
        for test, claims in report['claims'].items():
            known.setdefault(test, set()).update(claim for claim, marks in claims.items() if set(marks) & set('+-'))
    table, at, width = {}, 0, len(columns(reports))
    for report in reports:
        for test, claims in report['claims'].items():
            for claim, marks in claims.items():
                if not set(marks) & set('+-'):
                    claim = same_claim(claim, known[test])
                row = table.setdefault((test, claim), [NOT_RUN] * width)
                row[at:at + len(marks)] = marks
        at += len(report['runs'])
    return {key: ''.join(marks) for key, marks in sorted(table.items())}


def comparison(reports):
    """Several reports, a column for each run of each of them."""
    shown = columns(reports)
    for number, (report, index) in enumerate(shown, 1):
        run = report['runs'][index]
        parameters = f' {run["parameters"]}' if run['parameters'] else ''
        yield f'{number:3}  {report["name"]} ({report["date"]}, {where(report)}; {cpu_line(report["cpu"])})'
        yield f'     {kernel_name(report)}, {MODULES[run["module"]]} module{parameters}: {run["path"]}'
    yield ''
    width = 6
    numbers = [str(number) for number in range(1, len(shown) + 1)]
    yield line('', numbers, width)
    runs = [report['runs'][index] for report, index in shown]
    for outcome in 'passed', 'failed', 'skipped':
        yield line(f'claims {outcome}', [run['counts'][outcome] for run in runs], width)
    yield line('programs run', [run.get('programs', {}).get('ran', '') for run in runs], width)
    yield line('  not as modelled', [len(run.get('programs', {}).get('failed', [])) for run in runs], width)
    yield ''
    yield 'thousand cycles, median'
    for row in rows_of(reports):
        costs = [run.get('costs', {}).get(row, '') for run in runs]
        yield line(COSTS[row], [thousands(cost['median']) if isinstance(cost, dict) else cost for cost in costs], width)
    yield ''
    yield 'claims that are not the same everywhere (+ holds, - does not, . not to be tried there)'
    for (test, claim), marks in merged(reports).items():
        if claim != WHOLE and (len(set(marks) - {NOT_RUN}) > 1 or '-' in marks):
            yield f'{"  ".join(marks)}   {test}: {claim}'
    for report in reports:
        for remark in why_no_costs(report):
            yield from textwrap.wrap(f'{report["name"]}: {remark}', 100, initial_indent='! ', subsequent_indent='  ')
