"""Exchanges of several commands with an open card, whichever face it is of.

Rules:

- What is exchanged is a generator without I/O: it yields commands, is sent responses, and returns a result. So it is written once,
  and neither face can differ from the other.
- The card is anything with a `send` that takes a command: an SCard, a channel, a layer, a Recorder. What comes out is what its
  `send` makes of it: on the async face something to await, on the sync face the result.
- If the card has transactions, all commands go out in one: nobody else's come in between, and what was selected stays so.
- Commands go out one by one, so that the exchange sees every response, whatever the card's `success` is.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias, TypeVar

from ._apdu import C_APDU, R_APDU

T = TypeVar("T")

Steps: TypeAlias = "Generator[C_APDU, R_APDU, T]"
"""An exchange of several commands."""


class SyncSender(Protocol):
    """An open card of the sync face, its channel, its layer, or a Recorder that wraps it."""

    def send(self, apdu: C_APDU, /) -> R_APDU:
        """The response to a command, which is sent.

        Args:
            apdu: the command.
        """


class AsyncSender(Protocol):
    """An open card of the async face, its channel, its layer, or a Recorder that wraps it."""

    def send(self, apdu: C_APDU, /) -> Coroutine[Any, Any, R_APDU]:
        """The response to a command, which is sent, once it is awaited.

        Args:
            apdu: the command.
        """


def carry_out(card: Any, steps: Steps[T]) -> Any:
    """Carry out an exchange with an open card; its result, or something to await that is.

    Args:
        card: a `SyncSender` or an `AsyncSender`.
        steps: not started; it yields at least one command.

    Raises:
        TypeError: `card` has no `send`.
    """
    if not callable(getattr(card, "send", None)):
        raise TypeError(f"an open card is needed, whose send() takes a command, not {type(card).__name__}")
    begin = getattr(card, "transaction", None)
    if begin is not None:
        block = begin()
        return _in_async_block(card, steps, block) if hasattr(block, "__aenter__") else _in_block(card, steps, block)
    pending = card.send(next(steps))
    return _go_on_async(card, steps, pending) if isawaitable(pending) else _go_on(card, steps, pending)


def _in_block(card: SyncSender, steps: Steps[T], block: AbstractContextManager[None]) -> T:
    with block:
        return _go_on(card, steps, card.send(next(steps)))


async def _in_async_block(card: AsyncSender, steps: Steps[T], block: AbstractAsyncContextManager[None]) -> T:
    async with block:
        return await _go_on_async(card, steps, card.send(next(steps)))


def _go_on(card: SyncSender, steps: Steps[T], response: R_APDU) -> T:
    while True:
        try:
            command = steps.send(response)
        except StopIteration as end:
            result: T = end.value
            return result
        response = card.send(command)


async def _go_on_async(card: AsyncSender, steps: Steps[T], pending: Any) -> T:
    while True:
        try:
            command = steps.send(await pending)
        except StopIteration as end:
            result: T = end.value
            return result
        pending = card.send(command)
