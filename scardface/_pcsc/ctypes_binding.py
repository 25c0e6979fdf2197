"""The platform's PC/SC library by ctypes, as a backend: libpcsclite, PCSC.framework or winscard.dll, with nothing to compile.

Rules:

- Types, sizes and names are those of the platform's headers; docs/pcsc-facts.md, "The headers", has each with its source. They are
  tables of this module, so that one machine can try those of another. Nothing that only one platform has runs at import.
- The library is loaded when a context is first asked for, and again at the next try where it could not be. A forked child loads a
  libpcsclite of its own, whose locks no thread of the parent can have left locked (fact 74).
- A code other than success becomes the error that `errors` names for it, and nothing else of a failed call is looked at.
- Bytes go in and come out as `bytes`. A card has one buffer for its answers, since one thread at a time is in a handle. What the
  library says of lengths is cut to the buffer that it was given, as slices are.
- Names are UTF-8 on pcsc-lite and macOS, UTF-16 on Windows, whose W functions are called. What is no UTF-8 comes as U+FFFD, and
  that reader alone is out of reach.
- The flag CHANGED is taken out of the states that go in (fact 10); all else of them is opaque.
- ctypes gives the GIL back during each call.
- `binding_common` has the rules that hold for pyscard's binding, too.
"""

from __future__ import annotations

import ctypes
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .._enums import Disposition, Protocol, ShareMode, StateFlag
from .._threads import generation
from ..errors import (
    INSUFFICIENT_BUFFER,
    INVALID_PARAMETER,
    NO_SERVICE,
    SUCCESS,
    TIMEOUT,
    SCardError,
    ServiceUnavailableError,
    error_for,
)
from .backend import CardStatus, StatusChange, StatusEntry
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

_SCOPE_USER = 0
_INFINITE = 0xFFFFFFFF
_CHANGED = int(StateFlag.CHANGED)
_MAX_LIST_CHARACTERS = 0x10000
"""Characters of a list; pcsc-lite has at most 16 readers, of 128 bytes each."""
_MAX_NAME_CHARACTERS = 1024
"""Characters of a reader's name, or of several, as Windows may have them."""
_USUAL_ATTRIBUTE_BYTES = 264
"""MAX_BUFFER_SIZE of pcsc-lite and macOS, which refuse a longer buffer; so does Wine, which hands it on."""
_MAX_ATR_BYTES = 64
"""Bytes; ISO 7816-3 has 33."""


class Headers(NamedTuple):
    """What a platform's headers say, as far as it is not the same everywhere.

    Attributes:
        library: its name, or where it is.
        dword: DWORD.
        long: LONG, in which codes come.
        handle: SCARDCONTEXT and SCARDHANDLE.
        wide: whether names are UTF-16 and the functions that take them end with W.
        packed: whether SCARD_READERSTATE has no padding.
        atr_bytes: of SCARD_READERSTATE.rgbAtr.
        raw: SCARD_PROTOCOL_RAW.
        answer_bytes: of the buffer for an answer; MAX_BUFFER_SIZE_EXTENDED is the most that pcsc-lite and macOS take.
        attribute_bytes: the longest buffer for an attribute.
        symbols: names that functions have in the library, where they are others than the headers'.
    """

    library: str
    dword: Any
    long: Any
    handle: Any
    wide: bool = False
    packed: bool = False
    atr_bytes: int = 33
    raw: int = 4
    answer_bytes: int = 65548
    attribute_bytes: int = _USUAL_ATTRIBUTE_BYTES
    symbols: Mapping[str, str] = types.MappingProxyType({})


_W = ("SCardListReaders", "SCardListReaderGroups", "SCardGetStatusChange", "SCardConnect", "SCardStatus")

WINDOWS = Headers(
    "winscard.dll",
    ctypes.c_uint32,
    ctypes.c_int32,
    ctypes.c_size_t,
    wide=True,
    atr_bytes=36,
    raw=0x10000,
    answer_bytes=65535,
    attribute_bytes=65535,
    symbols={name: f"{name}W" for name in _W},
)
MACOS = Headers(
    "/System/Library/Frameworks/PCSC.framework/PCSC",
    ctypes.c_uint32,
    ctypes.c_int32,
    ctypes.c_int32,
    packed=True,
    answer_bytes=65546,
    symbols={"SCardControl": "SCardControl132"},
)
PCSC_LITE = Headers("libpcsclite.so.1", ctypes.c_ulong, ctypes.c_long, ctypes.c_long)


