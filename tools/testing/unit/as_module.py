# SPDX-License-Identifier: GPL-2.0-only
"""A program whose name does not end in .py as a module, for tests that call its functions."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader


def as_module(path):
    """Its main is not run."""
    loader = SourceFileLoader(path.name.replace("-", "_"), str(path))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module
