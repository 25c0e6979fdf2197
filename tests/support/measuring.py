"""Coverage that survives what the tests do to their process.

Rules:

- A worker of xdist that dies takes along what it has measured. So each keeps a copy, every few seconds, which counts when the
  worker has not come to its end. The one that takes its place would erase what the others measure (pytest-cov 7.1), and is told not
  to.
- Coverage's lock is no lock to be interrupted in: an exception that a signal handler raises just there leaves it locked, and the
  next thread to run a file for the first time hangs. What it guards is one assignment to a dictionary, which the interpreter's own
  lock guards as well. So it is taken away.
- An exception that a signal handler raises inside coverage's own code, as when a file is run for the first time, ends the measuring
  of its thread: the interpreter takes a trace function that raises away. So it is put back after each test.
- Without a daemon its tests measure nothing, and the bound of the share that must be covered is not asserted.
- Only what `--cov` started is touched; without it, nothing happens.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

EVERY = 10.0
"""Seconds between two copies."""

_APPEND = " --cov-append"

_kept = time.monotonic()
_tracer: Any = None


def _current() -> Any | None:
    """What measures this process, if anything does."""
    coverage = sys.modules.get("coverage")
    return coverage.Coverage.current() if coverage is not None else None


def _copy(folder: Path, worker: str) -> Path:
    return folder / f".coverage-{worker}"


def make_safe() -> None:
    """Take the lock away, and remember what measures this thread."""
    global _tracer
    _tracer = sys.gettrace()
    collector = getattr(_current(), "_collector", None)
    if collector is not None:
        collector.data_lock = None


def go_on() -> None:
    """Measure this thread again, if something has ended that."""
    if _tracer is not None and sys.gettrace() is None:
        sys.settrace(_tracer)


def keep_now_and_then(folder: Path, worker: str) -> None:
    """In a worker: keep a copy of what was measured so far, if that is due."""
    global _kept
    if time.monotonic() - _kept < EVERY:
        return
    current = _current()
    if current is not None:
        new = _copy(folder, f"{worker}-new")
        new.write_bytes(current.get_data().dumps())
        new.replace(_copy(folder, worker))
    _kept = time.monotonic()


def forget(folder: Path, worker: str) -> None:
    """A worker has come to its end: what it has measured is known."""
    _copy(folder, worker).unlink(missing_ok=True)


def erase_nothing(config: pytest.Config) -> None:
    """In the controller, before it starts its workers: have none of them erase what was measured. In a worker: take that back."""
    if hasattr(config, "workerinput"):
        os.environ["PYTEST_ADDOPTS"] = os.environ.get("PYTEST_ADDOPTS", "").removesuffix(_APPEND)
    elif config.pluginmanager.hasplugin("_cov"):  # workers get the environment, and begin to measure before anybody can tell them
        os.environ["PYTEST_ADDOPTS"] = os.environ.get("PYTEST_ADDOPTS", "") + _APPEND


def restore(folder: Path) -> None:
    """In the controller, at the end and before pytest-cov's own: have the copies of those that died counted."""
    for copy in folder.glob(".coverage-*"):
        if _current() is not None:
            data = sys.modules["coverage"].CoverageData(str(folder / ".coverage"), suffix=copy.name.removeprefix(".coverage-"))
            data.loads(copy.read_bytes())
            data.write()
        copy.unlink()


def ask_for_no_share(config: pytest.Config) -> None:
    """In the controller, at the end and before pytest-cov's own: no share is too small."""
    plugin = config.pluginmanager.getplugin("_cov")
    if plugin is not None:
        plugin.options.cov_fail_under = None
