"""What the waiters' table is made of: a waiter's place, a reader with what this process does in it, a line of like waiters.

Nothing here locks: all of it belongs to one `Table` and is touched under that table's lock.
"""

from __future__ import annotations

import bisect
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from ._enums import ShareMode
from ._events import Reading
from ._wanted import Wanted
from .errors import SHARING_VIOLATION, SCardError

RETRY = 0.25
"""Seconds between two tries to connect to a card that another program holds (facts 11 and 13: nothing reports its release)."""

_ALL = frozenset(ShareMode)

Pattern: TypeAlias = "re.Pattern[bytes]"
Wish: TypeAlias = "tuple[frozenset[str] | None, Pattern | None, ShareMode]"


class Waiter:
    """One acquisition's place in the table. Its fields belong to the table.

    Args:
        wanted: the card it waits for.
        wake: called, outside the lock and from any thread, when it has been offered a card. False: its loop is gone.
    """

    __slots__ = ("known", "left", "offer", "readers", "share", "ticket", "took", "tried", "wake", "wanted")

    def __init__(self, wanted: Wanted, wake: Callable[[], bool]) -> None:
        self.wanted = wanted
        self.wake = wake
        self.share = wanted.share
        """How it wants the card, or holds it."""
        self.ticket = 0
        self.readers: frozenset[str] | None = None  # those to watch; None: any
        self.offer: Slot | None = None
        self.took: int | None = None  # the service's life in which the offer was taken: a connect is in flight
        self.tried: set[str] | None = None  # only with timeout 0: one connect per match
        self.known: dict[str, int] = {}  # the cards that were in at the start, if it wants new ones only
        self.left = False


class Slot:
    """One reader: what is in it, who of this process has it."""

    __slots__ = (
        *("atr", "card", "connecting", "foreign", "gone", "holders", "name", "place"),
        *("reading", "refused", "retrier", "retry_at", "since"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.place = 0  # in the reader list
        self.reading: Reading | None = None  # None: the reader, or the service, is not there
        self.card = 0  # the number of the card in it, of all cards that came; 0: none
        self.atr = b""
        self.since = 0.0  # when that card came (monotonic clock)
        self.holders: set[Waiter] = set()
        self.connecting: Waiter | None = None
        self.refused: frozenset[ShareMode] = frozenset()  # share modes that would fail again just now
        self.foreign = False  # another program was the reason
        self.retrier: Waiter | None = None
        self.retry_at = 0.0
        self.gone: tuple[int, bytes] | None = None  # the card before: newest ticket at its removal, ATR


class Line:
    """Those who want the same, oldest first."""

    __slots__ = ("_tickets", "_waiters")

    def __init__(self) -> None:
        self._tickets: list[int] = []
        self._waiters: dict[int, Waiter] = {}

    def add(self, waiter: Waiter) -> None:
        """Let `waiter` in, at its place."""
        bisect.insort(self._tickets, waiter.ticket)
        self._waiters[waiter.ticket] = waiter

    def discard(self, waiter: Waiter) -> None:
        """Take `waiter` out, if it is in."""
        if self._waiters.pop(waiter.ticket, None) is not None:
            del self._tickets[bisect.bisect_left(self._tickets, waiter.ticket)]

    def __iter__(self) -> Iterator[Waiter]:
        return map(self._waiters.__getitem__, self._tickets)

    def __len__(self) -> int:
        return len(self._tickets)


def wish_of(waiter: Waiter) -> Wish:
    """What a waiter's line has in common."""
    return waiter.readers, waiter.wanted.atr, waiter.share


def refuse(slot: Slot, waiter: Waiter, error: BaseException) -> None:
    """Remember who would fail again, and who tries again."""
    if waiter.tried is not None:
        waiter.tried.add(slot.name)
    held = isinstance(error, SCardError) and error.code == SHARING_VIOLATION
    slot.refused |= {waiter.share} if held and waiter.share is ShareMode.EXCLUSIVE else _ALL
    slot.foreign = slot.foreign or held
    if slot.retrier is None or not can_try_again(slot.retrier, slot):
        slot.retrier = waiter
    slot.retry_at = time.monotonic() + RETRY


def forgive(slot: Slot) -> None:
    """Let everybody try again."""
    slot.refused, slot.foreign, slot.retrier = frozenset(), False, None


def tries_again(waiter: Waiter, slot: Slot) -> bool:
    """Whether the next try at this reader is this waiter's."""
    return slot.retrier is waiter and can_try_again(waiter, slot)


def can_try_again(waiter: Waiter, slot: Slot) -> bool:
    """Whether a waiter is free to; an EXCLUSIVE try is hopeless while others of this process share the card."""
    return not waiter.left and waiter.offer is None and not (slot.holders and waiter.share is ShareMode.EXCLUSIVE)


def may_try(waiter: Waiter, slot: Slot) -> bool:
    """Whether a waiter is free, has a try at this reader left, and did not know its card before."""
    if waiter.offer is not None or (waiter.known and waiter.known.get(slot.name) == slot.card):
        return False
    return waiter.tried is None or slot.name not in waiter.tried


def seen_in(slot: Slot, waiter: Waiter, matches: Callable[[Pattern, bytes], bool]) -> str:
    """What of this reader kept `waiter` from a card, in words; empty if nothing was in it. Called without the lock: a look.

    Args:
        matches: whether a pattern is found in an ATR.
    """
    reading, gone, pattern = slot.reading, slot.gone, waiter.wanted.atr
    where = f"in reader {slot.name!r}"
    if reading is None or not reading.present:
        if gone is not None and gone[0] >= waiter.ticket and pattern is not None and not matches(pattern, gone[1]):
            return f"a card whose ATR did not match ({gone[1].hex(' ')}), {where}, taken out again"
        return ""
    if reading.mute:
        return f"a card that does not answer, {where}"
    if pattern is not None and not matches(pattern, reading.atr):
        return f"a card whose ATR did not match ({reading.atr.hex(' ')}), {where}"
    if slot.connecting is not None and slot.connecting.took is not None:
        return f"a connect still blocked by another program's transaction, {where}"
    if slot.holders:
        return f"a card held by another SCard of this program, {where}"
    if slot.foreign:
        return f"a card held by another program, {where}"
    return f"a card that could not be opened, {where}"
