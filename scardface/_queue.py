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

import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator

from ._backend import Backend
from ._enums import ShareMode, StateFlag
from ._events import Reading, Snapshot
from ._threads import forget_at_fork
from ._wanted import Wanted
from .errors import SHARING_VIOLATION, SCardError

RETRY = 0.25
"""Seconds between two tries to connect to a card that another program holds (facts 11 and 13: nothing reports its release)."""

_ALL = frozenset(ShareMode)
_SHARING = StateFlag.INUSE | StateFlag.EXCLUSIVE
_MOST_VERDICTS = 4096


class Waiter:
    """One acquisition's place in the table. Its fields belong to the table.

    Args:
        wanted: the card it waits for.
        wake: called, outside the lock and from any thread, when it has been offered a card. False: its loop is gone.
    """

    __slots__ = ("left", "offer", "readers", "ticket", "tried", "trying", "wake", "wanted")

    def __init__(self, wanted: Wanted, wake: Callable[[], bool]) -> None:
        self.wanted = wanted
        self.wake = wake
        self.ticket = 0
        self.readers: frozenset[str] | None = None  # those to watch; None: any
        self.offer: _Slot | None = None
        self.trying = False  # the offer was taken, a connect is in flight
        self.tried: set[str] | None = None  # only with timeout 0: one connect per match
        self.left = False


class _Slot:
    """One reader: what is in it, who of this process has it."""

    __slots__ = ("connecting", "foreign", "gone", "holders", "name", "reading", "refused", "retrier", "retry_at")

    def __init__(self, name: str) -> None:
        self.name = name
        self.reading: Reading | None = None  # None: the reader, or the service, is not there
        self.holders: set[Waiter] = set()
        self.connecting: Waiter | None = None
        self.refused: frozenset[ShareMode] = frozenset()  # share modes that would fail again just now
        self.foreign = False  # another program was the reason
        self.retrier: Waiter | None = None
        self.retry_at = 0.0
        self.gone: tuple[int, bytes] | None = None  # the card before: newest ticket at its removal, ATR


_Group = tuple[frozenset[str] | None, "re.Pattern[bytes] | None", ShareMode]


