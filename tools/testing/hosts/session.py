# SPDX-License-Identifier: GPL-2.0-only
"""Lay out the folder that becomes a host's /run/work: the command's own files,
and in .host what guest/session needs to run it."""

import os
import shlex
import shutil
import sys

from kernel import GUEST, copy_module, module_field
from process import HostError, tool


def vendor_module(host, kernel, stock):
    """The file to load, once it is sure to be what was asked for."""
    if stock:
        return kernel.modules(host.module)[-1]
    file = kernel.folder / f'{host.module.replace("_", "-")}.ko'
    if not file.exists():
        raise HostError(f'{file} is missing: run make KVER={kernel.kver}')
    if module_field(file, 'version') == 'none':
        raise HostError(f"{file} has no version: it is not this project's")
    return file


def check_parameters(module, given):
    """The kernel ignores parameters it does not know: a misspelt one would go unnoticed."""
    known = [line.partition(':')[0] for line in module_field(module, 'parm').splitlines()]
    for parameter in given:
        if parameter.partition('=')[0] not in known:
            raise HostError(f'{module} has no parameter {parameter.partition("=")[0]}; '
                            f'it has {", ".join(sorted(known))}')


def expected_readings(host, options):
    """What the host wants to read of its module's parameters, unless the user has other wishes."""
    given = [parameter.partition('=')[0] for parameter in options.param]
    return [] if options.stock else [r for r in host.reads if r.partition('=')[0] not in given]


def shell_text(command):
    """One word is a script, several are a program with its arguments."""
    return command[0] if len(command) == 1 else shlex.join(command)


def fill(work, host, kernel, options, token, cpus=''):
    """CMD runs on these CPUs, as taskset takes them, or on all."""
    module = vendor_module(host, kernel, options.stock)
    check_parameters(module, options.param)
    control = work / '.host'
    (control / 'bin').mkdir(parents=True)
    shutil.copy(GUEST / 'session', control)
    shutil.copy(GUEST / 'reload-module', control / 'bin')
    copy_module(module, control / f'{host.module}.ko')
    job = {
        'name': host.name, 'vendor': host.vendor, 'token': token,
        'module': host.module, 'host_params': ' '.join(host.params), 'params': ' '.join(options.param),
        'reads': ' '.join(expected_readings(host, options)),
        'version': module_field(module, 'version'), 'srcversion': module_field(module, 'srcversion'),
        'terminal': '', 'cpus': cpus,
    }
    if options.shell:
        columns, rows = os.get_terminal_size(sys.stdin.fileno())
        job['terminal'] = f'rows {rows} columns {columns}'
    (control / 'job').write_text(''.join(f'{name}={shlex.quote(value)}\n' for name, value in job.items()))
    (control / 'command').write_text(shell_text(options.command or ['']) + '\n')
    for path in options.files:
        if not path.exists():
            raise HostError(f'--with {path}: no such file or folder')
        tool('cp', '-a', path, work)
