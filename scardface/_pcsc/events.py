"""A reader monitor's events, a reader's state, and `diff`, which derives events from two snapshots of PC/SC.

Rules:

- A `Snapshot` is the state of everything at one moment, immutable; any thread may use it.
- `diff` is a pure function. Removed readers come first (their cards before them), then the others in the order of the reader list.
- A card counts as another card if the event counter, the ATR or the run of the service has changed: one `CardRemoved`, one
  `CardInserted`. A reader that was and is empty gives no event, whatever its counter (fact 10: it counts insertions and removals).
- When the service goes down, no reader or card is reported as removed: readers are compared by name once it is back. It is
  reported once, and again only if it is back and this process cannot use it.
- A change of who uses the card (in_use, exclusive) is no event.
- Every event has `initial`: whether it describes the state when the monitor began. For events that cannot, it is always False.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, NamedTuple, TypeAlias

from .._enums import StateFlag
from ..errors import UNSUPPORTED_FEATURE, SCardError
from ..iso7816._atr import ATR


@dataclass(frozen=True, slots=True)
class ReaderState:
    """The state of one reader.

    Attributes:
        present: a card is in it.
        atr: the card's answer to reset; empty without a card, or with a mute one.
        mute: the card does not answer.
        in_use: some program has the card open, perhaps this one.
        exclusive: some program has it open exclusively.
    """

    present: bool
    atr: ATR
    mute: bool
    in_use: bool
    exclusive: bool


@dataclass(frozen=True, slots=True)
class ReaderAdded:
    """A reader was plugged in, or was there at the start (`initial`)."""

    reader: str
    initial: bool = False


@dataclass(frozen=True, slots=True)
class ReaderRemoved:
    """A reader was unplugged; never `initial`."""

    reader: str
    initial: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class CardInserted:
    """A card was put in `reader`, or was in at the start (`initial`). A mute card has an empty `atr`."""

    reader: str
    atr: ATR
    initial: bool = False


@dataclass(frozen=True, slots=True)
class CardRemoved:
    """The card was taken out of `reader`, or the service was restarted; never `initial`."""

    reader: str
    initial: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class ServiceDown:
    """The PC/SC service went away, or was not there at the start (`initial`); `error` says why.

    A second one without a `ServiceUp` in between means that the service is back, and that this process cannot use it.
    """

    initial: bool = False
    error: SCardError | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ServiceUp:
    """The PC/SC service is back; what changed meanwhile follows. Never `initial`."""

    initial: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class EventsLost:
    """This monitor fell too far behind: `count` events were dropped. The current state follows as `initial` events."""

    count: int
    initial: ClassVar[bool] = False


Event: TypeAlias = ReaderAdded | ReaderRemoved | CardInserted | CardRemoved | ServiceDown | ServiceUp | EventsLost


CHANGED = int(StateFlag.CHANGED)
"""As an int: `~` of a flag keeps only the other known flags, and would clear the event counter."""
_INUSE, _EXCLUSIVE = int(StateFlag.INUSE), int(StateFlag.EXCLUSIVE)
_PRESENT, _MUTE = (
    int(StateFlag.PRESENT),
    int(StateFlag.MUTE),
)  # ints, since IntFlag is slow and these are used for each reader in each snapshot


class Reading(NamedTuple):
    """A reader's state from one status call: flags (lower half of the number), event counter (upper half), ATR."""

    flags: int
    counter: int
    atr: bytes

    @classmethod
    def from_state(cls, state: int, atr: bytes) -> Reading:
        """The reading for a 32-bit state of SCardGetStatusChange and its ATR, without the flag CHANGED."""
        return cls(state & 0xFFFF & ~CHANGED, state >> 16, atr)

    @property
    def present(self) -> bool:
        """Whether a card is in the reader."""
        return bool(self.flags & _PRESENT)

    @property
    def mute(self) -> bool:
        """Whether the card in it does not answer."""
        return bool(self.flags & _MUTE)

    def shown_atr(self) -> ATR:
        """The card's ATR as users see it: empty unless there is a card that answers."""
        return ATR(self.atr if self.flags & (_PRESENT | _MUTE) == _PRESENT else b"")

    def state(self) -> ReaderState:
        """The reader's state as users see it."""
        return ReaderState(
            self.present,
            self.shown_atr(),
            self.mute,
            bool(self.flags & (_INUSE | _EXCLUSIVE)),  # pcsc-lite sets one of them, Windows both
            bool(self.flags & _EXCLUSIVE),
        )


class Snapshot(NamedTuple):
    """The state of PC/SC at one moment.

    Attributes:
        number: the query's number; it answers all that was asked for up to that number.
        life: how often the service was found; event counters can be compared within one such run only.
        error: why there is no service; None while there is one.
        readers: reading by name, in the order of the reader list; the last known ones while there is no service.
        groups: the names that each group list that was asked for holds.
        left_out: the names that PC/SC lists and nothing can be asked about.
    """

    number: int
    life: int
    error: SCardError | None
    readers: Mapping[str, Reading]
    groups: Mapping[tuple[str, ...], frozenset[str]] = MappingProxyType({})
    left_out: tuple[str, ...] = ()


def initial_events(snapshot: Snapshot) -> list[Event]:
    """The state of `snapshot` as events."""
    if snapshot.error is not None:
        return [ServiceDown(initial=True, error=snapshot.error)]
    events: list[Event] = []
    for name, reading in snapshot.readers.items():
        events.append(ReaderAdded(name, initial=True))
        if reading.present:
            events.append(CardInserted(name, reading.shown_atr(), initial=True))
    return events


_UNTIL_RESTART = frozenset({UNSUPPORTED_FEATURE})
"""Codes that last until this process is restarted: libpcsclite's reader table cannot shrink (fact 67)."""


def is_service_event(before: SCardError | None, now: SCardError | None) -> bool:
    """Whether it is an event: the service went down or came up, or it is back and this process cannot use it, which waiting cannot
    mend."""
    if before is None or now is None:
        return before is not now
    return now.code in _UNTIL_RESTART and before.code not in _UNTIL_RESTART


def diff(old: Snapshot, new: Snapshot) -> list[Event]:
    """The events between two snapshots, in the order of the rules above."""
    if new.error is not None:
        return [ServiceDown(error=new.error)] if is_service_event(old.error, new.error) else []
    events: list[Event] = [] if old.error is None else [ServiceUp()]
    for name, reading in old.readers.items():
        if name not in new.readers:
            if reading.present:
                events.append(CardRemoved(name))
            events.append(ReaderRemoved(name))
    for name, reading in new.readers.items():
        before = old.readers.get(name)
        if before is reading and old.life == new.life:
            continue
        if before is None:
            events.append(ReaderAdded(name))
        same = before is not None and old.life == new.life and same_card(before, reading)
        if before is not None and before.present and not same:
            events.append(CardRemoved(name))
        if reading.present and not same:
            events.append(CardInserted(name, reading.shown_atr()))
    return events


def still_in(before: Reading, now: Reading) -> bool:
    """Whether the card of `before` has stayed in: as `same_card`, but where there are counters, a reset may change its ATR."""
    if before.counter == 0:  # as everywhere on macOS
        return same_card(before, now)
    return before.present and now.present and before.counter == now.counter


def same_card(before: Reading, now: Reading) -> bool:
    """Whether both readings, from one run of the service, are of the same card, which stayed in."""
    if not (before.present and now.present and before.counter == now.counter):
        return False
    # Where counters are unreliable (macOS) the ATR decides, unless it is not known (card unpowered).
    known = (before.atr or before.mute) and (now.atr or now.mute)
    return not known or before.atr == now.atr
