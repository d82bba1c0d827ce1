# SPDX-License-Identifier: GPL-2.0-only
"""The models of the NMI paths hold, and are worth something: each mistake is caught."""

import concurrent.futures
import functools
import os
import unittest

from mistakes import MISTAKES
from spin import PATHS, PROPERTIES, properties_of, search

pool = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))


@functools.cache
def searching(path, mistake=None):
    return pool.submit(search, path, mistake)


def setUpModule():
    unittest.addModuleCleanup(pool.shutdown)
    for path in PATHS:
        searching(path)
    for mistake in MISTAKES:
        searching(mistake.path, mistake)


def holds(path, name):
    def test(self):
        self.assertNotEqual(searching(path).result().violated, name)
    test.__doc__ = f"{PATHS[path]}: {PROPERTIES[name]}"
    return test


def caught(mistake):
    def test(self):
        self.assertIn(searching(mistake.path, mistake).result().violated, mistake.breaks.split())
    test.__doc__ = f"{PATHS[mistake.path]}: caught: {mistake.claim}"
    return test


class Model(unittest.TestCase):
    def test_every_property_can_fail(self):
        """each property of each path is broken by one of the mistakes"""
        broken = {path: set() for path in PATHS}
        for mistake in MISTAKES:
            broken[mistake.path].add(searching(mistake.path, mistake).result().violated)
        self.assertEqual({path: broken[path] & set(PROPERTIES) for path in PATHS},
                         {path: set(properties_of(path)) for path in PATHS})


for path in PATHS:
    for name in properties_of(path):
        setattr(Model, f"test_{path}_{name}", holds(path, name))
for number, mistake in enumerate(MISTAKES):
    setattr(Model, f"test_mistake_{number:03}", caught(mistake))


if __name__ == "__main__":
    unittest.main()
