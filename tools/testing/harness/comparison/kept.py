# SPDX-License-Identifier: GPL-2.0-only
"""What a module did on a host, kept for the next time, or for a run that goes on
where another was interrupted: good for as long as the program that ran and all
that it ran on stay the same."""

import functools
import hashlib
import json
import shutil
from pathlib import Path

import suite

EMULATORS = "qemu-system-x86_64", "bochs-bin"

# What the machine is, and how a test is run and judged on it.
MACHINE = "hosts/records.py", "hosts/qemu.py", "hosts/nested.py", "hosts/snapshot.py", "selftests/kvm/run-tests"

# Our module runs in the host below this one, whatever runs in it.
ON_OURS = "amd-vnmi"
OURS = "kvm-amd.ko", "kvm-intel.ko"


@functools.cache
def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "none"


def made_of(host, module, build, kvers):
    """Everything that all programs on this host have in common; kvers: of our module, and of this one."""
    files = [suite.TESTING / name for name in MACHINE]
    files += [build / kver / "image/.packages" / f"linux-image-{kver}" for kver in kvers]
    files += [build / kvers[0] / name for name in OURS] * (module == "ours" or host == ON_OURS)
    files += [Path(path) for path in map(shutil.which, EMULATORS) if path]
    return [host, module, str(kvers), *map(digest, files)]


class Kept:
    """A file of results by name, each good for one set of ingredients and programs."""

    def __init__(self, file, ingredients, failures):
        self.file = file
        self.ingredients = ingredients
        self.failures = failures        # are those kept, too?
        self.entries = json.loads(file.read_text()) if file.exists() else {}

    def key(self, programs):
        return hashlib.sha256(repr((self.ingredients, *map(digest, programs))).encode()).hexdigest()

    def get(self, name, *programs):
        entry = self.entries.get(name)
        return entry["result"] if entry and entry["made of"] == self.key(programs) else None

    def put(self, name, result, *programs):
        self.entries[name] = {"made of": self.key(programs), "result": result}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.entries, indent=1))
        new.rename(self.file)
