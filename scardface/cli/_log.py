"""What the library logs, and who hears it while a command runs.

Rules:

- One handler at a time: what a command shows in a way of its own is not said a second time.
- A warning is a sentence on standard error, as errors are. Without a handler Python would print it in its own form.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ._failures import say

_handlers: list[logging.Handler] = []
"""Ours, the one that hears last."""


class Warnings(logging.Handler):
    """Says warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        say(record.getMessage())


@contextmanager
def heard_by(handler: logging.Handler, level: int) -> Iterator[None]:
    """For the length of a block, have what the library logs from a level on heard by this handler, and by no other of ours."""
    logger = logging.getLogger("scardface")
    before = logger.level
    for other in _handlers:
        logger.removeHandler(other)
    handler.setLevel(level)
    logger.setLevel(min(level, logger.getEffectiveLevel()))
    logger.addHandler(handler)
    _handlers.append(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        _handlers.remove(handler)
        for other in _handlers[-1:]:
            logger.addHandler(other)
        logger.setLevel(before)
