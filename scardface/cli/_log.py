"""Which handler gets the library's log records while a command runs.

Rules:

- One handler at a time: what a command prints in its own way is not printed twice.
- A warning is a sentence on standard error, like an error. Without a handler Python would print it in its own format.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ._failures import print_error

_handlers: list[logging.Handler] = []
"""The handlers of this module; only the last one is installed."""


class Warnings(logging.Handler):
    """Prints warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        print_error(record.getMessage())


@contextmanager
def logging_to(handler: logging.Handler, level: int) -> Iterator[None]:
    """Within the block, send log records of at least `level` to this handler, and to no other of this module."""
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
