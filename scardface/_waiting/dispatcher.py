"""Decides who gets which card. A plain object: no thread, lock, I/O or clock of its own; messages in, effects out.

Who owns what: there is one `Dispatcher` for each PC/SC, called by its driver's thread alone; an acquisition has one of its own for
its first query (see `acquisition`). Its state is in `dispatcher_state`; the text of a time-out is made in `timeout_text`.

Rules, in whatever order the messages come:

- Oldest first. A waiter takes its place when its acquisition begins, in whatever loop or thread that is, and keeps it while it
  tries, fails and waits on. While a waiter is in its own first query, younger waiters are not offered a card that it may want, for
  `FIRST_QUERY_PRIORITY` seconds.
- A reader is offered to one waiter at a time, and to the next when that one has failed, declined or ended. A connect that PC/SC
  does not answer blocks that reader and nothing else.
- An offer that is not taken at its owner within `TAKE_TIMEOUT` seconds goes to the next waiter of another owner. The late waiter
  keeps its place, and is offered cards again as soon as its owner has reported that it runs.
- SHARED holders coexist. An EXCLUSIVE waiter makes younger SHARED waiters wait, unless another program holds the card: then it
  keeps its place and lets them pass until it can try again.
- A card that cannot be opened ends no wait: it is tried again when its reader changes, and every `RETRY_HELD` seconds if another
  program holds it (nothing reports reliably that it is free), every `RETRY_FAILED` seconds otherwise.
- If several cards match, the order of the reader list decides.
- A service that stops ends no wait. A service that does not run when a wait begins ends it, unless the waiter accepts that.
- A reader's change costs time linear in the number of different criteria that include the reader, however many waiters share them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from .._enums import ShareMode, StateFlag
from .._pcsc.events import Reading, Snapshot, diff, same_card, still_in
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
from .dispatcher_state import Refusal, TrackedReader, WaiterQueue
from .messages import (
    NO_READINGS,
    CardOpened,
    ConnectFinished,
    ConnectStarted,
    Disconnected,
    Effect,
    End,
    Failed,
    FirstQueryDone,
    Joined,
    Left,
    Listener,
    Message,
    NameSet,
    Notify,
    Offer,
    Owner,
    OwnerGone,
    ReadersChanged,
    RemovalAwaited,
    RemovalSuspected,
    RemovalWaiter,
    Responsive,
    ShareModeChanged,
    SnapshotTaken,
    Subscribed,
    Summary,
    Waiter,
    Withdraw,
    Withdrawn,
)
from .timeout_text import describe, left_out

TAKE_TIMEOUT = 2.0
"""Seconds after which an offer that was not taken goes to the next waiter."""
FIRST_QUERY_PRIORITY = 0.25
"""Seconds for which a waiter that is in its own first query keeps younger waiters from a card that it may want."""
RETRY_HELD = 0.25
"""Seconds between two attempts at a card that another program holds (facts 11 and 13: nothing reports its release)."""
RETRY_FAILED = 1.0
"""Seconds between two attempts at a card that could not be opened for another reason."""
SINGLE_QUERY_TIMEOUT = 1.5
"""Seconds after which a waiter with a timeout of 0 checks whether the service still answers; it ends within 0.5 s more."""
_ANSWER_TIMEOUT = 0.4
"""Seconds that the service has for that answer."""
_REFUSALS = 2
"""Queries in a row that the service must refuse before it is believed: one that ends refuses what it has not read (fact 22)."""
_POWER_UP_TIMEOUT = 30.0
"""Seconds that such a waiter gives a card to power up; reader drivers give up earlier."""

_EXCLUSIVE = int(StateFlag.EXCLUSIVE)
_SHARING = int(StateFlag.INUSE | StateFlag.EXCLUSIVE)


class _Timer(NamedTuple):
    """A call `due(about, now)` at a time, unless it has no purpose any more by then."""

    when: float
    number: int  # makes timers of the same time comparable
    due: Callable[[Any, float], None]
    about: Any
    live: Container[Any] | None  # it has a purpose while `about` is in it; None: while the offer is open, always for a reader

    def is_live(self) -> bool:
        if self.live is not None:
            return self.about in self.live
        if isinstance(self.about, Offer):
            return self.about.waiter._offer is self.about
        return True  # a refusal lasts until then, whoever comes meanwhile


_NOTHING_YET = Snapshot(0, 0, None, {})


class Dispatcher:
    """Decides which waiter is offered which card. `needed`, `query_wanted` and `groups` tell the driver what to watch."""

    def __init__(self) -> None:
        self.query_wanted = 0
        """The number of the query that is wanted: the next snapshot must have at least this number."""
        self._waiters: dict[Waiter, None] = {}
        self._awaiting_query: dict[Waiter, None] = {}  # waiters whose first query is not answered yet
        self._queues: dict[Hashable, WaiterQueue] = {}
        self._readers: dict[str, TrackedReader] = {}  # in the order of the reader list
        self._held: dict[Waiter, TrackedReader] = {}
        self._card_count = 0
        self._last = _NOTHING_YET
        self._unresponsive: set[Owner] = set()
        self._first_queries: dict[Waiter, float] = {}  # waiters in their own first query that others wait behind, and until when
        # The query that gives each its initial state (0: it has that), and its groups.
        self._listeners: dict[Listener, tuple[int, tuple[str, ...] | None]] = {}
        self._removals: dict[RemovalWaiter, TrackedReader] = {}
        self._unchecked_removals: dict[RemovalWaiter, int] = {}  # removal waits whose first query is not answered yet: its number
        self._groups: Counter[tuple[str, ...]] = Counter()  # how many waiters and listeners use each
        self._names_by_filter: tuple[Snapshot, dict[Hashable, NameSet]] = (_NOTHING_YET, {})  # by one snapshot
        self._timers: list[_Timer] = []
        self._timer_number = 0
        self._effects: list[Effect] = []
        self._refusing: dict[Waiter, dict[str, Reading]] = {}  # waiters that do not want some cards although they match, and which
        self._unchecked_refusals: dict[Waiter, None] = {}  # those of them whose first query has not been answered
        self._refusals_in_a_row = 0
        self._zero_timeout: dict[Waiter, None] = {}  # waiters with a timeout of 0 whose query has been answered

    # For the driver.

    @property
    def needed(self) -> bool:
        """Whether anybody waits for anything."""
        return bool(self._waiters or self._listeners or self._removals)

    @property
    def life(self) -> int | None:
        """The life of the service that the last snapshot is of; None: not known, or there was none yet."""
        return self._last.life or None

    def forget_life(self) -> None:
        """Another watcher begins, and nobody has seen what was before: that it calls this another life means nothing."""
        self._last = self._last._replace(life=0)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The reader groups that queries have to ask for: those that a waiter or listener uses."""
        return tuple(self._groups)

    @property
    def wake_at(self) -> float | None:
        """When (monotonic) to call `tick`; None: not at all."""
        return self._timers[0].when if self._timers else None

    def owners(self) -> set[Owner]:
        """All loops and threads in which somebody waits."""
        owners = {waiter.owner for waiter in self._waiters}
        owners.update(listener.owner for listener in self._listeners)
        owners.update(removal.owner for removal in self._removals)
        return owners

    def removals(self) -> list[RemovalWaiter]:
        """All who wait for a card's removal."""
        return list(self._removals)

    def all_waiting(self) -> tuple[list[Waiter], list[Listener | RemovalWaiter]]:
        """All acquisitions, and all others that wait for something."""
        return list(self._waiters), [*self._listeners, *self._removals]

    def handle(self, message: Message, now: float) -> list[Effect]:
        """Take a message; return what has to be done now."""
        if isinstance(message, SnapshotTaken):
            self._on_snapshot(message.snapshot, now)
        elif isinstance(message, Joined):
            self._on_joined(message, now)
        elif isinstance(message, ReadersChanged):
            self._on_readers_changed(message.waiter, now)
        elif isinstance(message, FirstQueryDone):
            self._end_first_query(message.waiter, now)
        elif isinstance(message, ConnectStarted):
            self._tracked(message.offer.reader).connects[message.offer] = None
        elif isinstance(message, ConnectFinished):
            self._on_connect_finished(message.offer, now)
        elif isinstance(message, Left):
            self._on_left(message.waiter, now)
        elif isinstance(message, OwnerGone):
            self._on_owner_gone(message.owner, now)
        elif isinstance(message, CardOpened):
            self._on_card_opened(message, now)
        elif isinstance(message, ShareModeChanged):
            reader = self._held.get(message.waiter)
            if reader is not None:
                reader.holders[message.waiter] = message.share, self.query_wanted + 1
                self._make_offers([reader], now)
        elif isinstance(message, Disconnected):
            self._on_disconnected(message.waiter, now)
        elif isinstance(message, Failed):
            self._on_failed(message.offer, message.error, now)
        elif isinstance(message, Withdrawn):
            self._on_withdrawn(message.offer, now)
        elif isinstance(message, Responsive):
            self._unresponsive.discard(message.owner)
            self._make_offers(self._readers.values(), now)
        elif isinstance(message, Subscribed):
            self._listeners[message.listener] = (self._want_query(), message.groups)
            self._count_groups(message.groups, 1)
        elif isinstance(message, RemovalAwaited):
            reader = self._tracked(message.reader)
            reader.removals[message.removal] = message.seen
            self._removals[message.removal] = reader
            self._unchecked_removals[message.removal] = self._want_query()
        else:
            self._on_unsubscribed(message.listener)
        return self._collect_effects(now)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due; return what has to be done now."""
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)
            if timer.is_live():
                timer.due(timer.about, now)
        return self._collect_effects(now)

    def _withdraw(self, offer: Offer, now: float) -> None:
        self._effects.append(Withdraw(offer))

    def _offer_again(self, reader: TrackedReader, now: float) -> None:
        self._make_offers([reader], now)

    def _collect_effects(self, now: float) -> list[Effect]:
        for waiter in [waiter for waiter in self._zero_timeout if waiter._offer is None and not self._waits_behind(waiter, now)]:
            self._time_out(waiter, now)
        effects, self._effects = self._effects, []
        return effects

    def _call_at(
        self, when: float, due: Callable[[Any, float], None], about: Offer | TrackedReader | Waiter, live: Container[Any] | None
    ) -> None:
        """Have `due(about, now)` called then; see `_Timer` for `live`."""
        self._timer_number += 1
        heapq.heappush(self._timers, _Timer(when, self._timer_number, due, about, live))
        if len(self._timers) > 64 + 4 * (len(self._waiters) + len(self._readers)):  # most belong to waiters that ended long ago
            self._timers = [timer for timer in self._timers if timer.is_live()]
            heapq.heapify(self._timers)

    def _count_groups(self, groups: tuple[str, ...] | None, by: int) -> None:
        if groups:
            self._groups[groups] += by
            if not self._groups[groups]:
                del self._groups[groups]

    def _want_query(self) -> int:
        self.query_wanted += 1
        return self.query_wanted

    def _tracked(self, name: str) -> TrackedReader:
        reader = self._readers.get(name)
        if reader is None:
            reader = self._readers[name] = TrackedReader(name)
            reader.place = len(self._readers)
            reader.queues = [queue for queue in self._queues.values() if queue.includes(name)]
        return reader

    # What the watcher reports.

    def _on_snapshot(self, snapshot: Snapshot, now: float) -> None:
        before, self._last = self._last, snapshot
        is_refusal = snapshot.error is not None and snapshot.error.code == SECURITY_VIOLATION
        self._refusals_in_a_row = self._refusals_in_a_row + 1 if is_refusal else 0
        changed = self._update_readers(snapshot, now) if snapshot.error is None else self._mark_service_gone(snapshot.error, now)
        if self._refusing and before.life and before.life != snapshot.life:  # counters begin anew, and nobody saw what was swapped
            for refused in self._refusing.values():
                refused.clear()
            changed = list(self._readers.values())
        if self._unchecked_refusals and snapshot.error is None:
            self._check_refusals(snapshot)
        self._notify_listeners(before, snapshot)
        for removal in [removal for removal, number in self._unchecked_removals.items() if snapshot.number >= number]:
            del self._unchecked_removals[removal]
            self._check_removal(removal, self._removals[removal])  # what changed before the query counts as well
        for waiter in [waiter for waiter in self._awaiting_query if snapshot.number >= waiter._query_number]:
            if self._after_first_query(waiter, snapshot, now):
                changed = list(self._readers.values())
        self._make_offers(changed, now)

    def _mark_service_gone(self, error: SCardError, now: float) -> list[TrackedReader]:
        for reader in self._readers.values():
            self._set_reading(reader, None, now)
            for waiter in reader.holders:  # their sessions ended with the service
                self._held.pop(waiter, None)
            reader.holders.clear()
        self._effects += [
            RemovalSuspected(removal, gone=False) for removal in self._removals if removal not in self._unchecked_removals
        ]
        return []

    def _update_readers(self, snapshot: Snapshot, now: float) -> list[TrackedReader]:
        changed = []
        for name in [name for name in self._readers if name not in snapshot.readers]:
            reader = self._readers[name]
            if reader.reading is not None or reader.card:
                self._set_reading(reader, None, now)
                reader.card = 0
            for waiter in reader.holders:  # their handles became invalid with the reader (fact 35)
                self._held.pop(waiter, None)
            reader.holders.clear()
            if not reader.in_use:
                del self._readers[name]
        for place, (name, reading) in enumerate(snapshot.readers.items()):
            reader = self._readers.get(name) or self._tracked(name)
            reader.place = place
            stale = reader.holders and self._forget_dead_holders(reader, reading, snapshot.number)
            if reader.reading is not reading and reader.reading != reading:
                self._set_reading(reader, reading, now)
                changed.append(reader)
            elif stale:
                changed.append(reader)
        return changed

    def _forget_dead_holders(self, reader: TrackedReader, reading: Reading, number: int) -> bool:
        """Forget holders that the reader's flags do not show: their sessions have ended. Returns True if there were any."""
        dead = [
            waiter
            for waiter, (share, since) in reader.holders.items()
            if number >= since and not reading.flags & (_EXCLUSIVE if share is ShareMode.EXCLUSIVE else _SHARING)
        ]
        for waiter in dead:
            del reader.holders[waiter]
            self._held.pop(waiter, None)
        if dead:  # perhaps another reader has this name now, whose counter begins anew and may show the same
            self._effects += [RemovalSuspected(removal, gone=False) for removal in reader.removals]
        return bool(dead)

    def _set_reading(self, reader: TrackedReader, reading: Reading | None, now: float) -> None:
        """Take over a reading. If the card is another one, or is shared no more, waiters that were refused it may try again."""
        old, reader.reading = reader.reading, reading
        if self._refusing and old is not None:
            self._forget_refused(reader.name, old, reading)
        if reading is not None:
            self._assign_card_number(reader, old, reading, now)
        if old is None or reading is None or old[1:] != reading[1:] or old.present != reading.present:
            if old is not None and old.present:
                reader.last_removed = now, old.atr
            reader.refusals.clear()
        elif old.flags & _SHARING & ~reading.flags:
            reader.refusals = [refusal for refusal in reader.refusals if not refusal.is_sharing_violation]
        for removal in reader.removals:
            if removal not in self._unchecked_removals and self._last.error is None:
                self._check_removal(removal, reader)

    def _check_refusals(self, snapshot: Snapshot) -> None:
        """Forget refused cards that a query which began after their waiter had joined does not show: they went unseen."""
        for waiter in [waiter for waiter in self._unchecked_refusals if 0 < waiter._query_number <= snapshot.number]:
            del self._unchecked_refusals[waiter]
            refused = self._refusing[waiter]
            for name, before in list(refused.items()):
                now = snapshot.readers.get(name)
                if now is None or not still_in(before, now):
                    del refused[name]

    def _forget_refused(self, name: str, old: Reading, reading: Reading | None) -> None:
        """A card that has been seen in and is there no more is refused no more, whatever the next one's counter shows."""
        for refused in self._refusing.values():
            before = refused.get(name)
            if before is not None and still_in(before, old) and (reading is None or not still_in(before, reading)):
                del refused[name]

    def _assign_card_number(self, reader: TrackedReader, old: Reading | None, reading: Reading, now: float) -> None:
        """Give the card in `reader` a number of its own if it is not the card that was there before."""
        if not reading.present:
            reader.card = 0
        elif reader.is_other_card(old, reading):
            self._card_count += 1
            reader.set_card(self._card_count, reading, now)

    def _check_removal(self, removal: RemovalWaiter, reader: TrackedReader) -> None:
        seen = reader.removals[removal]
        if self._last.error is not None:
            self._effects.append(RemovalSuspected(removal, gone=False))
        elif reader.reading is None or (seen.present and not same_card(seen, reader.reading)):
            self._effects.append(RemovalSuspected(removal, gone=True))

    def _notify_listeners(self, before: Snapshot, snapshot: Snapshot) -> None:
        events = diff(before, snapshot) if self._listeners else []
        for listener, (number, groups) in self._listeners.items():
            if not number:
                self._effects.append(Notify(listener, snapshot, events, first=False))
            elif snapshot.number >= number:
                self._listeners[listener] = (0, groups)
                self._effects.append(Notify(listener, snapshot, [], first=True))

    def _on_unsubscribed(self, listener: Any) -> None:
        _, groups = self._listeners.pop(listener, (0, None))
        self._count_groups(groups, -1)
        reader = self._removals.pop(listener, None)
        if reader is not None:
            reader.removals.pop(listener, None)
            self._unchecked_removals.pop(listener, None)

    # What acquisitions report.

    def _on_joined(self, message: Joined, now: float) -> None:
        waiter, older = message.waiter, frozenset(message.older)
        if waiter in self._waiters:
            return
        self._waiters[waiter] = None
        self._count_groups(waiter.request.readers.groups, 1)
        waiter._started, waiter._older, waiter._readings_before, waiter._summary = now, older, message.readings, message.summary
        waiter._known_cards, waiter._queue, waiter._offer, waiter._tried = {}, None, None, None
        gone = message.refused.gone
        refused = {name: each for name, each in message.refused.known_in(self.life).items() if gone.get(name) is not each}
        waiter._refused = NO_READINGS
        if refused:
            waiter._refused = self._refusing[waiter] = refused
            self._unchecked_refusals[waiter] = None
        for other in older:
            if other not in self._first_queries and other not in self._waiters:  # a set's difference would go through all waiters
                self._first_queries[other] = now + FIRST_QUERY_PRIORITY
                self._call_at(now + FIRST_QUERY_PRIORITY, self._end_first_query, other, self._first_queries)
        if waiter.request.timeout == 0:
            waiter._tried = set()
        if waiter.deadline != float("inf"):
            self._call_at(waiter.deadline, self._at_deadline, waiter, self._waiters)
        offer = message.trying
        if offer is not None and (reader := self._tracked(offer.reader)).offer is None:
            reader.offer = waiter._offer = offer
        waiter._query_number = self._want_query()
        if message.readers == "not known":
            self._awaiting_query[waiter] = None
        else:
            self._enqueue(waiter, message.readers)
            self._make_offers(self._readers.values(), now)
        self._end_first_query(waiter, now)

    def _after_first_query(self, waiter: Waiter, snapshot: Snapshot, now: float) -> bool:
        """The first query of `waiter` is answered: find out which readers it waits for. Returns True if it is in a queue now."""
        request = waiter.request
        dynamic = request.wait_for_reader
        try:
            if dynamic and snapshot.error is not None and snapshot.error.code == SECURITY_VIOLATION:
                if self._refusals_in_a_row < _REFUSALS:
                    waiter._query_number = self._want_query()
                    return False
                raise fresh_copy(snapshot.error)  # it runs, and refuses this program
            names = None if dynamic else self._readers_to_watch(waiter, snapshot)
        except SCardError as error:
            if snapshot.error is not None and request.timeout != 0 and not isinstance(error, ServiceUnavailableError):
                waiter._query_number = self._want_query()  # this query alone failed, for lack of memory for instance
                return False
            self._effects.append(End(waiter, error))
            self._remove(waiter, now)
            return False
        del self._awaiting_query[waiter]
        self._enqueue(waiter, names)
        return True

    def _enqueue(self, waiter: Waiter, names: NameSet) -> None:
        request = waiter.request
        dynamic = request.wait_for_reader
        if request.new_only and waiter._readings_before is None:
            waiter._known_cards = {reader.name: reader.card for reader in self._readers.values() if reader.card}
        key = (request.readers if dynamic else names, request.atr, request.share, request.protocols)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = WaiterQueue(key, request, names, dynamic)
            for reader in self._readers.values():
                if queue.includes(reader.name):
                    reader.queues.append(queue)
        queue.add(waiter)
        waiter._queue = queue
        if waiter._tried is not None:
            self._zero_timeout[waiter] = None

    def _on_readers_changed(self, waiter: Waiter, now: float) -> None:
        """The waiter keeps its place. A connect under way goes on, since the card that it opens is checked."""
        if waiter._queue is not None:
            self._dequeue(waiter, waiter._queue, now)
            self._enqueue(waiter, None)
            self._make_offers(self._readers.values(), now)

    def readers_of(self, waiter: Waiter) -> NameSet | Literal["not known"]:
        """The readers that `waiter` waits for."""
        return "not known" if waiter._queue is None else waiter._queue.names

    def _readers_to_watch(self, waiter: Waiter, snapshot: Snapshot) -> NameSet:
        """As `readers_to_watch`; waiters with equal filters share the names."""
        if self._names_by_filter[0] is not snapshot:
            self._names_by_filter = snapshot, {}
        known = self._names_by_filter[1]
        key = waiter.request.pnp, waiter.request.readers
        if key not in known:
            known[key] = readers_to_watch(waiter.request, snapshot, waiter.service_may_be_absent)
        return known[key]

    def _end_first_query(self, waiter: Waiter, now: float) -> None:
        if self._first_queries.pop(waiter, None) is not None:
            self._make_offers(self._readers.values(), now)

    def _waits_behind(self, waiter: Waiter, now: float) -> bool:
        """Whether `waiter`, whose timeout is 0, may get a card yet: an older one is in its first query, or a card has to settle."""
        if not self._first_queries.keys().isdisjoint(waiter._older):
            return True
        queue = waiter._queue
        if not waiter.request.settle or queue is None:
            return False
        return any(
            reader.offer is None
            and self._suits(reader, queue)
            and reader.name not in (waiter._tried or ())
            and self._settles_at(reader, waiter) > now
            for reader in self._readers.values()
            if queue in reader.queues
        )

    def _on_left(self, waiter: Waiter, now: float) -> None:
        self._end_first_query(waiter, now)
        if waiter in self._waiters:
            self._remove(waiter, now)

    def _on_owner_gone(self, owner: Owner, now: float) -> None:
        for waiter in [waiter for waiter in self._waiters if waiter.owner == owner]:
            self._effects.append(End(waiter, WaitCancelledError("the event loop was closed under the wait for a card", CANCELLED)))
            self._on_left(waiter, now)
        waiting: list[Listener | RemovalWaiter] = [*self._listeners, *self._removals]
        for listener in [listener for listener in waiting if listener.owner == owner]:
            self._on_unsubscribed(listener)
        self._unresponsive.discard(owner)

    def _remove(self, waiter: Waiter, now: float) -> None:
        """Remove a waiter; a connect of its own that is under way keeps the reader until it returns."""
        del self._waiters[waiter]
        self._count_groups(waiter.request.readers.groups, -1)
        self._awaiting_query.pop(waiter, None)
        self._zero_timeout.pop(waiter, None)
        self._refusing.pop(waiter, None)
        self._unchecked_refusals.pop(waiter, None)
        if waiter._offer is not None:
            self._effects.append(Withdraw(waiter._offer))
        queue, waiter._queue = waiter._queue, None
        if queue is None:  # younger waiters need not wait for its first query any more
            self._make_offers(self._readers.values(), now)
            return
        self._dequeue(waiter, queue, now)

    def _dequeue(self, waiter: Waiter, queue: WaiterQueue, now: float) -> None:
        led = queue.is_oldest(waiter)
        queue.discard(waiter)
        if not queue:
            del self._queues[queue.key]
        if led:  # it may have been the only waiter that kept others from a card
            self._make_offers((reader for reader in self._readers.values() if queue in reader.queues), now)
        if not queue:
            for reader in self._readers.values():
                if queue in reader.queues:
                    reader.queues.remove(queue)

    def _on_card_opened(self, message: CardOpened, now: float) -> None:
        waiter, offer = message.waiter, message.offer
        if self._last.error is None:  # else its session ended with the service
            reader = self._tracked(message.reader)
            # If the service has restarted since the offer, a query tells whether the session ended with it.
            across = offer is not None and None not in (offer.life, self.life) and offer.life != self.life
            reader.holders[waiter] = message.share, self._want_query() if across else self.query_wanted + 1
            self._held[waiter] = reader
        if offer is not None:
            self._end_offer(offer)
        if waiter in self._waiters:
            self._remove(waiter, now)
        self._end_first_query(waiter, now)

    def _on_connect_finished(self, offer: Offer, now: float) -> None:
        reader = self._readers.get(offer.reader)
        if reader is not None and (offer in reader.connects or reader.offer is offer):
            reader.connects.pop(offer, None)
            self._end_offer(offer)
            self._make_offers([reader], now)

    def _end_offer(self, offer: Offer) -> TrackedReader | None:
        """The offer has ended; return its reader if the offer was open there."""
        waiter, reader = offer.waiter, self._readers.get(offer.reader)
        if waiter._offer is offer:
            waiter._offer = None
        if reader is not None and reader.offer is offer:
            reader.offer = None
            return reader
        return None

    def _on_disconnected(self, waiter: Waiter, now: float) -> None:
        reader = self._held.pop(waiter, None)
        if reader is not None:
            reader.holders.pop(waiter, None)
            if not reader.holders:
                reader.refusals.clear()
            self._make_offers([reader], now)

    def _on_failed(self, offer: Offer, error: BaseException | None, now: float) -> None:
        waiter = offer.waiter
        reader = self._end_offer(offer)
        if reader is None:
            return
        if waiter._tried is not None:
            waiter._tried.add(reader.name)
        if error is not None and not isinstance(error, SCardError):  # an error of the backend itself, which its caller is given
            self._make_offers([reader], now)
            return
        held = error is not None and error.code == SHARING_VIOLATION
        shares = frozenset({ShareMode.EXCLUSIVE}) if held and waiter.request.share is ShareMode.EXCLUSIVE else frozenset(ShareMode)
        until = now + (RETRY_HELD if held else RETRY_FAILED)
        refusal = Refusal(until, shares, None if held else waiter.request.protocols, error)
        reader.refusals.append(refusal)
        reader.refused_card = reader.card if held else 0
        if error is not None and not held:
            reader.failure = reader.card, refusal
        self._call_at(until, self._offer_again, reader, None)
        if error is None:
            self._want_query()  # the card in the reader is not the one of the last snapshot
        self._make_offers(self._readers.values() if waiter in self._waiters else [reader], now)

    def _on_withdrawn(self, offer: Offer, now: float) -> None:
        reader = self._end_offer(offer)
        if offer.waiter in self._waiters:
            self._unresponsive &= self.owners()
            self._unresponsive.add(offer.owner)
            self._make_offers(self._readers.values(), now)  # including cards kept for the first queries of others of that owner
        elif reader is not None:
            self._make_offers([reader], now)

    def summary_of(self, waiter: Waiter) -> Summary:
        """What `waiter` has found so far."""
        return describe(waiter, self._readers, self._last)

    # Deadlines.

    def _at_deadline(self, waiter: Waiter, now: float) -> None:
        offer = waiter._offer
        reader = self._readers.get(offer.reader) if offer is not None else None
        if waiter.request.timeout != 0 or reader is None or now > waiter._started + _POWER_UP_TIMEOUT:
            self._time_out(waiter, now)
        elif waiter._query_number < 0:  # asked before: has the service answered, and does nobody else use the card?
            reading = reader.reading
            if self._last.number >= -waiter._query_number and self._last.error is None and reading and not reading.flags & _SHARING:
                self._ask_service(waiter, now)  # the card is powering up
            else:
                self._time_out(waiter, now)
        else:
            self._ask_service(waiter, now)

    def _ask_service(self, waiter: Waiter, now: float) -> None:
        waiter._query_number = -self._want_query()
        self._call_at(now + _ANSWER_TIMEOUT, self._at_deadline, waiter, self._waiters)

    def _time_out(self, waiter: Waiter, now: float) -> None:
        text, cause = self.summary_of(waiter)
        timeout = waiter.request.timeout
        self._effects.append(End(waiter, CardTimeoutError(f"no matching card within {timeout:g} s; seen: {text}", TIMEOUT), cause))
        self._remove(waiter, now)

    # Who is offered what.

    def _make_offers(self, readers: Iterable[TrackedReader], now: float) -> None:
        """Offer the cards that are free, in the order of the reader list."""
        free = [
            reader
            for reader in readers
            if reader.offer is None and not reader.connects and reader.reading is not None and reader.queues
        ]
        for reader in sorted(free, key=_by_place) if len(free) > 1 else free:
            waiter = self._next_waiter(reader, now)
            if waiter is None:
                continue
            assert reader.reading is not None
            offer = Offer(waiter, reader.name, reader.reading, self.life, self._known_readings(waiter))
            reader.offer = waiter._offer = offer
            self._call_at(now + TAKE_TIMEOUT, self._withdraw, offer, None)
            self._effects.append(offer)

    def _next_waiter(self, reader: TrackedReader, now: float) -> Waiter | None:
        if any(share is ShareMode.EXCLUSIVE for share, _ in reader.holders.values()):
            return None
        self._forget_refusals(reader, now)
        heads = []
        for queue in reader.queues:
            if self._suits(reader, queue) and not reader.refuses(queue):
                head = next((waiter for waiter in queue if self._may_try(waiter, reader)), None)
                if head is not None:
                    heads.append(head)
        heads.sort(key=_by_age)
        for waiter in heads:
            if waiter.request.share is ShareMode.EXCLUSIVE and reader.holders:
                return None
            if self._is_overtaking(waiter, reader):
                return None
            if waiter.request.settle and (settled := self._settles_at(reader, waiter)) > now:
                self._call_at(settled, self._offer_again, reader, None)
                return None
            return waiter
        return None

    def _forget_refusals(self, reader: TrackedReader, now: float) -> None:
        """Forget refusals whose time is over. An EXCLUSIVE attempt fails while this process shares the card: that refusal stays."""
        kept = []
        for refusal in reader.refusals:
            if refusal.until > now:
                kept.append(refusal)
            elif refusal.is_sharing_violation and reader.holders and ShareMode.SHARED not in refusal.shares:
                kept.append(refusal._replace(until=now + RETRY_HELD))
                self._call_at(now + RETRY_HELD, self._offer_again, reader, None)
        reader.refusals = kept

    def _settles_at(self, reader: TrackedReader, waiter: Waiter) -> float:
        return reader.since + waiter.request.settle

    def _suits(self, reader: TrackedReader, queue: WaiterQueue) -> bool:
        """Whether the card in `reader` matches the criteria of `queue`."""
        reading = reader.reading
        if reading is None or (queue.groups is not None and reader.name not in self._last.groups.get(queue.groups, ())):
            return False
        if queue.share is ShareMode.DIRECT:
            return True
        return reading.present and not reading.mute and queue.matches(reading.atr)

    def _may_try(self, waiter: Waiter, reader: TrackedReader) -> bool:
        """Whether `waiter` can be offered the card: no other offer, a responsive owner, an attempt left, and no known card."""
        if waiter._offer is not None or waiter.owner in self._unresponsive:
            return False
        if waiter.request.new_only and self._is_known_card(waiter, reader):
            return False
        before = waiter._refused.get(reader.name) if waiter._refused else None
        if before is not None and reader.reading is not None and still_in(before, reader.reading):
            return False
        return waiter._tried is None or reader.name not in waiter._tried

    def _is_known_card(self, waiter: Waiter, reader: TrackedReader) -> bool:
        """Whether the card in `reader` was in when the wait began."""
        before = None if waiter._readings_before is None else waiter._readings_before.get(reader.name)
        if before is not None and reader.reading is not None and reader.card and same_card(before, reader.reading):
            waiter._known_cards[reader.name] = reader.card  # by its number it is known after a restart of the service as well
        return reader.card != 0 and waiter._known_cards.get(reader.name) == reader.card

    def _known_readings(self, waiter: Waiter) -> Mapping[str, Reading]:
        """With new_only: the cards that were in when the wait began, and still are."""
        if not waiter.request.new_only:
            return NO_READINGS
        known = [reader for reader in self._readers.values() if self._is_known_card(waiter, reader)]
        return {reader.name: reader.reading for reader in known if reader.reading is not None}

    def _is_overtaking(self, waiter: Waiter, reader: TrackedReader) -> bool:
        """Whether an older waiter whose first query is not answered may want this card."""
        for other in (*self._awaiting_query, *self._first_queries) if self._awaiting_query or self._first_queries else ():
            if other.number < waiter.number and other.owner not in self._unresponsive and self._may_want(other, reader):
                return True
        return False

    def _may_want(self, waiter: Waiter, reader: TrackedReader) -> bool:
        request, reading = waiter.request, reader.reading
        if reading is None or not (request.pnp or request.readers.accepts(reader.name)):
            return False
        if request.share is ShareMode.DIRECT:
            return True
        return reading.present and not reading.mute and (request.atr is None or request.atr.search(reading.atr) is not None)


_by_place, _by_age = attrgetter("place"), attrgetter("number")  # a lower number is an older waiter


def readers_to_watch(request: CardRequest, snapshot: Snapshot, service_may_be_absent: bool) -> NameSet:
    """The readers that an acquisition without wait_for_reader waits for, by its first query.

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
        parts = [part for part in request.readers.names or () if any(part in name for name in snapshot.readers)]
        hint = f"; re.compile({parts[0]!r}) asks for a part of a name" if parts else ""
        raise NoReaderError(
            f"{which} is plugged in (there: {there}{left_out(snapshot.left_out)}){hint}; plug one in, or wait for it with "
            "wait_for_reader=True",
            NO_READERS_AVAILABLE,
        )
    return frozenset(names)
