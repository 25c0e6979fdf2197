"""One look at PC/SC without a monitor, for event loops: each in a short-lived thread."""

from __future__ import annotations

from collections.abc import Mapping

from . import _looks
from ._events import ReaderState
from ._threads import in_thread


async def readers(group: str | None = None, *, timeout: float | None = _looks.PATIENCE) -> tuple[str, ...]:
    """The names of the readers plugged in, in PC/SC's order.

    Args:
        group: only those of this reader group, where PC/SC keeps groups (pcsc-lite does not).
        timeout: seconds that the service has to answer. 0: 1 s; None and -1: for ever.

    Raises:
        ServiceUnavailableError: no PC/SC service, or none that answers within `timeout`.
    """
    return await in_thread("scardface-look-wait", lambda: _looks.list_readers(group, timeout))


async def groups(*, timeout: float | None = _looks.PATIENCE) -> tuple[str, ...]:
    """The names of the reader groups.

    Args:
        timeout: seconds that the service has to answer. 0: 1 s; None and -1: for ever.

    Raises:
        ServiceUnavailableError: no PC/SC service, or none that answers within `timeout`.
    """
    return await in_thread("scardface-look-wait", lambda: _looks.list_groups(timeout))


async def states(*, timeout: float | None = _looks.PATIENCE) -> Mapping[str, ReaderState]:
    """Reader name to `ReaderState`: one look at all readers, without a monitor.

    Args:
        timeout: seconds that the service has to answer. 0: 1 s; None and -1: for ever.

    Raises:
        ServiceUnavailableError: no PC/SC service, or none that answers within `timeout`.
    """
    return await in_thread("scardface-look-wait", lambda: _looks.list_states(timeout))
