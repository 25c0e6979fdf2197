"""What both faces of a pool have in common: its cards, who has which, who waits, and what becomes of a card.

Who owns what, who may call it from where, what ends it:

- A `PoolState` owns the cards of a pool, each in a `Slot`: its acquisition, its wait for the removal, and what is done with it. The
  wait for the next card is one acquisition, the removal of each card one `RemovalWait`, the cards not to be opened again
  `ServedCards`: so nothing here asks a card or a reader whether it is still there, and no thread waits but those of `_waiting`.
- On the async face everything happens in the pool's event loop. On the sync face it happens in the threads of those who borrow, in
  those of cards and in the driver's. One re-entrant lock guards it all; inside it nothing waits, no code of the user runs, and what
  others are told is a message.
- A card is lent to one loan at a time, first come, first served. A loan has its card from the step that sets `Loan.slot` to the one
  that clears it: `release`, which may be called again after an interrupt, or, for one that was thrown away, `drop`, which is
  signal-safe (see `_waiting/__init__.py`) and leaves the rest to the next call.
- A card whose PIN was refused, and one that could not be made ready, is set aside: closed, and not opened again while it is in.
  After a restart of the service a card with the ATR of one whose PIN was refused counts as that one if it is in the same reader.
  Once it was taken out it cannot be told from others like it: those are watched, see `_session/pin_watch.py`.
- `close` ends every loan, every wait and every card; the cards are closed in their own threads.
"""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic

from .._enums import ShareMode
from .._pcsc.backend import Backend
from .._pcsc.events import Event, Reading, Snapshot
from .._session.pin_watch import PinRefusedError, PinWatch
from .._session.session import Session
from .._threads import RLock, generation, log_safely, no_op, spawn
from .._waiting.acquisition import Acquisition
from .._waiting.driver import driver_of
from .._waiting.messages import RefusedCards
from .._waiting.removal import RemovalWait
from .._waiting.served_cards import ServedCards
from .._waiting.timeout_text import atr_mismatch
from ..errors import (
    CANCELLED,
    REMOVED_CARD,
    TIMEOUT,
    CardCommunicationError,
    CardRemovedError,
    CardResetError,
    CardTimeoutError,
    NoCardError,
    SCardError,
    ServiceUnavailableError,
    WaitCancelledError,
    fresh_copy,
)
from ..iso7816._apdu import StatusError
from ..iso7816._pin import PinTriesError, tries_left
from .card import NOT_THIS_CARD, Card, CardT, ignore_outcome
from .pool_request import PoolRequest, PoolStats

logger = logging.getLogger("scardface.pool")

MAX_TRIES = 3
"""How often a card is made ready because it was reset by another program, or failed in transport, meanwhile."""
_GONE = (CardRemovedError, NoCardError, ServiceUnavailableError)
"""Errors after which only another acquisition helps."""
_MAX_LISTED = 5
"""Cards that the text of a CardTimeoutError names."""


class Slot(Generic[CardT]):
    """One open card of the pool, and its session.

    Attributes:
        loan: who has it; None: nobody.
        ready: whether it can be lent; False: something is done with it, see `steps`.
        error: why it is gone; None: it is there.
        uses: how many loans have had it.
        idle_since: monotonic, since when nobody has had it.
        resets: `Session.resets` when it was made ready last.
        repair: what has to be done before it is prepared: "reset", "reconnect" or nothing.
        chosen: whether `match` has been asked.
        pins: what it has refused.
        removal: the wait for its removal.
        stop: ends what is done with it, from the thread or loop of the pool.
    """

    __slots__ = (
        *("card", "chosen", "error", "idle_since", "loan", "pins", "ready", "removal", "repair", "resets", "session", "stop"),
        "uses",
    )

    def __init__(self, card: CardT, session: Session, pins: PinWatch) -> None:
        self.card = card
        self.session = session
        self.pins = pins
        self.loan: Waiting[CardT] | None = None
        self.ready = self.chosen = False
        self.error: SCardError | None = None
        self.uses = 0
        self.idle_since = 0.0
        self.resets = 0
        self.repair = ""
        self.removal: RemovalWait | None = None
        self.stop: Callable[[], object] = no_op


