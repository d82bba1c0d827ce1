# SPDX-License-Identifier: GPL-2.0-only
"""tools/nmi-timeline tells recorded traces as they were.

amd.trace is a whole trace of 'make demo'."""

import re
import resource
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOL = HERE.parents[1] / 'nmi-timeline'
AMD = HERE / 'amd.trace'
HEADER = (HERE.parents[2] / 'arch/x86/kvm/nmi_trace.h').read_text()

sys.path.insert(0, str(HERE.parents[1] / 'timeline'))
from lanes import CAUSES, WINDOWS

AMD_TEXT = '''\
Times are in µs since the first event.

vCPU 0
             0  NMI 1 injected at rip 0xffffffff8e0592eb (rsp 0xffffffff8f003e98, rflags 0x246, cpl 0)
         7,424  open again after 6,960.7 µs: IRET retired

       503,703  NMI 2 injected at rip 0xffffffff8e0592eb (rsp 0xffffffff8f003e98, rflags 0x246, cpl 0)
       503,840  the next NMI waits for the IRET intercept (2 times)
       504,469  IRET intercepted, the next NMI waits for a single step
       504,637  open again after 870.9 µs: IRET retired
       504,674  NMI 3 injected at rip 0xffffffff8e0592eb (rsp 0xffffffff8f003e98, rflags 0x246, cpl 0)
       504,842  open again after 167.0 µs: IRET retired

3 NMIs on 1 vCPU, blocked for 6,960.7 µs at most
'''

# What the others make of one and the same story: a test that sends two NMIs.
RECORDED = {
    'trace-cmd report': '''\
cpus=1
 nmi_blocking_te-140   [000]     6.009636: kvm_nmi_inject:       vcpu_id=0 level=1 rip=0x4022bd rsp=0xabafe8 rflags=0x202 cpl=0 again=0
 nmi_blocking_te-140   [000]     6.009710: kvm_nmi_inject:       vcpu_id=0 level=1 rip=0x4022bd rsp=0xabafe8 rflags=0x202 cpl=0 again=1
 nmi_blocking_te-140   [000]     6.014653: kvm_nmi_window:       vcpu_id=0 level=1 window=iret-intercept
 nmi_blocking_te-140   [000]     6.014797: kvm_nmi_window:       vcpu_id=0 level=1 window=single-step
 nmi_blocking_te-140   [000]     6.014844: kvm_nmi_unblock:      vcpu_id=0 level=1 blocked_ns=5190658 reason=iret
 nmi_blocking_te-140   [000]     6.014859: kvm_nmi_inject:       vcpu_id=0 level=1 rip=0x4022bd rsp=0xabafe8 rflags=0x202 cpl=0 again=0
 nmi_blocking_te-140   [000]     6.014951: kvm_nmi_unblock:      vcpu_id=0 level=1 blocked_ns=88702 reason=iret
''',  # noqa: E501, as recorded
    'perf script': '''\
 nmi_blocking_te   158 [000]    16.860134:  kvm_nmi:kvm_nmi_inject: vcpu_id=0 level=1 rip=0x4022bd rsp=0xabafe8 rflags=0x202 cpl=0 again=0
 nmi_blocking_te   158 [000]    16.860234:  kvm_nmi:kvm_nmi_inject: vcpu_id=0 level=1 rip=0x4022bd rsp=0xabafe8 rflags=0x202 cpl=0 again=1
 nmi_blocking_te   158 [000]    16.860440:  kvm_nmi:kvm_nmi_window: vcpu_id=0 level=1 window=iret-intercept
 nmi_blocking_te   158 [000]    16.860561:  kvm_nmi:kvm_nmi_window: vcpu_id=0 level=1 window=single-step
 nmi_blocking_te   158 [000]    16.860690: kvm_nmi:kvm_nmi_unblock: vcpu_id=0 level=1 blocked_ns=511526 reason=iret
 nmi_blocking_te   158 [000]    16.861048:  kvm_nmi:kvm_nmi_inject: vcpu_id=0 level=1 rip=0x4022bd rsp=0xabafe8 rflags=0x202 cpl=0 again=0
 nmi_blocking_te   158 [000]    16.861163: kvm_nmi:kvm_nmi_unblock: vcpu_id=0 level=1 blocked_ns=104586 reason=iret
''',  # noqa: E501, as recorded
    'trace with thread groups': '''\
  nmi_state_test-200     (    200) [000] .....    15.136594: kvm_nmi_inject: vcpu_id=0 level=1 rip=0x402997 rsp=0xabafe8 rflags=0x202 cpl=0 again=0
  nmi_state_test-200     (    200) [000] .....    15.136660: kvm_nmi_inject: vcpu_id=0 level=1 rip=0x402997 rsp=0xabafe8 rflags=0x202 cpl=0 again=1
  nmi_state_test-200     (-------) [000] .....    15.136942: kvm_nmi_window: vcpu_id=0 level=1 window=iret-intercept
  nmi_state_test-200     (    200) [000] d..1.    15.137068: kvm_nmi_window: vcpu_id=0 level=1 window=single-step
  nmi_state_test-200     (    200) [000] d..1.    15.137113: kvm_nmi_unblock: vcpu_id=0 level=1 blocked_ns=502400 reason=iret
  nmi_state_test-200     (    200) [000] .....    15.137124: kvm_nmi_inject: vcpu_id=0 level=1 rip=0x402997 rsp=0xabafe8 rflags=0x202 cpl=0 again=0
  nmi_state_test-200     (    200) [000] d..1.    15.137228: kvm_nmi_unblock: vcpu_id=0 level=1 blocked_ns=103900 reason=iret
''',  # noqa: E501, as recorded
}

