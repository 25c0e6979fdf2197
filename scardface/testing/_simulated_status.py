"""A status call (SCardGetStatusChange) of the simulated PC/SC: what it compares, and what ends it.

Rules:

- `evaluate` is a pure function: it compares the state that the caller gave with what the service knows of one reader.
- A waiting call is evaluated in the thread that calls `wake_calls`, under the service's lock, and only for readers that were marked
  as changed; its own thread wakes only when the call has ended. So waiting calls cost no more than what really changed.
- A change that is only marked stays unseen until the next `wake_calls` (facts 11 and 13).
- The answer describes all entries as of their last evaluation, which after a time-out may be long ago (fact 11).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Protocol

from .._enums import StateFlag
from .._pcsc.backend import PNP_READER, StatusEntry
from ._dialects import Dialect, PlugAndPlay

EXCLUSIVE = -1
"""Instead of the number of handles that share a reader."""

# Plain numbers, since an operation on an enumeration takes as long as the rest of an evaluation.
_CHANGED = int(StateFlag.CHANGED)
_UNKNOWN = int(StateFlag.UNKNOWN)
_LOST = int(StateFlag.UNKNOWN | StateFlag.UNAVAILABLE)
IGNORE = int(StateFlag.IGNORE)
_EMPTY, _PRESENT = int(StateFlag.EMPTY), int(StateFlag.PRESENT)
_EXCLUSIVE, _INUSE, _MUTE = int(StateFlag.EXCLUSIVE), int(StateFlag.INUSE), int(StateFlag.MUTE)


class ReaderStatus(Protocol):
    """A reader, as far as a status call tells of it."""

    atr: bytes
    counter: int
    sharing: int

    @property
    def present(self) -> bool: ...
    @property
    def mute(self) -> bool: ...


class ReaderList(Protocol):
    """All readers, as far as a status call needs them."""

    dialect: Dialect
    list_changes: int

    def find(self, name: str) -> ReaderStatus | None: ...
    def count(self) -> int: ...


def is_plug_and_play(name: str) -> bool:
    """Whether a name stands for the list of readers; the case does not matter."""
    return name.casefold() == PNP_READER.casefold()


def evaluate(name: str, given: int, reader: ReaderStatus | None, dialect: Dialect) -> tuple[StatusEntry, bool]:
    """One entry of a status call.

    Args:
        given: the state that the caller gave; 0: unaware.
        reader: None: it is not there any more.

    Returns:
        The entry, and whether it ends the call.
    """
    if given & IGNORE:
        return StatusEntry(name, 0, b""), False
    if reader is None:
        news = not given & _UNKNOWN
        return _entry(name, _LOST, 0, news), news
    present, mute = reader.present, reader.mute
    flags = _presence(present, mute) | _use(reader.sharing, present)
    news = not given or bool(given & _LOST) or _is_news(given, flags, reader, dialect)
    return _entry(name, flags, reader.counter, news, reader.atr if present else b""), news


def _entry(name: str, flags: int, counter: int, news: bool, atr: bytes = b"") -> StatusEntry:
    return StatusEntry(name, flags | (_CHANGED if news else 0) | counter << 16, atr)


def _presence(present: bool, mute: bool) -> int:
    if not present:
        return _EMPTY
    return _PRESENT | _MUTE if mute else _PRESENT


def _use(sharing: int, present: bool) -> int:
    if sharing == EXCLUSIVE:
        return _EXCLUSIVE  # without a card, too
    return _INUSE if sharing and present else 0


def _is_news(given: int, flags: int, reader: ReaderStatus, dialect: Dialect) -> bool:
    """Whether the difference ends the call. A first user of the card does not; the end of its last use does."""
    counter = given >> 16
    if counter != reader.counter and (counter or not dialect.zero_is_no_count):
        return True
    if given & (_PRESENT if flags & _EMPTY else _EMPTY):
        return True
    if flags & _PRESENT and (given ^ flags) & _MUTE:
        return True
    if flags & _EXCLUSIVE:
        return bool(given & _INUSE)
    if flags & _INUSE:
        return bool(given & _EXCLUSIVE)
    return not reader.sharing and bool(given & (_INUSE | _EXCLUSIVE))


class Wait:
    """One status call in progress. All methods are called under the service's lock.

    Args:
        entries: names and states; the names are known.
        woken: notified when the call is over.
    """

    def __init__(self, readers: ReaderList, entries: Sequence[tuple[str, int]], woken: threading.Condition) -> None:
        self._readers = readers
        self._given = [(name, state & ~_CHANGED) for name, state in entries]  # as pyscard does (fact 10)
        self._woken = woken
        self._places: dict[str, list[int]] = {}
        self._lists: list[int] = []
        for index, (name, _) in enumerate(entries):
            if is_plug_and_play(name):
                self._lists.append(index)
            else:
                self._places.setdefault(name, []).append(index)
        self._changes_at_start, self._count_at_start = readers.list_changes, readers.count()
        self.over = False
        """Whether the call has an answer."""
        self.code = 0
        """The code of PC/SC, if the call ended without an answer."""
        self.entries = [StatusEntry(name, 0, b"") for name, _ in entries]
        self.evaluate_readers(self._places)

    def evaluate_readers(self, changed: Collection[str]) -> None:
        """Evaluate the entries of the readers `changed`, and those for the list of readers, unless the call has ended."""
        if self.over:
            return
        news = False
        for name in changed:
            news = self._evaluate_reader(name) or news
        for index in self._lists:
            news = self._evaluate_list(index) or news
        if news:
            self.end()

    def end(self, code: int = 0) -> None:
        """End the call, with an answer or with `code`."""
        if not self.over:
            self.over, self.code = True, code
            self._woken.notify_all()

    def _evaluate_reader(self, name: str) -> bool:
        news = False
        reader = self._readers.find(name)
        for index in self._places.get(name, ()):
            self.entries[index], ends = evaluate(name, self._given[index][1], reader, self._readers.dialect)
            news = news or ends
        return news

    def _evaluate_list(self, index: int) -> bool:
        name, given = self._given[index]
        if given & IGNORE:
            return False
        kind, changes = self._readers.dialect.plug_and_play, self._readers.list_changes
        if kind is PlugAndPlay.NONE:
            news = not given & _UNKNOWN
            self.entries[index] = _entry(name, _UNKNOWN, 0, news)
        elif kind is PlugAndPlay.READERS:
            news = given >> 16 != self._readers.count()
            self.entries[index] = _entry(name, 0, self._readers.count(), news)
        elif kind is PlugAndPlay.EVENTS:
            news = changes != (given >> 16 or self._changes_at_start)
            self.entries[index] = _entry(name, 0, changes, news)
        else:
            news = self._readers.count() != self._count_at_start
            self.entries[index] = _entry(name, 0, 0, news)
        return news
