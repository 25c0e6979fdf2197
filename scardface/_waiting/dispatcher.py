"""Decides who gets which card. A plain object: no thread, lock, I/O or clock of its own; messages in, effects out.

Who owns what: one `Dispatcher` for each PC/SC, called by its driver's thread alone. The fields of an `Entry` belong to the
dispatcher, but for those that its maker sets and nobody changes.

What it keeps to, whatever the order of the messages:

- Oldest first. An entry takes its place when its acquisition starts, whatever loop or thread it lives in, and keeps it while it
  tries, fails and waits on. Who asked before and still has its first look is not overtaken at a card that it may want, for `AHEAD`
  seconds.
- A reader is offered to one entry at a time, and to the next when that one has failed, passed it on or left. A connect that PC/SC
  holds up keeps that reader, and nothing else.
- An offer that its loop or thread does not take within `TAKE` seconds goes to the next of another loop or thread. The late one
  keeps its place, and is offered cards again as soon as it has said that it is awake.
- SHARED holders coexist. An EXCLUSIVE entry makes later SHARED ones queue, unless another program turned it away: then it keeps its
  place and lets them pass until it can try again.
- What is wrong with one card ends nothing: a connect that failed is tried again at the reader's next change, and every `RETRY`
  seconds where another program holds the card (nothing reports reliably that it is free), every `RETRY_BAD` otherwise.
- Several cards suit: the order of the reader list.
- A service that goes ends no entry; one that is not there at the start does, unless the entry waits for that, too.
- The cost of a reader's change is linear in the kinds of wishes that concern that reader, however many wait with each.
"""

from __future__ import annotations

import bisect
import heapq
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from .._enums import Protocol, ShareMode, StateFlag
from .._pcsc.events import Reading, Snapshot, diff, same_card
from .._session.card_request import CardRequest
from ..errors import (
    CANCELLED,
    NO_READERS_AVAILABLE,
    SECURITY_VIOLATION,
    SHARING_VIOLATION,
    TIMEOUT,
    CardTimeoutError,
    NoReaderError,
    SCardError,
    ServiceUnavailableError,
    WaitCancelledError,
    fresh_copy,
)
from .messages import (
    Awake,
    Connected,
    Connecting,
    Effect,
    End,
    Entry,
    Failed,
    Freed,
    HomeGone,
    Joined,
    Left,
    Looked,
    MayBeGone,
    Means,
    Message,
    Names,
    Offer,
    Opened,
    Reshared,
    Subscribed,
    TakeBack,
    Tell,
    Through,
    Untaken,
    WaitsForRemoval,
)

TAKE = 2.0
"""Seconds after which an offer that was not taken goes to the next."""
AHEAD = 0.25
"""Seconds that one who still has its first look keeps those behind it from a card that it may want."""
RETRY = 0.25
"""Seconds between two tries at a card that another program holds (facts 11 and 13: nothing reports its release)."""
RETRY_BAD = 1.0
"""Seconds between two tries at a card that could not be opened for another reason."""
ONE_LOOK = 1.5
"""Seconds after which a request with a timeout of 0 asks whether the service still answers; it ends within half a second more."""
_ANSWER = 0.4
_POWER_UP = 30.0
"""Seconds that a card's own power-up may take such a request; drivers give up earlier."""

_EXCLUSIVE = int(StateFlag.EXCLUSIVE)
_SHARING = int(StateFlag.INUSE | StateFlag.EXCLUSIVE)
_MOST_VERDICTS = 256
_MOST_TOLD = 5


class _Refusal(NamedTuple):
    """Who need not try a card again before `until`: those who ask for it in one of these ways."""

    until: float
    shares: frozenset[ShareMode]
    protocols: Protocol | None  # None: whatever protocols they ask for
    error: BaseException | None

    def covers(self, line: _Line) -> bool:
        return line.share in self.shares and (self.protocols is None or self.protocols == line.protocols)

    @property
    def foreign(self) -> bool:
        """Whether another program holds the card."""
        return isinstance(self.error, SCardError) and self.error.code == SHARING_VIOLATION


class _Timer(NamedTuple):
    """Something that is due at a time, unless what it is about is over by then."""

    when: float
    number: int  # so that no two are equal
    due: Callable[[Any, float], None]
    about: Any
    live: Container[Any] | None

    def is_live(self) -> bool:
        if self.live is not None:
            return self.about in self.live
        if isinstance(self.about, Offer):
            return self.about.entry._offer is self.about
        return bool(self.about.lines)


