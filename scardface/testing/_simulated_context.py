"""A context of the simulated PC/SC (SCARDCONTEXT), and its card handles (SCARDHANDLE).

Rules for contexts:

- A context is used by one thread at a time. A second thread freezes the whole process with a real context (fact 5); here it gets an
  AssertionError, which is raised again at the end of the simulation, since it is always a mistake of the program.
- `cancel` alone may come from another thread, and is lost unless a status call waits just then (fact 1).
- A status call's checks come in pcscd's order: too many entries, none to wait for, a bad context, no service, an unknown name.

Rules for handles:

- While another handle holds a transaction, `status`, `transmit`, `begin_transaction`, `reconnect` and a `disconnect` that does
  something to the card wait for its end, and nothing but that, the card's removal or the service's stop ends the wait; the other
  calls answer SHARING_VIOLATION at once (fact 4).
- A handle remembers what others did to the card until it reconnects: RESET_CARD, REMOVED_CARD (facts 33, 34).
- A call checks for errors in pcscd's order, which decides which of two codes is answered.
- Transactions are counted (fact 30). On Windows one that idles is ended (fact 32).
- A reader's own commands (`control`) run without the service's lock: a user at a keypad may take a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.backend import CardStatus, StatusChange, StatusEntry, is_plain_ascii, why_left_out
from .._pcsc.no_copy import refuse_copy
from ..errors import (
    CANCELLED,
    INVALID_HANDLE,
    INVALID_PARAMETER,
    INVALID_VALUE,
    NO_READERS_AVAILABLE,
    NO_SMARTCARD,
    NOT_TRANSACTED,
    PROTO_MISMATCH,
    READER_UNAVAILABLE,
    SHARING_VIOLATION,
    TIMEOUT,
    UNKNOWN_READER,
    UNPOWERED_CARD,
    UNRESPONSIVE_CARD,
    SCardError,
)
from ._card_calls import MAX_MESSAGE
from ._main_thread import uninterruptible
from ._simulated_call import CallInProgress
from ._simulated_reader import MUTE, CardState, Power, SimulatedReader
from ._simulated_service import SimulatedService
from ._simulated_slot import SlotEmptyError
from ._simulated_status import EXCLUSIVE, IGNORE, Wait, is_plug_and_play

T = TypeVar("T")

_INTERNAL_ERROR = 0x80100001
_NO_MEMORY = 0x80100006
_MAX_HANDLES = 200
"""Handles of one context, and of one reader (fact 8)."""
_GROUPS = ("SCard$DefaultReaders",)


class SimulatedContext:
    """See the head of this module."""

    __reduce_ex__ = refuse_copy

    def __init__(self, service: SimulatedService) -> None:
        self._service = service
        self.life = service.life
        self.released = False
        self.handles: set[SimulatedHandle] = set()
        self._woken = threading.Condition(service.lock)
        self._wait: Wait | None = None
        self._inside = threading.Lock()
        self._present_call = "", ""  # the call in progress, and its thread

    @contextmanager
    def entered(self, call: str) -> Iterator[None]:
        """A call in progress; the only one in this context."""
        me = call, threading.current_thread().name
        if not self._inside.acquire(blocking=False):
            raise self._service.report_misuse(
                "two threads in one PC/SC context, which freezes a real one: {} of thread {!r} meets {} of thread {!r}".format(
                    *me, *self._present_call
                )
            )
        self._present_call = me
        try:
            yield
        finally:
            self._inside.release()

    @contextmanager
    def _calling(self, call: str, reader: str = "") -> Iterator[None]:
        """`call` in progress, under the lock, with a valid context."""
        with self.entered(call):
            self._service.raise_injected(call, reader)
            with self._service.lock:
                self._check(call, reader)
                yield

    def _check(self, call: str, reader: str = "") -> None:
        if self.released:
            raise self._service.error(INVALID_HANDLE, call, reader)
        if self.life != self._service.life:
            raise self._service.error(self._service.dialect.session_lost, call, reader)

    @uninterruptible
    def list_readers(self, groups: Sequence[str] | None = None) -> tuple[str, ...]:
        """SCardListReaders; the groups are ignored, as pcsc-lite does."""
        try:
            with self._calling("SCardListReaders"):
                return tuple(reader.name for reader in self._service.readers())
        except SCardError as error:
            if error.code == NO_READERS_AVAILABLE:
                return ()
            raise

    @uninterruptible
    def list_reader_groups(self) -> tuple[str, ...]:
        """SCardListReaderGroups; answered without the service, as pcsc-lite does."""
        with self.entered("SCardListReaderGroups"):
            self._service.raise_injected("SCardListReaderGroups")
            if self.released:
                raise self._service.error(INVALID_HANDLE, "SCardListReaderGroups")
            return _GROUPS

    @uninterruptible
    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        """SCardGetStatusChange."""
        call = "SCardGetStatusChange"
        for name, _ in entries:
            _check_name(name)
        with self.entered(call):
            injected = self._service.begin_call(call)
            if injected == TIMEOUT:
                timeout = 0
            elif injected:
                raise self._service.error(injected, call)
            with self._service.lock:
                if len(entries) > self._service.max_readers:
                    raise self._service.error(INVALID_PARAMETER, call)
                if all(state & IGNORE for _, state in entries):  # also if there are none (fact 15)
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
        """SCardCancel; its result means nothing (fact 3)."""
        if self._service.begin_call("SCardCancel"):
            return
        with self._service.lock:
            if self._wait is not None:
                self._wait.end(CANCELLED)

    @uninterruptible
    def connect(self, reader: str, share: ShareMode, protocols: Protocol) -> SimulatedHandle:
        """SCardConnect."""
        _check_name(reader)
        with self._calling("SCardConnect", reader):
            if share is not ShareMode.DIRECT and not protocols:
                raise self._service.error(PROTO_MISMATCH, "SCardConnect", reader)
            found = self._service.find(reader)
            if found is None:
                raise self._service.error(UNKNOWN_READER, "SCardConnect", reader)
            running = CallInProgress("SCardConnect", self._service, found, UNKNOWN_READER)
            if found.sharing == EXCLUSIVE:
                raise running.error(SHARING_VIOLATION)
            while found.owner is not None:
                running.wait()
            if share is not ShareMode.DIRECT:
                self._prepare_card(running, found)
            code = found.negotiate_protocol(share, protocols)
            if code:
                raise running.error(code)
            return self._open(running, found, share)

    def _prepare_card(self, running: CallInProgress, reader: SimulatedReader) -> None:
        """Make sure that there is a card, that it is powered, and that no exchange is in progress."""
        reader.wait_until_free()
        running.check()
        if not reader.present:
            raise running.error(NO_SMARTCARD)
        ready = reader.switch_on()
        running.check()
        if not ready:
            raise running.error(UNPOWERED_CARD)

    def _open(self, running: CallInProgress, reader: SimulatedReader, share: ShareMode) -> SimulatedHandle:
        alone = reader.is_exclusive(share)
        if alone and reader.sharing:
            raise running.error(SHARING_VIOLATION)
        if len(reader.handles) >= _MAX_HANDLES:
            raise running.error(_INTERNAL_ERROR)
        if len(self.handles) >= _MAX_HANDLES:
            raise running.error(_NO_MEMORY)
        handle = SimulatedHandle(self, self._service, reader, reader.protocol)
        self.handles.add(handle)
        reader.handles.add(handle)
        if alone:
            reader.take_lock(handle)
        reader.set_sharing(EXCLUSIVE if alone else reader.sharing + 1)
        return handle

    @uninterruptible
    def release(self) -> None:
        """SCardReleaseContext. A handle that holds the lock has the card reset; others leave it as it is (fact 31)."""
        with self.entered("SCardReleaseContext"):
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


class SimulatedHandle:
    """See the head of this module."""

    __reduce_ex__ = refuse_copy

    def __init__(self, context: SimulatedContext, service: SimulatedService, reader: SimulatedReader, protocol: Protocol) -> None:
        self._context = context
        self._service = service
        self._reader = reader
        self.protocol = protocol
        self.closed = False
        self.event = 0
        """The code of what happened to the card; 0: nothing."""

    @contextmanager
    def _calling(self, call: str, unplugged: int | None = INVALID_VALUE) -> Iterator[CallInProgress]:
        """`call` in progress, under the lock, with a valid handle."""
        with self._context.entered(call):
            self._service.raise_injected(call, self._reader.name)
            with self._service.lock:
                if self.closed or self._context.released:
                    raise self._service.error(INVALID_HANDLE, call, self._reader.name)
                running = CallInProgress(call, self._service, self._reader, unplugged)
                if self._context.life != self._service.life:
                    raise running.error(self._service.dialect.session_lost)
                running.check()
                with self._reader.restart_idle_timer(self):
                    yield running

    def _wait_for_lock(self, running: CallInProgress) -> None:
        while not self._reader.is_free_for(self):
            running.wait_and_repeat()

    def _raise_if_locked(self, running: CallInProgress) -> None:
        if not self._reader.is_free_for(self):
            raise running.error(SHARING_VIOLATION)

    def _raise_event(self, running: CallInProgress) -> None:
        if self.event:
            raise running.error(self.event)

    @uninterruptible
    def status(self) -> CardStatus:
        """SCardStatus."""
        with self._calling("SCardStatus", READER_UNAVAILABLE) as running:
            self._wait_for_lock(running)
            self._raise_event(running)
            reader = self._reader
            return CardStatus(reader.name, int(reader.state) | reader.counter << 16, reader.protocol, reader.atr)

    @uninterruptible
    def transmit(self, data: bytes) -> bytes:
        """SCardTransmit."""
        with self._calling("SCardTransmit") as running:
            self._wait_for_lock(running)
            self._raise_event(running)
            if self.protocol & (Protocol.T0 | Protocol.T1) and self.protocol != self._reader.protocol:
                raise running.error(PROTO_MISMATCH)
            slot = self._reader.slot
            self._reader.wait_until_free()
            running.check()
            if not 2 <= len(data) <= MAX_MESSAGE or slot is None or slot is not self._reader.slot:
                raise running.error(NOT_TRANSACTED)
            try:
                return self._reader.exchange(bytes(data))
            except SlotEmptyError:
                running.check(NOT_TRANSACTED)
                return b""  # as with vpcd: the exchange ends with what has been received

    @uninterruptible
    def begin_transaction(self) -> None:
        """SCardBeginTransaction."""
        with self._calling("SCardBeginTransaction") as running:
            self._raise_event(running)
            while not self._reader.is_free_for(self):
                running.wait()
                self._raise_event(running)
            self._reader.take_lock(self)
            self._reader.start_idle_timer()

    @uninterruptible
    def end_transaction(self, disposition: Disposition) -> None:
        """SCardEndTransaction."""
        with self._calling("SCardEndTransaction") as running:
            self._raise_event(running)
            self._raise_if_locked(running)
            if disposition in (Disposition.RESET, Disposition.UNPOWER):
                self._reader.reset(cold=disposition is Disposition.UNPOWER)
                running.check()
            code = self._reader.release_lock()
            if code:
                raise running.error(code)

    @uninterruptible
    def reconnect(self, share: ShareMode, protocols: Protocol, disposition: Disposition) -> Protocol:
        """SCardReconnect. For exclusive use it waits until all others have left (libpcsclite treats that as a transaction)."""
        with self._calling("SCardReconnect") as running:
            if share is not ShareMode.DIRECT and not protocols:
                raise running.error(PROTO_MISMATCH)
            self._wait_for_lock(running)
            if self._service.dialect.reconnect_ends_transaction and self._reader.sharing != EXCLUSIVE:
                self._reader.clear_lock()
            self._prepare_card(running, disposition)
            self._set_state(running, share, protocols)
            while not self._share(share):
                running.wait_and_repeat()
                self._wait_for_lock(running)
                self._prepare_card(running, Disposition.LEAVE)
                self._set_state(running, share, protocols)
            self.event = 0
            self.protocol = self._reader.protocol
            return self.protocol

    def _prepare_card(self, running: CallInProgress, disposition: Disposition) -> None:
        """Make sure that there is a card that answers; reset it if asked to."""
        self._reader.wait_until_free()  # a reset in progress may change the protocol
        running.check()
        state = self._reader.state
        if disposition in (Disposition.RESET, Disposition.UNPOWER):
            state = self._reader.reset(cold=disposition is Disposition.UNPOWER)
            running.check()
        if state == CardState.ABSENT:
            raise running.error(NO_SMARTCARD)
        if state == MUTE:
            raise running.error(UNRESPONSIVE_CARD)

    def _set_state(self, running: CallInProgress, share: ShareMode, protocols: Protocol) -> None:
        code = self._reader.negotiate_protocol(share, protocols)
        if code:
            raise running.error(code)
        if share is not ShareMode.DIRECT:
            self._reader.power = Power.IN_USE

    def _share(self, share: ShareMode) -> bool:
        """Change the share mode. False: not possible yet because of others."""
        reader = self._reader
        alone = reader.is_exclusive(share)
        if alone and reader.sharing != EXCLUSIVE:
            if reader.sharing != 1:
                return False
            reader.take_lock(self)
            reader.set_sharing(EXCLUSIVE)
        elif not alone and reader.sharing == EXCLUSIVE:
            reader.release_lock()
            reader.set_sharing(1)
        return True

    @uninterruptible
    def disconnect(self, disposition: Disposition) -> None:
        """SCardDisconnect."""
        with self._calling("SCardDisconnect", unplugged=None) as running:
            while disposition is not Disposition.LEAVE and not self._reader.is_free_for(self):
                running.wait()
            self.close(disposition)
            running.check()

    def close(self, disposition: Disposition) -> None:
        """Disconnect, under the lock, while no other handle holds a transaction. No effect if the reader is unplugged (fact 35)."""
        reader = self._reader
        if reader.is_free_for(self):
            reader.clear_lock()
        if disposition is Disposition.RESET:
            reader.reset()
        elif disposition is Disposition.UNPOWER:
            reader.switch_off()
        self.closed = True
        self._context.handles.discard(self)
        reader.remove_handle(self)

    def abandon(self) -> None:
        """Its context is released: reset the card if this handle holds the lock, else leave it as it is (fact 31)."""
        self.close(Disposition.RESET if self._reader.owner is self else Disposition.LEAVE)

    @uninterruptible
    def control(self, code: int, data: bytes) -> bytes:
        """SCardControl: answered by the reader's `controls`; without them it has no control codes, as vpcd has none."""
        with self._calling("SCardControl") as running:
            self._raise_if_locked(running)
            controls = self._reader.controls
            answer = None if controls is None else self._without_lock(lambda: controls(code, bytes(data), self._exchange(running)))
            running.check()
            if answer is None:
                raise running.error(self._service.dialect.unsupported)
            return bytes(answer)

    def _without_lock(self, job: Callable[[], T]) -> T:
        """Run `job` without the service's lock."""
        self._service.lock.release()
        try:
            return job()
        finally:
            self._service.lock.acquire()

    def _exchange(self, running: CallInProgress) -> Callable[[bytes], bytes]:
        """How a reader's controls reach the card; called without the lock."""

        def exchange(command: bytes) -> bytes:
            with self._service.lock:
                running.check()
                try:
                    return self._reader.exchange(bytes(command))
                except SlotEmptyError:
                    raise running.error(NOT_TRANSACTED) from None

        return exchange

    @uninterruptible
    def get_attribute(self, attribute: int) -> bytes:
        """SCardGetAttrib: the attributes given to the reader."""
        with self._calling("SCardGetAttrib") as running:
            self._raise_if_locked(running)
            self._raise_event(running)
            value = self._reader.attributes.get(attribute)
            if value is None:
                raise running.error(self._service.dialect.unsupported)
            return value

    @uninterruptible
    def set_attribute(self, attribute: int, value: bytes) -> None:
        """SCardSetAttrib: only for attributes given to the reader."""
        with self._calling("SCardSetAttrib") as running:
            self._raise_if_locked(running)
            self._raise_event(running)
            if attribute not in self._reader.attributes:
                raise running.error(NOT_TRANSACTED)
            self._reader.attributes[attribute] = bytes(value)


def _check_name(reader: str) -> None:
    """Refuse the names that the real backend refuses (fact 42)."""
    if not is_plain_ascii(reader):
        raise ValueError(f"reader name {reader!r}: {why_left_out(reader)}")
