"""pyscard's binding as a backend: the only module that calls `smartcard.scard`.

Rules:

- A code other than success becomes the error that `errors` has for it; nothing else of a failed call is used, since its outputs may
  be uninitialised memory (fact 41).
- Data are `bytes` in this interface; pyscard's lists of ints are made and read only here (fact 40).
- Codes and states are unsigned in this interface, on every platform (fact 45).
- A reader name that is not ASCII, or contains a NUL, is never given to the binding: it would abort the process (fact 42).
- If one reader's name is not UTF-8, pyscard cannot list any. Then libpcsclite, which is loaded already, is called by ctypes, and
  what cannot be decoded becomes U+FFFD. Such a name is not ASCII, so only that reader cannot be used. The same call is made where
  pyscard 2.0.5 returned uninitialised memory because the service had ended.
- `binding_common` has the rules that hold for the binding by ctypes, too.
- Timeouts are whole milliseconds, finite (fact 44); status entries are pairs, never triples, which leak (fact 43).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from smartcard import scard

from .._enums import Disposition, Protocol, ShareMode
from ..errors import COMM_ERROR, SUCCESS, TIMEOUT, UNKNOWN_ERROR, SCardError, error_for
from .backend import CardStatus, StatusChange, StatusEntry, is_plain_ascii
from .binding_common import (
    BRIEF_CALLS,
    MAX_ENTRIES,
    ON_PCSC_LITE,
    ON_WINDOWS,
    contexts_lock,
    is_no_reader,
    protocol_mask,
    protocol_of,
    unsigned,
)
from .fork_gate import enter, leave
from .no_copy import refuse_copy

_PCI = {Protocol.T0: scard.SCARD_PCI_T0, Protocol.T1: scard.SCARD_PCI_T1, Protocol.RAW: scard.SCARD_PCI_RAW}
_LISTS = ("SCardListReaders", "SCardListReaderGroups")
"""Calls whose outputs pyscard 2.0.5 converts even if they failed, from uninitialised memory: seen when the service ended."""
_LONG_BITS = 8 * struct.calcsize("l") - 1
"""Bits of a C long without its sign: 31 on Windows, i386 and armhf (facts 45, 68)."""


def _protocol(number: int) -> Protocol:
    return protocol_of(number, scard.SCARD_PROTOCOL_RAW)


def _mask(protocols: Protocol) -> int:
    return protocol_mask(protocols, scard.SCARD_PROTOCOL_RAW)


def _raw_state(state: int) -> int:
    """`state` as a number for the binding: where a C long has 32 bits, the upper half of the range is negative (fact 45)."""
    return state - 0x1_0000_0000 if state >> _LONG_BITS else state


def _checked_name(reader: str) -> str:
    if not is_plain_ascii(reader):
        raise ValueError(f"reader name {reader!r}: pyscard takes ASCII names only")
    return reader


def _call(name: str, reader: str, *args: Any) -> Any:
    """Call a function of PC/SC; its outputs. Failures of the binding itself (SystemError) are raised as errors of PC/SC, too."""
    try:
        enter(brief=name in BRIEF_CALLS)
        answer = getattr(scard, name)(*args)
    except (SystemError, UnicodeError, OverflowError) as error:
        if name in _LISTS:
            raise error_for(COMM_ERROR, name) from error
        raise SCardError(f"{name}: pyscard failed: {error}", UNKNOWN_ERROR, name, reader) from error
    finally:
        leave()
    code = unsigned(answer[0] if isinstance(answer, (list, tuple)) else answer)
    if code != SUCCESS:
        raise error_for(code, name, reader)
    return answer


class _Handle:
    """SCARDHANDLE: one connection to a card."""

    __slots__ = ("_handle", "_pci", "protocol", "reader")
    __reduce_ex__ = refuse_copy

    def __init__(self, handle: int, reader: str, protocol: int) -> None:
        self._handle = handle
        self.reader = reader
        self._set_protocol(protocol)

    def _set_protocol(self, protocol: int) -> None:
        self.protocol = _protocol(protocol)
        self._pci = _PCI.get(self.protocol, scard.SCARD_PCI_RAW)

    def status(self) -> CardStatus:
        _, name, state, protocol, atr = _call("SCardStatus", self.reader, self._handle)
        return CardStatus(name, unsigned(state), _protocol(protocol), bytes(atr))

    def transmit(self, data: bytes) -> bytes:
        code, answer = scard.SCardTransmit(self._handle, self._pci, [*data])
        if code:
            raise error_for(unsigned(code), "SCardTransmit", self.reader)
        return bytes(answer)

    def begin_transaction(self) -> None:
        _call("SCardBeginTransaction", self.reader, self._handle)

    def end_transaction(self, disposition: Disposition) -> None:
        _call("SCardEndTransaction", self.reader, self._handle, int(disposition))

    def reconnect(self, share: ShareMode, protocols: Protocol, disposition: Disposition) -> Protocol:
        _, protocol = _call("SCardReconnect", self.reader, self._handle, int(share), _mask(protocols), int(disposition))
        self._set_protocol(protocol)
        return self.protocol

    def disconnect(self, disposition: Disposition) -> None:
        with contexts_lock.current:
            _call("SCardDisconnect", self.reader, self._handle, int(disposition))

    def control(self, code: int, data: bytes) -> bytes:
        return bytes(_call("SCardControl", self.reader, self._handle, code, list(data))[1])

    def get_attribute(self, attribute: int) -> bytes:
        return bytes(_call("SCardGetAttrib", self.reader, self._handle, attribute)[1])

    def set_attribute(self, attribute: int, value: bytes) -> None:
        _call("SCardSetAttrib", self.reader, self._handle, attribute, list(value))


class _Context:
    """SCARDCONTEXT: one connection to the service."""

    __slots__ = ("_context",)
    __reduce_ex__ = refuse_copy

    def __init__(self, context: int) -> None:
        self._context = context

    def list_readers(self, groups: Sequence[str] | None = None) -> tuple[str, ...]:
        try:
            return self._list_readers(list(groups or ()))
        except SCardError as error:
            if is_no_reader(error, pcsc_lite=ON_PCSC_LITE):
                return ()
            raise

    def _list_readers(self, groups: list[str]) -> tuple[str, ...]:
        try:
            return tuple(_call("SCardListReaders", "", self._context, groups)[1])
        except SCardError as error:
            if not ON_PCSC_LITE or not isinstance(error.__cause__, (SystemError, UnicodeError)):
                raise
            from .ctypes_binding import library, list_readers  # needed only here

            return list_readers(library(), self._context)  # pcsc-lite has no groups

    def list_reader_groups(self) -> tuple[str, ...]:
        return tuple(_call("SCardListReaderGroups", "", self._context)[1])

    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        pairs = [(_checked_name(reader), _raw_state(state)) for reader, state in entries]
        timed_out = False
        try:
            enter(brief=not timeout)
            code, states = scard.SCardGetStatusChange(self._context, timeout, pairs)
        except (SystemError, UnicodeError, OverflowError) as error:
            raise SCardError(f"SCardGetStatusChange: {error}", UNKNOWN_ERROR, "SCardGetStatusChange") from error
        finally:
            leave()
        if code:
            timed_out = unsigned(code) == TIMEOUT
            if not timed_out:
                raise error_for(unsigned(code), "SCardGetStatusChange")
        return StatusChange(timed_out, [StatusEntry(name, unsigned(state), bytes(atr)) for name, state, atr in states])

    def cancel(self) -> None:
        scard.SCardCancel(self._context)

    def connect(self, reader: str, share: ShareMode, protocols: Protocol) -> _Handle:
        _, handle, protocol = _call("SCardConnect", reader, self._context, _checked_name(reader), int(share), _mask(protocols))
        return _Handle(handle, reader, protocol)

    def release(self) -> None:
        with contexts_lock.current:
            _call("SCardReleaseContext", "", self._context)


class _PyscardBackend:
    """The system's PC/SC, by pyscard: pcsc-lite, winscard, or macOS's framework."""

    max_entries = MAX_ENTRIES
    absent_service_means_no_reader = ON_WINDOWS
    release_disconnects = ON_PCSC_LITE
    takes_reader_name = staticmethod(is_plain_ascii)

    def establish(self) -> _Context:
        with contexts_lock.current:
            return _Context(_call("SCardEstablishContext", "", scard.SCARD_SCOPE_USER)[1])


PYSCARD = _PyscardBackend()