class Waiting(Generic[CardT]):
    """One loan, or the start of the pool, which waits for so many cards.

    Attributes:
        slot: the card that it has; None: it waits, or is over.
        begun: whether the block has begun; before, another card will do as well.
        error: why there will be no card, or why the block has ended.
        done: for the start: it is over.
        wake: called when something of this has changed; from any thread of the pool's.
        scope: by what `error` ends the block.
    """

    slot: Slot[CardT] | None = None
    begun = False
    done = False
    error: BaseException | None = None
    wake: Callable[[], object] = staticmethod(no_op)
    scope: Any = None

    @property
    def over(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.done or self.slot is not None or self.error is not None


@dataclass(slots=True)
class SetAside:
    """A card that the pool does not touch while it is in.

    Attributes:
        reading: what it is, to recognise it.
        life: the life of the service in which that holds; None: not known.
        atr: its ATR.
        error: why.
        pins: what it has refused.
        here: whether it is still in; False: the service was restarted, and this is its ATR in its reader.
    """

    reading: Reading
    life: int | None
    atr: bytes
    error: Exception
    pins: PinWatch
    here: bool = True

    @property
    def refused(self) -> bool:
        """Whether it has refused a PIN, or may be one that has."""
        return bool(self.pins.refused) or isinstance(self.error, PinRefusedError)


class _Served(ServedCards):
    """The cards that are not to be opened again while they are in.

    Args:
        seen: called in the driver's thread after each snapshot.
    """

    def __init__(self, backend: Backend, seen: Callable[[], object]) -> None:
        super().__init__(backend)
        self._tell = seen

    def receive(self, snapshot: Snapshot, events: list[Event], first: bool) -> None:
        """Forget the cards that are in no more, and tell."""
        super().receive(snapshot, events, first)
        self._tell()


class PoolState(ABC, Generic[CardT]):
    """The cards of one pool; see the module's docstring. A face makes cards, runs what is done with them, and wakes who waits."""

    def __init__(self, request: PoolRequest[CardT], backend: Backend, owner: Any) -> None:
        self.request = request
        self.backend = backend
        self.owner = owner
        self.generation = generation()
        self.lock = RLock()
        self.served = _Served(backend, self._forget_gone_soon)
        self.slots: dict[Slot[CardT], None] = {}
        self.closed = False
        self.threads: list[Thread] = []  # of cards that are being closed
        self._card_request = replace(request.card, timeout=None, wait_for_reader=True)
        self._idle: deque[Slot[CardT]] = deque()
        self._waiting: deque[Waiting[CardT]] = deque()
        self._start: Waiting[CardT] | None = None
        self._collecting: CardT | None = None
        self._aside: dict[str, SetAside] = {}
        self._past: dict[PinWatch, tuple[bytes, Thread | None]] = {}  # of closed cards that may come again, with ATR and thread
        self._resting: dict[str, Reading] = {}  # closed since they were idle, to be opened when somebody waits
        self._dropped: SimpleQueue[Waiting[CardT]] = SimpleQueue()
        self._timer: SimpleQueue[None] = SimpleQueue()
        self.asks_before_lending = request.card.share is not ShareMode.EXCLUSIVE
        """Whether other programs may have reset a card while it was idle, of which nothing tells but PC/SC when it is asked."""
        self._share = request.card.share
        self._max_uses = math.inf if request.max_uses is None else request.max_uses
        self._resets = request.reset_on_return
        self._loans = self._waited = self._timed_out = self._prepared = self._lost = self._pins_refused = 0

    # What the faces do.

    @abstractmethod
    def new_card(self) -> CardT:
        """A card that is not acquired yet."""

    @abstractmethod
    def take_over(self, card: CardT) -> None:
        """Make `card`, which has been acquired, usable in the pool's loop, or by any thread."""

    @abstractmethod
    def is_busy(self, card: CardT) -> bool:
        """Whether another task or thread is in a call of the card, or holds a transaction."""

    @abstractmethod
    def make_ready(self, slot: Slot[CardT]) -> None:
        """Have the steps done that a card needs before it is lent, elsewhere; `made_ready` or `failed` tells the end."""

    # The start, and the end.

    def begin(self, start: Waiting[CardT]) -> None:
        """Begin to wait for cards."""
        with self.lock:
            self._start = start
            self._collect()
            self._check_start()
        if self.request.max_idle is not None:
            self.threads.append(spawn("scardface-pool", self._close_idle_cards, self.request.max_idle))

    def begun(self) -> None:
        """The start is over."""
        self._start = None

    def close(self) -> None:
        """End all loans and waits, and have all cards closed. May be called again."""
        with self.lock:
            self.closed = True
            collecting, self._collecting = self._collecting, None
            if collecting is not None:
                collecting.cancel()
            self.served.leave()
            self._timer.put(None)
            for waiting in (*self._waiting, *filter(None, (self._start,))):
                self._end(waiting, _closed())
            self._waiting.clear()
            for slot in list(self.slots):
                loan = slot.loan
                if loan is not None:
                    self._end(loan, _closed())
                self._close_slot(slot, again=False)

    def abandon(self) -> None:
        """As `close`, where nobody waits any more. Signal-safe."""
        self.closed = True
        collecting = self._collecting
        if collecting is not None:
            collecting.cancel()
        self.served.leave()
        self._timer.put(None)
        for slot in list(self.slots):
            if slot.removal is not None:
                slot.removal.leave()
            if not slot.card._closed:
                slot.card._hand_over_close(None, ignore_outcome)
            self.owner.post(slot.stop)

    # Loans.

    def lend(self, loan: Waiting[CardT]) -> bool:
        """Give `loan` a card that is ready, or have it wait for one. Returns whether it has got one.

        Raises:
            RuntimeError: the pool is not open.
        """
        self._refuse_in_child()
        with self.lock:
            self.check_open()
            idle = self._idle
            if idle and not self._waiting and (slot := idle[-1]).loan is None:
                self._loans += 1
                loan.begun = True
                loan.slot = slot  # from here on an interrupted caller gives it back
                slot.loan = loan
                idle.pop()
                return True
            self._waited += 1
            self._waiting.append(loan)
            self.take_dropped()
            self._find_lost()
            self._open_resting()
            self._collect()
            return False

    def start_block(self, loan: Waiting[CardT]) -> bool:
        """The loan's block begins, unless its card is gone since; then it waits in its old place. Raises why there is none."""
        with self.lock:
            if loan.slot is not None:
                self._loans += not loan.begun
                loan.begun = True
                return True
            if loan.error is not None:
                raise loan.error
            return False

    def lend_another(self, loan: Waiting[CardT]) -> None:
        """The card of `loan` needs to be made ready first: have it wait for another one, before all others."""
        with self.lock:
            slot = loan.slot
            if slot is not None and loan.error is None:
                self._waiting.appendleft(loan)
                self._loans -= loan.begun
                loan.begun = False
                slot.loan, loan.slot = None, None
                self._put_back(slot)

    def release(self, loan: Waiting[CardT]) -> None:
        """The loan is over: its card is the pool's again. May be called again; in a forked child it is the parent's loan."""
        if self.generation != generation():
            return
        with self.lock:
            slot = loan.slot
            if slot is None:
                if not loan.begun and loan in self._waiting:
                    self._waiting.remove(loan)
                return
            if slot.loan is loan or slot.loan is None:
                slot.uses += loan.begun
                slot.loan = None
                if self._is_as_before(slot):
                    self._give_out(slot)
                else:
                    self._put_back(slot)
            loan.slot = None

    def drop(self, loan: Waiting[CardT]) -> None:
        """A loan was thrown away without an end. Signal-safe."""
        self._dropped.put(loan)
        self.owner.post(self.take_dropped)

    def take_dropped(self) -> None:
        """See to the loans that were thrown away: what they did is not known, so their cards are opened anew."""
        while True:
            try:
                loan = self._dropped.get_nowait()
            except Empty:
                return
            with self.lock:
                slot, loan.slot = loan.slot, None
                if slot is not None and slot.loan is loan:
                    slot.loan = None
                    self._close_slot(slot, again=True)

    def refuse_elsewhere(self) -> None:
        """RuntimeError where the pool cannot be closed."""

    def check_open(self) -> None:
        """RuntimeError unless cards can be borrowed."""
        if self.closed:
            raise RuntimeError("the pool is closed")

    def _refuse_in_child(self) -> None:
        """RuntimeError in a forked child, before any lock: a thread of the parent's may have held it at the fork."""
        if self.generation != generation():
            raise RuntimeError("this pool was opened before a fork and belongs to the parent process; open a new one in the child")

    def too_late(self, loan: Waiting[CardT], seconds: float, wanted: str) -> CardTimeoutError:
        """There was no card in time."""
        with self.lock:
            self._timed_out += 1
            seen, cause = self._describe(loan)
        error = CardTimeoutError(f"{wanted} within {seconds:g} s; seen: {seen}", TIMEOUT)
        error.__cause__ = cause
        return error

    def stats(self) -> PoolStats:
        """The figures."""
        self._refuse_in_child()
        with self.lock:
            lent = sum(slot.loan is not None for slot in self.slots)
            preparing = sum(not slot.ready and slot.loan is None for slot in self.slots)
            return PoolStats(
                len(self.slots),
                len(self.slots) - lent - preparing,
                lent,
                preparing,
                len(self.set_aside()),
                len(self._waiting),
                self._loans,
                self._waited,
                self._timed_out,
                self._prepared,
                self._lost,
                self._pins_refused,
            )

    def set_aside(self) -> Mapping[str, Exception]:
        """Why the cards that are set aside are, by reader."""
        self._refuse_in_child()
        with self.lock:
            return {reader: each.error for reader, each in self._aside.items()}

    # Cards come.

    def _collect(self) -> None:
        """Wait for one more card, unless one is waited for already or there is no room."""
        limit = self.request.max_cards
        if self.closed or self._collecting is not None or (limit is not None and len(self.slots) >= limit):
            return
        try:
            self.served.listen(self.owner)
            card = self._collecting = self.new_card()
            card._refused = self.served.cards()
            Card._init(card, self._card_request, self.backend)
            acquisition = card._begin()
            acquisition.begin(self.owner, lambda: self._collected(card, acquisition))
        except Exception as error:  # no thread can be started
            self._collecting = None
            self._cannot_collect(error)

    def _collect_anew(self) -> None:
        """Wait for the next card with what is known now of the cards that are not to be opened."""
        card, self._collecting = self._collecting, None
        if card is not None:
            card.cancel()
        self._collect()

    def _collected(self, card: CardT, acquisition: Acquisition) -> None:
        """The wait for a card may be over."""
        with self.lock:
            if not acquisition.ended or self._collecting is not card:  # not yet; or it is not wanted any more, and closed
                return
            self._collecting = None
            try:
                session = acquisition.result()
            except Exception as error:
                self._cannot_collect(error)
                return
            card._session, card._worker = session, acquisition.worker
            self.take_over(card)
            if self._card_request.new_only:  # what was in at the start; what comes from now on is new
                self.served.add_new(RefusedCards(acquisition.readings_before, acquisition.life))
                self._card_request = replace(self._card_request, new_only=False)
            self.served.add_new(RefusedCards({session.reader: session.reading}, acquisition.life))
            self._resting.pop(session.reader, None)
            self._add(card, acquisition)
            self._collect()

    def _cannot_collect(self, error: Exception) -> None:
        """There will be no card without another attempt, which the next loan makes: who waits is told."""
        if isinstance(error, WaitCancelledError) and self.closed:
            return
        waiting = [*self._waiting, *filter(None, (self._start,))]
        self._waiting.clear()
        for each in waiting:
            self._end(each, fresh_copy(error) if isinstance(error, SCardError) else error)
        if isinstance(error, WaitCancelledError):  # `cancel_all()`: it ends the waits that there are
            self._collect()
        elif not waiting:
            log_safely(logger.warning, "no further card is waited for until the next loan: %s", error)

    def _add(self, card: CardT, acquisition: Acquisition) -> None:
        """A card has been opened."""
        session = card._require_session()
        self._forget_gone()
        before = self._aside.get(session.reader)
        atr = bytes(session.atr)
        slot = Slot(card, session, PinWatch(lambda: self._suspects(atr)))
        session.watch_pins(slot.pins)
        self.slots[slot] = None
        if before is not None and before.refused and before.atr == atr and _may_have_stayed(session.reading):  # after a restart
            slot.pins.refused.update(before.pins.refused)
            self._set_aside(slot, before.error)
            return
        self._aside.pop(session.reader, None)  # another card, or that one after a restart, of which no snapshot has told
        worker = card._worker
        assert worker is not None
        removal = slot.removal = RemovalWait(session, self.backend, worker.submit)
        try:
            removal.begin(self.owner, lambda: self._went(slot, removal))
        except Exception as error:  # no thread can be started
            self._close_slot(slot, again=True)
            self._cannot_collect(error)
            return
        self._begin_steps(slot)

    def _begin_steps(self, slot: Slot[CardT]) -> None:
        """Make a card ready, or have that done elsewhere."""
        slot.ready = False
        slot.resets = slot.session.resets
        request = self.request
        if slot.repair or request.prepare is not None or (request.match is not None and not slot.chosen):
            try:
                self.make_ready(slot)
            except Exception as error:  # no thread can be started
                self.failed(slot, error)
        else:
            self._give_out(slot)

    def made_ready(self, slot: Slot[CardT]) -> None:
        """What had to be done with the card is done."""
        with self.lock:
            if slot not in self.slots:
                return
            slot.stop = no_op
            if slot.error is not None:  # it went, and `prepare` has not noticed
                self._close_slot(slot, again=True)
            elif slot.card._closed:  # by `prepare` itself
                self._close_slot(slot, again=False)
            elif slot.pins.refused:
                self._set_aside(slot, _refused(slot))
            else:
                self._prepared += 1
                slot.resets = slot.session.resets
                slot.repair = ""
                slot.session.failure = None
                self._give_out(slot)

    def not_chosen(self, slot: Slot[CardT]) -> None:
        """`match` does not want this card: it is asked once while it is in."""
        with self.lock:
            self._close_slot(slot, again=False)

    def failed(self, slot: Slot[CardT], error: BaseException) -> None:
        """What had to be done with the card has failed."""
        with self.lock:
            if slot not in self.slots:
                return
            slot.stop = no_op
            if slot.pins.refused or _is_refusal(error):
                self._set_aside(slot, error if isinstance(error, Exception) else _refused(slot))
            elif slot.error is not None or isinstance(error, _GONE):
                self._lost += slot.error is None
                self._close_slot(slot, again=True)
            else:
                if not isinstance(error, Exception):  # by `prepare` itself, or by a loop that ends
                    error = WaitCancelledError(f"what makes it ready was ended by {type(error).__name__}", CANCELLED)
                self._set_aside(slot, error)
                start = self._start
                if start is not None and not isinstance(error, NOT_THIS_CARD):  # a mistake in `prepare` or `match`
                    self._end(start, error)

    # Cards go.

    def _went(self, slot: Slot[CardT], removal: RemovalWait) -> None:
        """The wait for a card's removal may be over."""
        with self.lock:
            if not removal.ended or slot not in self.slots or slot.error is not None:
                return
            reader = slot.session.reader
            try:
                removal.result()
                slot.error = CardRemovedError(f"the card in reader {reader!r} was removed", REMOVED_CARD, "", reader)
            except WaitCancelledError:  # the loan has closed the card
                return
            except SCardError as error:
                slot.error = error
            except Exception as error:  # of the backend itself
                slot.error = SCardError(f"the card in reader {reader!r} cannot be watched any more: {error!r}", reader=reader)
            self._lost += 1
            loan = slot.loan
            if loan is None:
                if slot.ready:
                    self._close_slot(slot, again=True)
                else:
                    slot.stop()  # `failed` goes on
            elif loan.begun:
                self._end(loan, slot.error)
            else:  # it has not had it yet: another one will do
                loan.slot = slot.loan = None
                self._waiting.appendleft(loan)
                self._close_slot(slot, again=True)

    def _is_as_before(self, slot: Slot[CardT]) -> bool:
        """Whether a loan has left the card so that the next one can have it: the most frequent case of `_put_back`, in one step."""
        card, session = slot.card, slot.session
        return (
            slot.ready
            and not card._closed
            and slot.error is None
            and session.failure is None
            and session.resets == slot.resets
            and session.share is self._share
            and not session.open_transactions
            and not slot.pins.refused
            and not card._removals
            and not card._calls_left
            and slot.uses < self._max_uses
            and not self._resets
            and not self.closed
            and not self.is_busy(card)
        )

    def _put_back(self, slot: Slot[CardT]) -> None:
        """A card that nobody has any more: what becomes of it."""
        if slot not in self.slots or not slot.ready:
            return
        card, session = slot.card, slot.session
        failure = session.failure
        if card._removals:  # of a task or thread that waits for the card's removal still
            card._cancel_removals()
        if self.closed or slot.error is not None or card._closed:
            self._close_slot(slot, again=True)
        elif slot.pins.refused:
            self._set_aside(slot, _refused(slot))
        elif isinstance(failure, _GONE):
            self._lost += 1
            self._close_slot(slot, again=True)
        elif session.open_transactions or session.share is not self._share or slot.uses >= self._max_uses or self.is_busy(card):
            self._close_slot(slot, again=True)
        elif self._resets or _has_failed(failure):
            slot.repair = "reset"
            self._begin_steps(slot)
        elif session.resets != slot.resets:
            slot.repair = "reconnect" if isinstance(failure, CardResetError) else ""
            self._begin_steps(slot)
        elif card._calls_left:
            self._await_end(slot)
        else:
            session.failure = None
            self._give_out(slot)

    def _await_end(self, slot: Slot[CardT]) -> None:
        """Have a card back when what its loan has left before its end, by a timeout for instance, has ended in its thread."""
        card, worker = slot.card, slot.card._worker
        assert worker is not None
        slot.ready, card._calls_left = False, 0
        worker.submit(self.owner.post, self._has_ended, slot)

    def _has_ended(self, slot: Slot[CardT]) -> None:
        with self.lock:
            if slot in self.slots:
                slot.ready = True
                self._put_back(slot)

    def _give_out(self, slot: Slot[CardT]) -> None:
        """A card is ready: it goes to who waits longest, or is idle."""
        slot.ready = True
        if self._waiting:
            if slot in self._idle:  # an interrupt has left it there
                self._idle.remove(slot)
            loan = self._waiting[0]
            loan.slot = slot
            slot.loan = loan
            self._waiting.popleft()
            loan.wake()
            return
        slot.idle_since = time.monotonic()
        if slot not in self._idle:
            self._idle.append(slot)
        if self._start is not None:
            self._check_start()

    def _check_start(self) -> None:
        start = self._start
        if start is not None and sum(slot.ready for slot in self.slots) >= self.request.min_cards:
            start.done = True
            start.wake()

    def _find_lost(self) -> None:
        """A card that is ready and that nobody has goes to who waits, whatever has interrupted a thread on its way."""
        for slot in list(self.slots):
            if slot.ready and slot.loan is None and self._waiting:
                self._give_out(slot)

    def _end(self, waiting: Waiting[CardT], error: BaseException) -> None:
        """End a loan, or the start, with an error."""
        if waiting.error is None:
            waiting.error = error
            waiting.wake()
            if waiting.begun:
                waiting.scope.cancel()

    def _close_slot(self, slot: Slot[CardT], again: bool) -> None:
        """Have a card closed, in its own thread.

        Args:
            again: it may be opened again at once; False: only after it has been taken out.
        """
        if self.slots.pop(slot, slot) is slot:
            return
        if slot in self._idle:
            self._idle.remove(slot)
        slot.ready = False
        slot.stop()
        if slot.removal is not None:
            slot.removal.leave()
        card, session, worker = slot.card, slot.session, slot.card._worker
        if not card._closed:
            card._hand_over_close(None, ignore_outcome)
        self.threads = [thread for thread in self.threads if thread.is_alive()]
        if worker is not None and not session.is_inside():  # else a signal handler has interrupted a call, behind which it closes
            self.threads.append(worker.thread)
        self._past[slot.pins] = bytes(session.atr), None if worker is None else worker.thread
        for pins, (_, thread) in list(self._past.items()):
            if not pins.has_seen_any and (thread is None or not thread.is_alive()):
                del self._past[pins]
        if self.closed:
            return
        self.served.update(session.reader, session.reading)
        if again and self.served.forget(session.reader, session.reading):
            self._collect_anew()  # the wait that there is does not want it
        self._collect()

    def _set_aside(self, slot: Slot[CardT], error: Exception) -> None:
        """Close a card, and leave it alone while it is in."""
        session = slot.session
        self._close_slot(slot, again=False)
        acquisition = slot.card._acquisition
        life = (None if acquisition is None else acquisition.life) or self.served.life
        self._aside[session.reader] = SetAside(session.reading, life, bytes(session.atr), error, slot.pins)
        if isinstance(error, PinTriesError) and not slot.pins.refused:
            text = "the card in %r is set aside until it is taken out, since its PIN may not be tried: %s"
        elif slot.pins.refused or _is_refusal(error):
            self._pins_refused += 1
            text = "the card in %r is set aside until it is taken out, since a PIN was refused and is not tried again: %s"
        else:
            text = "the card in %r is set aside until it is taken out, since it could not be made ready: %s"
        mistake = not isinstance(error, NOT_THIS_CARD)
        log_safely(logger.error if mistake else logger.warning, text, session.reader, error, exc_info=error if mistake else None)

    def _forget_gone_soon(self) -> None:
        """In the driver's thread: there is a new snapshot."""
        if self._aside:
            self.owner.post(self._look_after_aside)

    def _look_after_aside(self) -> None:
        with self.lock:
            self._forget_gone()

    def _forget_gone(self) -> None:
        """The cards that were set aside and are in no more: if they come again, they look like others."""
        latest = self.served.latest
        if latest is None or latest.error is not None:  # nobody knows
            return
        for reader, each in list(self._aside.items()):
            each.here = self.served.has(reader, each.reading)
            if each.here:
                each.life = each.life or latest.life
                continue
            now = latest.readers.get(reader)
            restarted = each.life != latest.life  # or nobody has looked before it went
            is_that = now is not None and now.present and now.atr in (each.atr, b"") and _may_have_stayed(now)
            # A service that has just started may not have the reader yet, or call it empty before it has looked into it.
            looked_at = now is not None and (now.present or now.counter)
            if not (each.refused and restarted and (is_that or not looked_at)):
                del self._aside[reader]

    def _suspects(self, atr: bytes) -> list[PinWatch]:
        """What was refused by cards with that ATR which are in no more, so that another one may be one of them. In any thread."""
        with self.lock:
            self._forget_gone()
            here = [each.pins for each in self._aside.values() if each.here]
            return [pins for pins, (other, _) in self._past.items() if other == atr and pins.has_seen_any and pins not in here]

    # Cards that nobody needs.

    def _close_idle_cards(self, limit: float) -> None:
        """In a thread of its own: close the cards that have been idle for too long."""
        due = time.monotonic() + limit
        while True:
            try:
                self._timer.get(timeout=max(0.0, due - time.monotonic()))
                return
            except Empty:
                pass
            if self.closed or not self.owner.post(self._rest_idle, limit):
                return
            with self.lock:
                due = min((slot.idle_since + limit for slot in self._idle), default=0.0)
            due = max(due, time.monotonic() + limit / 10)

    def _rest_idle(self, limit: float) -> None:
        """Close the cards that have been idle for so many seconds, but for `min_cards`."""
        with self.lock:
            before = time.monotonic() - limit
            for slot in [each for each in self._idle if each.idle_since <= before]:
                if self.closed or len(self.slots) <= self.request.min_cards:
                    return
                self._resting[slot.session.reader] = slot.session.reading
                self._close_slot(slot, again=False)

    def _open_resting(self) -> None:
        """Somebody waits: the cards that were closed because they were idle are wanted again."""
        resting, self._resting = self._resting, {}
        if [1 for reader, reading in resting.items() if self.served.forget(reader, reading)]:
            self._collect_anew()

    # What was seen.

    def _describe(self, loan: Waiting[CardT]) -> tuple[str, BaseException | None]:
        """What stands between a loan and a card, in words; and the error of a card that was set aside."""
        texts, cause = [], None
        lent = sum(slot.loan is not None and slot.loan is not loan for slot in self.slots)
        if lent:
            texts.append(f"{lent} {'card' if lent == 1 else 'cards'} lent")
        mine = set()
        for slot in self.slots:
            reader = slot.session.reader
            mine.add(reader)
            if not slot.ready and slot.loan is None:
                texts.append(f"a card that is being made ready, in reader {reader!r}")
        for reader, error in self.set_aside().items():
            mine.add(reader)
            texts.append(f"a card that was set aside ({error}), in reader {reader!r}")
            cause = cause or error
        limit = self.request.max_cards
        if limit is not None and len(self.slots) >= limit:
            texts.append(f"no further card is opened, with max_cards={limit}")
        latest = self.served.latest
        if latest is not None and latest.error is not None:
            return "; ".join(["the PC/SC service is not available", *texts]), cause or latest.error
        readers = {} if latest is None else latest.readers
        wanted = self.request.card
        for name, reading in readers.items():
            if name in mine or not reading.present or not wanted.readers.accepts(name):
                continue
            if reading.mute:
                texts.append(f"a card that does not answer, in reader {name!r}")
            elif wanted.atr is not None and wanted.atr.search(reading.atr) is None:
                texts.append(f"{atr_mismatch(reading.atr, wanted.atr)}, in reader {name!r}")
            elif self.served.has(name, reading):
                texts.append(f"a card that match= refused, or that was in before, in reader {name!r}")
            else:
                texts.append(f"a card that was not opened, or is held by others, in reader {name!r}")
        if len(texts) > _MAX_LISTED:
            texts[_MAX_LISTED:] = [f"and {len(texts) - _MAX_LISTED} more"]
        return "; ".join(texts) or ("no card" if any(map(wanted.readers.accepts, readers)) else "no reader"), cause

    @property
    def driver(self) -> Any:
        """The driver of this PC/SC."""
        return driver_of(self.backend)


def _closed() -> WaitCancelledError:
    return WaitCancelledError("the pool was closed", CANCELLED)


def _refused(slot: Slot[Any]) -> SCardError:
    """A PIN was refused, and nobody has raised that."""
    statuses = ", ".join(f"{refusal.status:04X}" for refusal in slot.pins.refused.values())
    reader = slot.session.reader
    return PinRefusedError(f"the card in reader {reader!r} has refused a PIN or key ({statuses})", reader=reader)


def _may_have_stayed(reading: Reading) -> bool:
    """Whether a card may have been in since before the service started, as far as its reader's counter tells.

    A service that starts counts from 0, or from 1 once it has found the card. So what it counts twice was taken out since.
    """
    return reading.counter <= 1


def _is_refusal(error: BaseException) -> bool:
    """Whether an error of `prepare` says by itself that a PIN was refused, or was not sent to keep tries."""
    if isinstance(error, (PinTriesError, PinRefusedError)):
        return True
    return isinstance(error, StatusError) and tries_left(error.response) is not None


def _has_failed(failure: SCardError | None) -> bool:
    """Whether the last exchange has left the card in a state that nobody knows."""
    return isinstance(failure, CardCommunicationError) or (
        failure is not None and failure.call == "SCardTransmit" and not isinstance(failure, CardResetError)
    )
