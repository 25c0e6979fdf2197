"""Opening the card that somebody on a terminal means.

Rules:

- A script is a unit: with `--shared`, too, no other program comes between its commands.
- Who waits is told so, on a terminal, if it takes more than a moment.
- `--trace` shows what the library logs, on standard error; what may be secret is not in there.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext

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
)
from ..sync import SCard, ShareMode
from ._failures import E_TIMEOUT, say
from ._log import heard_by
from ._options import Wish
from ._which_reader import PATIENCE, is_usable, listed, none_matches, which

_LEAVING = 1.0
"""Seconds in which a monitor has to be left, whatever the service does."""
MOMENT = 0.5
"""Seconds after which a wait is told of."""


def open_card(wish: Wish) -> SCard:
    """The card, open.

    Raises:
        CardTimeoutError, NoReaderError, ServiceUnavailableError: as `SCard`.
        UsageError: the reader's name means several.
    """
    share = ShareMode.SHARED if wish.shared else ShareMode.EXCLUSIVE
    with told(f"waiting for a card{' that matches' if wish.atr else ''}; Ctrl-C ends it"):
        wait = wish.wait_for_reader
        reader, left = (None, wish.timeout) if wait and wish.reader is None else meant(wish.reader, wish.timeout, wait=wait)
        return SCard(reader, timeout=left, atr=wish.atr, share=share, lengths=wish.lengths, wait_for_reader=wait)


def meant(text: str | None, timeout: float | None, *, wait: bool) -> tuple[str | None, float | None]:
    """The reader that a text means, and what is left of the time.

    Args:
        text: as it was typed; None: any, and so is the answer.
        timeout: seconds; None: for ever.
        wait: whether to wait for one that is not there yet.

    Raises:
        UsageError: it means several.
        NoReaderError: none.
        CardTimeoutError: none has come.
        ServiceUnavailableError: PC/SC does not run, or does not answer.
    """
    begin = time.monotonic()
    if wait:
        anyio.run(_comes, text, timeout)
    names = listed(timeout)
    found = None if text is None else which(text, names)
    if found is None and (text is not None or not any(map(is_usable, names))):
        raise none_matches(text, names)
    return found, timeout if timeout is None or not wait else round(max(0.0, timeout - (time.monotonic() - begin)), 2)


@asynccontextmanager
async def watching(reader: str | None, timeout: float | None) -> AsyncIterator[ReaderMonitor]:
    """A monitor for so many seconds, after which the block ends; what was there at the beginning is told whatever the time.

    Args:
        reader: the only one to be told of; None: all are.
        timeout: seconds; None: for ever.
    """
    with anyio.move_on_after(PATIENCE) as whole:  # a service may freeze at any moment
        async with ReaderMonitor(reader) as monitor:
            whole.deadline = math.inf
            with anyio.move_on_after(timeout):
                yield monitor
            whole.deadline = anyio.current_time() + _LEAVING


async def _comes(text: str | None, timeout: float | None) -> None:
    """Return once there is a reader that a text means, with PC/SC or without it at first."""
    down: SCardError | None = None
    async with watching(None, timeout) as monitor:
        async for event in monitor:
            if isinstance(event, ReaderAdded) and await _is_there(text):
                return
            if isinstance(event, (ServiceDown, ServiceUp)):
                down = event.error if isinstance(event, ServiceDown) else None
    if down is not None:
        raise CardTimeoutError(f"no PC/SC service within {timeout:g} s: {down}", E_TIMEOUT) from down
    raise CardTimeoutError(f"no reader{' that matches' if text else ''} within {timeout:g} s", E_TIMEOUT)


async def _is_there(text: str | None) -> bool:
    try:
        names = await readers(timeout=PATIENCE)
        return any(map(is_usable, names)) if text is None else which(text, names) is not None
    except (NoReaderError, ServiceUnavailableError):  # not yet a reader of that number; gone again
        return False


def in_one_go(card: SCard, wish: Wish) -> AbstractContextManager[None]:
    """A block in which no other program gets a word in: a card that is shared is locked for it."""
    return card.transaction() if wish.shared else nullcontext()


@contextmanager
def told(words: str) -> Iterator[None]:
    """Say so, on a terminal, if the block takes more than a moment."""
    if not sys.stderr.isatty():
        yield
        return
    timer = threading.Timer(MOMENT, say, [words])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def traced(wanted: bool) -> Iterator[None]:
    """For the length of a block, what the library logs on standard error."""
    if not wanted:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(name)s %(message)s", "%H:%M:%S"))
    with heard_by(handler, logging.DEBUG):
        yield
