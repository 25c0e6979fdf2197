"""Delays a fork until no thread is where libpcsclite holds a lock, which would stay locked in the child for ever (fact 9).

- It is for children that go on with the parent's libpcsclite: those of SCARDFACE_BINDING=pyscard, and those that can load none of
  their own, see `ctypes_binding`.
- libpcsclite locks its reader table for the whole process while it fetches it (since 2.0.1), and its list of contexts while one is
  added or removed. Calls that do no more are `brief`: a fork waits until those in progress have ended, and none may begin.
- A call that may block for long does so without these locks; it holds them when it begins, until the service has answered once, and
  a fork waits until that is over. It holds some of them again, as long as one answer takes, when something has changed: a fork at
  just that moment is not prevented.
- A frozen service delays a fork by no more than `MAX_DELAY`. If a signal handler forks in the middle of a call, the fork does not
  wait for that call of its own thread.

Of 200 forked children of a busy program on pcscd 2.5.3 there hung, without and with this module: 31 and 0 with two status calls
every 4 ms, 15 and 0 while a card was opened and closed all the time.
"""

from __future__ import annotations

import math
import os
import time
from threading import get_ident

MAX_DELAY = 0.5
"""Seconds that a fork is delayed at most."""
_START_TIME = 0.2
"""Seconds after which a blocking call has released the locks that it takes at first: when the service has answered, which takes
0.2 ms, but 126 ms at worst where nine threads want each core. With 5 ms one child of ten hung there (fact 74)."""
_POLL_INTERVAL = 0.0005
"""Seconds between two checks of the calls in progress; signalling the end of each call would cost every call more."""

_calls: dict[int, float] = {}
"""When each thread's call of PC/SC began; infinity for a brief one."""
_forks: list[int] = []
"""The threads that are forking. Appending, removing and testing for emptiness are atomic."""


def enter(*, brief: bool) -> None:
    """To be called before a call of PC/SC; waits while a thread forks."""
    me = get_ident()
    _calls[me] = math.inf if brief else time.monotonic()
    while _forks and me not in _forks:
        _calls.pop(me, None)
        time.sleep(_POLL_INTERVAL)
        _calls[me] = math.inf if brief else time.monotonic()


def leave() -> None:
    """To be called after it."""
    _calls.pop(get_ident(), None)


def _before() -> None:
    me = get_ident()
    _forks.append(me)
    end = time.monotonic() + MAX_DELAY
    while (now := time.monotonic()) < end and any(began > now - _START_TIME for who, began in list(_calls.items()) if who != me):
        time.sleep(_POLL_INTERVAL)


def _in_parent() -> None:
    _forks.remove(get_ident())


def _in_child() -> None:
    _forks.clear()
    _calls.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
