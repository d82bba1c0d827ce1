# SPDX-License-Identifier: GPL-2.0-only
"""Documentation/reports.rst and reports.svg, from the reports in Documentation/reports and
nothing else."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'testing/harness'))

import picture
import text
from comparison.document import list_table

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'Documentation/reports'
PAGE = ROOT / 'Documentation/reports.rst'
PICTURE = ROOT / 'Documentation/reports.svg'

INTRODUCTION = """\
.. SPDX-License-Identifier: GPL-2.0-only

.. made by tools/report/report --page from what is in Documentation/reports

What runs where
===============

Reports of machines: what CPU it is, then on each path that it can take, with the
distribution's module and this project's in turn, the selftests, random programs beside
their model, and what NMIs cost in cycles of the TSC. A report of one more is ::

    sudo make report        # on a Debian machine with KVM, while no VM runs

It refuses before it installs or touches anything where a VM runs, be it VirtualBox's, DKMS has
these modules (``sudo make dkms-remove`` first), the running kernel is of another series or so old
that Debian no longer has its headers and its source (``sudo apt upgrade`` and a reboot first), or
the kernel takes signed modules only or has KVM built in; and before it touches anything where the
firmware has the CPU's part off. However it ends, the distribution's module is loaded then, or none
if none was; where it does not load the status says so. ``build/report/NAME.json`` is what belongs
into ``Documentation/reports``: no serial number, MAC, host name or user is in it. ``make report
HOST=amd`` does the same on an emulated host; ``PROGRAMS=``, ``SAMPLES=`` and ``TESTS=`` set the
amounts. Several reports beside each other, as a table and a picture::

    tools/report/report build/report/A.json build/report/B.json

"""


EMULATORS = """
What emulators do wrong is in :doc:`testing`. QEMU's VMRUN loses interrupt shadows there, with
any module, and more often where the machine is busy and one host runs in another.
"""


def table(header, rows, widths):
    return '\n'.join(list_table(header, rows, widths))


def heading(words):
    return f'\n{words}\n{"-" * len(words)}\n\n'


def machines(reports):
    rows = []
    for report in reports:
        cpu = report['cpu']
        which, has, lacks = text.features(report)
        emulated = '**emulated**: ' + (report.get('emulator') or report['emulated']) if report.get('emulated') \
            else text.where(report)
        rows.append((f'``{report["name"]}``', emulated, f'{cpu["brand"].strip()}; {text.cpu_line(cpu)}',
                     f'{which}: {", ".join(has) or "none"}' + (f'; without {", ".join(lacks)}' if lacks else ''),
                     report['date']))
    return table(('report', 'machine', 'CPU', 'of what matters for NMIs', 'tried'), rows, (3, 4, 6, 5, 3))


def result(run):
    counts = run['counts']
    words = f'all {counts["passed"]} hold'
    if counts['failed']:
        words = f'{counts["passed"]} hold, {counts["failed"]} do not'
    return words + (f', {counts["skipped"]} skipped' if counts['skipped'] else '')


def programs(run):
    found = run.get('programs')
    if not found:
        return 'not run'
    bad = len(found['failed'])
    return f'{bad} of the first {found["ran"]} not as modelled' if bad else f'all {found["ran"]} as modelled'


def runs(reports):
    rows = []
    # Of a file of the kernel's the name: its folder is none of this tree.
    folder = re.compile(r'[\w/]+/(?=\w+\.c:)')
    for report in reports:
        tests = len(report['amounts']['tests'].split())
        for index, run in enumerate(report['runs']):
            parameters = f' with ``{run["parameters"]}``' if run['parameters'] else ''
            rows.append((f'``{report["name"]}``' if not index else '', text.kernel_name(report) if not index else '',
                         text.MODULES[run['module']] + parameters, run['path'], f'{result(run)} ({tests} tests)',
                         programs(run), folder.sub('', run.get('complaint', 'none'))))
    return table(('report', 'kernel', 'module', 'path', 'claims', 'random programs', 'complaints of the kernel'),
                 rows, (3, 4, 4, 4, 4, 4, 3))


def our_failures(reports):
    lines = [f'* ``{report["name"]}``, {run["path"]}: ``{failure["test"]}``: {failure["claim"]}\n'
             for report in reports for run in report['runs'] if run['module'] == 'ours' for failure in run['failures']]
    if not lines:
        return 'None in these reports.\n'
    return ''.join(lines) + (EMULATORS if any(report.get('emulated') for report in reports) else '')


def costs(reports):
    """Median, with the 1st and the 99th percentile, in thousands of cycles."""
    rows, shown = [], text.rows_of(reports)
    for report in reports:
        for run in report['runs']:
            if run.get('costs'):
                cells = [text.cost_cell(run['costs'].get(row)) for row in shown]
                rows.append((f'``{report["name"]}``', f'{text.MODULES[run["module"]]}, {run["path"]}', *cells))
    header = ('report', 'module, path', *map(text.cost_name, shown))
    return table(header, rows, (3, 4, *[3] * len(shown))) if rows else 'No report has any.\n'


def remarks(reports):
    return ''.join(f'* ``{report["name"]}``: {remark}\n' for report in reports for remark in text.why_no_costs(report))


def page(reports):
    return ''.join((
        INTRODUCTION,
        'No real CPU is among them yet.\n' if all(report.get('emulated') for report in reports) else '',
        heading('Machines'), machines(reports),
        heading('What was tried, with which result'), runs(reports),
        heading('Claims that fail with our module'), our_failures(reports),
        heading('What NMIs cost'),
        'In thousands of TSC cycles: 1st percentile, median, 99th percentile.\n\n',
        '.. image:: reports.svg\n   :alt: What NMIs cost, by report and module\n\n'
        if any(map(picture.measured, reports)) else '',
        costs(reports), '\n', remarks(reports)))


def write(reports):
    PAGE.write_text(page(reports))
    drawn = '\n'.join(picture.lines(reports))
    if drawn:
        PICTURE.write_text(drawn + '\n')
    print(f'report: {PAGE.relative_to(ROOT)}, {len(reports)} reports')