class Table:
    """All waiters and holders of one backend."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets = 0
        self._groups: dict[_Group, dict[int, Waiter]] = {}
        self._joining: dict[int, Waiter] = {}
        self._slots: dict[str, _Slot] = {}
        self._down: SCardError | None = None
        self._verdicts: dict[tuple[re.Pattern[bytes], bytes], bool] = {}

    # What the hubs tell.

    def publish(self, snapshot: Snapshot) -> None:
        """Take a hub's look; offer the cards that it brings."""
        self._judge(snapshot)
        with self._lock:
            self._down = snapshot.error
            if snapshot.error is not None:
                for slot in self._slots.values():
                    self._see(slot, None)
                    slot.holders.clear()  # their sessions died with the service
                return
            for name in [name for name in self._slots if name not in snapshot.readers]:
                self._see(self._slots[name], None)
            slots = {name: self._slots.get(name) or _Slot(name) for name in snapshot.readers}
            absent = {name: slot for name, slot in self._slots.items() if name not in slots}
            self._slots = slots | {name: slot for name, slot in absent.items() if slot.holders or slot.connecting}
            for name, reading in snapshot.readers.items():
                if slots[name].reading is not reading:
                    self._see(slots[name], reading)
            woken = self._offer(*self._worth_offering())
        self._wake(woken)

    def _worth_offering(self) -> list[_Slot]:
        """The readers with a card; all of them while somebody wants one without."""
        if any(share is ShareMode.DIRECT for _, _, share in self._groups):
            return list(self._slots.values())
        return [slot for slot in self._slots.values() if slot.reading is not None and slot.reading.present]

    def _see(self, slot: _Slot, reading: Reading | None) -> None:
        """Another card, or a sharing flag that fell: forget who was refused."""
        old, slot.reading = slot.reading, reading
        if old is None or reading is None or (old.counter, old.present, old.atr) != (reading.counter, reading.present, reading.atr):
            if old is not None and old.present:
                slot.gone = self._tickets, old.atr
            self._forgive(slot)
        elif old.flags & _SHARING & ~reading.flags:
            self._forgive(slot)

    @staticmethod
    def _forgive(slot: _Slot) -> None:
        slot.refused, slot.foreign, slot.retrier = frozenset(), False, None

    def _judge(self, snapshot: Snapshot) -> None:
        """Match the patterns of all groups against ATRs not seen before; outside the lock, since patterns are users' code."""
        with self._lock:
            patterns = {pattern for _, pattern, _ in self._groups if pattern is not None}
        for pattern in patterns:
            for reading in snapshot.readers.values():
                if reading.present:
                    self._matches(pattern, reading.atr)

    def _matches(self, pattern: re.Pattern[bytes] | None, atr: bytes) -> bool:
        if pattern is None:
            return True
        verdict = self._verdicts.get((pattern, atr))
        if verdict is None:
            verdict = pattern.search(atr) is not None
            if len(self._verdicts) >= _MOST_VERDICTS:
                self._verdicts.clear()
            self._verdicts[pattern, atr] = verdict
        return verdict

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
        with self._lock:
            del self._joining[waiter.ticket]
            group = self._groups.setdefault(_group(waiter), {})
            newest = not group or waiter.ticket > next(reversed(group))
            group[waiter.ticket] = waiter
            if not newest:  # it joined earlier than others that were ready sooner
                self._groups[_group(waiter)] = dict(sorted(group.items()))
            woken = self._offer(*self._worth_offering())
        self._wake(woken)

    def take(self, waiter: Waiter) -> str | None:
        """The reader offered to `waiter`, which must then try it and `settle`; None: nothing was offered."""
        with self._lock:
            if waiter.offer is None or waiter.trying:
                return None
            waiter.trying = True
            return waiter.offer.name

    def settle(self, waiter: Waiter, error: BaseException | None, *, kept: bool = True) -> None:
        """Tell what became of a try: the card is open and `kept`, or it failed with `error` (or was given back unused)."""
        with self._lock:
            slot, waiter.offer, waiter.trying = waiter.offer, None, False
            assert slot is not None
            slot.connecting = None
            if error is None and kept:
                slot.holders.add(waiter)
                self._drop(waiter)
            elif error is not None and not waiter.left:
                self._refuse(slot, waiter, error)
            woken = self._offer(*self._worth_offering())
        self._wake(woken)

    def _refuse(self, slot: _Slot, waiter: Waiter, error: BaseException) -> None:
        if waiter.tried is not None:
            waiter.tried.add(slot.name)
        slot.foreign = isinstance(error, SCardError) and error.code == SHARING_VIOLATION
        share = waiter.wanted.share
        slot.refused |= {share} if slot.foreign and share is ShareMode.EXCLUSIVE else _ALL
        if slot.retrier is None or slot.retrier.left:
            slot.retrier = waiter
        slot.retry_at = time.monotonic() + RETRY

    def retry_at(self, waiter: Waiter) -> float | None:
        """When (monotonic clock) `waiter` should call `retry`; None: it has nothing to try again."""
        with self._lock:
            return min((slot.retry_at for slot in self._slots.values() if _tries_again(waiter, slot)), default=None)

    def retry(self, waiter: Waiter) -> None:
        """Offer again the cards whose next try is this waiter's, and is due."""
        now = time.monotonic()
        with self._lock:
            due = [slot for slot in self._slots.values() if _tries_again(waiter, slot) and slot.retry_at <= now]
            for slot in due:
                self._forgive(slot)
            woken = self._offer(*due)
        self._wake(woken)

    def leave(self, waiter: Waiter) -> None:
        """Give the place up. A connect in flight keeps its reader until it settles; a card that is held is not concerned."""
        with self._lock:
            if waiter.left:
                return
            self._drop(waiter)
            concerned = []
            for slot in self._slots.values():
                if slot.retrier is waiter:  # its duty passes to the next in line, at once
                    self._forgive(slot)
                    concerned.append(slot)
                elif slot is waiter.offer or slot.holders:
                    concerned.append(slot)
            if waiter.offer is not None and not waiter.trying:
                waiter.offer.connecting = None
                waiter.offer = None
            if waiter.ticket in self._joining:
                del self._joining[waiter.ticket]
                concerned = self._worth_offering()
            woken = self._offer(*concerned)
        self._wake(woken)

    def free(self, waiter: Waiter) -> None:
        """The card that `waiter` held has been disconnected: offer it on."""
        with self._lock:
            woken: list[Waiter] = []
            for slot in [slot for slot in self._slots.values() if waiter in slot.holders]:
                slot.holders.discard(waiter)
                if not slot.holders:
                    self._forgive(slot)
                woken += self._offer(slot)
        self._wake(woken)

    def _drop(self, waiter: Waiter) -> None:
        waiter.left = True
        key = _group(waiter)
        group = self._groups.get(key)
        if group is not None:
            group.pop(waiter.ticket, None)
            if not group:
                del self._groups[key]

    # Who is next.

    def _offer(self, *slots: _Slot) -> list[Waiter]:
        """Offer what is free; the waiters to wake once the lock is released."""
        woken = []
        for slot in slots:
            waiter = self._next(slot) if slot.connecting is None and slot.reading is not None else None
            if waiter is not None:
                slot.connecting, waiter.offer = waiter, slot
                woken.append(waiter)
        return woken

    def _next(self, slot: _Slot) -> Waiter | None:
        if any(holder.wanted.share is ShareMode.EXCLUSIVE for holder in slot.holders):
            return None
        for waiter in self._in_line(slot):
            share = waiter.wanted.share
            if share in slot.refused:
                continue
            if share is ShareMode.EXCLUSIVE and slot.holders:
                return None
            return None if self._somebody_joins_before(waiter, slot) else waiter
        return None

    def _somebody_joins_before(self, waiter: Waiter, slot: _Slot) -> bool:
        for ticket, joining in self._joining.items():
            if ticket > waiter.ticket:
                return False
            wanted = joining.wanted
            if wanted.readers.accepts(slot.name) and self._suits(slot, wanted.atr, wanted.share):
                return True
        return False

    def _in_line(self, slot: _Slot) -> Iterator[Waiter]:
        """Those whom the card suits, oldest first: the first free one of each group will do, since a group wants the same."""
        heads = []
        for (readers, pattern, share), group in self._groups.items():
            if (readers is None or slot.name in readers) and self._suits(slot, pattern, share):
                head = next((waiter for waiter in group.values() if waiter.offer is None and _untried(waiter, slot)), None)
                if head is not None:
                    heads.append(head)
        heads.sort(key=lambda waiter: waiter.ticket)
        return iter(heads)

    def _suits(self, slot: _Slot, pattern: re.Pattern[bytes] | None, share: ShareMode) -> bool:
        reading = slot.reading
        if reading is None or share is ShareMode.DIRECT:
            return reading is not None
        return reading.present and not reading.mute and self._matches(pattern, reading.atr)

    def _wake(self, woken: list[Waiter]) -> None:
        for waiter in woken:
            if not waiter.wake():
                self.leave(waiter)

    # What was seen.

    def seen(self, waiter: Waiter) -> str:
        """What stood between `waiter` and a card, in words, for the text of its time-out."""
        with self._lock:
            if self._down is not None:
                return "the PC/SC service is not available"
            slots = [slot for slot in self._slots.values() if slot.reading is not None]
            slots = [slot for slot in slots if waiter.readers is None or slot.name in waiter.readers]
            if not slots:
                return "no reader"
            told = [told for told in (self._seen_in(slot, waiter) for slot in slots) if told]
            return "; ".join(dict.fromkeys(told)) or "no card"

    def _seen_in(self, slot: _Slot, waiter: Waiter) -> str:
        reading = slot.reading
        where = f"in reader {slot.name!r}"
        if slot.connecting is not None and slot.connecting.trying:
            return f"a connect still blocked by another program's transaction, {where}"
        if reading is None or not reading.present:
            if slot.gone is not None and slot.gone[0] >= waiter.ticket and not self._matches(waiter.wanted.atr, slot.gone[1]):
                return f"a card whose ATR did not match ({slot.gone[1].hex(' ')}), {where}, taken out again"
            return ""
        if reading.mute:
            return f"a card that does not answer, {where}"
        if not self._matches(waiter.wanted.atr, reading.atr):
            return f"a card whose ATR did not match ({reading.atr.hex(' ')}), {where}"
        if slot.holders:
            return f"a card held by another SCard of this program, {where}"
        if slot.foreign:
            return f"a card held by another program, {where}"
        return f"a card that could not be opened, {where}"


def _group(waiter: Waiter) -> _Group:
    return waiter.readers, waiter.wanted.atr, waiter.wanted.share


def _tries_again(waiter: Waiter, slot: _Slot) -> bool:
    """Whether the next try at this reader is this waiter's; while others of this process share the card it can wait."""
    return slot.retrier is waiter and not slot.holders


def _untried(waiter: Waiter, slot: _Slot) -> bool:
    return waiter.tried is None or slot.name not in waiter.tried


_tables: weakref.WeakKeyDictionary[Backend, Table] = weakref.WeakKeyDictionary()
_tables_lock = threading.Lock()


def table_of(backend: Backend) -> Table:
    """The one table of `backend`."""
    with _tables_lock:
        return _tables.setdefault(backend, Table())


def _forget() -> None:
    global _tables, _tables_lock  # noqa: PLW0603  another thread may have held the lock at the fork
    _tables_lock = threading.Lock()
    _tables = weakref.WeakKeyDictionary()


forget_at_fork(_forget)
