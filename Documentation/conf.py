# SPDX-License-Identifier: GPL-2.0-only
"""How sphinx builds these pages; "make docs" calls it."""

import re
from pathlib import Path

project = "kvm-nmi"
author = "kvm-nmi maintainers"
copyright = f"2026 {author}"
release = re.search(r'(?m)^PACKAGE_VERSION="(.*)"$',
                    (Path(__file__).parents[1] / "dkms.conf").read_text()).group(1)
html_theme = "alabaster"
# As wide as the pictures in nmi.rst, and as a line of shell with its comment.
html_theme_options = {"description": "KVM vendor modules with exact guest NMIs", "page_width": "1200px",
                      "body_max_width": "none"}
html_show_sphinx = False
# A shell prompt, a trace and a struct look best as they are.
highlight_language = "none"