def headers_of(platform: str) -> Headers:
    """The headers of a platform.

    Args:
        platform: as `sys.platform` names it; all but "win32" and "darwin" have pcsc-lite.
    """
    return {"win32": WINDOWS, "darwin": MACOS}.get(platform, PCSC_LITE)


def reader_state_type(headers: Headers, pointer: Any = None) -> Any:
    """SCARD_READERSTATE.

    Args:
        headers: of the platform.
        pointer: what stands for a pointer, where it is not this machine's.
    """
    name = ctypes.c_wchar_p if headers.wide else ctypes.c_char_p
    members: dict[str, Any] = {"_pack_": 1, "_layout_": "ms"} if headers.packed else {}
    members["_fields_"] = [
        ("szReader", pointer or name),
        ("pvUserData", pointer or ctypes.c_void_p),
        ("dwCurrentState", headers.dword),
        ("dwEventState", headers.dword),
        ("cbAtr", headers.dword),
        ("rgbAtr", ctypes.c_ubyte * headers.atr_bytes),
    ]
    return types.new_class("SCARD_READERSTATE", (ctypes.Structure,), {}, lambda body: body.update(members))


def signatures(headers: Headers) -> dict[str, tuple[Any, ...]]:
    """The types of each function's arguments; all of them return LONG."""
    handle, dword, pointer = headers.handle, headers.dword, ctypes.c_void_p
    name = ctypes.c_wchar_p if headers.wide else ctypes.c_char_p
    octets = ctypes.c_char_p
    return {
        "SCardEstablishContext": (dword, pointer, pointer, pointer),
        "SCardReleaseContext": (handle,),
        "SCardListReaders": (handle, pointer, pointer, pointer),
        "SCardListReaderGroups": (handle, pointer, pointer),
        "SCardGetStatusChange": (handle, dword, pointer, dword),
        "SCardCancel": (handle,),
        "SCardConnect": (handle, name, dword, dword, pointer, pointer),
        "SCardReconnect": (handle, dword, dword, dword, pointer),
        "SCardDisconnect": (handle, dword),
        "SCardStatus": (handle, pointer, pointer, pointer, pointer, pointer, pointer),
        "SCardBeginTransaction": (handle,),
        "SCardEndTransaction": (handle, dword),
        "SCardTransmit": (handle, pointer, octets, dword, pointer, pointer, pointer),
        "SCardControl": (handle, dword, octets, dword, pointer, dword, pointer),
        "SCardGetAttrib": (handle, dword, pointer, pointer),
        "SCardSetAttrib": (handle, dword, octets, dword),
    }


_PCI = {Protocol.T0: "g_rgSCardT0Pci", Protocol.T1: "g_rgSCardT1Pci", Protocol.RAW: "g_rgSCardRawPci"}
"""The library's own SCARD_IO_REQUESTs: what is in them need not be known."""


