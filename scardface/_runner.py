"""The loop thread of the sync faces: an event loop that runs only while a sync wait or monitor is pending.

Who owns what, who may call it from where, what ends it:

- `start` comes from any thread; it hands over a coroutine function and returns at once. What the coroutine owns must have been made
  by the caller before, so that an interrupted caller can still end it.
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
"""Seconds of one slice of a caller's wait; on Windows Ctrl-C cannot break one."""
SETTLE = 0.2
"""Seconds that a caller whose wait is over still waits for the loop thread to end."""


class Pending:
    """One coroutine in the loop thread."""

    def __init__(self, running: _LoopThread, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._running = running
        self.job = job
        self.cancelled = False
        self.scope: anyio.CancelScope | None = None
        self.ended = threading.Event()

    def cancel(self) -> None:
        """Cancel the coroutine; from any thread."""
        self.cancelled = True
        self._running.post(self.cancel_here)

    def cancel_here(self) -> None:
        """The same, in the loop."""
        if self.scope is not None:
            self.scope.cancel()

    def settle(self) -> None:
        """Wait, 0.2 s at most, until the coroutine has ended, and its thread with it if it was the last."""
        end = time.monotonic() + SETTLE
        if self.ended.wait(SETTLE) and not self._running.pending:
            self._running.thread.join(max(0.0, end - time.monotonic()))


class _LoopThread:
    """One run of the loop. `pending` is guarded by the module's lock."""

    def __init__(self) -> None:
        self.pending = 0
        self.inbox: SimpleQueue[Pending] = SimpleQueue()
        self._loop: Loop | None = None
        self._bell: Bell | None = None
        self.thread = spawn("scardface-sync", anyio.run, self._main)

    def post(self, callback: Callable[[], object]) -> None:
        """Run `callback` in the loop, if it still runs; one that has not begun finds all that was posted in its inbox."""
        if self._loop is not None:
            self._loop.post(callback)

    def knock(self) -> None:
        """Have the loop look into its inbox."""
        if self._bell is not None:
            self._bell.ring()

    async def _main(self) -> None:
        with _lock:
            self._loop = Loop()
            bell = self._bell = Bell(self._loop)
        async with anyio.create_task_group() as tasks:
            while True:
                while not self.inbox.empty():
                    tasks.start_soon(self._run, self.inbox.get(), bell)
                with _lock:
                    if not self.pending:
                        return
                await bell.wait()

    async def _run(self, pending: Pending, bell: Bell) -> None:
        global _running
        try:
            with anyio.CancelScope() as pending.scope:
                if pending.cancelled:
                    pending.cancel_here()
                await pending.job()
        finally:
            with _lock:
                self.pending -= 1
                if not self.pending and _running is self:
                    _running = None
            pending.ended.set()
            bell.strike()


_lock = threading.RLock()
_running: _LoopThread | None = None


def start(job: Callable[[], Coroutine[Any, Any, None]]) -> Pending:
    """Run the coroutine that `job` makes in the loop thread. It must not raise."""
    global _running
    with _lock:
        if _running is None:
            _running = _LoopThread()
        running = _running
        running.pending += 1
        pending = Pending(running, job)
        running.inbox.put(pending)
        running.knock()
    return pending


def get(queue: SimpleQueue[T]) -> T:
    """The next item, waiting in slices, so that a signal's handler runs soon on every platform."""
    while True:
        try:
            return queue.get(timeout=SLICE)
        except Empty:
            continue


def _forget() -> None:
    global _running, _lock
    _running = None
    _lock = threading.RLock()


forget_at_fork(_forget)
