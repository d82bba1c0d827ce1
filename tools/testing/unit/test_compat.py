# SPDX-License-Identifier: GPL-2.0-only
"""Everything that lists the supported kernels lists the same ones."""

import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
COMPAT = ROOT / "arch/x86/kvm/nmi_compat.h"
SUPPORTED = subprocess.run([ROOT / "scripts/kernel", "--supported"], text=True, check=True,
                           capture_output=True).stdout.split()
NAMES = f"{', '.join(SUPPORTED[:-1])} and {SUPPORTED[-1]}"
# What it includes, as far as it uses that.
HEADERS = {
    "linux/bits.h": "",
    "linux/version.h": "",
    "linux/hrtimer.h": """
        typedef int clockid_t;
        enum hrtimer_mode { HRTIMER_MODE_REL };
        enum hrtimer_restart { HRTIMER_NORESTART };
        struct hrtimer { enum hrtimer_restart (*function)(struct hrtimer *timer); };
        void hrtimer_init(struct hrtimer *timer, clockid_t clock, enum hrtimer_mode mode);
        """,
}
# Below the oldest, between any two, above the newest, and another major version.
KERNELS = [f"{major}.{minor}" for major in (5, 6, 7) for minor in range(20)]


def compiled_for(kernel):
    """Status and errors of the header for a kernel of which only the version is there."""
    major, minor = kernel.split(".")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in HEADERS.items():
            Path(folder, name).parent.mkdir(exist_ok=True)
            Path(folder, name).write_text(text)
        done = subprocess.run(["gcc", "-fsyntax-only", "-I", folder, f"-DLINUX_VERSION_MAJOR={major}",
                               f"-DLINUX_VERSION_PATCHLEVEL={minor}", COMPAT],
                              text=True, capture_output=True)
    return done.returncode, done.stderr


class Supported(unittest.TestCase):
    def test_header(self):
        """the C files build for the supported kernels and refuse all others with their names"""
        for kernel in KERNELS:
            status, errors = compiled_for(kernel)
            self.assertEqual(status == 0, kernel in SUPPORTED, f"{kernel}: {errors}")
            if status:
                self.assertIn(f'#error "Not a kernel that the NMI code knows: {NAMES} are"', errors)

    def test_fits(self):
        """of each supported series it is said which update fits"""
        fits = subprocess.run([ROOT / "scripts/kernel", "--fits"], text=True, check=True, capture_output=True).stdout
        self.assertEqual([".".join(version.split(".")[:2]) for version in fits.split()], SUPPORTED)

    def test_dkms(self):
        """DKMS is offered the supported kernels and no others"""
        pattern = re.search(r'^BUILD_EXCLUSIVE_KERNEL="(.*)"$', (ROOT / "dkms.conf").read_text(), re.M)[1]
        offered = [kernel for kernel in KERNELS if re.match(pattern, f"{kernel}.0-1-amd64")]
        self.assertEqual(offered, SUPPORTED)


if __name__ == "__main__":
    unittest.main()
