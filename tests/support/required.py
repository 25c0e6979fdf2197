"""What the machine must have for the tests, and what becomes of a test where it has not.

`SCARDFACE_REQUIRE_PCSCD` says it:

- `1`: everything. A test that needs pcscd, or another program, fails where that is not there.
- `auto`: the same, but where the kernel, or a container, lets nobody make namespaces: no package helps there, and the real daemon's
  tests are skipped.
- else: nothing. Tests are skipped where something is missing.

Tests that are skipped because the daemon is missing are reported together, in one line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from scardface.testing import PcscdUnavailable

REQUIRED = os.environ.get("SCARDFACE_REQUIRE_PCSCD", "")

NO_PCSCD = "no private pcscd here"


def without_pcscd(error: PcscdUnavailable) -> NoReturn:
    """Skip the test, or fail it, where no private pcscd can be had."""
    if REQUIRED == "1" or (REQUIRED == "auto" and "may not make" not in str(error)):
        pytest.fail(f"SCARDFACE_REQUIRE_PCSCD={REQUIRED}, but: {error}", pytrace=False)
    pytest.skip(f"{NO_PCSCD}: {error}")


def without_program(words: str) -> NoReturn:
    """Skip the test, or fail it, where another program is missing."""
    if REQUIRED:
        pytest.fail(words, pytrace=False)
    pytest.skip(words)


class Missed:
    """In the controller: whether tests were skipped because the daemon is missing."""

    any = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Each test."""
        self.any |= report.skipped and NO_PCSCD in str(report.longrepr)


def told_in_one_line(report: pytest.TestReport) -> None:
    """Have all tests without a daemon give the same place as theirs, so that pytest's summary takes them together."""
    if report.skipped and isinstance(report.longrepr, tuple) and NO_PCSCD in report.longrepr[2]:
        report.longrepr = (__file__, 0, report.longrepr[2].removeprefix("Skipped: "))