class Library:
    """The platform's library, loaded: its functions with their types, and how it writes names.

    Args:
        headers: of the platform.
        copy: the library once more, whose functions are to be called; None: its own.

    Raises:
        OSError: it cannot be loaded.
        AttributeError: it lacks a function.
    """

    def __init__(self, headers: Headers, copy: Any = None) -> None:
        self.headers = headers
        self.reader_state = reader_state_type(headers)
        library = _open(headers.library)
        self._functions: dict[str, Callable[..., int]] = {}
        for name, arguments in signatures(headers).items():
            function = getattr(library if copy is None else copy, headers.symbols.get(name, name))
            function.argtypes = arguments
            function.restype = headers.long
            self._functions[name] = function
        try:
            self.pci = {each: ctypes.addressof(ctypes.c_char.in_dll(library, name)) for each, name in _PCI.items()}
        except ValueError as error:  # as ctypes calls a symbol that is not there
            raise AttributeError(str(error)) from None
        self.transmit = self._functions["SCardTransmit"]
        self.cancel = self._functions["SCardCancel"]

    def call(self, name: str, reader: str, *arguments: Any) -> None:
        """Call a function of PC/SC.

        Raises:
            SCardError: what it answered.
        """
        code = self.result_code(name, *arguments)
        if code != SUCCESS:
            raise error_for(code, name, reader)

    def result_code(self, name: str, *arguments: Any, brief: bool = False) -> int:
        """Call a function of PC/SC and return its result code. Calls that cannot wait are `brief`, see `fork_gate`."""
        try:
            enter(brief=brief or name in BRIEF_CALLS)
            return unsigned(self._functions[name](*arguments))
        finally:
            leave()

    def text_buffer(self, characters: int) -> Any:
        """A buffer for names."""
        return ctypes.create_unicode_buffer(characters) if self.headers.wide else ctypes.create_string_buffer(characters)

    def name(self, reader: str) -> Any:
        """A reader's name as functions take it.

        Raises:
            ValueError: no reader can have that name.
        """
        if not takes_reader_name(reader):
            raise ValueError(f"reader name {reader!r}: a name holds no NUL, and nothing that cannot be encoded")
        return reader if self.headers.wide else reader.encode()

    def names(self, buffer: Any, length: int) -> tuple[str, ...]:
        """The names in a buffer, each of which ends with a NUL."""
        found = buffer[:length]
        if isinstance(found, bytes):
            found = found.decode("utf-8", "replace")
        return tuple(name for name in found.split("\0") if name)

    def multi_string(self, names: Sequence[str]) -> Any:
        """Names as functions take several; NULL for none."""
        if not names:
            return None
        text = "".join(f"{name}\0" for name in names)
        return ctypes.create_unicode_buffer(text) if self.headers.wide else ctypes.create_string_buffer(text.encode())

    def protocol(self, number: int) -> Protocol:
        """A protocol that the library reports."""
        return protocol_of(number, self.headers.raw)

    def mask(self, protocols: Protocol) -> int:
        """Protocols as the library takes them."""
        return protocol_mask(protocols, self.headers.raw)


def _open(name: str) -> Any:
    """Load a library of the system's, never one that lies in the program's folder."""
    if sys.platform == "win32":
        return ctypes.WinDLL(name, winmode=0x800)  # LOAD_LIBRARY_SEARCH_SYSTEM32
    return ctypes.CDLL(name)


