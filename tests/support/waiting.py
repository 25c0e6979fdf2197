"""Waiters at a table without tasks, threads and PC/SC: what a test of the queue says and sees in one word each.

Rules of this room:

- A `Person` speaks to the table through its public methods only, and notes when it is woken.
- Nobody may be woken, and no pattern matched, while the table's lock is held: `Person.wake` and `Watched` fail then.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from scardface._enums import Lengths, ShareMode, StateFlag
from scardface._events import Reading, Snapshot
from scardface._queue import Table
from scardface._waiters import Waiter
from scardface._wanted import ANY_PROTOCOL, Wanted
from scardface.errors import NO_SERVICE, SHARING_VIOLATION, SCardError, error_for

ATR = bytes.fromhex("3B800181")
OTHER_ATR = bytes.fromhex("3F6500")
IN_USE = StateFlag.INUSE | StateFlag.EXCLUSIVE
DOWN = error_for(NO_SERVICE, "SCardGetStatusChange")
"""Why there is no service."""


def card(counter: int = 1, atr: bytes = ATR, flags: int = 0) -> Reading:
    """A reader with a card in it."""
    return Reading(StateFlag.PRESENT | flags, counter, atr)


def empty(counter: int = 0, flags: int = 0) -> Reading:
    """A reader without one."""
    return Reading(StateFlag.EMPTY | flags, counter, b"")


def mute(counter: int = 1) -> Reading:
    """A reader with a card that does not answer."""
    return Reading(StateFlag.PRESENT | StateFlag.MUTE, counter, b"")


def look(error: SCardError | None = None, life: int = 1, **readers: Reading) -> Snapshot:
    """A snapshot of these readers, in this order."""
    return Snapshot(1, life, error, MappingProxyType(readers))


class Clock:
    """The monotonic clock, standing until it is moved; in a room in place of `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


class Watched:
    """A pattern that is found in every ATR, and says how often it was asked."""

    pattern = b""

    def __init__(self, table: Table) -> None:
        self.asked: list[bytes] = []
        self._table = table

    def search(self, atr: bytes) -> bool:
        """Found, unless the table's lock is held."""
        assert not self._table._lock.locked(), "a user's pattern is matched under the lock"
        self.asked.append(atr)
        return True


class Person:
    """One waiter.

    Attributes:
        woken: how often it was woken.
    """

    def __init__(
        self,
        table: Table,
        share: ShareMode = ShareMode.EXCLUSIVE,
        *,
        readers: list[str] | None = None,
        atr: bytes | re.Pattern[bytes] | Any | None = None,
        timeout: float | None = None,
        alive: bool = True,
        settle: float = 0.0,
        new_only: bool = False,
    ) -> None:
        self.table = table
        self.woken = 0
        self.alive = alive
        pattern = atr if isinstance(atr, (bytes, re.Pattern)) or atr is None else None
        wanted = Wanted.of(
            *(readers, None, timeout, pattern, readers is None, share, ANY_PROTOCOL, Lengths.AUTO), settle=settle, new_only=new_only
        )
        if atr is not pattern:  # a pattern that is watched
            object.__setattr__(wanted, "atr", atr)
        self.readers = None if readers is None else frozenset(readers)
        self.waiter = Waiter(wanted, self.wake)

    def wake(self) -> bool:
        """What the table calls."""
        assert not self.table._lock.locked(), "somebody is woken under the lock"
        self.woken += 1
        return self.alive

    def joins(self) -> Person:
        """Takes a place."""
        self.table.join(self.waiter)
        return self

    def gets_ready(self) -> Person:
        """Has had a look, and waits."""
        self.table.ready(self.waiter, self.readers)
        return self

    def comes(self) -> Person:
        """Both at once."""
        return self.joins().gets_ready()

    def takes(self) -> str | None:
        """The reader offered, now being connected."""
        return self.table.take(self.waiter)

    def opens(self) -> Person:
        """The connect succeeded."""
        self.table.settle(self.waiter, None)
        return self

    def gives_back(self) -> None:
        """The connect succeeded when nobody wanted it any more."""
        self.table.settle(self.waiter, None, kept=False)

    def fails(self, code: int = SHARING_VIOLATION) -> Person:
        """The connect did not succeed."""
        self.table.settle(self.waiter, error_for(code, "SCardConnect", "a reader"))
        return self

    def leaves(self) -> None:
        """Gives its place up."""
        self.table.leave(self.waiter)

    def closes(self) -> None:
        """Has disconnected the card that it held."""
        self.table.free(self.waiter)

    def retries(self) -> None:
        """What its task does when it was woken without an offer, and when its time has come."""
        if self.retry_at is not None:
            self.table.retry(self.waiter)

    @property
    def settling(self) -> float:
        """How long the card offered must still stay."""
        return self.table.settling(self.waiter)

    @property
    def retry_at(self) -> float | None:
        """When it is to try again."""
        return self.table.retry_at(self.waiter)

    @property
    def seen(self) -> str:
        """What its time-out would say."""
        return self.table.seen(self.waiter)
