"""Generated from `pool.py` by `.ci/generate_sync.py`, which writes it anew: edit that file, not this one."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, NoReturn, SupportsIndex

from .._enums import Lengths, Protocol, ShareMode
from .._pcsc.backend import Backend
from .._pcsc.binding_choice import backend_or_default
from .._pcsc.no_copy import refuse_copy
from .._session.card_request import ANY_PROTOCOL, DEFAULT_OPTIONS, CardRequest, Groups, OnReset, Readers, seconds_of
from .._threads import generation, retry_if_interrupted, uninterrupted
from ..errors import CardCommunicationError, CardRemovedError, CardResetError, SCardError, ServiceUnavailableError
from ..iso7816._apdu import StatusError, Success
from ..iso7816._exchange import ExchangeOptions
from .card import check_match
from .pool_request import PoolRequest, PoolStats, idle_seconds, number_of
from .pool_state import MAX_TRIES, Slot, Waiting, logger
from .sync_base import Verdict
from .sync_pool_base import FaceState, check_card, check_function, result_of, wait_for
from .sync_scard import SCard


class _State(FaceState):
    """The cards of a pool; with what is done to make one ready."""

    def steps(self, slot: Slot[SCard]) -> bool:
        """What is done with a card before it is lent; whether it is wanted."""
        for _ in range(MAX_TRIES):
            try:
                return self._steps_once(slot)
            except (CardResetError, CardCommunicationError) as error:
                if slot.pins.refused or slot.error is not None:
                    raise
                last = error
                slot.repair = "reconnect" if isinstance(error, CardResetError) else "reset"
        raise last

    def _steps_once(self, slot: Slot[SCard]) -> bool:
        card, request = slot.card, self.request
        if slot.repair == "reset":
            card.reset()
        elif slot.repair == "reconnect":
            card.reconnect()
        slot.repair = ""
        if request.match is not None and not slot.chosen:
            try:
                slot.chosen = bool(result_of(request.match(card)))
            except (CardCommunicationError, CardRemovedError, CardResetError, ServiceUnavailableError):
                raise
            except (SCardError, StatusError) as error:
                logger.info("the card in %r was not chosen, since match= raised: %s", card.reader, error)
            if not slot.chosen and not slot.pins.refused:
                return False
        if request.prepare is not None and not slot.pins.refused:
            result_of(request.prepare(card))
        return True


class CardPool:
    """Open cards, made ready, and lent to one thread at a time: `with CardPool(...) as pool`, `with pool.card() as card`.

    A pool waits for the cards that match, opens each as it comes, has `prepare` make it ready, and keeps it. Whoever borrows one
    waits for nothing else, first come, first served. A card that is taken out, or lost with its reader or the service, ends the
    loan that has it with the error that names why, and is replaced as soon as another one comes; readers and services that come
    later are waited for. Nobody asks the cards for that: the events of their readers tell.

    What a loan has left on the card, what was selected and verified, is there for the next one, unless `reset_on_return`. A card is
    prepared again after a reset, whoever made it, and after a command that failed in transport.

    A PIN or key that a card has refused, in `prepare` or in a loan, is never sent to it again: the card is closed and set aside
    while it is in, with a warning of the logger "scardface.pool", and in `set_aside` and `stats()`. A card that may be the same,
    taken out and put in again, is first asked how many tries are left (a VERIFY without data), and is set aside unless it says that
    there are more. A card for which `prepare` raises otherwise is set aside, too.

    Args:
        readers: as for `SCard`, and as all others down to `backend`: which readers.
        groups: which reader groups.
        timeout: seconds for the start, and for each loan that says nothing else; None, -1, inf: for ever.
        atr: a regular expression that is searched in the ATR.
        share: who else may use the cards; not DIRECT. With SHARED PC/SC is asked before each loan whether another program has reset
            the card meanwhile.
        protocols: which protocols may be used.
        lengths: how long commands and answers reach the card.
        options: how far an exchange may go.
        settle: seconds that a card must have been in.
        new_only: ignore the cards that are in at the start.
        on_reset: what becomes of a command that meets a card which another program has reset.
        success: which status words are no failure.
        match: chooses a card by what is on it; each is asked once while it is in.
        backend: the PC/SC to use; None: the default one at the start.
        prepare: a function of the open card that makes it ready, in a thread of its own: selects, verifies the PIN. It is called
            once for each card, and again after a reset or a failed exchange, at most three times. Its exception sets the card
            aside; one that is neither SCardError nor StatusError is a mistake, and ends the start as well. None: nothing has to be
            done.
        min_cards: how many have to be ready before the block begins, 0 or more. So many stay open, however long they are idle.
        max_cards: how many are open at most, at least 1; None: all that match.
        max_idle: seconds after which a card that nobody has borrowed is closed; it is opened again when somebody has to wait. None:
            it stays open.
        max_uses: after so many loans a card is closed (and so reset), opened and prepared anew, at least 1; None: never.
        reset_on_return: reset and prepare a card anew after each loan, so that no PIN stays verified and nothing selected.

    Raises (from the start):
        CardTimeoutError: `min_cards` were not ready in time; the text says what was seen.
        ServiceUnavailableError: the service refuses this program.
        WaitCancelledError: `cancel_all()`.
        TypeError, ValueError: from the constructor, for an argument of a wrong type or range.
    """

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)

    _state: _State | None = None

    def __init__(
        self,
        readers: Readers = None,
        groups: Groups = None,
        timeout: float | None = None,
        atr: bytes | re.Pattern[bytes] | None = None,
        *,
        share: ShareMode = ShareMode.EXCLUSIVE,
        protocols: Protocol = ANY_PROTOCOL,
        lengths: Lengths = Lengths.AUTO,
        options: ExchangeOptions = DEFAULT_OPTIONS,
        settle: float = 0.0,
        new_only: bool = False,
        on_reset: OnReset = "raise",
        success: Success | None = None,
        match: Callable[[SCard], Verdict] | None = None,
        backend: Backend | None = None,
        prepare: Callable[[SCard], Verdict] | None = None,
        min_cards: int = 1,
        max_cards: int | None = None,
        max_idle: float | None = None,
        max_uses: int | None = None,
        reset_on_return: bool = False,
    ) -> None:
        card = CardRequest.from_arguments(
            readers=readers,
            groups=groups,
            timeout=timeout,
            atr=atr,
            pnp=False,
            share=share,
            protocols=protocols,
            lengths=lengths,
            options=options,
            settle=settle,
            new_only=new_only,
            on_reset=on_reset,
            wait_for_reader=True,
            success=success,
        )
        if card.share is ShareMode.DIRECT:
            raise ValueError("share: cards are lent, and a DIRECT connection needs none")
        self._request = PoolRequest(
            card=card,
            timeout=card.timeout,
            match=None if match is None else check_function("match", check_match(match, card)),
            prepare=None if prepare is None else check_function("prepare", prepare),
            backend=backend,
            min_cards=number_of("min_cards", min_cards, 0),
            max_cards=None if max_cards is None else number_of("max_cards", max_cards, 1),
            max_idle=None if max_idle is None else idle_seconds(max_idle),
            max_uses=None if max_uses is None else number_of("max_uses", max_uses, 1),
            reset_on_return=bool(reset_on_return),
        )
        if max_cards is not None and max_cards < min_cards:
            raise ValueError(f"max_cards: at least min_cards, which is {min_cards}, not {max_cards}")
        self._generation = generation()

    def open(self) -> None:
        """Begin to wait for cards, and return when `min_cards` are ready; the pool's block does that, and closes it at its end.

        Raises:
            RuntimeError: opened before, be it closed again; or made before a fork.
            CardTimeoutError, ServiceUnavailableError, WaitCancelledError: see the class; the pool is closed then.
        """
        if self._generation != generation():
            raise RuntimeError("this pool was made before a fork and belongs to the parent process; make a new one in the child")
        if self._state is not None:
            raise RuntimeError("a pool is opened once; make another one")
        state = self._state = _State(self._request, backend_or_default(self._request.backend))
        start: Waiting[SCard] = Waiting()
        try:
            state.begin(start)
            self._wait_for_start(state, start)
        except GeneratorExit:  # the coroutine is thrown away, perhaps with its loop
            state.abandon()
            raise
        except BaseException:
            retry_if_interrupted(state.close)
            state.wait_closed(True)
            raise
        state.begun()

    def _wait_for_start(self, state: _State, start: Waiting[SCard]) -> None:
        seconds = self._request.timeout
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            wait_for(state, start, deadline)
            if start.error is not None:
                raise start.error
            if start.done:
                return
            if seconds is not None and deadline is not None and time.monotonic() >= deadline:
                number = self._request.min_cards
                raise state.too_late(start, seconds, f"fewer than {number} {'card' if number == 1 else 'cards'} ready")

    def close(self) -> None:
        """Close the pool and its cards. Loans that are under way, and those that wait, end with a WaitCancelledError.

        Returns when nothing is left of it; what a card still does is waited for. Does nothing the second time.

        Raises:
            RuntimeError: inside a callback of one of its cards, or in a forked child.
        """
        state = self._state
        if state is None:
            return
        if self._generation != generation():
            raise RuntimeError("this pool was opened before a fork and belongs to the parent process")
        state.refuse_elsewhere()
        uninterrupted(state.close)
        state.wait_closed(False)

    def __enter__(self) -> CardPool:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and issubclass(kind, GeneratorExit):  # thrown away, perhaps with its loop
            if self._state is not None:
                self._state.abandon()
            return
        self.close()

    def card(self, timeout: float | None = None) -> AbstractContextManager[SCard]:
        """Borrow a card for a block: `with pool.card() as card`. It is for the block alone, and the pool's again at its end.

        When the card goes, what the library waits for in the block (another card, an event) ends, and the block raises.

        Args:
            timeout: seconds to wait for a card; None: the pool's own; -1, inf: for ever.

        Returns:
            The block, once; what it gets is the open card.

        Raises:
            CardTimeoutError: none was free in time; the text says what was seen, and `__cause__` why a card was set aside.
            CardRemovedError, ServiceUnavailableError: what became of the card.
            WaitCancelledError: the pool was closed; or `cancel_all()`, while it waits for a card itself (not at `max_cards`).
            RuntimeError: the pool is not open.
            TypeError, ValueError: for a timeout that is none, at once.
        """
        return Loan(self, self._request.timeout if timeout is None else seconds_of(timeout))

    def stats(self) -> PoolStats:
        """How many cards the pool has, and what it has done; all zero until it is opened."""
        state = self._state
        return PoolStats(*[0] * len(PoolStats._fields)) if state is None else state.stats()

    @property
    def set_aside(self) -> Mapping[str, Exception]:
        """Why the pool does not touch a card that is in, by reader: it has refused a PIN, or `prepare` has failed."""
        state = self._state
        return {} if state is None else state.set_aside()

    @property
    def closed(self) -> bool:
        """Whether the pool has been closed."""
        return self._state is not None and self._state.closed

    def __repr__(self) -> str:
        state = self._state
        if state is None or state.closed:
            return f"<{type(self).__name__}: {'not open' if state is None else 'closed'}>"
        if self._generation != generation():
            return f"<{type(self).__name__}: of the parent process>"
        now = state.stats()
        return f"<{type(self).__name__}: {now.idle} idle, {now.lent} lent, {now.preparing} preparing, {now.waiting} waiting>"

    def __del__(self) -> None:
        """The pool was thrown away: its cards are closed in their own threads, and nothing is waited for."""
        state = self._state
        if state is not None and not state.closed and self._generation == generation():
            state.abandon()
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)


class Loan(AbstractContextManager[SCard]):
    """One loan of a card; from `CardPool.card`. The pool does not refer to it, so that it notices if it is thrown away."""

    __slots__ = ("_pool", "_scope", "_timeout", "_waiting")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)

    def __init__(self, pool: CardPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._waiting: Waiting[SCard] | None = None
        self._scope: Any = None

    def __enter__(self) -> SCard:
        """The card, once it is this loan's turn."""
        state = self._pool._state
        if state is None:
            raise RuntimeError("the pool is not open; enter its block, or call open()")
        if self._waiting is not None:
            raise RuntimeError("a loan is for one block; ask the pool for another one")
        waiting = self._waiting = Waiting()
        scope = self._scope = waiting.scope = state.new_scope()
        try:
            if not state.lend(waiting):
                self._wait(state, waiting)
            if state.asks_before_lending:
                self._wait_for_one_as_it_was(state, waiting)
            slot = waiting.slot
            assert slot is not None
            scope.__enter__()
            return slot.card
        except BaseException:
            retry_if_interrupted(state.release, waiting)
            raise

    def _wait(self, state: _State, waiting: Waiting[SCard]) -> None:
        seconds = self._timeout
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            wait_for(state, waiting, deadline)
            if state.start_block(waiting):
                return
            if seconds is not None and deadline is not None and time.monotonic() >= deadline:
                raise state.too_late(waiting, seconds, "no card of the pool")

    def _wait_for_one_as_it_was(self, state: _State, waiting: Waiting[SCard]) -> None:
        """See to it that the card was not reset by another program while it was idle."""
        while True:
            slot = waiting.slot
            assert slot is not None
            with suppress(SCardError):  # `lend_another` sees to a card that is gone
                check_card(slot.card)
                if slot.card._require_session().resets == slot.resets:
                    return
            state.lend_another(waiting)
            self._wait(state, waiting)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the card back."""
        state, waiting = self._pool._state, self._waiting
        if state is None or waiting is None:
            return
        try:
            state.release(waiting)
        except BaseException:  # Ctrl-C
            retry_if_interrupted(state.release, waiting)
            self._scope.__exit__(kind, error, traceback)
            raise
        try:
            ended = self._scope.__exit__(kind, error, traceback)
        except RuntimeError:
            if not state.leaves_elsewhere and (kind is None or not issubclass(kind, GeneratorExit)):
                raise
            return  # thrown away, perhaps with its loop; or left in another task, as pytest's fixtures are
        if ended and kind is not None and waiting.error is not None:  # on trio it is true where nothing was raised, too
            raise waiting.error

    def __del__(self) -> None:
        """Thrown away without an end: what it has done with the card is not known, which is opened anew."""
        waiting = self._waiting
        if waiting is None or waiting.slot is None:
            return
        state = self._pool._state
        if state is not None and state.generation == generation():
            state.drop(waiting)
            text = "a loan of a card was not given back: use it in a 'with' block"
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)
