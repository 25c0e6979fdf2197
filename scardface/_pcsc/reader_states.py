"""The state of readers by name: all calls of SCardGetStatusChange go through here. Blocking.

Rules:

- A status call for several readers fails as a whole if one of them is gone (fact 16). pcsc-lite 2.5 fails in the same way for
  readers that are present, while cards move in others (fact 17): libpcsclite takes an event message for a part of the reader
  table. Then it returns an error code, or success with the flag UNKNOWN: 466 and 912 of 19,874 calls with 8 readers that all
  change at once.
- So only the list of readers decides that a reader is gone: none of 29,811 lists was wrong in the same time. As long as it has all
  the readers asked for, the call is repeated, at most `TRIES` times.
- The caller owns the context, and no other thread uses it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from .._enums import StateFlag
from ..errors import (
    NO_READERS_AVAILABLE,
    READER_UNAVAILABLE,
    UNKNOWN_READER,
    UNSUPPORTED_FEATURE_CODES,
    NoReaderError,
    SCardError,
    error_for,
)
from .backend import PNP_READER, Backend, Context, StatusChange, takes_reader_name
from .events import Reading

TRIES = 50
"""How many wrong answers in a row are not believed. A call and a list take 0.3 ms."""

READER_MAY_BE_GONE = frozenset({UNKNOWN_READER, READER_UNAVAILABLE, NO_READERS_AVAILABLE, *UNSUPPORTED_FEATURE_CODES})
"""Codes of a status call if a reader is gone, or if libpcsclite misread an answer (facts 16, 17, 21)."""

_CALL = "SCardGetStatusChange"
_UNKNOWN = int(StateFlag.UNKNOWN)


def status_change(context: Context, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
    """SCardGetStatusChange, for at most `timeout` ms, repeated while it wrongly reports that a reader is gone.

    Args:
        entries: reader names and the states to compare with, as the backend's call takes them.

    Raises:
        NoReaderError: a reader of `entries` is gone; the error's `reader` is its name.
        SCardError: any other error of PC/SC, also one of `READER_MAY_BE_GONE` if it persists.
    """
    end = time.monotonic() + timeout / 1000
    names = [name for name, _ in entries if name != PNP_READER]
    for tries_left in reversed(range(TRIES)):
        left = min(timeout, max(0, int(1000 * (end - time.monotonic()))))
        try:
            change = context.get_status_change(left, entries)
            if not tries_left or not any(state & _UNKNOWN for name, state, _ in change.entries if name != PNP_READER):
                return change
        except SCardError as error:
            if error.code not in READER_MAY_BE_GONE or not tries_left:
                raise
        listed = context.list_readers()
        for name in names:
            if name not in listed:
                raise error_for(UNKNOWN_READER, _CALL, name)
    raise AssertionError("not reached")


def reader_states(context: Context, names: Iterable[str], max_entries: int) -> dict[str, Reading]:
    """The state of the readers `names` now, queried `max_entries` at a time; without those that are gone."""
    asked = list(names)
    readings: dict[str, Reading] = {}
    while asked:
        part = asked[:max_entries]
        try:
            change = status_change(context, 0, [(name, StateFlag.UNAWARE) for name in part])
        except NoReaderError as error:
            if error.reader not in part:
                raise
            asked.remove(error.reader)
            continue
        readings.update((name, Reading.from_state(state, atr)) for name, state, atr in change.entries)
        del asked[:max_entries]
    return readings


def usable_readers(backend: Backend, names: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """`names` in order, in two parts: those that the binding can be asked about, and those that it cannot."""
    usable: list[str] = []
    left_out: list[str] = []
    for name in names:
        (usable if takes_reader_name(backend, name) else left_out).append(name)
    return usable, tuple(left_out)


def all_readers(backend: Backend, context: Context) -> dict[str, Reading]:
    """The state of all readers now, in the order of the list, without those that the binding cannot be asked about."""
    usable, _ = usable_readers(backend, context.list_readers())
    return reader_states(context, usable, backend.max_entries)


def reader_state(context: Context, name: str) -> Reading:
    """The state of the reader `name` now.

    Raises:
        NoReaderError: it is gone.
    """
    entry = status_change(context, 0, [(name, StateFlag.UNAWARE)]).entries[0]
    return Reading.from_state(entry.state, entry.atr)
