# SPDX-License-Identifier: GPL-2.0-only
"""scripts/fetch-packages, with an archive that consists of a few shell scripts."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / 'scripts/fetch-packages'

# What the archive has is in the file "versions": lines of "package version".
TOOLS = {
    'apt-cache': '''[ "$1" != show ] || { cat "$ARCHIVE/show-$3"; exit; }
        awk -v name="$2" '$1 == name { print "  Candidate: " $2; found = 1 }
        END { if (!found) print "  Candidate: (none)" }' "$ARCHIVE/versions"''',
    'apt-get': '''for last; do :; done
        echo "download $last" >>"$ARCHIVE/log"
        [ ! -e "$ARCHIVE/offline" ] || exit 100
        echo "$last" >"${last%%=*}.deb"''',
    'dpkg-deb': '''mkdir -p "$3${USR:-}/lib/modules/6.1-test/kernel"
        [ ! -e "$ARCHIVE/full" ] || { echo half >"$3/contents"; exit 2; }
        cp "$2" "$3/contents"''',
    'depmod': 'echo "depmod $*" >>"$ARCHIVE/log"',
}


class FetchTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.archive = Path(temporary.name)
        self.dir = self.archive / 'image'
        (self.archive / 'bin').mkdir()
        for name, body in TOOLS.items():
            tool = self.archive / 'bin' / name
            tool.write_text(f'#!/bin/sh\n{body}\n')
            tool.chmod(0o755)
        self.offer('1.0')

    def offer(self, version):
        (self.archive / 'versions').write_text(f'image {version}\n' if version else '')
        (self.archive / 'log').write_text('')

    def fetch(self, *packages, **environment):
        env = {**os.environ, **environment, 'ARCHIVE': str(self.archive),
               'PATH': f'{self.archive}/bin:{os.environ["PATH"]}'}
        done = subprocess.run([SCRIPT, self.dir, *packages], env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return done.returncode, done.stderr, (self.archive / 'log').read_text().splitlines()

    def unpacked(self):
        return (self.dir / 'contents').read_text().strip()

    def test_a_package_is_unpacked_and_its_modules_indexed(self):
        status, _, log = self.fetch('image')
        self.assertEqual((status, log), (0, ['download image=1.0', f'depmod -b {self.dir} 6.1-test']))
        self.assertEqual(self.unpacked(), 'image=1.0')

    def test_modules_below_usr_are_found_as_well(self):
        status, _, log = self.fetch('image', USR='/usr')
        self.assertEqual((status, log[1:]), (0, [f'depmod -b {self.dir} 6.1-test']))
        self.assertTrue((self.dir / 'lib/modules/6.1-test/kernel').is_dir())
        self.offer('1.1')
        self.assertEqual(self.fetch('image', USR='/usr')[0], 0)

    def test_a_kernel_that_is_in_parts_is_fetched_with_them(self):
        kver = '7.3.4+deb13-amd64'
        (self.archive / f'show-linux-image-{kver}').write_text(
            f'Depends: kmod, linux-base-{kver} (= 1), linux-binary-{kver} (= 1), '
            f'linux-modules-{kver} (= 1), linux-base\n')
        names = [f'linux-{part}-{kver}' for part in ('image', 'base', 'binary', 'modules')]
        (self.archive / 'versions').write_text(''.join(f'{name} 1\n' for name in names))
        status, said, log = self.fetch(names[0])
        self.assertEqual((status, said), (0, ''))
        self.assertEqual([line for line in log if 'download' in line], [f'download {name}=1' for name in names])

    def test_the_same_version_is_left_alone_and_a_newer_one_fetched(self):
        self.fetch('image')
        self.offer('1.0')
        self.assertEqual(self.fetch('image'), (0, '', []))
        self.offer('1.1')
        self.assertEqual(self.fetch('image')[0], 0)
        self.assertEqual(self.unpacked(), 'image=1.1')

    def test_what_is_there_serves_while_apt_knows_nothing_or_is_offline(self):
        self.fetch('image')
        self.offer('')
        self.assertEqual(self.fetch('image'), (0, '', []))
        self.offer('1.1')
        (self.archive / 'offline').touch()
        status, said, _ = self.fetch('image')
        self.assertEqual(status, 0)
        self.assertIn('keeping image 1.0', said)

    def test_failures_name_package_and_remedy(self):
        status, said, _ = self.fetch('image', 'nonsense')
        self.assertEqual(status, 1)
        self.assertIn('apt knows no package nonsense', said)
        self.offer('1.1')
        (self.archive / 'full').touch()
        status, said, _ = self.fetch('image')
        self.assertEqual(status, 1)
        self.assertIn('cannot unpack image 1.1', said)
        self.assertEqual(self.unpacked(), 'image=1.0')
        self.assertEqual(list(self.dir.glob('.new*')), [])

    def test_a_package_that_was_not_unpacked_whole_is_fetched_again(self):
        (self.archive / 'full').touch()
        self.assertEqual(self.fetch('image')[0], 1)
        self.assertEqual(list(self.dir.glob('*')), [self.dir / '.packages'])
        (self.archive / 'full').unlink()
        self.assertEqual(self.fetch('image')[0], 0)
        self.assertEqual(self.unpacked(), 'image=1.0')

    def test_offline_without_any_version_fails(self):
        (self.archive / 'offline').touch()
        status, said, _ = self.fetch('image')
        self.assertEqual(status, 1)
        self.assertIn('cannot download image 1.0', said)


if __name__ == '__main__':
    unittest.main()
