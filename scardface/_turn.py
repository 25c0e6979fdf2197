"""Whose turn it is to use an open card, among the tasks of its event loop.

Rules of this room:

- One task has the turn for a batch; the others wait in their order.
- A task that `hold`s it, for a transaction, may take it again and again; tasks that it starts are others, and wait.
- All of it belongs to the card's event loop.
- anyio.Lock would do, but for its 4.5 us, a seventh of what one command to a card takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from anyio.lowlevel import checkpoint_if_cancelled


class Turn:
    """See the head of this file. Made inside the event loop."""

    __slots__ = ("_depth", "_holder", "_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[anyio.Event] = deque()  # a task's turn comes when its event is set
        self._holder = 0  # the id of the task that holds it
        self._depth = 0  # how often that task has taken it again

    async def take(self) -> None:
        """Wait for the turn; whoever took it gives it back."""
        if self._holder and self._holder == anyio.get_current_task().id:
            self._depth += 1
            return
        await checkpoint_if_cancelled()  # a task that is cancelled already sends nothing
        if not self._taken:
            self._taken = True
            return
        turn = anyio.Event()
        self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self._pass_on()
            else:
                self._waiting.remove(turn)
            raise

    def give(self) -> None:
        """Give the turn back."""
        if self._depth:
            self._depth -= 1
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._taken = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let the current task, which has the turn, take it again."""
        before, self._holder = self._holder, anyio.get_current_task().id
        try:
            yield
        finally:
            self._holder = before
