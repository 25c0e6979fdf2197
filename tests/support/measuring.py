"""Coverage that survives what the tests do to their process.

Rules of this room:

- A worker of xdist that dies takes what it has measured along, unless it has saved it: so it does every few seconds.
- Coverage's lock is no lock to be interrupted in: an exception that a signal handler raises just there leaves it locked, and the
  next thread to run a file for the first time hangs. What it guards is one assignment to a dictionary, which the interpreter's own
  lock guards as well. So it is taken away.
- Only what `--cov` started is touched; without it, nothing happens.
"""

from __future__ import annotations

import sys
import time
from typing import Any

EVERY = 10.0
"""Seconds between two saves."""

_saved = time.monotonic()


def _current() -> Any | None:
    """What measures this process, if anything does."""
    coverage = sys.modules.get("coverage")
    return coverage.Coverage.current() if coverage is not None else None


def make_safe() -> None:
    """Take the lock away."""
    collector = getattr(_current(), "_collector", None)
    if collector is not None:
        collector.data_lock = None


def save_now_and_then() -> None:
    """Save what was measured so far, if that is due."""
    global _saved
    if time.monotonic() - _saved < EVERY:
        return
    current = _current()
    if current is not None:
        current.save()
    _saved = time.monotonic()
