"""The loop thread of the sync faces: an event loop that runs only while a sync wait or monitor is pending.

Who owns what, who may call it from where, what ends it:

- `start` comes from any thread and returns at once. What it hands over was made by the caller before, so that an interrupted caller
  can still end it.
- One daemon thread runs the loop while anything is pending; the last one to end ends it. The next `start` makes a new one: a thread
  that is on its way out takes no more work.
- A forked child has no such thread and starts its own.

anyio's blocking portal is not used: left open it hangs the interpreter's exit, and a signal at the wrong moment loses its calls.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import anyio

from ._threads import Bell, Loop, forget_at_fork, spawn

T = TypeVar("T")

SLICE = 0.1 if sys.platform == "win32" else 1.0
"""Seconds of one slice of a caller's wait. On Windows Ctrl-C cannot break one; elsewhere one that comes just before it waits."""
SETTLE = 0.2
"""Seconds that a caller whose wait is over still waits for the loop thread to end."""


class Pending:
    """One coroutine for the loop thread. Made before it is started, so that an interrupted caller can cancel it all the same.

    Args:
        job: makes the coroutine, which must not raise.
    """

    def __init__(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.job = job
        self.ended = threading.Event()
        self._cancelled = False
        self._running: _LoopThread | None = None
        self._scope: anyio.CancelScope | None = None

    def cancel(self) -> None:
        """Cancel the coroutine, begun or not; from any thread."""
        self._cancelled = True
        if self._running is not None:
            self._running.post(self._cancel_here)

    def _cancel_here(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def run(self, running: _LoopThread) -> None:
        """Run the coroutine, in the loop."""
        self._running = running
        try:
            with anyio.CancelScope() as self._scope:
                if self._cancelled:
                    self._cancel_here()
                await self.job()
        finally:
            running.finished()
            self.ended.set()

    def settle(self) -> None:
        """Wait, 0.2 s at most, until the coroutine has ended, and its thread with it if it was the last."""
        end = time.monotonic() + SETTLE
        if self.ended.wait(SETTLE) and self._running is not None and not self._running.busy:
            self._running.thread.join(max(0.0, end - time.monotonic()))


class _LoopThread:
    """One run of the loop. What is to begin, and the number of those begun, are guarded by the module's lock."""

    def __init__(self) -> None:
        self.waiting: list[Pending] = []
        self._begun = 0
        self._loop: Loop | None = None
        self._bell: Bell | None = None
        self.thread = spawn("scardface-sync", anyio.run, self._main)

    @property
    def busy(self) -> bool:
        """Whether anything is to begin or has not ended."""
        return bool(self.waiting or self._begun)

    def post(self, callback: Callable[[], object]) -> None:
        """Run `callback` in the loop, if it still runs."""
        if self._loop is not None:
            self._loop.post(callback)

    def knock(self) -> None:
        """Have the loop look for what is to begin."""
        if self._bell is not None:
            self._bell.ring()

    def finished(self) -> None:
        """One of those begun has ended; said in the loop."""
        with _lock:
            self._begun -= 1
        self.knock()

    async def _main(self) -> None:
        global _running
        async with anyio.create_task_group() as tasks:
            with _lock:
                self._loop = Loop()
                bell = self._bell = Bell(self._loop)
            while True:
                with _lock:
                    begin, self.waiting = self.waiting, []
                    self._begun += len(begin)
                    if not self._begun:
                        if _running is self:
                            _running = None
                        return
                for pending in begin:
                    tasks.start_soon(pending.run, self)
                await bell.wait()


_lock = threading.RLock()
_running: _LoopThread | None = None


def start(pending: Pending) -> None:
    """Run a coroutine in the loop thread. An interrupt at any moment in here leaves nothing half done."""
    global _running
    with _lock:
        if _running is None:
            _running = _LoopThread()
        _running.waiting.append(pending)
        _running.knock()


def get(queue: SimpleQueue[T]) -> T:
    """The next item, waiting in slices, so that a signal's handler runs soon on every platform."""
    while True:
        try:
            return queue.get(timeout=SLICE)
        except Empty:
            continue


def insist(step: Callable[[], object]) -> None:
    """A step that an interrupted caller must not leave undone: who presses Ctrl-C again meanwhile has been heard already.

    Args:
        step: may be begun again where it was interrupted.
    """
    while True:
        try:
            step()
        except KeyboardInterrupt:
            continue
        return


def _forget() -> None:
    global _running, _lock
    _running = None
    _lock = threading.RLock()


forget_at_fork(_forget)
