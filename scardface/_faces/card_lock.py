"""Whose turn it is to use an open card, among the tasks of its event loop.

Rules of this room:

- One task has the turn for a batch; the others wait in their order.
- A transaction has the turn for its whole block. The task that began it, and all that is started inside, take turns among
  themselves: a context variable, which tasks inherit, says inside which transaction a task is. What waits inside when the block
  ends, or comes later, is an outsider.
- A block may be left by another task than entered it, as that of a fixture is.
- Who would wait for itself, or for a transaction whose task has ended without leaving it, is told so at once. (On asyncio also who
  waits already; trio tells nobody of the end of a task.)
- All of it belongs to the card's event loop; a task of another one is refused.
- anyio.Lock would do for the rest, but for its 4.5 us, a seventh of what one command to a card takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from .._threads import Loop

_ENDED = (
    "the card is in a transaction that a task has begun which has ended since, without leaving the block: nobody would end "
    "this wait. Use the card in the task that entered the block, or in one that was started inside"
)
_BY_ANOTHER = "this task is in a transaction that it holds on the same card by another SCard: it would wait for itself"
_ITSELF = "the card is in a transaction of this very task, outside of whose context it is used: it would wait for itself"


class _Waiting:
    """One task that waits."""

    __slots__ = ("event", "has_turn")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.has_turn = False


class Level:
    """Those who take turns among themselves: all tasks, or those inside one transaction.

    Attributes:
        outer: the level whose turn the transaction has; None: the card's own.
        around: the transaction, of whatever card, inside which it began.
        beginner: the task that began it.
    """

    __slots__ = ("around", "beginner", "ended", "idle", "inner", "left", "outer", "taken", "turn", "waiting")

    def __init__(self, turn: Turn, outer: Level | None = None, around: Level | None = None, beginner: Any = None) -> None:
        self.turn = turn
        self.outer = outer
        self.around = around
        self.beginner = beginner
        self.inner: Level | None = None  # the transaction that has the turn
        self.taken = False
        self.waiting: deque[_Waiting] = deque()
        self.ended = self.left = False
        self.idle: anyio.Event | None = None

    def wake_all(self, *_: object) -> None:
        """Have those who wait see anew where they are."""
        waiting, self.waiting = self.waiting, deque()
        for one in waiting:
            one.event.set()


_innermost: ContextVar[Level | None] = ContextVar("scardface_transaction", default=None)


class Turn:
    """See the head of this file. Made inside the event loop.

    Args:
        place: equal for those who share a card, which PC/SC lets wait for each other's transactions.
    """

    __slots__ = ("_current_task", "_ground", "_loop", "_place", "_running")

    def __init__(self, loop: Loop, place: object = None) -> None:
        self._place = place
        self._ground = Level(self)
        self._loop = loop.token
        self._running: Callable[[], object]
        self._current_task: Callable[[], Any]
        if hasattr(loop.token, "run_sync_soon"):
            import trio  # loaded already, where there is such a token

            self._running, self._current_task = trio.lowlevel.current_trio_token, trio.lowlevel.current_task
        else:
            import asyncio

            self._running, self._current_task = asyncio.get_running_loop, asyncio.current_task

    async def take(self) -> Level:
        """Wait for the turn; whoever took it gives it back.

        Returns:
            Where it was taken.

        Raises:
            RuntimeError: another event loop; or it would wait for itself, or for ever.
        """
        self.refuse_elsewhere()
        await checkpoint_if_cancelled()  # a task that is cancelled already sends nothing
        while True:
            level = self._level()
            if not level.taken:
                level.taken = True
                return level
            self._refuse_for_ever(level)
            waiting = _Waiting()
            level.waiting.append(waiting)
            try:
                await waiting.event.wait()
            except BaseException:
                if waiting.has_turn:
                    self.give(level)
                else:
                    with suppress(ValueError):  # the level has ended, and forgotten who waited
                        level.waiting.remove(waiting)
                raise
            if waiting.has_turn:
                return level

    def refuse_elsewhere(self) -> None:
        """RuntimeError in another event loop than the card's."""
        try:
            running = self._running()
        except RuntimeError:  # the other kind of loop
            running = None
        if running is not self._loop:
            raise RuntimeError("this card belongs to another event loop, in which it was opened; open it in the one that uses it")

    def _level(self) -> Level:
        """Where the current task takes its turn: in the innermost transaction that it is inside."""
        level = _innermost.get()
        while level is not None and (level.ended or level.turn is not self):
            if not level.ended and self._place is not None and level.turn._place == self._place:
                raise RuntimeError(_BY_ANOTHER)
            level = level.around
        return self._ground if level is None else level

    def _refuse_for_ever(self, level: Level) -> None:
        inner = level.inner
        while inner is not None:
            if inner.beginner is self._current_task():
                raise RuntimeError(_ITSELF)
            if _is_over(inner.beginner):
                raise RuntimeError(_ENDED)
            inner = inner.inner

    def give(self, level: Level) -> None:
        """Give the turn back that was taken at `level`."""
        if level.waiting:
            waiting = level.waiting.popleft()
            waiting.has_turn = True
            waiting.event.set()
            return
        level.taken = False
        if level.idle is not None:
            level.idle.set()
        if level.left and level.outer is not None:
            self.give(level.outer)

    # Transactions.

    def begin(self, outer: Level) -> Level:
        """The current task, which has the turn of `outer`, begins a transaction: a level of its own, for it and what it starts."""
        around = _innermost.get()
        while around is not None and around.ended:
            around = around.around
        level = outer.inner = Level(self, outer, around, self._current_task())
        _innermost.set(level)
        if hasattr(level.beginner, "add_done_callback"):
            level.beginner.add_done_callback(outer.wake_all)
        return level

    def end(self, level: Level) -> None:
        """The block ends: nobody is inside any more, but who has the turn there. Nothing the second time."""
        if level.ended:
            return
        level.ended = True
        if _innermost.get() is level:
            _innermost.set(level.around)
        if level.outer is not None and hasattr(level.beginner, "remove_done_callback"):
            level.beginner.remove_done_callback(level.outer.wake_all)
        level.wake_all()

    async def idle(self, level: Level) -> None:
        """Return once nobody has the turn inside a block that has ended."""
        if level.taken:
            level.idle = anyio.Event()
            await level.idle.wait()

    def leave(self, level: Level) -> None:
        """Give the turn back that the transaction had; if somebody has it inside, then when that one gives it back."""
        self.end(level)
        level.left, level.beginner = True, None
        if level.outer is not None:
            level.outer.inner = None
            if not level.taken:
                self.give(level.outer)


def _is_over(task: Any) -> bool:
    """Whether a task, of asyncio or trio, has ended."""
    if hasattr(task, "done"):
        return bool(task.done())
    return getattr(task.coro, "cr_frame", task) is None
