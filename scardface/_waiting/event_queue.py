"""The events that one monitor has not read yet, and the state of the readers after the last event that it has read.

Who owns what, who may call it from where, what ends it:

- `receive` and `fail` are called in the driver's thread, `pop` and `state` by the consumer. One lock, held for dictionary work
  only; no finalizer or signal handler takes it.
- Each monitor has its own queue. If a consumer falls `MAX_EVENTS` events behind, its queue drops them, reports how many, and begins
  anew with the present state.
- An event carries the reader's state at that time, and `state` is the sum of the events popped. Who uses a card (in_use, exclusive)
  changes without an event: in `state` at once if the consumer has read all events, else with the reader's next event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from .._pcsc.events import (
    CardInserted,
    CardRemoved,
    Event,
    EventsLost,
    ReaderAdded,
    ReaderRemoved,
    ReaderState,
    Reading,
    Snapshot,
    diff,
    initial_events,
)
from .._session.card_request import ReaderFilter
from .._threads import RLock
from ..errors import SCardError, fresh_copy
from ..iso7816._atr import ATR

MAX_EVENTS = 10_000
"""Events that a consumer may fall behind before they are dropped."""


class EventQueue:
    """The events that one monitor has not read yet. The driver fills it, the monitor's consumer pops.

    Args:
        wanted: the readers whose events are wanted.
        owner: the loop or thread that reads the events.
        wake: called at the owner when there is something to pop.
    """

    def __init__(self, wanted: ReaderFilter, owner: Any, wake: Callable[[], object]) -> None:
        self._wanted = wanted
        self.owner = owner
        self._wake = wake
        self._error: BaseException | None = None
        self._begun = False
        self._lock = RLock()
        self._queue: deque[tuple[Event, Mapping[str, ReaderState | None]]] = deque()
        self._state: dict[str, ReaderState] = {}
        self._announced: dict[str, ReaderState] = {}  # the state after the last event in the queue
        self._latest: Snapshot | None = None
        self._began_without_service: SCardError | None = None  # why there were no readers at first
        self._caught_up: Mapping[str, Reading] = {}  # the readings taken over by `_catch_up`

    @property
    def begun(self) -> bool:
        """Whether the initial state is there, or will never come."""
        return self._begun or self._error is not None

    @property
    def state(self) -> Mapping[str, ReaderState]:
        """State by reader after the event popped last; a copy."""
        with self._lock:
            self._catch_up()
            return MappingProxyType(dict(self._state))

    def pop(self) -> Event | None:
        """The next event, with which the state moves on. None: there is none yet.

        Raises:
            SCardError: there will be no more events, since no thread could be started.
        """
        with self._lock:
            if not self._queue:
                if self._error is not None:
                    raise self._error
                return None
            event, changes = self._queue.popleft()
            if isinstance(event, EventsLost):
                self._state.clear()
            for name, state in changes.items():
                if state is None:
                    self._state.pop(name, None)
                else:
                    self._state[name] = state
            return event

    def receive(self, snapshot: Snapshot, events: list[Event], first: bool) -> None:
        """Queue the events up to `snapshot`; `first`: queue initial events that describe it."""
        with self._lock:
            was_empty = not self._queue  # else the consumer has been woken, or pops before it waits
            if first:
                self._began_without_service = snapshot.error
                self._queue_initial(snapshot)
                self._begun = True
                mine = True
            else:
                mine = self._queue_events(snapshot, events)
        if mine and was_empty:
            self.owner.post(self._wake)

    def fail(self, error: BaseException) -> None:
        """There will be no more events."""
        self._error = fresh_copy(error) if isinstance(error, SCardError) else error
        self.owner.post(self._wake)

    def _queue_events(self, snapshot: Snapshot, events: list[Event]) -> bool:
        """Queue those of `events` that are for this consumer. Returns True if there is one."""
        if self._began_without_service is not None and snapshot.error is None:
            # Other monitors knew these readers before the service stopped; for this one they are new.
            events, self._began_without_service = (
                diff(snapshot._replace(error=self._began_without_service, readers={}), snapshot),
                None,
            )
        mine = [event for event in events if self._accepts(event, snapshot)]
        if len(self._queue) + len(mine) > MAX_EVENTS:
            self._start_afresh(snapshot, len(mine))
        else:
            self._latest = snapshot
            for event in mine:
                self._append(event, snapshot)
        return bool(mine)

    def _queue_initial(self, snapshot: Snapshot) -> None:
        self._latest = snapshot
        for event in initial_events(snapshot):
            if self._accepts(event, snapshot):
                self._append(event, snapshot)

    def _start_afresh(self, snapshot: Snapshot, lost: int) -> None:
        lost += sum(event.count if isinstance(event, EventsLost) else 1 for event, _ in self._queue)
        self._queue.clear()
        self._announced = {
            name: reading.state() for name, reading in snapshot.readers.items() if self._accepts(ReaderAdded(name), snapshot)
        }
        self._queue.append((EventsLost(lost), dict(self._announced)))
        self._queue_initial(snapshot)

    def _catch_up(self) -> None:
        """Once the consumer has read all events, take the flags that change without an event from the latest snapshot."""
        latest, before = self._latest, self._caught_up
        if self._queue or latest is None or latest.error is not None or latest.readers is before:
            return
        for name, reading in latest.readers.items():
            if before.get(name) is not reading and name in self._state:
                self._state[name] = self._announced[name] = reading.state()
        self._caught_up = latest.readers

    def _append(self, event: Event, snapshot: Snapshot) -> None:
        changes: dict[str, ReaderState | None] = {}
        if isinstance(event, ReaderRemoved):
            changes[event.reader] = None
            self._announced.pop(event.reader, None)
        elif isinstance(event, (ReaderAdded, CardInserted, CardRemoved)):
            state = _after(event, snapshot)
            changes[event.reader] = self._announced[event.reader] = state
        self._queue.append((event, changes))

    def _accepts(self, event: Event, snapshot: Snapshot) -> bool:
        """Whether the event is for this consumer: its reader is asked for and in the groups, or was announced before."""
        if not isinstance(event, (ReaderAdded, ReaderRemoved, CardInserted, CardRemoved)):
            return True
        name, groups = event.reader, self._wanted.groups
        if name in self._announced:
            return True
        return self._wanted.accepts(name) and (groups is None or name in snapshot.groups.get(groups, ()))


_EMPTY = ReaderState(present=False, atr=ATR(b""), mute=False, in_use=False, exclusive=False)


def _after(event: ReaderAdded | CardInserted | CardRemoved, snapshot: Snapshot) -> ReaderState:
    """The reader's state just after `event`: with its card only from the insertion on."""
    return snapshot.readers[event.reader].state() if isinstance(event, CardInserted) else _EMPTY
