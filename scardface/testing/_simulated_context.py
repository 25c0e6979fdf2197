"""A context of the simulated PC/SC (SCARDCONTEXT).

Rules of this room:

- A context belongs to one thread at a time. What the real one answers to a second thread with a freeze of the whole process
  (fact 5), this one answers with an AssertionError, there and at the end of the simulation: it is always the program's mistake.
- `cancel` alone may come from another thread, and is lost unless a status call waits just then (fact 1).
- A status call's checks come in pcscd's order: too many entries, none to look at, a bad context, no service, an unknown name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._enums import Protocol, ShareMode
from .._pcsc.backend import StatusChange, StatusEntry
from .._pcsc.ownership import refuse_copy
from .._pcsc.reader_states import is_usable
from ..errors import (
    CANCELLED,
    INVALID_HANDLE,
    INVALID_PARAMETER,
    NO_READERS_AVAILABLE,
    NO_SMARTCARD,
    PROTO_MISMATCH,
    SHARING_VIOLATION,
    TIMEOUT,
    UNKNOWN_READER,
    UNPOWERED_CARD,
    SCardError,
)
from ._main_thread import as_in_c
from ._simulated_call import Running
from ._simulated_handle import SimulatedHandle
from ._simulated_status import EXCLUSIVE, IGNORE, Wait, is_plug_and_play

if TYPE_CHECKING:
    from ._simulated_reader import SimulatedReader
    from ._simulated_service import SimulatedService

_INTERNAL_ERROR = 0x80100001
_NO_MEMORY = 0x80100006
_MOST_HANDLES = 200
"""Handles of one context, and of one reader (fact 8)."""
_GROUPS = ("SCard$DefaultReaders",)


class SimulatedContext:
    """See the head of this file."""

    __reduce_ex__ = refuse_copy

    def __init__(self, service: SimulatedService) -> None:
        self._service = service
        self.life = service.life
        self.released = False
        self.handles: set[SimulatedHandle] = set()
        self._woken = threading.Condition(service.lock)
        self._wait: Wait | None = None
        self._inside = threading.Lock()
        self._occupant = "", ""  # the call that is inside, and its thread

    @contextmanager
    def occupied(self, call: str) -> Iterator[None]:
        """Be the only thread inside this context."""
        me = call, threading.current_thread().name
        if not self._inside.acquire(blocking=False):
            raise self._service.misused(
                "two threads in one PC/SC context, which freezes a real one: {} of thread {!r} meets {} of thread {!r}".format(
                    *me, *self._occupant
                )
            )
        self._occupant = me
        try:
            yield
        finally:
            self._inside.release()

    @contextmanager
    def _calling(self, call: str, reader: str = "") -> Iterator[None]:
        """Be inside `call`, under the lock, with a context that is worth something."""
        with self.occupied(call):
            self._service.raise_injected(call, reader)
            with self._service.lock:
                self._check(call, reader)
                yield

    def _check(self, call: str, reader: str = "") -> None:
        if self.released:
            raise self._service.error(INVALID_HANDLE, call, reader)
        if self.life != self._service.life:
            raise self._service.error(self._service.dialect.session_lost, call, reader)

    @as_in_c
    def list_readers(self, groups: Sequence[str] | None = None) -> tuple[str, ...]:
        """SCardListReaders; the groups are ignored, as pcsc-lite does."""
        try:
            with self._calling("SCardListReaders"):
                return tuple(reader.name for reader in self._service.readers())
        except SCardError as error:
            if error.code == NO_READERS_AVAILABLE:
                return ()
            raise

    @as_in_c
    def list_reader_groups(self) -> tuple[str, ...]:
        """SCardListReaderGroups; answered without the service, as pcsc-lite does."""
        with self.occupied("SCardListReaderGroups"):
            self._service.raise_injected("SCardListReaderGroups")
            if self.released:
                raise self._service.error(INVALID_HANDLE, "SCardListReaderGroups")
            return _GROUPS

    @as_in_c
    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        """SCardGetStatusChange."""
        call = "SCardGetStatusChange"
        for name, _ in entries:
            _check_name(name)
        with self.occupied(call):
            injected = self._service.begin_call(call)
            if injected == TIMEOUT:
                timeout = 0
            elif injected:
                raise self._service.error(injected, call)
            with self._service.lock:
                if len(entries) > self._service.max_readers:
                    raise self._service.error(INVALID_PARAMETER, call)
                if all(state & IGNORE for _, state in entries):  # none at all is nothing to wait for, either (fact 15)
                    return StatusChange(False, [StatusEntry(name, 0, b"") for name, _ in entries])
                self._check(call)
                if any(self._service.find(name) is None and not is_plug_and_play(name) for name, _ in entries):
                    raise self._service.error(UNKNOWN_READER, call)
                return self._wait_for_change(call, timeout, entries)

    def _wait_for_change(self, call: str, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        wait = Wait(self._service, entries, self._woken)
        if not wait.over and timeout > 0:
            end = time.monotonic() + timeout / 1000
            with self._service.waiting(wait):
                self._wait = wait
                try:
                    while not wait.over and (left := end - time.monotonic()) > 0:
                        self._woken.wait(left)
                finally:
                    self._wait = None
        if wait.code:
            raise self._service.error(wait.code, call)
        return StatusChange(not wait.over, wait.entries)

    def cancel(self) -> None:
        """SCardCancel; what it answers is nobody's business (fact 3)."""
        if self._service.begin_call("SCardCancel"):
            return
        with self._service.lock:
            if self._wait is not None:
                self._wait.end(CANCELLED)

    @as_in_c
    def connect(self, reader: str, share: ShareMode, protocols: Protocol) -> SimulatedHandle:
        """SCardConnect."""
        _check_name(reader)
        with self._calling("SCardConnect", reader):
            if share is not ShareMode.DIRECT and not protocols:
                raise self._service.error(PROTO_MISMATCH, "SCardConnect", reader)
            found = self._service.find(reader)
            if found is None:
                raise self._service.error(UNKNOWN_READER, "SCardConnect", reader)
            running = Running("SCardConnect", self._service, found, UNKNOWN_READER)
            if found.sharing == EXCLUSIVE:
                raise running.error(SHARING_VIOLATION)
            while found.owner is not None:
                running.wait()
            if share is not ShareMode.DIRECT:
                self._prepare_card(running, found)
            code = found.settle_protocol(share, protocols)
            if code:
                raise running.error(code)
            return self._open(running, found, share)

    def _prepare_card(self, running: Running, reader: SimulatedReader) -> None:
        """See to it that there is a card, that it is switched on, and that nobody talks to it."""
        reader.wait_for_turn()
        running.check()
        if not reader.present:
            raise running.error(NO_SMARTCARD)
        ready = reader.switch_on()
        running.check()
        if not ready:
            raise running.error(UNPOWERED_CARD)

    def _open(self, running: Running, reader: SimulatedReader, share: ShareMode) -> SimulatedHandle:
        alone = reader.is_for_one(share)
        if alone and reader.sharing:
            raise running.error(SHARING_VIOLATION)
        if len(reader.handles) >= _MOST_HANDLES:
            raise running.error(_INTERNAL_ERROR)
        if len(self.handles) >= _MOST_HANDLES:
            raise running.error(_NO_MEMORY)
        handle = SimulatedHandle(self, self._service, reader, reader.protocol)
        self.handles.add(handle)
        reader.handles.add(handle)
        if alone:
            reader.take_lock(handle)
        reader.share(EXCLUSIVE if alone else reader.sharing + 1)
        return handle

    @as_in_c
    def release(self) -> None:
        """SCardReleaseContext. Whoever holds the lock loses it, and the card is reset; other handles leave the card (fact 31)."""
        with self.occupied("SCardReleaseContext"):
            self._service.raise_injected("SCardReleaseContext")
            with self._service.lock:
                if not self.released:
                    self._service.unreleased -= 1
                try:
                    self._check("SCardReleaseContext")
                finally:
                    self.released = True
                    self._service.contexts.discard(self)
                for handle in list(self.handles):
                    handle.abandon()


def _check_name(reader: str) -> None:
    """Refuse what the real binding's backend refuses (fact 42)."""
    if not is_usable(reader):
        raise ValueError(f"reader name {reader!r}: PC/SC bindings take ASCII names only")
