"""One look at PC/SC without a monitor: readers, groups, states. Blocking, each with a context of its own while it looks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from ._backend import Context
from ._default import default_backend
from ._events import ReaderState, Reading
from ._watch import look
from .errors import SCardError

logger = logging.getLogger("scardface.watch")

T = TypeVar("T")


def _with_context(use: Callable[[Context], T]) -> T:
    context = default_backend().establish()
    try:
        return use(context)
    finally:
        try:
            context.release()
        except SCardError as error:  # what was seen is no less true
            logger.debug("after a look: %s", error)


def list_readers(group: str | None) -> tuple[str, ...]:
    """The readers' names; of one group, where PC/SC keeps groups."""
    if group is not None and not isinstance(group, str):
        raise TypeError(f"group: a str or None is needed, not {type(group).__name__}")
    return _with_context(lambda context: context.list_readers(None if group is None else [group]))


def list_groups() -> tuple[str, ...]:
    """The reader groups' names."""
    return _with_context(lambda context: context.list_reader_groups())


def list_states() -> Mapping[str, ReaderState]:
    """Reader name to state."""
    limit = default_backend().max_entries
    readings: dict[str, Reading] = _with_context(lambda context: look(context, limit))
    return MappingProxyType({name: reading.state() for name, reading in readings.items()})
