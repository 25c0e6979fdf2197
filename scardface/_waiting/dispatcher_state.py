"""What the dispatcher knows: of a tracked reader (`TrackedReader`), and of the waiters with equal criteria (`WaiterQueue`).

Who owns what: both belong to one dispatcher, and are used in its driver's thread alone. They hold and compare; what is offered to
whom is decided in `dispatcher`.
"""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterator
from typing import NamedTuple

from .._enums import Protocol, ShareMode
from .._pcsc.events import Reading
from .._session.card_request import CardRequest
from ..errors import SHARING_VIOLATION, SCardError
from .messages import NameSet, Offer, RemovalWaiter, Waiter

_MAX_VERDICTS = 256
"""ATRs of which a queue remembers whether they match."""


class Refusal(NamedTuple):
    """Why there is no point in trying a card again before `until`, and for which waiters."""

    until: float
    shares: frozenset[ShareMode]
    protocols: Protocol | None  # None: whatever protocols they ask for
    error: BaseException | None

    def applies_to(self, queue: WaiterQueue) -> bool:
        """Whether the waiters of `queue` ask for the card in a way that was refused."""
        return queue.share in self.shares and (self.protocols is None or self.protocols == queue.protocols)

    @property
    def is_sharing_violation(self) -> bool:
        """Whether another program holds the card."""
        return isinstance(self.error, SCardError) and self.error.code == SHARING_VIOLATION


class TrackedReader:
    """A reader that the dispatcher keeps track of: the card in it, and what this process does with it."""

    __slots__ = (
        *("_atr", "card", "connects", "failure", "holders", "last_removed", "name", "offer", "place", "queues"),
        *("reading", "refusals", "refused_card", "removals", "since"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.place = 0  # in the reader list
        self.reading: Reading | None = None  # None: the reader, or the service, is not there
        self.card = 0  # the number of the card in it, counted over all readers; 0: none
        self._atr = b""
        self.since = 0.0  # when that card was inserted
        self.holders: dict[Waiter, tuple[ShareMode, int]] = {}  # share mode, and number of the first query that must show it
        self.offer: Offer | None = None  # not taken yet, or being connected
        self.connects: dict[Offer, None] = {}  # connects under way that were not offered here
        self.refusals: list[Refusal] = []
        self.failure: tuple[int, Refusal] | None = None  # the number of the card that could not be opened last, and why
        self.refused_card = 0  # the number of the card that another program held at the last attempt
        self.queues: list[WaiterQueue] = []  # those whose criteria include this reader
        self.removals: dict[RemovalWaiter, Reading] = {}
        self.last_removed: tuple[float, bytes] | None = None  # the card before: when it was removed, its ATR

    @property
    def in_use(self) -> bool:
        """Whether this process uses the reader or waits for something there, even while it is not plugged in."""
        return bool(self.holders or self.offer is not None or self.connects or self.removals)

    def refuses(self, queue: WaiterQueue) -> bool:
        """Whether this reader's card was refused to the waiters of `queue` a moment ago, so that they do not try it yet."""
        return any(refusal.applies_to(queue) for refusal in self.refusals)

    def is_other_card(self, old: Reading | None, reading: Reading) -> bool:
        """Whether the card in `reading` is not the one that `card` is the number of.

        After the service was away (`old` is None) the ATR alone decides: a card with the same one counts as the same card.
        """
        return not self.card or self._atr != reading.atr or (old is not None and old.counter != reading.counter)

    def set_card(self, number: int, reading: Reading, now: float) -> None:
        """Another card is in the reader."""
        self.card, self._atr, self.since = number, reading.atr, now


class WaiterQueue:
    """The waiters with equal criteria, oldest first. (`groups` are reader groups.)"""

    __slots__ = ("_numbers", "_verdicts", "_waiters", "dynamic", "groups", "key", "names", "pattern", "protocols", "share")

    def __init__(self, key: Hashable, request: CardRequest, names: NameSet, dynamic: bool) -> None:
        self.key = key
        self.names = names
        self.dynamic = request.readers if dynamic else None  # readers that are plugged in later are included
        self.groups = request.readers.groups if dynamic else None
        self.pattern = request.atr
        self.share = request.share
        self.protocols = request.protocols
        self._numbers: list[int] = []
        self._waiters: dict[int, Waiter] = {}
        self._verdicts: dict[bytes, bool] = {}

    def includes(self, name: str) -> bool:
        """Whether these waiters want the reader `name`, reader groups apart."""
        if self.dynamic is not None:
            return self.dynamic.accepts(name)
        return self.names is None or name in self.names

    def matches(self, atr: bytes) -> bool:
        """Whether these waiters want a card with this ATR. The pattern may be the program's own code: it is called once per ATR."""
        if self.pattern is None:
            return True
        verdict = self._verdicts.get(atr)
        if verdict is None:
            if len(self._verdicts) >= _MAX_VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[atr] = self.pattern.search(atr) is not None
        return verdict

    def add(self, waiter: Waiter) -> None:
        """Add a waiter, by its age."""
        bisect.insort(self._numbers, waiter.number)
        self._waiters[waiter.number] = waiter

    def discard(self, waiter: Waiter) -> None:
        """Remove a waiter, if it is there."""
        if self._waiters.pop(waiter.number, None) is not None:
            del self._numbers[bisect.bisect_left(self._numbers, waiter.number)]

    def is_oldest(self, waiter: Waiter) -> bool:
        """Whether `waiter` is the oldest of the queue."""
        return bool(self._numbers) and self._numbers[0] == waiter.number

    def __iter__(self) -> Iterator[Waiter]:
        return map(self._waiters.__getitem__, self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)
