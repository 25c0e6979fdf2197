"""Which pcscd the tests meet, where that makes a difference."""

from __future__ import annotations

import re
import subprocess
from functools import cache

from scardface.testing._pcscd_needs import find_needs


@cache
def pcscd_version() -> tuple[int, ...]:
    """(2, 5, 3), for instance."""
    said = subprocess.run([find_needs().pcscd, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    found = re.search(r"version (\d+(?:\.\d+)+)", said)
    assert found, said
    return tuple(int(part) for part in found[1].split("."))


def remembers_readers() -> bool:
    """Whether libpcsclite cannot do with fewer readers than the process has had (since 2.5)."""
    return pcscd_version() >= (2, 5)
