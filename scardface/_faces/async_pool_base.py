"""The base of the async pool in `pool.py`: what differs from the sync face by more than `await`.

Who owns what, who may call it from where, what ends it:

- A pool belongs to the event loop that opened it, and so do its cards; everything happens there.
- What is done with a card before it is lent runs in a task of the loop's own, not in a task group: the pool may be opened and
  closed in different tasks, as pytest's fixtures are. It ends with the pool, and ends no one else whatever it raises.
- A loan has a cancel scope, by which a card that goes ends its block.
"""

from __future__ import annotations

import contextvars
import inspect
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import anyio

from .._pcsc.backend import Backend
from .._session.session import Session
from .._threads import Loop, until_ended, within_grace
from .._waiting.acquisition import until_signal
from .._waiting.driver import until_idle
from ..errors import CANCELLED, WaitCancelledError
from .card_lock import CardLock
from .pool_request import PoolRequest
from .pool_state import PoolState, Slot, Waiting
from .scard import SCard


def check_function(name: str, function: Any) -> Any:
    """What the caller gave as `prepare`; a TypeError if it cannot be called."""
    if not callable(function):
        raise TypeError(f"{name}: a coroutine function of the open card is needed, not {type(function).__name__}")
    return function


async def result_of(value: Any) -> Any:
    """What a function of the caller's has returned, awaited if it can be."""
    return await value if inspect.isawaitable(value) else value


async def wait_for(state: FaceState, waiting: Waiting[SCard], deadline: float | None) -> None:
    """Return when `waiting` is over, or may be, or at the deadline (monotonic)."""
    signal = state.owner.signal()
    waiting.wake = signal.set
    if waiting.over:
        return
    if deadline is None:
        await signal.wait()
    else:
        await until_signal(signal, deadline)


async def check_card(card: SCard) -> None:
    """Have PC/SC say whether the card is there, and was reset; without an exchange."""
    await card._run(Session.check)


class _Stop:
    """Ends a task that makes a card ready, also one that has not begun: scopes can be made in tasks only."""

    __slots__ = ("asked", "scope")

    def __init__(self) -> None:
        self.asked = False
        self.scope: anyio.CancelScope | None = None

    def __call__(self) -> None:
        self.asked = True
        if self.scope is not None:
            self.scope.cancel()


class FaceState(PoolState[SCard]):
    """The cards of a pool of the async face."""

    def __init__(self, request: PoolRequest[SCard], backend: Backend) -> None:
        super().__init__(request, backend, Loop())
        self._context = contextvars.copy_context()
        self._preparing: dict[Slot[SCard], Any] = {}  # with its task, where the loop does not keep that itself
        self._none_left: anyio.Event | None = None
        self.new_scope: Callable[[], Any]
        """Makes by what a card that goes ends the block of its loan: that of this kind of loop, without a detour."""
        self.leaves_elsewhere = True
        """Whether a block may be left in another task than entered it, without which its scope cannot be left."""
        self._running_loop: Callable[[], object]
        if hasattr(self.owner.token, "run_sync_soon"):
            import trio  # loaded already, where there is such a token

            self._running_loop = trio.lowlevel.current_trio_token
            self.new_scope = trio.CancelScope
            self.leaves_elsewhere = False  # there the error of a scope says that scopes are not nested
        else:
            import asyncio

            self._running_loop = asyncio.get_running_loop
            self.new_scope = type(anyio.CancelScope())

    def refuse_elsewhere(self) -> None:
        try:
            running = self._running_loop()
        except RuntimeError:  # the other kind of loop, or none
            running = None
        if running is not self.owner.token:
            raise RuntimeError("this pool belongs to another event loop, in which it was opened; open one in each loop")

    def check_open(self) -> None:
        super().check_open()
        self.refuse_elsewhere()

    def new_card(self) -> SCard:
        return SCard.__new__(SCard)

    def take_over(self, card: SCard) -> None:
        card._loop = self.owner
        card._lock = CardLock(self.owner, card._require_session().card_key)

    def is_busy(self, card: SCard) -> bool:
        return card._lock.locked()

    def make_ready(self, slot: Slot[SCard]) -> None:
        stop = slot.stop = _Stop()
        self._preparing[slot] = None
        token: Any = self.owner.token
        if hasattr(token, "run_sync_soon"):
            import trio

            trio.lowlevel.spawn_system_task(self._prepare, slot, stop, name="scardface-pool", context=self._context.copy())
        else:
            self._preparing[slot] = self._context.copy().run(token.create_task, self._prepare(slot, stop))

    async def _prepare(self, slot: Slot[SCard], stop: _Stop) -> None:
        try:
            chosen = False
            scope = stop.scope = anyio.CancelScope()
            if stop.asked:
                scope.cancel()
            with scope:
                chosen = await self.steps(slot)
            if scope.cancelled_caught:
                self.failed(slot, slot.error or WaitCancelledError("the pool was closed", CANCELLED))
            else:
                self.made_ready(slot) if chosen else self.not_chosen(slot)
        except BaseException as error:
            self.failed(slot, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._preparing.pop(slot, None)
            if self._none_left is not None and not self._preparing:
                self._none_left.set()

    @abstractmethod
    async def steps(self, slot: Slot[SCard]) -> bool:
        """What is done with a card before it is lent; whether it is wanted."""

    async def wait_closed(self, cancelled: bool) -> None:
        """Return when nothing is left of the pool; once the task is cancelled, within 0.2 s."""
        await within_grace(self._until_nothing_is_left, cancelled=cancelled)

    async def _until_nothing_is_left(self) -> None:
        if self._preparing:
            self._none_left = anyio.Event()
            await self._none_left.wait()
        await until_ended(self.threads)
        await until_idle(self.driver)
