# SPDX-License-Identifier: GPL-2.0-only
"""Ask spin for every state of a path, as its .pml files have it or with a mistake."""

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

PATHS = {
    "svm_iret_window": "SVM, IRET window",
    "svm_vnmi": "SVM, vNMI",
    "svm_nested_vnmi": "SVM, vNMI for L1, emulated",
    "vmx_virtual_nmis": "VMX, virtual NMIs",
    "vmx_soft_vnmi": "VMX, soft vNMI",
}

PROPERTIES = {
    "once": "an accepted NMI is delivered exactly once, a third collapses",
    "nesting": "no NMI between a handler's entry and the end of its IRET",
    "order": "at one boundary exception, NMI, IRQ, and nothing in a shadow",
    "unseen": "the guest does not see the mechanism",
    "at_rest": "outside VM entry all state is in KVM's fields",
    "bounded": "an NMI does not wait once its window is open, and no exits without end",
    "host": "no entry fails, and the host keeps its own NMIs",
}

# Most mistakes are found in little memory, and more takes its time. A search that
# runs into the last of these is not exhaustive.
DEPTHS = 50000, 2000000
HASH_BITS = 20
TOO_SMALL = "max search depth too small"


class ModelError(Exception):
    pass


@dataclass(frozen=True)
class Verdict:
    violated: str       # a key of PROPERTIES, "" if all hold
    states: int
    transitions: int
    seconds: float


def text_of(name):
    """A .pml file with what it includes."""
    text = (HERE / name).read_text()
    return re.sub(r'^#include "(.*)"$', lambda include: text_of(include.group(1)), text, flags=re.M)


def properties_of(path):
    """The properties that the path's model states at all."""
    stated = set(re.findall(r"\bmust\((\w+),", text_of(f"{path}.pml")))
    return [name for name in PROPERTIES if name in stated]


def only(names, text):
    """A model that looks at these properties: must() is content with all others."""
    for other in PROPERTIES.keys() - set(names):
        text = re.sub(rf"^bool {other};", f"bool {other} = true;", text, flags=re.M)
    return text


def run(command, folder):
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    if done.returncode:
        raise ModelError(f"{command[0]}: {(done.stdout + done.stderr).strip()}")
    return done.stdout


def search(path, mistake=None):
    """Look at all states of a path, or for what a mistake leads to."""
    text = text_of(f"{path}.pml")
    if mistake:
        text = only(mistake.breaks.split(), mistake.make(text))
    with tempfile.TemporaryDirectory() as folder:
        return search_in(folder, text, depths=DEPTHS if mistake else DEPTHS[-1:])


def search_in(folder, text, asked=("-DLIVELOCK",), compiled=("-DNP", "-DNOREDUCE", "-DNOFAIR"), options=("-l",),
              depths=DEPTHS[-1:]):
    Path(folder, "model.pml").write_text(text)
    run(["spin", *asked, "-a", "model.pml"], folder)
    # gcc would take longer than most searches. The limit is for mistakes that make
    # the states infinite.
    run(["tcc", "-w", "-DMEMLIM=2000", *compiled, "-o", "pan", "pan.c"], folder)
    start = time.monotonic()
    for depth in depths:
        said = run(["./pan", *options, f"-m{depth}", f"-w{HASH_BITS}"], folder)
        if TOO_SMALL not in said or "errors: 0" not in said:
            break
    return verdict(said, time.monotonic() - start)


def how_to_see(path):
    """Leave the shortest way into a violation behind, if there is one; the command that shows the way."""
    text = text_of(f"{path}.pml")
    folder = HERE.parents[2] / "build/model" / path
    folder.mkdir(parents=True, exist_ok=True)
    show = f"cd {folder} && spin -t -p -g model.pml"
    if search_in(folder, text, (), ("-DBFS", "-DSAFETY", "-DNOREDUCE"), ()).violated:
        return show
    search_in(folder, text)
    return f"{show} -DLIVELOCK"


def verdict(said, seconds):
    """Read what a verifier has printed."""
    states = re.search(r"^ *(\d+) states, stored", said, re.M)
    transitions = re.search(r"^ *(\d+) transitions", said, re.M)
    errors = re.search(r"errors: (\d+)", said)
    if not (states and transitions and errors) or \
            "errors: 0" in said and TOO_SMALL in said or "reached -DMEMLIM" in said:
        raise ModelError(f"the search was not exhaustive:\n{said}")
    violated = ""
    if int(errors.group(1)):
        assertion = re.search(r"assertion violated .*\|\|(\w+)\)", said)
        if assertion and assertion.group(1) in PROPERTIES:
            violated = assertion.group(1)
        elif "non-progress cycle" in said:
            violated = "bounded"
        else:
            raise ModelError(f"the model itself is wrong:\n{said}")
    return Verdict(violated, int(states.group(1)), int(transitions.group(1)), seconds)
