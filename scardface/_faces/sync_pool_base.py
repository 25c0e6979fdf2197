"""The base of the sync pool in `sync_pool.py`: what differs from the async face by more than `await`.

Who owns what, who may call it from where, what ends it:

- Any thread may borrow. It waits in slices, as all waits of this face, so Ctrl-C and `cancellable` blocks end the wait.
- What is done with a card before it is lent runs in a thread of its own. At the end of the pool its card is closed and what it
  waits for in this library ends; code that goes on nevertheless is left to its daemon thread.
- A card that goes ends what the block of its loan waits for in this library, as `while_present` does.
"""

from __future__ import annotations

import contextvars
import inspect
import threading
import time
from abc import abstractmethod
from typing import Any

from .._pcsc.backend import Backend
from .._session.session import Session
from .._threads import JOIN_TIMEOUT, SLICE, BlockScope, WaitingThread, no_op, spawn
from .._waiting.driver import until_idle_blocking
from ..errors import CANCELLED, WaitCancelledError
from .pool_request import PoolRequest
from .pool_state import PoolState, Slot, Waiting
from .sync_base import Anywhere, ThreadLock
from .sync_scard import SCard

_ADVICE = "a coroutine function cannot be awaited here; use scardface.pool.CardPool, or a plain function"


def check_function(name: str, function: Any) -> Any:
    """What the caller gave as `prepare`; a TypeError if it cannot be called here."""
    if not callable(function):
        raise TypeError(f"{name}: a function of the open card is needed, not {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{name}: {_ADVICE}")
    return function


def result_of(value: Any) -> Any:
    """What a function of the caller's has returned, which must not be a coroutine."""
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(f"prepare, match: {_ADVICE}")
    return value


def wait_for(state: FaceState, waiting: Waiting[SCard], deadline: float | None) -> None:
    """Return when `waiting` is over, or may be, or at the deadline (monotonic)."""
    caller = WaitingThread()
    waiting.wake = lambda: caller.post(no_op)

    def is_over() -> bool:
        state.take_dropped()
        return waiting.over

    caller.run(is_over, deadline)


def check_card(card: SCard) -> None:
    """Have PC/SC say whether the card is there, and was reset; without an exchange."""
    card._run(Session.check)


class FaceState(PoolState[SCard]):
    """The cards of a pool of the sync face."""

    new_scope = BlockScope
    """By what a card that goes ends the block of its loan."""
    leaves_elsewhere = False
    """Whether leaving that is an error where a block is left elsewhere; it is not."""

    def __init__(self, request: PoolRequest[SCard], backend: Backend) -> None:
        super().__init__(request, backend, Anywhere())
        self._context = contextvars.copy_context()
        self._preparing: list[threading.Thread] = []

    def refuse_elsewhere(self) -> None:
        for slot in list(self.slots):
            slot.session.refuse_in_callback()

    def new_card(self) -> SCard:
        card = SCard.__new__(SCard)
        card._lock = ThreadLock()
        return card

    def take_over(self, card: SCard) -> None:
        pass

    def is_busy(self, card: SCard) -> bool:
        free = card._lock.acquire(blocking=False)
        if free:
            card._lock.release()
        return not free

    def make_ready(self, slot: Slot[SCard]) -> None:
        scope = BlockScope()
        slot.stop = scope.cancel
        self._preparing = [thread for thread in self._preparing if thread.is_alive()]
        self._preparing.append(spawn("scardface-prepare", self._context.copy().run, self._prepare, slot, scope))

    def _prepare(self, slot: Slot[SCard], scope: BlockScope) -> None:
        """In a thread of its own."""
        try:
            chosen = False
            with scope:
                chosen = self.steps(slot)
            if scope.cancelled_caught:
                self.failed(slot, slot.error or WaitCancelledError("the pool was closed", CANCELLED))
            else:
                self.made_ready(slot) if chosen else self.not_chosen(slot)
        except BaseException as error:
            self.failed(slot, error)

    @abstractmethod
    def steps(self, slot: Slot[SCard]) -> bool:
        """What is done with a card before it is lent; whether it is wanted."""

    def wait_closed(self, cancelled: bool) -> None:
        """Return when nothing is left of the pool but what `prepare` still does, for which it waits 0.2 s at most."""
        until = time.monotonic() + JOIN_TIMEOUT
        for thread in self._preparing:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        for thread in self.threads:
            while thread.is_alive():
                thread.join(SLICE)
        until_idle_blocking(self.driver)