STORY = ['NMI 1 injected', 'injected again', 'waits for the IRET intercept',
         'IRET intercepted, the next NMI waits for a single step',
         'IRET retired', 'NMI 2 injected', 'IRET retired']


def event(us, text, task='CPU 0/KVM-71'):
    return f' {task}   [001] d..1. {us / 10**6:.6f}: kvm_nmi_{text}\n'


def inject(us, rip='0x1000', level=1, again=0, **kwargs):
    return event(us, f'inject: vcpu_id=0 level={level} rip={rip} rsp=0x8000 rflags=0x2 cpl=0 again={again}', **kwargs)


class Timeline(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.svg = Path(scratch.name, 'timeline.svg')

    def run_tool(self, *arguments, trace=''):
        return subprocess.run([TOOL, *arguments], input=trace, capture_output=True, text=True)

    def lines(self, trace):
        done = self.run_tool('-', '--svg', self.svg, trace=trace)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout.splitlines()

    def sentences(self, trace):
        """What happened, without the times."""
        return [line[16:] for line in self.lines(trace) if re.match(r' +[\d,.]+  ', line)]

    def refused(self, *arguments, trace=''):
        done = self.run_tool(*arguments, trace=trace)
        self.assertEqual((done.returncode, done.stdout), (1, ''))
        self.assertEqual(done.stderr.count('\n'), 1, done.stderr)
        return done.stderr

    def picture(self):
        return xml.parse(self.svg).getroot().iter()

    def spans(self, kind):
        """Titles of the spans of a kind."""
        titles = [element.text for element in self.picture() if element.tag.endswith('title')]
        return [title.partition(f': {kind}, ')[2] for title in titles if f': {kind}, ' in title]


class Text(Timeline):
    def test_demo(self):
        """the demo's trace becomes the timeline it should"""
        self.assertEqual(self.run_tool(AMD).stdout, AMD_TEXT)

    def test_sources(self):
        """the kernel's, trace-cmd's and perf's texts are understood alike"""
        for source, trace in RECORDED.items():
            with self.subTest(source):
                sentences = self.sentences(trace)
                self.assertEqual(len(sentences), len(STORY))
                for sentence, part in zip(sentences, STORY):
                    self.assertIn(part, sentence)

    def test_modules(self):
        """whatever the modules print is understood"""
        for kind, body in re.findall(r'TRACE_EVENT\(kvm_nmi_(\w+),(.*?)\n\);', HEADER, re.S):
            form = ''.join(re.findall(r'"([^"]*)"', re.search(r'TP_printk\(((?:\s*"[^"]*")+)', body).group(1)))
            form = re.sub('%(ll|l)?[udx]', '1', form)
            names = re.findall(r'{ NMI_\w+, "([^"]*)" }', body) or ['']
            for text in {form.replace('%s', name) for name in names}:
                self.assertEqual(len(self.sentences(event(1, f'{kind}: {text}'))), 1, text)

    def test_names(self):
        """each window and each cause of the modules has words of its own"""
        for what, words in ('WINDOW', WINDOWS), ('UNBLOCK', CAUSES):
            self.assertEqual(set(words), set(re.findall(rf'{{ NMI_{what}_\w+, "([^"]*)" }}', HEADER)))

    def test_levels(self):
        """what happens while a nested guest runs says so"""
        trace = ''.join(inject(i, level=level) + event(i + 1, f'window: vcpu_id=0 level={level} window=single-step') +
                        event(i + 2, f'unblock: vcpu_id=0 level={level} blocked_ns=1000 reason=iret')
                        for i, level in ((0, 1), (10, 2)))
        self.assertEqual(['of L2' in sentence for sentence in self.sentences(trace)], [False] * 3 + [True] * 3)

    def test_vcpus(self):
        """each vCPU has its own lane, named by its thread where numbers repeat"""
        lines = self.lines(inject(5, task='qemu-7') +
                           event(6, 'unblock: vcpu_id=0 level=1 blocked_ns=1000 reason=iret') +
                           event(7, 'window: vcpu_id=1 level=1 window=nmi-window', task='qemu-8'))
        self.assertEqual([line for line in lines if line.startswith('vCPU')],
                         ['vCPU 0 of qemu-7', 'vCPU 0 of CPU 0/KVM-71', 'vCPU 1'])

    def test_much(self):
        """10,000 events of four vCPUs take less than 2 s of CPU time, picture and all"""
        trace = ''.join(inject(us, task=task).replace('vcpu_id=0', f'vcpu_id={vcpu}') +
                        event(us + 50, f'unblock: vcpu_id={vcpu} level=1 blocked_ns=50000 reason=iret', task=task)
                        for us in range(0, 125000, 100)
                        for vcpu in range(4) for task in [f'CPU {vcpu}/KVM-{71 + vcpu}'])
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = self.lines(trace)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.assertEqual(trace.count('\n'), 10000)
        self.assertIn('5000 NMIs on 4 vCPUs', lines[-1])
        self.assertLess(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)

    def test_redelivery_while_waiting(self):
        """an NMI that is injected again stays one NMI, and the next still waits"""
        window = event(2, 'window: vcpu_id=0 level=1 window=nmi-window')
        lines = self.lines(inject(1) + window + inject(3, again=1) +
                           event(9, 'unblock: vcpu_id=0 level=1 blocked_ns=8000 reason=iret') + inject(10))
        self.assertIn('2 NMIs on 1 vCPU', lines[-1])
        self.assertEqual(self.spans('waiting'), ['for 8 µs'])

    def test_next_at_same_place(self):
        """an NMI that comes where the last one did is another one"""
        sentences = self.sentences(inject(1) + inject(20))
        self.assertIn('NMI 2 injected', sentences[1])
        self.assertIn('the end of the one before is not in the trace', sentences[1])

    def test_end_not_seen(self):
        """a handler that never returns is left open"""
        sentences = self.sentences(inject(1) + event(2, 'window: vcpu_id=0 level=1 window=irq-window'))
        self.assertEqual(sentences[-1], 'the next NMI waits for an interrupt-window exit')
        self.assertEqual(self.spans('blocked'), ['the end is not in the trace'])

    def test_start_not_seen(self):
        """blocking that began before the trace is told from the NMIs in it"""
        lines = self.lines(event(500, 'unblock: vcpu_id=0 level=1 blocked_ns=400000 reason=state-restored'))
        self.assertIn('what blocked NMIs is not in the trace', lines[3])
        self.assertIn('0 NMIs on 1 vCPU', lines[-1])
        self.assertEqual(self.spans('blocked'), ['for 400 µs'])

    def test_causes(self):
        """each cause that ends blocking has words of its own, a new one its name"""
        causes = 'iret', 'irq-window', 'return', 'timeout', 'fault', 'task-switch', 'state-restored', 'reset', 'novel'
        trace = ''.join(inject(10 * i) +
                        event(10 * i + 5, f'unblock: vcpu_id=0 level=1 blocked_ns=5000 reason={cause}')
                        for i, cause in enumerate(causes))
        words = [sentence.partition('µs: ')[2] for sentence in self.sentences(trace)[1::2]]
        self.assertEqual(len(set(words)), len(causes))
        self.assertEqual(words[-1], 'novel')

    def test_vnmi(self):
        """where the CPU delivers NMIs by itself no end is made up"""
        lines = self.lines(inject(1) + event(2, 'window: vcpu_id=0 level=1 window=v-nmi') +
                           event(9, 'taken: vcpu_id=0 pending=0') + inject(20) + inject(30))
        self.assertIn('4 NMIs on 1 vCPU', lines[-1])
        self.assertIn('NMI 2 taken by the CPU', lines[5])
        self.assertEqual((self.spans('blocked'), self.spans('waiting')), ([], ['for 7 µs']))

    def test_nanoseconds(self):
        """time stamps in nanoseconds keep their digits"""
        trace = inject(1) + ' qemu-7 [000] 0.000002001: kvm_nmi_window: vcpu_id=0 level=1 window=nmi-window\n'
        self.assertEqual(self.lines(trace)[-3], '         1.001  an NMI waits for an NMI-window exit')

    def test_lost(self):
        """a trace with holes says so"""
        self.assertIn('lost events', self.lines('CPU:0 [LOST 12 EVENTS]\n' + inject(1))[1])


class Refusals(Timeline):
    def test_no_events(self):
        """a trace without our events is refused, and it says what may be wrong"""
        self.assertIn('standard input: no kvm_nmi events', self.refused('-', trace='# tracer: nop\n'))

    def test_cut_short(self):
        """an event that is cut short is named by its line"""
        self.assertIn('standard input:2: not understood', self.refused('-', trace=inject(1) + inject(2)[:-12] + '\n'))

    def test_files(self):
        """files that cannot be read or written are named"""
        self.assertIn('/nowhere/trace: No such file', self.refused('/nowhere/trace'))
        done = self.run_tool(AMD, '--svg', '/nowhere/picture.svg')
        self.assertEqual((done.returncode, done.stderr),
                         (1, 'nmi-timeline: /nowhere/picture.svg: No such file or directory\n'))


class Picture(Timeline):
    def labels(self):
        """(x, end, y) of each label, as wide as a generous font makes it."""
        texts = [element for element in self.picture() if element.tag.endswith('}text')]
        return sorted((float(text.get('x')), float(text.get('x')) + 6 * len(text.text), float(text.get('y')))
                      for text in texts)

    def assert_legible(self):
        labels = self.labels()
        width = float(xml.parse(self.svg).getroot().get('width'))
        for i, (x, end, y) in enumerate(labels):
            self.assertLess(end, width)
            self.assertFalse([other for other in labels[i + 1:] if other[2] == y and other[0] < end])

    def test_demo(self):
        """the demo's picture has a span a handler, and no label covers another"""
        self.run_tool(AMD, '--svg', self.svg)
        self.assertEqual(self.spans('blocked'), ['for 7.424 ms', 'for 934 µs', 'for 168 µs'])
        self.assertEqual(self.spans('waiting'), ['for 834 µs'])
        self.assert_legible()

    def test_long(self):
        """thousands of NMIs, close or far apart, make a picture that can be opened"""
        for distance in 20, 10**6:
            with self.subTest(distance):
                self.lines(''.join(
                    inject(i * distance, rip=hex(i)) +
                    event(i * distance + 5, 'unblock: vcpu_id=0 level=1 blocked_ns=5000 reason=iret')
                    for i in range(3000)))
                self.assertLess(float(xml.parse(self.svg).getroot().get('width')), 15000)
                self.assert_legible()


if __name__ == '__main__':
    unittest.main()
