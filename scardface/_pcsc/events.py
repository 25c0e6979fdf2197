"""What a reader monitor tells: the events, a reader's state, and `diff`, which turns two looks at PC/SC into events.

Rules:

- A `Snapshot` is one look at everything, immutable; it crosses threads freely.
- `diff` is pure. Readers that went come first (their card before them), then the others in the order of the reader list.
- A card is another card when the event counter, the ATR or the service's life changed: one `CardRemoved`, one `CardInserted`.
  Empty before and empty after is nothing, whatever the counter says (fact 10: it counts insertions and removals).
- A service that went removes nothing: its readers are compared by name once it is back. It is told once, and again only if it is
  back and this process cannot use it.
- Who else uses the card (in_use, exclusive) changes silently.
- Every event has `initial`: whether it tells of what was so when the monitor began. Of what cannot be so it is never true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, NamedTuple, TypeAlias

from .._enums import StateFlag
from ..errors import SCardError
from ..iso7816._atr import ATR


@dataclass(frozen=True, slots=True)
class ReaderState:
    """What is known of one reader.

    Attributes:
        present: a card is in it.
        atr: the card's answer to reset; empty without a card, or with a mute one.
        mute: the card does not answer.
        in_use: some program has the card open, this one included.
        exclusive: some program has it open for itself alone.
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
    """The card was taken out of `reader`, or its session was lost when the service restarted; never `initial`."""

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
    """This monitor fell too far behind: `count` events were dropped, the state follows afresh as `initial` events, this is none."""

    count: int
    initial: ClassVar[bool] = False


Event: TypeAlias = ReaderAdded | ReaderRemoved | CardInserted | CardRemoved | ServiceDown | ServiceUp | EventsLost


CHANGED = int(StateFlag.CHANGED)
"""As an int: of a flag, `~` would keep the other known flags only, and lose the event counter."""
_INUSE, _EXCLUSIVE = int(StateFlag.INUSE), int(StateFlag.EXCLUSIVE)
_PRESENT, _MUTE = int(StateFlag.PRESENT), int(StateFlag.MUTE)  # flags are slow, and this is asked of each reader at each look


class Reading(NamedTuple):
    """A reader as one status call saw it: flags (lower half of the state), event counter (upper half), ATR."""

    flags: int
    counter: int
    atr: bytes

    @classmethod
    def of(cls, state: int, atr: bytes) -> Reading:
        """The reading that a 32-bit state of SCardGetStatusChange and its ATR mean; CHANGED is no part of it."""
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
        """The card's ATR for users: none without a card that answers."""
        return ATR(self.atr if self.flags & (_PRESENT | _MUTE) == _PRESENT else b"")

    def state(self) -> ReaderState:
        """The same for users."""
        return ReaderState(
            self.present,
            self.shown_atr(),
            self.mute,
            bool(self.flags & (_INUSE | _EXCLUSIVE)),  # pcsc-lite sets one of them, Windows both
            bool(self.flags & _EXCLUSIVE),
        )


class Snapshot(NamedTuple):
    """One look at PC/SC.

    Attributes:
        number: the look's number; it answers all who asked up to that number.
        life: counts the times that the service was found; event counters compare within one life only.
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
    """The state of `snapshot` told as events."""
    if snapshot.error is not None:
        return [ServiceDown(initial=True, error=snapshot.error)]
    events: list[Event] = []
    for name, reading in snapshot.readers.items():
        events.append(ReaderAdded(name, initial=True))
        if reading.present:
            events.append(CardInserted(name, reading.shown_atr(), initial=True))
    return events


_LASTING = frozenset({0x8010001F})
"""What only another process mends: UNSUPPORTED_FEATURE, of pcsc-lite's table of readers that cannot shrink (`pyscard`)."""


def is_service_event(before: SCardError | None, now: SCardError | None) -> bool:
    """Whether a monitor is told: the service went or came, or it is back and this process cannot use it, which no waiting mends."""
    if before is None or now is None:
        return before is not now
    return now.code in _LASTING and before.code not in _LASTING


def diff(old: Snapshot, new: Snapshot) -> list[Event]:
    """What happened between two looks, in the order of the rules above."""
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


def same_card(before: Reading, now: Reading) -> bool:
    """Whether both readings, of one life of the service, are of one card that stayed in."""
    if not (before.present and now.present and before.counter == now.counter):
        return False
    # Where counters lie (macOS) the ATR tells; an ATR that is merely not known (unpowered) says nothing.
    known = (before.atr or before.mute) and (now.atr or now.mute)
    return not known or before.atr == now.atr
