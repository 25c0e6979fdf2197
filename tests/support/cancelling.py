"""Cancelling a coroutine at a place of its own choosing: the n-th time that it suspends.

Rules:

- The coroutine is driven as its event loop drives it; only the n-th suspension is preceded by the cancel, which the loop
  delivers there, at that very await.
- Where a coroutine suspends hangs on what threads do meanwhile, so two runs may differ; all places are met all the same, since
  n goes on until the coroutine ends before its n-th suspension.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class Suspensions:
    """How often a coroutine suspended."""

    def __init__(self) -> None:
        self.count = 0


@types.coroutine
def _stepped(coroutine: Coroutine[Any, Any, T], seen: Suspensions, at: int, cancel: Callable[[], object]) -> Generator[Any, Any, T]:
    step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731
    while True:
        try:
            request = step()
        except StopIteration as end:
            value: T = end.value
            return value
        seen.count += 1
        if seen.count == at:
            cancel()
        try:
            answer = yield request
        except BaseException as error:
            step = _throw(coroutine, error)
        else:
            step = _send(coroutine, answer)


def _send(coroutine: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


def _throw(coroutine: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


async def by_scope(coroutine: Coroutine[Any, Any, object], at: int) -> bool:
    """Cancel by a cancel scope at the `at`-th suspension; whether it came to that."""
    seen = Suspensions()
    with anyio.CancelScope() as scope:
        await _stepped(coroutine, seen, at, scope.cancel)
    return seen.count >= at


async def by_task(coroutine: Coroutine[Any, Any, object], at: int) -> bool:
    """The same by asyncio's `Task.cancel`, which is delivered once and not again."""
    seen = Suspensions()

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        await _stepped(coroutine, seen, at, task.cancel)

    task = asyncio.ensure_future(run())
    await asyncio.wait([task])
    if not task.cancelled():
        await task
    return seen.count >= at
