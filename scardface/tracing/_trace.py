"""Starting and ending a trace."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

from .._session import trace_hook
from .._session.trace_hook import Traffic
from .._threads import RLock
from ._record import Record, record_of

Writer: TypeAlias = Callable[[Record], object]
"""Takes a record. Called from all threads that speak to cards."""

_lock = RLock()


class Trace:
    """A trace that runs, from `trace`: a context manager, or ended by `stop`.

    Args:
        writers: as for `trace`.
        show_secrets: as for `trace`.
    """

    def __init__(self, writers: tuple[Writer, ...], show_secrets: bool) -> None:
        self._writers = writers
        self._show_secrets = show_secrets
        self._offset = time.time() - time.monotonic()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the trace, and close its writers that can be closed; does nothing the second time."""
        with _lock:
            if self._receive not in trace_hook.receivers:
                return
            trace_hook.receivers = tuple(each for each in trace_hook.receivers if each != self._receive)
        for writer in self._writers:
            close = getattr(writer, "close", None)
            if close is not None:
                close()

    def _receive(self, traffic: Traffic) -> None:
        record = record_of(traffic, self._offset, time.monotonic(), self._show_secrets)
        for writer in self._writers:
            writer(record)


def trace(*writers: Writer, show_secrets: bool = False) -> Trace:
    """Trace all cards of this process from now on: `with trace(TextWriter(sys.stderr)): ...`, or until `stop()` of what it returns.

    Args:
        writers: one at least. Those that have a `close` are closed at the end.
        show_secrets: leave nothing out: PINs, keys and what they protect are written as they are.

    Returns:
        The trace, which runs already.

    Raises:
        TypeError: no writer, or one that cannot be called.
    """
    if not writers:
        raise TypeError("trace() needs a writer, for instance TextWriter(sys.stderr)")
    for writer in writers:
        if not callable(writer):
            raise TypeError(f"a writer is called with each record, which {type(writer).__name__} cannot be")
    started = Trace(writers, show_secrets)
    with _lock:
        trace_hook.receivers = (*trace_hook.receivers, started._receive)
    return started
