"""Generated from `queries.py` by `.ci/generate_sync.py`, which writes it anew: edit that file, not this one."""

from __future__ import annotations

from collections.abc import Mapping

from .._pcsc.events import ReaderState
from .blocking_queries import DEFAULT_TIMEOUT, in_this_thread, list_groups, list_readers, list_states


def readers(group: str | None = None, *, timeout: float | None = DEFAULT_TIMEOUT) -> tuple[str, ...]:
    """The names of the readers plugged in, in PC/SC's order.

    Args:
        group: only those of this reader group, where PC/SC keeps groups (pcsc-lite does not).
        timeout: seconds that the service has to answer. 0: 1 s; None and -1: for ever.

    Raises:
        ServiceUnavailableError: no PC/SC service, or none that answers within `timeout`.
    """
    return in_this_thread(list_readers, group, timeout)


def groups(*, timeout: float | None = DEFAULT_TIMEOUT) -> tuple[str, ...]:
    """The names of the reader groups.

    Args:
        timeout: seconds that the service has to answer. 0: 1 s; None and -1: for ever.

    Raises:
        ServiceUnavailableError: no PC/SC service, or none that answers within `timeout`.
    """
    return in_this_thread(list_groups, timeout)


def states(*, timeout: float | None = DEFAULT_TIMEOUT) -> Mapping[str, ReaderState]:
    """Reader name to `ReaderState`: one look at all readers, without a monitor.

    Args:
        timeout: seconds that the service has to answer. 0: 1 s; None and -1: for ever.

    Raises:
        ServiceUnavailableError: no PC/SC service, or none that answers within `timeout`.
    """
    return in_this_thread(list_states, timeout)
