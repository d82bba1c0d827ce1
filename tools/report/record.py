# SPDX-License-Identifier: GPL-2.0-only
"""What in-machine prints, as one dictionary: what report.json holds.

Claims are kept as {test: {claim: marks}}, a mark for each of the runs in their order."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'testing/harness'))

from tap import Tap

FORMAT = 1
MARKS = {'passed': '+', 'failed': '-', 'skipped': '.'}
NOT_RUN = ' '
WHOLE = '(the whole program)'
KEPT_FAILURES, KEPT_LINES = 40, 8

# CPUID 1AH, EAX: SDM vol. 2
CORES = {'0x20': 'an efficient core', '0x40': 'a performance core'}

# Of the ticks of an exit without any NMI, which is the same with every module: by how
# much they may differ, and how many times the median one in a hundred may take, before
# the machine counts as too noisy to compare.
STEADY, TAIL = 1.05, 3


MODULES = {'stock': "the distribution's module", 'ours': "this project's module"}
PARTS = {'tests': 'the selftests', 'programs': 'the random programs', 'costs': 'what NMIs cost'}


class BrokenRecord(Exception):
    """The text is a line for people."""


def blocks(text):
    """(word, rest of the line, lines up to the next) for each line that begins with @."""
    found = []
    for line in text.splitlines():
        if line.startswith('@'):
            word, _, rest = line[1:].partition(' ')
            found.append((word, rest.strip(), []))
        elif found:
            found[-1][2].append(line)
    return found


def without_folders(text):
    """No path from the root down: the folders may tell who somebody is. Its last two names do, for those that
    everybody has it stays."""
    text = re.sub(r'/home/[^/\s:\'"]+', '/~', text)
    return re.sub(r'(?<![\w.~+/-])/(?!(?:proc|sys|dev)/)(?:[^\s/:\'"()]+/)+([^\s/:\'"()]+/[^\s/:\'"()]+)', r'\1', text)


def last_place(text):
    """What a record that was broken off has come to: the last that it says had begun."""
    place = 'its beginning'
    module = test = ''
    for line in text.splitlines():
        word, _, rest = line.partition(' ')
        if word == '@swap':
            which, _, parameters = rest.partition(' ')
            place = f'loading {MODULES.get(which, which)}' + (f' with {parameters}' if parameters else '')
        elif word == '@run':
            which, _, path = rest.partition(' ')
            place = module = f'{MODULES.get(which, which)}, {path}'
        elif word == '@part':
            place, test = f'{PARTS.get(rest, rest)} ({module})', rest == 'tests'
        elif test and re.fullmatch(r'# \w+_test', line):
            place = f'{rest} ({module})'
        elif word == '@done':
            place = 'its end'
    return place


def parse_tests(lines):
    tap = Tap()
    return [result for result in map(tap.line, lines) if result]


def parse_programs(lines, status, wanted):
    text = '\n'.join(lines)
    failed = [int(seed) for seed in re.findall(r'(?m)^failed: nmi_fuzz_test (\d+) 1$', text)]
    done = re.search(r'(?m)^(\d+) programs from seed 0 on, (\d+) to their end', text)
    programs = {'wanted': wanted, 'ran': int(done[1]) if done else failed[-1] + 1 if failed else 0, 'failed': failed}
    if done:
        programs['ended'] = int(done[2])
    elif status != 1 or not failed:
        programs['problem'] = f'ended with status {status}'
    return programs


def parse_costs(lines):
    costs, again = {}, {}
    for line in lines:
        words = line.split()
        if words[:1] == ['cycles'] and len(words) == 12:
            figures = dict(zip(words[2::2], map(int, words[3::2])))
            (again if words[1] in costs else costs)[words[1]] = figures
        elif words[:1] == ['cost'] and len(words) == 3:
            costs[words[1]] = words[2]
    return costs, again.get('plain-exit')


def measured_on(lines):
    """The CPU that the costs are those of."""
    found = re.search(r'(?m)^on CPU (\d+)(?:, core type (0x[0-9a-f]+))?$', '\n'.join(lines))
    if not found:
        return None
    return f'CPU {found[1]}' + (f', {CORES.get(found[2], f"a core of type {found[2]}")}' if found[2] else '')


def noise(costs, again):
    """Why these are not to be compared, or None."""
    plain = costs.get('plain-exit')
    if not isinstance(plain, dict) or not isinstance(again, dict):
        return 'the exit without any NMI has no figures'
    low, high = sorted((plain['median'], again['median']))
    if high > low * STEADY:
        return f'an exit without any NMI took {plain["median"]} cycles at first, {again["median"]} at the end'
    if plain['p99'] > plain['median'] * TAIL:
        times = plain['p99'] / plain['median']
        return f'of the exits without any NMI one in a hundred takes {times:.1f} times the median'
    return None


def drift(runs):
    """Why the costs of these runs are not to be compared with each other, or None."""
    plain = [run['costs']['plain-exit']['median'] for run in runs
             if isinstance(run.get('costs', {}).get('plain-exit'), dict)]
    if plain and max(plain) > min(plain) * STEADY:
        return f'an exit without any NMI took {min(plain)} cycles with one module, {max(plain)} with another'
    return None


def read_run(entries, amounts):
    """One module on one path; entries are its blocks, the first is @run."""
    module, _, path = entries[0][1].partition(' ')
    run = {'module': module, 'path': path}
    results, part = [], None
    for word, rest, lines in entries:
        if word in ('parameters', 'version', 'complaint', 'load'):
            run[word] = rest
            lines_of_part = lines if word == 'load' else None
        elif word == 'part':
            part, lines_of_part = rest, lines
        if word == 'status':
            status = int(rest)
            if part == 'tests':
                results = parse_tests(lines_of_part)
            elif part == 'programs':
                run['programs'] = parse_programs(lines_of_part, status, int(amounts['programs']))
            elif part == 'costs':
                run['costs'], again = parse_costs(lines_of_part)
                run['costs-on'] = measured_on(lines_of_part)
                run['noise'] = noise(run['costs'], again)
    run['counts'] = {outcome: sum(result.outcome == outcome for result in results) for outcome in MARKS}
    run['failures'] = [{'test': result.test, 'claim': result.claim, 'said': list(result.comments[:KEPT_LINES])}
                       for result in results if result.outcome == 'failed'][:KEPT_FAILURES]
    return run, results


def claim_text(found):
    """The claim of results that are one case. A skip has its reason after the claim."""
    texts = [result.claim for result in found if result and result.outcome != 'skipped']
    first = next(result for result in found if result)
    return texts[0] if texts else first.claim if first.number else WHOLE


def claims_of(results):
    """{test: {claim: marks}} from the results of each run."""
    def key(result):
        # A failure of a whole program is a row of its own: it may have cases, too.
        whole = not result.number and result.outcome == 'failed'
        return result.test, result.number, result.claim if whole else ''

    table = {}
    for test, number, claim in sorted({key(result) for run in results for result in run}):
        found = [next((result for result in run if key(result) == (test, number, claim)), None) for run in results]
        marks = ''.join(MARKS[result.outcome] if result else NOT_RUN for result in found)
        table.setdefault(test, {})[claim_text(found)] = marks
    return table


def parse(text):
    """The whole record; one that was broken off is none."""
    entries = blocks(without_folders(text))
    if not entries or entries[0][:2] != ('record', str(FORMAT)):
        raise BrokenRecord('nothing that was printed is a record')
    if entries[-1][0] != 'done':
        raise BrokenRecord(f'the run was broken off in {last_place(text)}')
    report = {'format': FORMAT, 'cpu': {}, 'amounts': {}}
    starts = [at for at, entry in enumerate(entries) if entry[0] == 'run'] + [len(entries) - 1]
    for word, rest, _ in entries[1:starts[0]]:
        if word in ('cpu', 'amount'):
            name, _, value = rest.partition(' ')
            report['cpu' if word == 'cpu' else 'amounts'][name] = value
        elif word not in ('plan', 'swap'):
            report[word] = rest
    runs, results = zip(*(read_run(entries[begin:end], report['amounts']) for begin, end in zip(starts, starts[1:])))
    report['runs'] = list(runs)
    report['drift'] = drift(runs)
    # What was tried, and not what makes a report of it. Tests and module are of one build.
    tried = next((run['version'] for run in runs if run['module'] == 'ours' and run.get('version')), None)
    if tried:
        report['kvm-nmi'] = tried
    report['claims'] = claims_of(results)
    return report
