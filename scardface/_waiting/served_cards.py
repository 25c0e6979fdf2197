"""The cards that have had their turn and are still in, for one who takes card after card.

Who owns what, who may call it from where, what ends it:

- It belongs to one iteration over cards, in one loop or thread. `receive` and `fail` are called in the driver's thread, all else by
  the iteration; `leave` is signal-safe (see the package). Every step is one dictionary entry, so there is no lock.
- While the iteration lasts it is a listener of the driver: it hears of each card that goes, also while the next one has its turn,
  when no acquisition waits. So a card that comes later is never taken for one that had its turn, whatever its counter shows:
  readers and services begin anew with their counters.
- A snapshot may be older than the card, and show its reader empty or with the card before. So an entry that was never seen in, and
  is not in a snapshot, is doubted: a query is asked for that begins afterwards, and decides. Only a counter that has gone on since
  says at once that the card is gone.
- Whoever has been handed out a copy and has yet to ask the driver is told what has gone since (`RefusedCards.gone`).
- After the service was away everything is forgotten: nobody saw whether a card was swapped meanwhile. What is noted afterwards of
  the life of the service before that is not, and what was handed out says of which it is.
- A card may be opened, and noted, in a life of which no snapshot has come here yet: snapshots of the life before say nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._pcsc.backend import Backend
from .._pcsc.events import Event, Reading, Snapshot, still_in
from .driver import Driver, driver_of
from .messages import NO_READINGS, RefusedCards, Subscribed, Unsubscribed


class ServedCards:
    """The cards that have had their turn and are still in.

    Attributes:
        readings: what they were when they had it, by reader.
        driver: to which it listens; None: it has not begun to.
    """

    def __init__(self, backend: Backend) -> None:
        self.readings: dict[str, Reading] = {}
        self.owner: Any = None
        self._lives: dict[str, int | None] = {}  # of the service, in which the entries of `readings` were noted
        self._gone: dict[str, Reading] = {}  # the last entry of each reader that a snapshot has shown to be in no more
        self._seen: dict[str, Reading] = {}  # the entries of `readings` that a snapshot has shown
        self._doubted: dict[str, Reading] = {}  # those that the last snapshot has not shown, though none before has
        self._backend = backend
        self.driver: Driver | None = None
        self._listens = False
        self._latest: Snapshot | None = None

    def listen(self, owner: Any) -> None:
        """Begin to listen, or go on.

        Raises:
            SCardError: no thread can be started.
        """
        self.owner = owner
        if not self._listens:
            self._listens = True
            self.readings.clear()
            self.driver = driver_of(self._backend)
            self.driver.submit(Subscribed(self, None), self._backend)

    def leave(self) -> None:
        """Listen no more."""
        self._listens = False
        driver = self.driver
        if driver is not None:
            driver.tell(Unsubscribed(self))

    @property
    def latest(self) -> Snapshot | None:
        """The last snapshot; None: there was none yet."""
        return self._latest

    @property
    def life(self) -> int | None:
        """The life of the service that the last snapshot is of; None: there was none yet."""
        latest = self._latest
        return None if latest is None else latest.life or None

    def cards(self) -> RefusedCards:
        """A copy: those of one life."""
        life = self.life  # first: entries that are younger than it says are served once more, and none is taken for another
        readings = dict(self.readings)
        newest = max((self._lives.get(reader) or 0 for reader in readings), default=0)
        if life is not None and newest > life:
            readings = {reader: each for reader, each in readings.items() if self._lives.get(reader) == newest}
            life = newest
        return RefusedCards(readings, life, self._gone)

    def add_new(self, cards: RefusedCards, before: Mapping[str, Reading] = NO_READINGS) -> None:
        """Note cards that have their turn, or are refused; not those that were known before, and may be gone again."""
        life = self.life
        is_newer = life is not None and cards.life is not None and cards.life > life
        for reader, reading in (cards.readings if is_newer else cards.known_in(life)).items():
            if reading.present and before.get(reader) is not reading:
                self._seen.pop(reader, None)
                self._gone.pop(reader, None)
                self._lives[reader] = life if cards.life is None else cards.life
                self.readings[reader] = reading
                if is_newer:
                    continue
                latest = self._latest
                now = latest.readers.get(reader) if latest is not None and latest.error is None else None
                if now is not None and still_in(reading, now):
                    self._seen[reader] = reading
        if life is not None and self.life != life:  # the driver has just heard of another one
            self._forget_older(self.life)

    def _forget_older(self, life: int | None) -> None:
        """Forget what was noted in lives of the service before that one."""
        for reader in list(self.readings):
            if life is None or (self._lives.get(reader) or 0) < life:
                self.readings.pop(reader, None)

    def has(self, reader: str, reading: Reading) -> bool:
        """Whether that card has had its turn and is still in, as far as was seen."""
        before = self.readings.get(reader)
        return before is not None and still_in(before, reading)

    def forget(self, reader: str, reading: Reading) -> bool:
        """Let that card come again, though it may still be in. Returns whether it had had its turn."""
        known = self.has(reader, reading)
        if known:
            self.readings.pop(reader, None)
        return known

    def update(self, reader: str, reading: Reading) -> None:
        """The turn is over: the card is what it is now, after resets, if it is still in."""
        before = self.readings.get(reader)
        if before is not None and still_in(before, reading):
            self.readings[reader] = reading

    def receive(self, snapshot: Snapshot, events: list[Event], first: bool) -> None:
        """Forget the cards that are in no more.

        Args:
            first: whether the query began after it was asked for, by `Subscribed`.
        """
        doubted = {}
        before_it, self._latest = self._latest, snapshot
        if before_it is not None and before_it.life != snapshot.life:
            self._forget_older(snapshot.life)
        for reader, before in list(self.readings.items()):
            if (self._lives.get(reader) or 0) > snapshot.life:
                continue
            now = None if snapshot.error is not None else snapshot.readers.get(reader)
            if now is not None and still_in(before, now):
                self._seen[reader] = before
            elif (
                snapshot.error is not None
                or reader in self._seen
                or (now is not None and now.present and _has_gone_on(before, now))
                or (first and self._doubted.get(reader) is before)
            ):
                self._gone[reader] = before
                self.readings.pop(reader, None)
                self._seen.pop(reader, None)
            else:
                doubted[reader] = before
        asked_for = self._doubted
        self._doubted = doubted
        driver = self.driver
        if driver is not None and self._listens and any(asked_for.get(reader) is not before for reader, before in doubted.items()):
            driver.tell(Subscribed(self, None))
            if not self._listens:  # `leave` may have been called in between, and its message come before this one
                driver.tell(Unsubscribed(self))

    def fail(self, error: BaseException) -> None:
        """There will be no more snapshots, until it listens again."""
        self._listens = False
        self.readings.clear()
        self._seen.clear()
        self._doubted = {}


def _has_gone_on(before: Reading, now: Reading) -> bool:
    """Whether the reader's counter, of 16 bits, has gone on from the one to the other."""
    return 0 < (now.counter - before.counter) % 0x10000 < 0x8000
