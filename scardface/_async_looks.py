"""One look at PC/SC without a monitor, for event loops: each in a short-lived thread."""

from __future__ import annotations

from collections.abc import Mapping

from . import _looks
from ._events import ReaderState
from ._threads import in_thread


async def readers(group: str | None = None) -> tuple[str, ...]:
    """The names of the readers plugged in, in PC/SC's order.

    Args:
        group: only those of this reader group, where PC/SC keeps groups (pcsc-lite does not).

    Raises:
        ServiceUnavailableError: no PC/SC service.
    """
    return await in_thread("scardface-look", lambda: _looks.list_readers(group))


async def groups() -> tuple[str, ...]:
    """The names of the reader groups.

    Raises:
        ServiceUnavailableError: no PC/SC service.
    """
    return await in_thread("scardface-look", _looks.list_groups)


async def states() -> Mapping[str, ReaderState]:
    """Reader name to `ReaderState`: one look at all readers, without a monitor.

    Raises:
        ServiceUnavailableError: no PC/SC service.
    """
    return await in_thread("scardface-look", _looks.list_states)
