"""Opening the card that the options of a command choose.

Rules:

- A script is not interrupted: even with `--shared`, no other program's command comes between its commands.
- On a terminal, a wait that takes more than a moment is announced.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Any

import anyio

from .. import (
    CardTimeoutError,
    NoReaderError,
    ReaderAdded,
    ReaderMonitor,
    SCardError,
    ServiceDown,
    ServiceUnavailableError,
    ServiceUp,
    readers,
    serial,
)
from ..sync import SCard, ShareMode
from ._failures import E_TIMEOUT, print_error
from ._interrupt import run_loop
from ._options import CardChoice
from ._which_reader import PATIENCE, is_usable, listed, none_matches, which

_LEAVING = 1.0
"""Seconds that leaving a monitor may take, whatever the service does."""
MOMENT = 0.5
"""Seconds after which a wait is announced."""


def open_card(choice: CardChoice) -> SCard:
    """The card, open.

    Raises:
        CardTimeoutError, NoReaderError, ServiceUnavailableError: as `SCard`.
        UsageError: several readers match.
    """
    share = ShareMode.SHARED if choice.shared else ShareMode.EXCLUSIVE
    with wait_notice(f"waiting for a card{' that matches' if choice.atr else ''}; Ctrl-C ends it"):
        wait = choice.wait_for_reader
        reader: Any
        if choice.serial is not None:
            reader, left = serial(choice.serial), choice.timeout
        elif wait and choice.reader is None:
            reader, left = None, choice.timeout
        else:
            reader, left = resolve_reader(choice.reader, choice.timeout, wait=wait)
        return SCard(
            reader,
            timeout=left,
            atr=choice.atr,
            share=share,
            lengths=choice.lengths,
            wait_for_reader=wait,
            success=choice.success,
            protocols=choice.protocols,
            options=choice.exchange,
        )


def resolve_reader(text: str | None, timeout: float | None, *, wait: bool) -> tuple[str | None, float | None]:
    """The name of the reader that was asked for, and what is left of the time.

    Args:
        text: as it was entered; None: any reader, and None is returned.
        timeout: seconds; None: for ever.
        wait: whether to wait for one that is not there yet.

    Raises:
        UsageError: several readers match.
        NoReaderError: none does.
        CardTimeoutError: none was plugged in.
        ServiceUnavailableError: PC/SC does not run, or does not answer.
    """
    begin = time.monotonic()
    if wait:
        run_loop(_wait_for_reader, text, timeout)
    names = listed(timeout)
    found = None if text is None else which(text, names)
    if found is None and (text is not None or not any(map(is_usable, names))):
        raise none_matches(text, names)
    return found, timeout if timeout is None or not wait else round(max(0.0, timeout - (time.monotonic() - begin)), 2)


@asynccontextmanager
async def watching(reader: str | None, timeout: float | None) -> AsyncIterator[ReaderMonitor]:
    """A monitor for so many seconds, after which the block ends; the initial events come even if that time is 0.

    Args:
        reader: the only reader to watch; None: all.
        timeout: seconds; None: for ever.
    """
    with anyio.move_on_after(PATIENCE) as whole:  # a service may freeze at any moment
        async with ReaderMonitor(reader) as monitor:
            whole.deadline = math.inf
            with anyio.move_on_after(timeout):
                yield monitor
            whole.deadline = anyio.current_time() + _LEAVING


async def _wait_for_reader(text: str | None, timeout: float | None) -> None:
    """Return once a matching reader is there; PC/SC may be started meanwhile."""
    down: SCardError | None = None
    async with watching(None, timeout) as monitor:
        async for event in monitor:
            if isinstance(event, ReaderAdded) and await _is_present(text):
                return
            if isinstance(event, (ServiceDown, ServiceUp)):
                down = event.error if isinstance(event, ServiceDown) else None
    if down is not None:
        raise CardTimeoutError(f"no PC/SC service within {timeout:g} s: {down}", E_TIMEOUT) from down
    raise CardTimeoutError(f"no reader{' that matches' if text else ''} within {timeout:g} s", E_TIMEOUT)


async def _is_present(text: str | None) -> bool:
    try:
        names = await readers(timeout=PATIENCE)
        return any(map(is_usable, names)) if text is None else which(text, names) is not None
    except (NoReaderError, ServiceUnavailableError):  # no reader of that number yet; or the service is gone again
        return False


def uninterrupted(card: SCard, choice: CardChoice) -> AbstractContextManager[None]:
    """A block in which no other program sends commands: a shared card is locked by a transaction."""
    return card.transaction() if choice.shared else nullcontext()


@contextmanager
def wait_notice(message: str) -> Iterator[None]:
    """Print a notice, on a terminal, if the block takes more than a moment."""
    if not sys.stderr.isatty():
        yield
        return
    timer = threading.Timer(MOMENT, print_error, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
