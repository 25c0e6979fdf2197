"""Opening the card that somebody on a terminal means.

Rules of this room:

- A reader is meant by its name, a part of it, or its number in the list of readers.
- A script is a unit: with `--shared`, too, no other program comes between its commands.
- Who waits is told so, on a terminal, if it takes more than a moment.
- `--trace` shows what the library logs, on standard error; what may be secret is not in there.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from scardface import NoReaderError
from scardface.sync import SCard, ShareMode, readers

from ._failures import say
from ._options import Wish

MOMENT = 0.5
"""Seconds after which a wait is told of."""


def open_card(wish: Wish) -> SCard:
    """The card, open.

    Raises:
        CardTimeoutError, NoReaderError, ServiceUnavailableError: as `SCard`.
    """
    share = ShareMode.SHARED if wish.shared else ShareMode.EXCLUSIVE
    with told(f"waiting for a card{' that matches' if wish.atr else ''}; Ctrl-C ends it"):
        return SCard(reader_of(wish.reader), timeout=wish.timeout, atr=wish.atr, share=share)


def reader_of(text: str | None) -> str | re.Pattern[str] | None:
    """Which readers a text means.

    Raises:
        NoReaderError: a number that is none of a reader.
    """
    if text is None:
        return None
    if not text.isdecimal():
        return re.compile(re.escape(text), re.IGNORECASE)
    names = readers()
    if int(text) >= len(names):
        raise NoReaderError(f"there is no reader {text}: 'scardface readers' counts {len(names)}, from 0 on")
    return names[int(text)]


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
    logger = logging.getLogger("scardface")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(name)s %(message)s", "%H:%M:%S"))
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
