"""Public names whose modules are loaded when a name is first used, so that importing a package costs next to nothing.

Rules:

- A fork waits until no other thread loads a module here: the interpreter's lock of a module that is being loaded stays locked in
  the child, which would wait for ever for whatever it needs of that module. It waits `MAX_DELAY` at most, since what is loaded may
  itself wait for the thread that forks.
- A thread that begins to load while another one forks waits until that has forked.
"""

from __future__ import annotations

import os
import time
from _thread import get_ident
from importlib import import_module

MAX_DELAY = 5.0
"""Seconds that a fork is delayed at most; all of the package is loaded in 0.1 s of processor time."""
_POLL_INTERVAL = 0.001

_loading: dict[int, int] = {}
"""The threads that load, and how many loads deep: a module may use other names of these packages."""
_forks: list[int] = []
"""The threads that are forking. Appending, removing and testing for emptiness are atomic."""


def load(module: str, name: str) -> object:
    """The attribute `name` of a module, which is loaded if it was not."""
    me = get_ident()
    depth = _loading.get(me, 0)
    _loading[me] = depth + 1
    while _forks and not depth and me not in _forks:
        _loading.pop(me, None)
        time.sleep(_POLL_INTERVAL)
        _loading[me] = 1
    try:
        return getattr(import_module(module), name)
    finally:
        if depth:
            _loading[me] = depth
        else:
            _loading.pop(me, None)


def _before() -> None:
    me = get_ident()
    _forks.append(me)
    end = time.monotonic() + MAX_DELAY
    while any(who != me for who in list(_loading)) and time.monotonic() < end:
        time.sleep(_POLL_INTERVAL)


def _in_parent() -> None:
    _forks.remove(get_ident())


def _in_child() -> None:
    _forks.clear()
    _loading.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