class _Slot:
    """One reader: what is in it, who of this process has it."""

    __slots__ = (
        *("_atr", "card", "connects", "failure", "gone", "holders", "lines", "name", "offer"),
        *("place", "reading", "refusals", "refused", "removals", "since"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.place = 0  # in the reader list
        self.reading: Reading | None = None  # None: the reader, or the service, is not there
        self.card = 0  # the number of the card in it, of all cards that came; 0: none
        self._atr = b""
        self.since = 0.0  # when that card came
        self.holders: dict[Entry, tuple[ShareMode, int]] = {}  # how, and the number of the first look that must show it
        self.offer: Offer | None = None  # untaken, or a connect is in flight
        self.connects: dict[Offer, None] = {}  # in flight, of those who did not ask here
        self.refusals: list[_Refusal] = []
        self.failure: tuple[int, _Refusal] | None = None  # the number of the card that could not be opened last, and why
        self.refused = 0  # that of the card that another program held at the last try
        self.lines: list[_Line] = []  # whose wishes concern this reader
        self.removals: dict[Any, Reading] = {}
        self.gone: tuple[float, bytes] | None = None  # the card before: when it went, its ATR

    @property
    def used(self) -> bool:
        """Whether anything of this process hangs on it, also while it is not plugged in."""
        return bool(self.holders or self.offer is not None or self.connects or self.removals)

    def refuses(self, line: _Line) -> bool:
        return any(refusal.covers(line) for refusal in self.refusals)


class _Line:
    """Those who want the same, oldest first."""

    __slots__ = ("_entries", "_numbers", "_verdicts", "dynamic", "groups", "key", "names", "pattern", "protocols", "share")

    def __init__(self, key: Hashable, request: CardRequest, names: Names, dynamic: bool) -> None:
        self.key = key
        self.names = names
        self.dynamic = request.readers if dynamic else None  # readers that come later count, too
        self.groups = request.readers.groups if dynamic else None
        self.pattern = request.atr
        self.share = request.share
        self.protocols = request.protocols
        self._numbers: list[int] = []
        self._entries: dict[int, Entry] = {}
        self._verdicts: dict[bytes, bool] = {}

    def concerns(self, name: str) -> bool:
        """Whether its readers include this one, its groups apart."""
        if self.dynamic is not None:
            return self.dynamic.accepts(name)
        return self.names is None or name in self.names

    def matches(self, atr: bytes) -> bool:
        """Whether its pattern is found in the ATR. A pattern is the program's own code: it is asked once per ATR."""
        if self.pattern is None:
            return True
        verdict = self._verdicts.get(atr)
        if verdict is None:
            if len(self._verdicts) >= _MOST_VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[atr] = self.pattern.search(atr) is not None
        return verdict

    def add(self, entry: Entry) -> None:
        bisect.insort(self._numbers, entry.number)
        self._entries[entry.number] = entry

    def discard(self, entry: Entry) -> None:
        if self._entries.pop(entry.number, None) is not None:
            del self._numbers[bisect.bisect_left(self._numbers, entry.number)]

    def leads(self, entry: Entry) -> bool:
        """Whether nobody of the line came before."""
        return bool(self._numbers) and self._numbers[0] == entry.number

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entries.__getitem__, self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


_NOTHING_YET = Snapshot(0, 0, None, {})


class Dispatcher:
    """See the head of this file. `needed`, `asked` and `groups` are for the watcher, `wake_at` is when it wants a `tick`."""

    def __init__(self) -> None:
        self.asked = 0
        """The number of the look that is wanted: the watcher's next one has at least it."""
        self._entries: dict[Entry, None] = {}
        self._joining: dict[Entry, None] = {}  # those of them that wait for their first look
        self._lines: dict[Hashable, _Line] = {}
        self._slots: dict[str, _Slot] = {}  # in the order of the reader list
        self._held: dict[Entry, _Slot] = {}
        self._cards = 0
        self._last = _NOTHING_YET
        self._asleep: set[Hashable] = set()
        self._followed: dict[Entry, float] = {}  # those ahead of others, and until when
        self._listeners: dict[Any, tuple[int, tuple[str, ...] | None]] = {}  # the look from which on each hears; 0: it does
        self._removals: dict[Any, _Slot] = {}
        self._fresh_removals: dict[Any, int] = {}  # those of them that wait for their first look, and its number
        self._groups: Counter[tuple[str, ...]] = Counter()  # how many ask for each
        self._names: tuple[Snapshot, dict[Hashable, Names]] = (_NOTHING_YET, {})  # what filters mean, by one look
        self._timers: list[_Timer] = []
        self._timer_number = 0
        self._effects: list[Effect] = []
        self._zero: dict[Entry, None] = {}  # those with a timeout of 0 that have had their look

    # What the driver sees.

    @property
    def needed(self) -> bool:
        """Whether anybody waits for anything."""
        return bool(self._entries or self._listeners or self._removals)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The groups whose readers the looks have to tell apart: those that somebody who is still there asks for."""
        return tuple(self._groups)

    @property
    def wake_at(self) -> float | None:
        """When (monotonic) to call `tick`; None: there is no need to."""
        return self._timers[0].when if self._timers else None

    def homes(self) -> set[Hashable]:
        """All loops and threads in which somebody waits."""
        homes = {entry.home for entry in self._entries}
        homes.update(listener.home for listener in (*self._listeners, *self._removals))
        return homes

    def removals(self) -> list[Any]:
        """All who wait for a card to go."""
        return list(self._removals)

    def everybody(self) -> tuple[list[Entry], list[Any]]:
        """All acquisitions, and all others that wait for something."""
        return list(self._entries), [*self._listeners, *self._removals]

    def handle(self, message: Message, now: float) -> list[Effect]:
        """Take a message; what has to be done now."""
        if isinstance(message, Looked):
            self._looked(message.snapshot, now)
        elif isinstance(message, Joined):
            self._joined(message, now)
        elif isinstance(message, Means):
            self._means(message.entry, now)
        elif isinstance(message, Through):
            self._through(message.entry, now)
        elif isinstance(message, Connecting):
            self._slot(message.offer.reader).connects[message.offer] = None
        elif isinstance(message, Connected):
            self._connected(message.offer, now)
        elif isinstance(message, Left):
            self._left(message.entry, now)
        elif isinstance(message, HomeGone):
            self._home_gone(message.home, now)
        elif isinstance(message, Opened):
            self._opened(message, now)
        elif isinstance(message, Reshared):
            slot = self._held.get(message.entry)
            if slot is not None:
                slot.holders[message.entry] = message.share, self.asked + 1
                self._offer_at([slot], now)
        elif isinstance(message, Freed):
            self._freed(message.entry, now)
        elif isinstance(message, Failed):
            self._failed(message.offer, message.error, now)
        elif isinstance(message, Untaken):
            self._untaken(message.offer, now)
        elif isinstance(message, Awake):
            self._asleep.discard(message.home)
            self._offer_at(self._slots.values(), now)
        elif isinstance(message, Subscribed):
            self._listeners[message.listener] = (self._ask(), message.groups)
            self._count_groups(message.groups, 1)
        elif isinstance(message, WaitsForRemoval):
            slot = self._slot(message.reader)
            slot.removals[message.removal] = message.seen
            self._removals[message.removal] = slot
            self._fresh_removals[message.removal] = self._ask()
        else:
            self._ignores(message.listener)
        return self._done(now)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)
            if timer.is_live():
                timer.due(timer.about, now)
        return self._done(now)

    def _take_back(self, offer: Offer, now: float) -> None:
        self._effects.append(TakeBack(offer))

    def _offer_again(self, slot: _Slot, now: float) -> None:
        self._offer_at([slot], now)

    def _done(self, now: float) -> list[Effect]:
        for entry in [entry for entry in self._zero if entry._offer is None and not self._waits_behind(entry, now)]:
            self._time_out(entry, now)
        effects, self._effects = self._effects, []
        return effects

    def _at(
        self, when: float, due: Callable[[Any, float], None], about: Offer | _Slot | Entry, live: Container[Any] | None
    ) -> None:
        """Have `due(about, now)` called then, if `about` is still in `live` (None: an offer, while it is out)."""
        self._timer_number += 1
        heapq.heappush(self._timers, _Timer(when, self._timer_number, due, about, live))
        if len(self._timers) > 64 + 4 * (len(self._entries) + len(self._slots)):  # most are of those who left long ago
            self._timers = [timer for timer in self._timers if timer.is_live()]
            heapq.heapify(self._timers)

    def _count_groups(self, groups: tuple[str, ...] | None, by: int) -> None:
        if groups:
            self._groups[groups] += by
            if not self._groups[groups]:
                del self._groups[groups]

    def _ask(self) -> int:
        self.asked += 1
        return self.asked

    def _slot(self, name: str) -> _Slot:
        slot = self._slots.get(name)
        if slot is None:
            slot = self._slots[name] = _Slot(name)
            slot.place = len(self._slots)
            slot.lines = [line for line in self._lines.values() if line.concerns(name)]
        return slot

    # What the watcher saw.

    def _looked(self, snapshot: Snapshot, now: float) -> None:
        before, self._last = self._last, snapshot
        changed = self._readers_seen(snapshot, now) if snapshot.error is None else self._service_gone(snapshot.error, now)
        self._tell_listeners(before, snapshot)
        for removal in [removal for removal, number in self._fresh_removals.items() if snapshot.number >= number]:
            del self._fresh_removals[removal]
            self._judge(removal, self._removals[removal])  # whatever changed before counts, too
        for entry in [entry for entry in self._joining if snapshot.number >= entry._look]:
            if self._start(entry, snapshot, now):
                changed = list(self._slots.values())
        self._offer_at(changed, now)

    def _service_gone(self, error: SCardError, now: float) -> list[_Slot]:
        for slot in self._slots.values():
            self._see(slot, None, now)
            for entry in slot.holders:  # their sessions died with the service
                self._held.pop(entry, None)
            slot.holders.clear()
        self._effects += [MayBeGone(removal, gone=False) for removal in self._removals if removal not in self._fresh_removals]
        return []

    def _readers_seen(self, snapshot: Snapshot, now: float) -> list[_Slot]:
        changed = []
        for name in [name for name in self._slots if name not in snapshot.readers]:
            slot = self._slots[name]
            if slot.reading is not None or slot.card:
                self._see(slot, None, now)
                slot.card = 0
            for entry in slot.holders:  # their handles died with the reader (fact 35)
                self._held.pop(entry, None)
            slot.holders.clear()
            if not slot.used:
                del self._slots[name]
        for place, (name, reading) in enumerate(snapshot.readers.items()):
            slot = self._slots.get(name) or self._slot(name)
            slot.place = place
            stale = slot.holders and self._forget_the_dead(slot, reading, snapshot.number)
            if slot.reading is not reading and slot.reading != reading:
                self._see(slot, reading, now)
                changed.append(slot)
            elif stale:
                changed.append(slot)
        return changed

    def _forget_the_dead(self, slot: _Slot, reading: Reading, number: int) -> bool:
        """Whether there were holders whose sessions are dead, though nobody has said so: the reader shows that it is not held."""
        dead = [
            entry
            for entry, (share, since) in slot.holders.items()
            if number >= since and not reading.flags & (_EXCLUSIVE if share is ShareMode.EXCLUSIVE else _SHARING)
        ]
        for entry in dead:
            del slot.holders[entry]
            self._held.pop(entry, None)
        if dead:  # perhaps with the reader, and one of the same name came, which counts from the start: it may show the same
            self._effects += [MayBeGone(removal, gone=False) for removal in slot.removals]
        return bool(dead)

    def _see(self, slot: _Slot, reading: Reading | None, now: float) -> None:
        """Another card, or a sharing flag that fell: whoever was refused may try again."""
        old, slot.reading = slot.reading, reading
        if reading is not None:
            self._number(slot, old, reading, now)
        if old is None or reading is None or old[1:] != reading[1:] or old.present != reading.present:
            if old is not None and old.present:
                slot.gone = now, old.atr
            slot.refusals.clear()
        elif old.flags & _SHARING & ~reading.flags:
            slot.refusals = [refusal for refusal in slot.refusals if not refusal.foreign]
        for removal in slot.removals:
            if removal not in self._fresh_removals and self._last.error is None:
                self._judge(removal, slot)

    def _number(self, slot: _Slot, old: Reading | None, reading: Reading, now: float) -> None:
        """Number the card in `slot` if it is another one. With the same ATR after the service was away it is not."""
        if not reading.present:
            slot.card = 0
        elif not slot.card or slot._atr != reading.atr or (old is not None and old.counter != reading.counter):
            self._cards += 1
            slot.card, slot._atr, slot.since = self._cards, reading.atr, now

    def _judge(self, removal: Any, slot: _Slot) -> None:
        seen = slot.removals[removal]
        if self._last.error is not None:
            self._effects.append(MayBeGone(removal, gone=False))
        elif slot.reading is None or (seen.present and not same_card(seen, slot.reading)):
            self._effects.append(MayBeGone(removal, gone=True))

    def _tell_listeners(self, before: Snapshot, snapshot: Snapshot) -> None:
        events = diff(before, snapshot) if self._listeners else []
        for listener, (number, groups) in self._listeners.items():
            if not number:
                self._effects.append(Tell(listener, snapshot, events, first=False))
            elif snapshot.number >= number:
                self._listeners[listener] = (0, groups)
                self._effects.append(Tell(listener, snapshot, [], first=True))

    def _ignores(self, listener: Any) -> None:
        _, groups = self._listeners.pop(listener, (0, None))
        self._count_groups(groups, -1)
        slot = self._removals.pop(listener, None)
        if slot is not None:
            slot.removals.pop(listener, None)
            self._fresh_removals.pop(listener, None)

    # What acquisitions say.

    def _joined(self, message: Joined, now: float) -> None:
        entry, ahead = message.entry, frozenset(message.ahead)
        if entry in self._entries:
            return
        self._entries[entry] = None
        self._count_groups(entry.request.readers.groups, 1)
        entry._started, entry._ahead, entry._seen, entry._saw = now, ahead, message.seen, message.saw
        entry._before, entry._line, entry._offer, entry._tried = {}, None, None, None
        for other in ahead - self._followed.keys() - self._entries.keys():
            self._followed[other] = now + AHEAD
            self._at(now + AHEAD, self._through, other, self._followed)
        if entry.request.timeout == 0:
            entry._tried = set()
        if entry.deadline != float("inf"):
            self._at(entry.deadline, self._at_deadline, entry, self._entries)
        offer = message.trying
        if offer is not None and (slot := self._slot(offer.reader)).offer is None:
            slot.offer = entry._offer = offer
        entry._look = self._ask()
        if message.readers == "not known":
            self._joining[entry] = None
        else:
            self._stand_in_line(entry, message.readers)
            self._offer_at(self._slots.values(), now)
        self._through(entry, now)

    def _start(self, entry: Entry, snapshot: Snapshot, now: float) -> bool:
        """The entry's first look is there: which readers are meant? Whether it stands in line now."""
        request = entry.request
        dynamic = request.wait_for_reader
        try:
            if dynamic and snapshot.error is not None and snapshot.error.code == SECURITY_VIOLATION:
                raise fresh_copy(snapshot.error)  # it is there, and refuses this program
            names = None if dynamic else self._readers_to_watch(entry, snapshot)
        except SCardError as error:
            if snapshot.error is not None and request.timeout != 0 and not isinstance(error, ServiceUnavailableError):
                entry._look = self._ask()  # this look alone failed, for want of memory for instance
                return False
            self._effects.append(End(entry, error))
            self._drop(entry, now)
            return False
        del self._joining[entry]
        self._stand_in_line(entry, names)
        return True

    def _stand_in_line(self, entry: Entry, names: Names) -> None:
        request = entry.request
        dynamic = request.wait_for_reader
        if request.new_only and entry._seen is None:
            entry._before = {slot.name: slot.card for slot in self._slots.values() if slot.card}
        key = (request.readers if dynamic else names, request.atr, request.share, request.protocols)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(key, request, names, dynamic)
            for slot in self._slots.values():
                if line.concerns(slot.name):
                    slot.lines.append(line)
        line.add(entry)
        entry._line = line
        if entry._tried is not None:
            self._zero[entry] = None

    def _means(self, entry: Entry, now: float) -> None:
        """It keeps its place; a connect in flight goes on, for what is opened is checked."""
        if entry._line is not None:
            self._leave_line(entry, entry._line, now)
            self._stand_in_line(entry, None)
            self._offer_at(self._slots.values(), now)

    def readers_of(self, entry: Entry) -> Names | Literal["not known"]:
        """The readers that an entry means; None: all, whatever comes."""
        return "not known" if entry._line is None else entry._line.names

    def _readers_to_watch(self, entry: Entry, snapshot: Snapshot) -> Names:
        """As `readers_to_watch`; equal wishes of one look share the names."""
        if self._names[0] is not snapshot:
            self._names = snapshot, {}
        known = self._names[1]
        key = entry.request.pnp, entry.request.readers
        if key not in known:
            known[key] = readers_to_watch(entry.request, snapshot, entry.service_may_be_absent)
        return known[key]

    def _through(self, entry: Entry, now: float) -> None:
        if self._followed.pop(entry, None) is not None:
            self._offer_at(self._slots.values(), now)

    def _waits_behind(self, entry: Entry, now: float) -> bool:
        """Whether a card may yet come to one with a timeout of 0: somebody ahead is not through, or a card has to settle."""
        if not self._followed.keys().isdisjoint(entry._ahead):
            return True
        line = entry._line
        if not entry.request.settle or line is None:
            return False
        return any(
            slot.offer is None
            and self._suits(slot, line)
            and slot.name not in (entry._tried or ())
            and self._settles_at(slot, entry) > now
            for slot in self._slots.values()
            if line in slot.lines
        )

    def _left(self, entry: Entry, now: float) -> None:
        self._through(entry, now)
        if entry in self._entries:
            self._drop(entry, now)

    def _home_gone(self, home: Hashable, now: float) -> None:
        for entry in [entry for entry in self._entries if entry.home == home]:
            self._effects.append(End(entry, WaitCancelledError("the event loop was closed under the wait for a card", CANCELLED)))
            self._left(entry, now)
        for listener in [listener for listener in (*self._listeners, *self._removals) if listener.home == home]:
            self._ignores(listener)
        self._asleep.discard(home)

    def _drop(self, entry: Entry, now: float) -> None:
        """Take an entry out; its connect in flight, if any, keeps the reader until it is over."""
        del self._entries[entry]
        self._count_groups(entry.request.readers.groups, -1)
        self._joining.pop(entry, None)
        self._zero.pop(entry, None)
        if entry._offer is not None:
            self._effects.append(TakeBack(entry._offer))
        line, entry._line = entry._line, None
        if line is None:  # those behind it need not wait for its first look any more
            self._offer_at(self._slots.values(), now)
            return
        self._leave_line(entry, line, now)

    def _leave_line(self, entry: Entry, line: _Line, now: float) -> None:
        led = line.leads(entry)
        line.discard(entry)
        if not line:
            del self._lines[line.key]
        if led:  # it may have been all that kept others from a card
            self._offer_at((slot for slot in self._slots.values() if line in slot.lines), now)
        if not line:
            for slot in self._slots.values():
                if line in slot.lines:
                    slot.lines.remove(line)

    def _opened(self, message: Opened, now: float) -> None:
        entry, offer = message.entry, message.offer
        if self._last.error is None:  # else its session died with the service
            slot = self._slot(message.reader)
            across = offer is not None and offer.life not in (None, self._last.life)  # of the service's restart: a look tells
            slot.holders[entry] = message.share, self._ask() if across else self.asked + 1
            self._held[entry] = slot
        if offer is not None:
            self._take_off(offer)
        if entry in self._entries:
            self._drop(entry, now)
        self._through(entry, now)

    def _connected(self, offer: Offer, now: float) -> None:
        slot = self._slots.get(offer.reader)
        if slot is not None and offer in slot.connects:
            del slot.connects[offer]
            self._offer_at([slot], now)

    def _take_off(self, offer: Offer) -> _Slot | None:
        """The offer is over; the reader that it was of."""
        entry, slot = offer.entry, self._slots.get(offer.reader)
        if entry._offer is offer:
            entry._offer = None
        if slot is not None and slot.offer is offer:
            slot.offer = None
            return slot
        return None

    def _freed(self, entry: Entry, now: float) -> None:
        slot = self._held.pop(entry, None)
        if slot is not None:
            slot.holders.pop(entry, None)
            if not slot.holders:
                slot.refusals.clear()
            self._offer_at([slot], now)

    def _failed(self, offer: Offer, error: BaseException | None, now: float) -> None:
        entry = offer.entry
        slot = self._take_off(offer)
        if slot is None:
            return
        if entry._tried is not None:
            entry._tried.add(slot.name)
        if error is not None and not isinstance(error, SCardError):  # a backend's own failure, which its caller is told
            self._offer_at([slot], now)
            return
        held = error is not None and error.code == SHARING_VIOLATION
        shares = frozenset({ShareMode.EXCLUSIVE}) if held and entry.request.share is ShareMode.EXCLUSIVE else frozenset(ShareMode)
        until = now + (RETRY if held else RETRY_BAD)
        refusal = _Refusal(until, shares, None if held else entry.request.protocols, error)
        slot.refusals.append(refusal)
        slot.refused = slot.card if held else 0
        if error is not None and not held:
            slot.failure = slot.card, refusal
        self._at(until, self._offer_again, slot, None)
        if error is None:
            self._ask()  # what is in the reader is not what was seen
        self._offer_at(self._slots.values() if entry in self._entries else [slot], now)

    def _untaken(self, offer: Offer, now: float) -> None:
        slot = self._take_off(offer)
        if offer.entry in self._entries:
            self._asleep &= self.homes()
            self._asleep.add(offer.home)
            self._offer_at(self._slots.values(), now)  # also what waited for the first look of others who live there
        elif slot is not None:
            self._offer_at([slot], now)

    # The end of an acquisition's time.

    def _at_deadline(self, entry: Entry, now: float) -> None:
        offer = entry._offer
        slot = self._slots.get(offer.reader) if offer is not None else None
        if entry.request.timeout != 0 or slot is None or now > entry._started + _POWER_UP:
            self._time_out(entry, now)
        elif entry._look < 0:  # asked before: did the service answer, and does nobody else use the card?
            reading = slot.reading
            if self._last.number >= -entry._look and self._last.error is None and reading and not reading.flags & _SHARING:
                self._ask_again(entry, now)  # the card's own power-up
            else:
                self._time_out(entry, now)
        else:
            self._ask_again(entry, now)

    def _ask_again(self, entry: Entry, now: float) -> None:
        entry._look = -self._ask()
        self._at(now + _ANSWER, self._at_deadline, entry, self._entries)

    def _time_out(self, entry: Entry, now: float) -> None:
        text, cause = self.seen(entry)
        timeout = entry.request.timeout
        self._effects.append(End(entry, CardTimeoutError(f"no matching card within {timeout:g} s; seen: {text}", TIMEOUT), cause))
        self._drop(entry, now)

    # Who is next.

    def _offer_at(self, slots: Iterable[_Slot], now: float) -> None:
        """Offer what is free, in the order of the reader list."""
        free = [slot for slot in slots if slot.offer is None and not slot.connects and slot.reading is not None and slot.lines]
        for slot in sorted(free, key=_place) if len(free) > 1 else free:
            entry = self._next(slot, now)
            if entry is None:
                continue
            assert slot.reading is not None
            offer = Offer(entry, slot.name, slot.reading, self._last.life)
            slot.offer = entry._offer = offer
            self._at(now + TAKE, self._take_back, offer, None)
            self._effects.append(offer)

    def _next(self, slot: _Slot, now: float) -> Entry | None:
        if any(share is ShareMode.EXCLUSIVE for share, _ in slot.holders.values()):
            return None
        self._forget_refusals(slot, now)
        heads = []
        for line in slot.lines:
            if self._suits(slot, line) and not slot.refuses(line):
                head = next((entry for entry in line if self._may_try(entry, slot)), None)
                if head is not None:
                    heads.append(head)
        heads.sort(key=_number)
        for entry in heads:
            if entry.request.share is ShareMode.EXCLUSIVE and slot.holders:
                return None
            if self._is_overtaking(entry, slot):
                return None
            if entry.request.settle and (settled := self._settles_at(slot, entry)) > now:
                self._at(settled, self._offer_again, slot, None)
                return None
            return entry
        return None

    def _forget_refusals(self, slot: _Slot, now: float) -> None:
        """Those whose time is over. While this process shares the card an EXCLUSIVE try must fail, and keeps nobody back."""
        kept = []
        for refusal in slot.refusals:
            if refusal.until > now:
                kept.append(refusal)
            elif refusal.foreign and slot.holders and ShareMode.SHARED not in refusal.shares:
                kept.append(refusal._replace(until=now + RETRY))
                self._at(now + RETRY, self._offer_again, slot, None)
        slot.refusals = kept

    def _settles_at(self, slot: _Slot, entry: Entry) -> float:
        return slot.since + entry.request.settle

    def _suits(self, slot: _Slot, line: _Line) -> bool:
        """Whether what is in `slot` is what those of `line` want."""
        reading = slot.reading
        if reading is None or (line.groups is not None and slot.name not in self._last.groups.get(line.groups, ())):
            return False
        if line.share is ShareMode.DIRECT:
            return True
        return reading.present and not reading.mute and line.matches(reading.atr)

    def _may_try(self, entry: Entry, slot: _Slot) -> bool:
        """Whether an entry is free and awake, has a try at this reader left, and did not know its card before."""
        if entry._offer is not None or entry.home in self._asleep:
            return False
        if entry.request.new_only and self._was_in(entry, slot):
            return False
        return entry._tried is None or slot.name not in entry._tried

    def _was_in(self, entry: Entry, slot: _Slot) -> bool:
        """Whether what is in `slot` was in when the wait of `entry` started."""
        seen = None if entry._seen is None else entry._seen.get(slot.name)
        if seen is not None and slot.reading is not None and slot.card and same_card(seen, slot.reading):
            entry._before[slot.name] = slot.card  # by its number it is known after the service was away, too
        return slot.card != 0 and entry._before.get(slot.name) == slot.card

    def _is_overtaking(self, entry: Entry, slot: _Slot) -> bool:
        """Whether one that came before and still waits for its first look may want this card."""
        for other in (*self._joining, *self._followed) if self._joining or self._followed else ():
            if other.number < entry.number and other.home not in self._asleep and self._may_want(other, slot):
                return True
        return False

    def _may_want(self, entry: Entry, slot: _Slot) -> bool:
        request, reading = entry.request, slot.reading
        if reading is None or not (request.pnp or request.readers.accepts(slot.name)):
            return False
        if request.share is ShareMode.DIRECT:
            return True
        return reading.present and not reading.mute and (request.atr is None or request.atr.search(reading.atr) is not None)

    # What was seen, in words.

    def seen(self, entry: Entry) -> tuple[str, BaseException | None]:
        """What stood between `entry` and a card, for the text of its time-out; and the error of the last card that it was."""
        if self._last.error is not None:
            return "the PC/SC service is not available", self._last.error
        offer = entry._offer
        if entry._saw is not None and self._last.number < entry._look and offer is None:
            return entry._saw
        if offer is not None and self._slots[offer.reader].reading is None:  # a connect from before there was a watcher
            return _connecting(offer.reader, offer.reading), None
        if entry._line is None:
            return "the PC/SC service did not answer", None
        slots = [slot for slot in self._slots.values() if entry._line in slot.lines and slot.reading is not None]
        told, cause = [], None
        for slot in sorted(slots, key=_place):
            words, error = self._seen_in(slot, entry, entry._line)
            if words:
                told.append(words)
            cause = cause or error
        more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
        words = "; ".join(told[:_MOST_TOLD] + more) or ("no card" if slots else "no reader")
        return words + _left_out(filter(entry.request.readers.accepts, self._last.left_out)), cause

    def _seen_in(self, slot: _Slot, entry: Entry, line: _Line) -> tuple[str, BaseException | None]:
        reading, where = slot.reading, f"in reader {slot.name!r}"
        if reading is None or not reading.present:
            if slot.gone is not None and slot.gone[0] >= entry._started and not line.matches(slot.gone[1]):
                return f"a card whose ATR did not match ({slot.gone[1].hex(' ')}), {where}, taken out again", None
            return "", None
        if reading.mute:
            return f"a card that does not answer, {where}", None
        if not line.matches(reading.atr):
            return f"a card whose ATR did not match ({reading.atr.hex(' ')}), {where}", None
        failed, refusal = slot.failure or (0, None)
        if refusal is not None and failed == slot.card and refusal.covers(line):
            return f"a card that could not be opened ({refusal.error}), {where}", refusal.error
        if slot.offer is not None and slot.offer.entry is entry and slot.refused != slot.card:
            return _connecting(slot.name, reading), None
        if slot.connects or (slot.offer is not None and slot.offer.entry is not entry):
            return f"a card that another SCard of this program is opening, {where}", None
        if slot.holders:
            return f"a card held by another SCard of this program, {where}", None
        if slot.refused == slot.card or any(refusal.foreign for refusal in slot.refusals):
            return f"a card held by another program, {where}", None
        if entry._before and entry._before.get(slot.name) == slot.card:
            return f"a card that was in before, {where}", None
        return f"a card that could not be opened, {where}", None


def _left_out(names: Iterable[str]) -> str:
    """The readers that the binding cannot be asked about, for an error text."""
    listed = ", ".join(map(repr, names))
    return f"; left out, since PC/SC bindings take ASCII names only: {listed}" if listed else ""


def _connecting(reader: str, reading: Reading) -> str:
    words = "blocked by another program's transaction" if reading.flags & _SHARING else "not answered by PC/SC"
    return f"a connect still {words}, in reader {reader!r}"


_place, _number = attrgetter("place"), attrgetter("number")


def readers_to_watch(request: CardRequest, snapshot: Snapshot, service_may_be_absent: bool) -> Names:
    """Which readers an acquisition that does not wait for readers means, by its first look; None: all, whatever comes.

    Raises:
        SCardError: no service, or no such reader.
    """
    if snapshot.error is not None:
        if not (request.pnp and service_may_be_absent):
            raise fresh_copy(snapshot.error)
        return None
    if request.pnp:
        return None
    groups = request.readers.groups
    names = [name for name in snapshot.readers if request.readers.accepts(name)]
    if groups is not None:
        names = [name for name in names if name in snapshot.groups.get(groups, ())]
    if not names:
        there = ", ".join(repr(name) for name in snapshot.readers) or "none"
        which = "none of the readers asked for" if request.readers.named else "no reader"
        raise NoReaderError(
            f"{which} is plugged in (there: {there}{_left_out(snapshot.left_out)}); plug one in, or wait for it with "
            "wait_for_reader=True",
            NO_READERS_AVAILABLE,
        )
    return frozenset(names)
