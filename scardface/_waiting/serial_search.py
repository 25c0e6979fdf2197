"""Finds the readers that have a serial number, and follows them to other names while an acquisition waits.

Who owns what, who may call it from where, what ends it:

- One `SerialSearch` belongs to one acquisition. `results` is used in a thread that the acquisition starts for it: asking a reader
  for its number may block. `receive` and `fail` are the driver's; `stop` is signal-safe (see the package).
- It ends after the first result, unless readers are waited for; then when `stop` was called, or with the driver's error.
- A reader that another program holds exclusively cannot be asked; it is asked as soon as it is free.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Generator, Mapping
from queue import Empty, SimpleQueue

from .._enums import StateFlag
from .._pcsc.backend import Backend
from .._pcsc.events import Event, Snapshot
from .._session.serials import serial_numbers
from .._threads import log_safely
from ..errors import SCardError
from .driver import Driver
from .messages import Owner, Subscribed, Unsubscribed

logger = logging.getLogger("scardface")

RETRY = 0.5
"""Seconds until readers are asked again after PC/SC failed, which no snapshot need report."""


class _Change(enum.Enum):
    """When readers should be asked again."""

    NOW = enum.auto()
    LATER = enum.auto()
    """After `RETRY` seconds."""


class SerialSearch:
    """Finds the readers that have a serial number, for one acquisition.

    Args:
        serial: the serial number.
        follow: whether to go on after the first result.
        ended: whether the acquisition has ended.
    """

    def __init__(self, serial: str, backend: Backend, driver: Driver, follow: bool, ended: Callable[[], bool]) -> None:
        self.owner: Owner = self
        self._serial = serial
        self._backend = backend
        self._driver = driver
        self._follow = follow
        self._ended = ended
        self._names: tuple[str, ...] = ()  # of the readers that were there last
        self._held: frozenset[str] = frozenset()
        self._refused: frozenset[str] = frozenset()  # the readers that could not be asked the last time
        self._changes: SimpleQueue[_Change | BaseException] = SimpleQueue()
        self._retry = False  # ask again after `RETRY` in any case

    # In the thread of its own.

    def results(self) -> Generator[frozenset[str], None, None]:
        """The names of the readers with the number: as it is now, then whenever that may have changed.

        Raises:
            SCardError: PC/SC failed, and readers are not waited for; or no thread could be started to watch them.
        """
        try:
            known = self._read()
            self._names, self._refused = tuple(known), _refused(known)
            yield self._matching(known)
            if self._follow:
                self._driver.submit(Subscribed(self, None), self._backend)
                while True:
                    if not self._wait_for_change():
                        break
                    known = self._read()
                    yield self._matching(known)
                    self._refused = _refused(known)
                    if self._refused:
                        self._driver.submit(Subscribed(self, None), self._backend)  # for a snapshot newer than the refusal
        finally:
            if self._follow:
                self._driver.tell(Unsubscribed(self))

    def _matching(self, known: Mapping[str, str | None]) -> frozenset[str]:
        return frozenset(name for name, number in known.items() if number == self._serial)

    def _read(self) -> Mapping[str, str | None]:
        """The serial numbers of all readers that can be asked, by name; none after an error that the search survives."""
        try:
            return serial_numbers(self._backend, self._driver.serials)
        except SCardError as error:
            if not self._follow:
                raise
            log_safely(logger.debug, "serial numbers: %s", error)
            self._retry = True
            return {}

    def _wait_for_change(self) -> bool:
        """Return when readers should be asked again. False: the acquisition has ended."""
        while not self._ended():
            try:
                change = self._changes.get(timeout=RETRY)
            except Empty:
                if not self._retry:
                    continue
            else:
                if isinstance(change, BaseException):
                    raise change
                if change is _Change.LATER:
                    self._retry = True
                    continue
            self._retry = False
            return not self._ended()
        return False

    # Signal-safe.

    def stop(self) -> None:
        """The acquisition has ended."""
        if self._follow:
            self._driver.tell(Unsubscribed(self))
            self._changes.put(_Change.NOW)

    # The driver's.

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        """As an owner: its thread runs no callbacks, and nothing is posted to it."""
        return True

    def is_alive(self) -> bool:
        """As an owner: its thread is there as long as it is subscribed."""
        return True

    def receive(self, snapshot: Snapshot, events: list[Event], first: bool) -> None:
        """Have the readers asked again if there are others, or if one can be asked that could not."""
        names = tuple(snapshot.readers) if snapshot.error is None else ()
        held = frozenset(name for name in names if snapshot.readers[name].flags & StateFlag.EXCLUSIVE)
        freed = [name for name in self._held - held if name not in self._driver.serials]
        if freed or names != self._names:
            self._names = names
            self._changes.put(_Change.NOW)
        elif first and self._refused - held:  # free since it was asked; or held in a way that does not show, which is no hurry
            self._changes.put(_Change.LATER)
        self._held = held

    def fail(self, error: BaseException) -> None:
        """End the search with an error."""
        self._changes.put(error)


def _refused(known: Mapping[str, str | None]) -> frozenset[str]:
    """The readers that could not be asked for their number."""
    return frozenset(name for name, number in known.items() if number is None)