def _open_copy() -> Any:
    """Load the libpcsclite that this process has from its parent once more, from a file in memory; None where that cannot be done.

    The dynamic linker gives a file that is loaded already, or one of the same name, as it is: with what its locks were at the fork.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            files = {line.rstrip("\n").partition("/")[2] for line in maps}
        # An upgrade deletes the file and puts another one there.
        found = [f"/{file}".removesuffix(" (deleted)") for file in files if os.path.basename(file).startswith("libpcsclite")]
        if not found:
            return None  # the parent has loaded none
        path = max(found, key=lambda each: "libpcsclite_real" in each)  # where there is one, the other only hands calls on to it
        with open(path, "rb") as original, os.fdopen(os.memfd_create(os.path.basename(path)), "wb", buffering=0) as copy:
            copy.write(original.read())
            return ctypes.CDLL(f"/proc/{os.getpid()}/fd/{copy.fileno()}")
    except (OSError, AttributeError):  # no /proc or no memfd_create, or this machine runs nothing from memory
        return None


def _byte_buffer(size: int) -> Any:
    """A buffer of bytes, whose slices are bytes; its types have them lists."""
    return ctypes.create_string_buffer(size)


_loaded: dict[int, Library] = {}
"""By the number of forks before. The one of 0 is what pyscard calls, too, also in a forked child."""


def library(forks: int = 0) -> Library:
    """This platform's library, loaded now at the latest.

    Args:
        forks: `generation()`, for a library whose locks no thread of the parent can have left locked.

    Raises:
        ServiceUnavailableError: it is not there, or too old; says what to install.
    """
    loaded = _loaded.get(forks)
    if loaded is None:
        headers = headers_of(sys.platform)
        try:
            loaded = _loaded.setdefault(forks, Library(headers, _open_copy() if forks else None))
        except (OSError, AttributeError) as error:
            raise ServiceUnavailableError(_lacks(headers, error), NO_SERVICE, "SCardEstablishContext") from error
    return loaded


def _lacks(headers: Headers, error: Exception) -> str:
    package = ": install Debian's package libpcsclite1, or what it is called elsewhere" if headers is PCSC_LITE else ""
    if isinstance(error, OSError):
        return f"the PC/SC library {headers.library} cannot be loaded ({error}){package}"
    package = package.replace("install", "install a newer one, ") if package else ""
    return f"the PC/SC library {headers.library} is too old ({error}){package}"


def takes_reader_name(reader: str) -> bool:
    """Whether a reader of this name can be asked for: what came as U+FFFD cannot."""
    return not any(each in "\0\ufffd" or "\ud800" <= each <= "\udfff" for each in reader)


def list_readers(pcsc: Library, context: int, groups: Sequence[str] = ()) -> tuple[str, ...]:
    """SCardListReaders.

    Args:
        pcsc: the library of the context.
        context: SCARDCONTEXT, whichever binding established it.
        groups: those whose readers are meant; none: all readers.

    Raises:
        SCardError: what PC/SC says.
    """
    # Room for all: some may come between two calls.
    names, size = pcsc.text_buffer(_MAX_LIST_CHARACTERS), pcsc.headers.dword(_MAX_LIST_CHARACTERS)
    pcsc.call("SCardListReaders", "", context, pcsc.multi_string(groups), names, ctypes.byref(size))
    return pcsc.names(names, size.value)


class _Handle:
    """SCARDHANDLE: one connection to a card."""

    __slots__ = ("_answer", "_handle", "_length", "_length_at", "_library", "_pci", "protocol", "reader")
    __reduce_ex__ = refuse_copy

    def __init__(self, pcsc: Library, handle: int, reader: str, protocol: int) -> None:
        self._library = pcsc
        self._handle = handle
        self.reader = reader
        self._answer = _byte_buffer(pcsc.headers.answer_bytes)
        self._length = pcsc.headers.dword()
        self._length_at = ctypes.byref(self._length)
        self._settle(protocol)

    def _settle(self, protocol: int) -> None:
        self.protocol = self._library.protocol(protocol)
        self._pci = self._library.pci.get(self.protocol, self._library.pci[Protocol.RAW])

    def _call(self, name: str, *arguments: Any) -> None:
        self._library.call(name, self.reader, self._handle, *arguments)

    def status(self) -> CardStatus:
        dword = self._library.headers.dword
        name, name_length = self._library.text_buffer(_MAX_NAME_CHARACTERS), dword(_MAX_NAME_CHARACTERS)
        atr, atr_length = _byte_buffer(_MAX_ATR_BYTES), dword(_MAX_ATR_BYTES)
        state, protocol = dword(), dword()
        outputs = (name, name_length, state, protocol, atr, atr_length)
        self._call("SCardStatus", *(each if isinstance(each, ctypes.Array) else ctypes.byref(each) for each in outputs))
        names = self._library.names(name, name_length.value)
        settled = self._library.protocol(protocol.value)
        return CardStatus(names[0] if names else "", unsigned(state.value), settled, atr[: atr_length.value])

    def transmit(self, data: bytes) -> bytes:
        answer, length = self._answer, self._length
        length.value = len(answer)
        code = self._library.transmit(self._handle, self._pci, bytes(data), len(data), None, answer, self._length_at)
        if code:
            raise error_for(unsigned(code), "SCardTransmit", self.reader)
        told: bytes = answer[: length.value]
        return told

    def begin_transaction(self) -> None:
        self._call("SCardBeginTransaction")

    def end_transaction(self, disposition: Disposition) -> None:
        self._call("SCardEndTransaction", disposition)

    def reconnect(self, share: ShareMode, protocols: Protocol, disposition: Disposition) -> Protocol:
        protocol = self._library.headers.dword()
        self._call("SCardReconnect", share, self._library.mask(protocols), disposition, ctypes.byref(protocol))
        self._settle(protocol.value)
        return self.protocol

    def disconnect(self, disposition: Disposition) -> None:
        with contexts_lock.current:
            self._call("SCardDisconnect", disposition)

    def control(self, code: int, data: bytes) -> bytes:
        answer, length = self._answer, self._length
        self._call("SCardControl", code, bytes(data), len(data), answer, len(answer), self._length_at)
        told: bytes = answer[: length.value]
        return told

    def get_attribute(self, attribute: int) -> bytes:
        try:
            return self._attribute(attribute, _USUAL_ATTRIBUTE_BYTES)
        except SCardError as error:
            if error.code != INSUFFICIENT_BUFFER or self._library.headers.attribute_bytes == _USUAL_ATTRIBUTE_BYTES:
                raise
        return self._attribute(attribute, self._library.headers.attribute_bytes)

    def _attribute(self, attribute: int, most: int) -> bytes:
        value, length = _byte_buffer(most), self._library.headers.dword(most)
        self._call("SCardGetAttrib", attribute, value, ctypes.byref(length))
        told: bytes = value[: length.value]
        return told

    def set_attribute(self, attribute: int, value: bytes) -> None:
        self._call("SCardSetAttrib", attribute, bytes(value), len(value))


class _Context:
    """SCARDCONTEXT: one connection to the service."""

    __slots__ = ("_context", "_library")
    __reduce_ex__ = refuse_copy

    def __init__(self, pcsc: Library, context: int) -> None:
        self._library = pcsc
        self._context = context

    def list_readers(self, groups: Sequence[str] | None = None) -> tuple[str, ...]:
        try:
            return list_readers(self._library, self._context, groups or ())
        except SCardError as error:
            if is_no_reader(error, self._library.headers is PCSC_LITE):
                return ()
            raise

    def list_reader_groups(self) -> tuple[str, ...]:
        pcsc = self._library
        names, size = pcsc.text_buffer(_MAX_LIST_CHARACTERS), pcsc.headers.dword(_MAX_LIST_CHARACTERS)
        pcsc.call("SCardListReaderGroups", "", self._context, names, ctypes.byref(size))
        return pcsc.names(names, size.value)

    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        pcsc = self._library
        if not 0 <= timeout < _INFINITE:
            raise SCardError(f"SCardGetStatusChange: no timeout of {timeout} ms", INVALID_PARAMETER, "SCardGetStatusChange")
        states = (pcsc.reader_state * len(entries))()
        for entry, (reader, state) in zip(states, entries, strict=True):
            entry.szReader = pcsc.name(reader)
            entry.dwCurrentState = unsigned(state) & ~_CHANGED
        code = pcsc.result_code("SCardGetStatusChange", self._context, timeout, states, len(entries), brief=not timeout)
        if code not in (SUCCESS, TIMEOUT):
            raise error_for(code, "SCardGetStatusChange")
        told = [
            StatusEntry(reader, unsigned(entry.dwEventState), bytes(entry.rgbAtr)[: entry.cbAtr])
            for entry, (reader, _) in zip(states, entries, strict=True)
        ]
        return StatusChange(code == TIMEOUT, told)

    def cancel(self) -> None:
        self._library.cancel(self._context)

    def connect(self, reader: str, share: ShareMode, protocols: Protocol) -> _Handle:
        pcsc = self._library
        handle, protocol = pcsc.headers.handle(), pcsc.headers.dword()
        outputs = ctypes.byref(handle), ctypes.byref(protocol)
        pcsc.call("SCardConnect", reader, self._context, pcsc.name(reader), share, pcsc.mask(protocols), *outputs)
        return _Handle(pcsc, handle.value, reader, protocol.value)

    def release(self) -> None:
        with contexts_lock.current:
            self._library.call("SCardReleaseContext", "", self._context)


class _CtypesBackend:
    """The system's PC/SC, by ctypes."""

    max_entries = MAX_ENTRIES
    absent_service_means_no_reader = ON_WINDOWS
    release_disconnects = ON_PCSC_LITE
    takes_reader_name = staticmethod(takes_reader_name)

    def establish(self) -> _Context:
        pcsc = library(generation())
        context = pcsc.headers.handle()
        with contexts_lock.current:
            pcsc.call("SCardEstablishContext", "", _SCOPE_USER, None, None, ctypes.byref(context))
        return _Context(pcsc, context.value)


CTYPES = _CtypesBackend()
