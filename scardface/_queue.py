"""Who gets which card: the one table of all who wait, for each PC/SC of the process.

Who may call it from where: any thread and any event loop. Its lock is held for dictionary work only; nobody is woken under it.
What ends an entry: a waiter leaves, or holds a card until it is freed.

Rules of this room:

- Oldest first. A waiter takes its place when its acquisition starts, whatever loop or thread it lives in, and keeps it while it
  tries, fails and waits on. One that has joined and still takes its first look is not overtaken at a card that it may want.
- A card is offered to one waiter, who is woken alone, and to the next only when that one has failed or left. One connect is in
  flight per reader: if PC/SC holds it (fact 4), it keeps the reader until it returns, even when its waiter has left.
- SHARED holders coexist. An EXCLUSIVE waiter makes later SHARED ones queue, unless another program turned it away: then it keeps
  its place and lets them pass until it can try again.
- A connect that failed though the card is in (held by another program, being powered, gone in the next moment) is tried again
  every 250 ms by the oldest who failed, or when the reader's state changes. PC/SC's own wake-up is lost more often than not (facts
  11 and 13).
- A card whose holder closes is offered on at once: the holder says so only after its disconnect returned.
- Several cards match: the order of the reader list.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from ._backend import Backend
from ._enums import ShareMode, StateFlag
from ._events import Reading, Snapshot
from ._threads import forget_at_fork
from ._waiters import (
    RETRY,
    Line,
    Pattern,
    Slot,
    Waiter,
    Wish,
    can_try_again,
    forgive,
    may_try,
    refuse,
    seen_in,
    tries_again,
    wish_of,
)
from .errors import SCardError

_SHARING = int(StateFlag.INUSE | StateFlag.EXCLUSIVE)
_MOST_VERDICTS = 4096
_MOST_TOLD = 5


class Table:
    """All waiters and holders of one backend."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets = 0
        self._cards = 0
        self._lines: dict[Wish, Line] = {}
        self._joining: dict[int, Waiter] = {}
        self._slots: dict[str, Slot] = {}
        self._busy: set[Slot] = set()  # those with a card in, or with something of ours: all that need be walked
        self._down: SCardError | None = None
        self._life = 0  # counts the times that the service went
        self._verdicts: dict[tuple[Pattern, bytes], bool] = {}
        self._unjudged: set[tuple[Pattern, bytes]] = set()

    @contextmanager
    def _change(self) -> Iterator[list[Slot]]:
        """Hold the lock for a change; then offer the slots that the body lists, and wake and match outside the lock.

        Patterns are users' code and are matched here alone: a card that a pattern has not seen yet is offered once it has.
        """
        slots: list[Slot] = []
        with self._lock:
            yield slots
            woken, unjudged = self._offer(slots), self._take_unjudged()
        while woken or unjudged:
            verdicts = {(pattern, atr): pattern.search(atr) is not None for pattern, atr in unjudged}
            dead = [waiter for waiter in woken if not waiter.wake()]
            with self._lock:
                slots = self._worth_offering() if verdicts else []
                if len(self._verdicts) > _MOST_VERDICTS:
                    self._verdicts.clear()
                self._verdicts.update(verdicts)
                for waiter in dead:
                    slots += self._remove(waiter)
                woken, unjudged = self._offer(slots), self._take_unjudged()

    def _take_unjudged(self) -> set[tuple[Pattern, bytes]]:
        unjudged, self._unjudged = self._unjudged, set()
        return unjudged

    # What the hubs tell.

    def publish(self, snapshot: Snapshot) -> None:
        """Take a hub's look; offer the cards that it brings."""
        with self._change() as concerned:
            self._down = snapshot.error
            if snapshot.error is not None:
                self._life += 1
                for slot in self._slots.values():
                    self._see(slot, None)
                    slot.holders.clear()  # their sessions died with the service
                return
            for name in [name for name in self._slots if name not in snapshot.readers]:
                self._see(self._slots[name], None)
                self._slots[name].card = 0
                self._slots[name].holders.clear()  # their handles died with the reader (fact 35)
            slots = {name: self._slots.get(name) or Slot(name) for name in snapshot.readers}
            for place, slot in enumerate(slots.values()):
                slot.place = place
            absent = {name: slot for name, slot in self._slots.items() if name not in slots}
            self._slots = slots | {name: slot for name, slot in absent.items() if slot.holders or slot.connecting}
            for name, reading in snapshot.readers.items():
                if slots[name].reading is not reading:
                    self._see(slots[name], reading)
            concerned += self._worth_offering()

    def _worth_offering(self) -> list[Slot]:
        """The readers with a card; all of them while somebody wants one without."""
        if any(share is ShareMode.DIRECT for _, _, share in self._lines):
            return list(self._slots.values())
        return [slot for slot in self._walk() if slot.reading is not None and slot.reading.present]

    def _walk(self) -> list[Slot]:
        """The readers that matter, in the order of the list."""
        return sorted(self._busy, key=lambda slot: slot.place)

    def _see(self, slot: Slot, reading: Reading | None) -> None:
        """Another card, or a sharing flag that fell: forget who was refused."""
        old, slot.reading = slot.reading, reading
        if reading is not None:
            self._count(slot, old, reading)
        if old is None or reading is None or (old.counter, old.present, old.atr) != (reading.counter, reading.present, reading.atr):
            if old is not None and old.present:
                slot.gone = self._tickets, old.atr
            forgive(slot)
        elif old.flags & _SHARING & ~reading.flags:
            forgive(slot)
        if (reading is not None and reading.present) or slot.holders or slot.connecting is not None or slot.refused:
            self._busy.add(slot)
        else:
            self._busy.discard(slot)

    def _count(self, slot: Slot, old: Reading | None, reading: Reading) -> None:
        """Number the card in `slot` if it is another one. With the same ATR after the service was away it is not."""
        if not reading.present:
            slot.card = 0
        elif not slot.card or slot.atr != reading.atr or (old is not None and old.counter != reading.counter):
            self._cards += 1
            slot.card, slot.atr, slot.since = self._cards, reading.atr, time.monotonic()

    # What acquisitions say.

    def join(self, waiter: Waiter) -> None:
        """Take a place; nothing is offered before `ready`."""
        with self._lock:
            self._tickets += 1
            waiter.ticket = self._tickets
            self._joining[waiter.ticket] = waiter

    def ready(self, waiter: Waiter, readers: frozenset[str] | None) -> None:
        """Ask for cards in `readers` (None: any) from now on."""
        waiter.readers = readers
        if waiter.wanted.timeout == 0:
            waiter.tried = set()
        with self._change() as concerned:
            if waiter.wanted.new_only:
                waiter.known = {slot.name: slot.card for slot in self._walk() if slot.card}
            del self._joining[waiter.ticket]
            self._lines.setdefault(wish_of(waiter), Line()).add(waiter)
            concerned += self._worth_offering()

    def settling(self, waiter: Waiter) -> float:
        """Seconds until the card offered has been in for as long as `waiter` wants; an offer whose card has left is taken back."""
        with self._change() as concerned:
            slot = waiter.offer
            if slot is None or not waiter.wanted.settle:
                return 0.0
            if not slot.card:
                waiter.offer = slot.connecting = None
                concerned.append(slot)
                return 0.0
            return max(0.0, slot.since + waiter.wanted.settle - time.monotonic())

    def take(self, waiter: Waiter) -> str | None:
        """The reader offered to `waiter`, which must then try it and `settle`; None: nothing was offered."""
        with self._lock:
            if waiter.offer is None or waiter.took is not None:
                return None
            waiter.took = self._life
            return waiter.offer.name

    def settle(self, waiter: Waiter, error: BaseException | None, *, kept: bool = True) -> None:
        """Tell what became of a try: the card is open and `kept`, or it failed with `error` (or was given back unused)."""
        with self._change() as concerned:
            slot, waiter.offer = waiter.offer, None
            life, waiter.took = waiter.took, None
            assert slot is not None
            slot.connecting = None
            if error is None and kept:
                if life == self._life:  # else the session died with the service while it was opened
                    slot.holders.add(waiter)
                self._drop(waiter)
            elif error is not None and not waiter.left:
                refuse(slot, waiter, error)
                self._busy.add(slot)
            concerned += self._worth_offering()

    def retry_at(self, waiter: Waiter) -> float | None:
        """When (monotonic clock) `waiter` should call `retry`; None: it has nothing to try again."""
        with self._lock:
            for slot in self._walk():
                vacant = slot.retrier is None or not can_try_again(slot.retrier, slot)
                if slot.refused and vacant and can_try_again(waiter, slot) and waiter in self._in_line(slot):
                    slot.retrier = waiter
            return min((slot.retry_at for slot in self._busy if tries_again(waiter, slot)), default=None)

    def retry(self, waiter: Waiter) -> None:
        """Offer again the cards whose next try is this waiter's, and is due."""
        now = time.monotonic()
        with self._change() as concerned:
            for slot in self._walk():
                if not tries_again(waiter, slot) or slot.retry_at > now:
                    continue
                slot.retry_at = now + RETRY
                if slot.connecting is None:
                    # While others of this process share the card an EXCLUSIVE try must fail, and may not keep SHARED ones waiting.
                    still = slot.refused & {ShareMode.EXCLUSIVE} if slot.holders and slot.foreign else frozenset()
                    forgive(slot)
                    slot.refused, slot.foreign = still, bool(still)
                    concerned.append(slot)

    def leave(self, waiter: Waiter) -> None:
        """Give the place up. A connect in flight keeps its reader until it settles; a card that is held is not concerned."""
        with self._change() as concerned:
            concerned += self._remove(waiter)

    def _remove(self, waiter: Waiter) -> list[Slot]:
        """Take a waiter out; the slots that may suit others now."""
        if waiter.left:
            return []
        self._drop(waiter)
        concerned = []
        if self._joining.pop(waiter.ticket, None) is not None:
            return self._worth_offering()
        if waiter.offer is not None and waiter.took is None:
            waiter.offer.connecting = None
            concerned.append(waiter.offer)
            waiter.offer = None
        if waiter.share is ShareMode.EXCLUSIVE:  # SHARED ones may have queued behind it
            concerned += self._shared()
        return concerned

    def _shared(self) -> list[Slot]:
        """The readers that this process holds."""
        return [slot for slot in self._walk() if slot.holders]

    def reshare(self, waiter: Waiter, share: ShareMode) -> None:
        """The card that `waiter` holds is held with `share` from now on."""
        with self._change() as concerned:
            waiter.share = share
            concerned += self._shared()

    def free(self, waiter: Waiter) -> None:
        """The card that `waiter` held has been disconnected: offer it on."""
        with self._change() as concerned:
            for slot in self._walk():
                if waiter in slot.holders:
                    slot.holders.discard(waiter)
                    if not slot.holders:
                        forgive(slot)
                    concerned.append(slot)

    def _drop(self, waiter: Waiter) -> None:
        waiter.left = True
        wish = wish_of(waiter)
        line = self._lines.get(wish)
        if line is not None:
            line.discard(waiter)
            if not line:
                del self._lines[wish]

    # Who is next.

    def _offer(self, slots: list[Slot]) -> list[Waiter]:
        """Offer what is free; the waiters to wake once the lock is released."""
        woken = []
        slots = list(slots)
        for slot in slots:  # grows while it is walked
            waiter = self._next(slot) if slot.connecting is None and slot.reading is not None else None
            if waiter is not None:
                slot.connecting, waiter.offer = waiter, slot
                self._busy.add(slot)
                woken.append(waiter)
                if waiter.share is ShareMode.EXCLUSIVE:  # SHARED ones may have queued behind it
                    slots += self._shared()
        return woken + self._hand_duties_on()

    def _hand_duties_on(self) -> list[Waiter]:
        """Where the one who was to try a card again left, or has another to try, the next in line will; it is woken to see when."""
        woken = []
        for slot in self._walk():
            if slot.retrier is not None and not can_try_again(slot.retrier, slot):
                slot.retrier = next((waiter for waiter in self._in_line(slot) if can_try_again(waiter, slot)), None)
                if slot.retrier is not None:
                    woken.append(slot.retrier)
        return woken

    def _next(self, slot: Slot) -> Waiter | None:
        if any(holder.share is ShareMode.EXCLUSIVE for holder in slot.holders):
            return None
        for waiter in self._in_line(slot):
            if not self._judged(slot, waiter):
                return None  # it may be the one; the offer comes once its pattern has been matched
            if waiter.share in slot.refused:
                continue
            if waiter.share is ShareMode.EXCLUSIVE and slot.holders:
                return None
            return None if self._somebody_joins_before(waiter, slot) else waiter
        return None

    def _in_line(self, slot: Slot) -> list[Waiter]:
        """Those whom the card suits, oldest first: of each line the first who is free will do, since a line wants the same."""
        heads = []
        for (readers, pattern, share), line in self._lines.items():
            if (readers is None or slot.name in readers) and self._may_suit(slot, pattern, share):
                head = next((waiter for waiter in line if may_try(waiter, slot)), None)
                if head is not None:
                    heads.append(head)
        return sorted(heads, key=lambda waiter: waiter.ticket)

    def _somebody_joins_before(self, waiter: Waiter, slot: Slot) -> bool:
        for ticket, joining in self._joining.items():
            if ticket > waiter.ticket:
                return False
            wanted = joining.wanted
            if wanted.readers.accepts(slot.name) and self._may_suit(slot, wanted.atr, wanted.share):
                return True
        return False

    def _may_suit(self, slot: Slot, pattern: Pattern | None, share: ShareMode) -> bool:
        """Whether the card in `slot` is one of those wanted, as far as is known."""
        reading = slot.reading
        if reading is None or share is ShareMode.DIRECT:
            return reading is not None
        if not reading.present or reading.mute:
            return False
        return pattern is None or self._verdicts.get((pattern, reading.atr), True)

    def _judged(self, slot: Slot, waiter: Waiter) -> bool:
        """Whether the waiter's pattern has seen the card's ATR; if not, it will."""
        pattern, reading = waiter.wanted.atr, slot.reading
        if pattern is None or reading is None or (pattern, reading.atr) in self._verdicts:
            return True
        self._unjudged.add((pattern, reading.atr))
        return False

    # What was seen.

    def seen(self, waiter: Waiter) -> str:
        """What stood between `waiter` and a card, in words, for the text of its time-out."""
        with self._lock:
            if self._down is not None:
                return "the PC/SC service is not available"
            slots = [slot for slot in self._slots.values() if slot.reading is not None]
        slots = [slot for slot in slots if waiter.readers is None or slot.name in waiter.readers]
        told = list(filter(None, (seen_in(slot, waiter, self._matches) for slot in slots)))
        more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        return "; ".join(told[:_MOST_TOLD]) + more or ("no card" if slots else "no reader")

    def _matches(self, pattern: Pattern, atr: bytes) -> bool:
        """The verdict of a pattern on an ATR, asked for now if need be; without the lock."""
        verdict = self._verdicts.get((pattern, atr))
        if verdict is None:
            verdict = self._verdicts[pattern, atr] = pattern.search(atr) is not None
        return verdict


_tables: weakref.WeakKeyDictionary[Backend, Table] = weakref.WeakKeyDictionary()
_tables_lock = threading.Lock()


def table_of(backend: Backend) -> Table:
    """The one table of `backend`."""
    with _tables_lock:
        return _tables.setdefault(backend, Table())


def _forget() -> None:
    global _tables, _tables_lock
    _tables_lock = threading.Lock()
    _tables = weakref.WeakKeyDictionary()


forget_at_fork(_forget)
