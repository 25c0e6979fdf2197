"""What can go wrong: one class for each reaction that a caller may have.

Rules:

- Every failure of PC/SC is an `SCardError`; `error_for` makes it from a code.
- A text says what happened, on which reader, in which call, and what to do next.
- Codes are the unsigned 32-bit numbers of PC/SC (winscard.h) on every platform; bindings convert signed ones. Their meanings differ
  by platform: Windows has other numbers for two of them, and also reports numbers of its own (winerror.h) if a card was removed.
- The advice in a text is for the platform that the code came from, and is chosen when the error is made.
- Errors can be pickled without loss, for process pools.
- A card that answers with a status word other than 9000 is no failure of PC/SC: see `StatusError`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

__all__ = [
    "CardCommunicationError",
    "CardRemovedError",
    "CardResetError",
    "CardTimeoutError",
    "LayerClosedError",
    "NoCardError",
    "NoReaderError",
    "ProtocolMismatchError",
    "SCardError",
    "ServiceUnavailableError",
    "SharingViolationError",
    "WaitCancelledError",
]


class SCardError(OSError):
    """Something between this program and the card failed: `message` says what, and what to do next.

    Attributes:
        code: PC/SC's code, unsigned (0x80100069 is SCARD_W_REMOVED_CARD); on Windows also one of the system's (31 is
            ERROR_GEN_FAILURE).
        call: the function of PC/SC that returned it ("SCardTransmit"); empty if this library itself raised the error.
        reader: the reader's name; empty if no reader is concerned.
    """

    code: int
    call: str
    reader: str

    def __init__(self, message: str, code: int = 0x80100014, call: str = "", reader: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.call = call
        self.reader = reader

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.code, self.call, self.reader)

    def __str__(self) -> str:
        return str(self.args[0])


class ServiceUnavailableError(SCardError):
    """The PC/SC service does not run, does not answer or refuses this program: start it, or wait for it."""


class NoReaderError(SCardError):
    """No such reader: plug one in, or correct the name."""


class NoCardError(SCardError):
    """The reader has no card that can be powered: insert one."""


class CardTimeoutError(SCardError, TimeoutError):
    """The time given ran out; the text says what was seen meanwhile."""


class WaitCancelledError(SCardError):
    """`cancel()`, `cancel_all()` or a close ended the wait."""


class CardRemovedError(SCardError):
    """The card, or its reader, was taken away; a new acquisition is needed, whatever is in the reader now.

    Attributes:
        answered: how many commands of the `send` had been answered; None outside one.
    """

    answered: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self.args[0]), self.code, self.call, self.reader), {"answered": self.answered}

    def __str__(self) -> str:
        if not self.answered:  # a single command
            return super().__str__()
        return f"{self.args[0]}; before that {self.answered} of the commands sent together had been answered"


class CardResetError(SCardError):
    """Another program reset the card: its selections and verified PINs are lost."""


class SharingViolationError(SCardError):
    """Another program holds the card: wait, share it, or end that program."""


class ProtocolMismatchError(SCardError):
    """The card does not support the protocols asked for, or another program has set another one."""


class CardCommunicationError(SCardError):
    """The card or the reader gave a malformed answer or none: reset the card, clean its contacts, try again."""


class LayerClosedError(SCardError):
    """A layer, such as secure messaging, may be out of step with the card: set up a new secure channel."""


SUCCESS = 0
CANCELLED = 0x80100002
INVALID_HANDLE = 0x80100003
INVALID_PARAMETER = 0x80100004
NO_MEMORY = 0x80100006
INSUFFICIENT_BUFFER = 0x80100008
UNKNOWN_READER = 0x80100009
TIMEOUT = 0x8010000A
SHARING_VIOLATION = 0x8010000B
NO_SMARTCARD = 0x8010000C
PROTO_MISMATCH = 0x8010000F
NOT_READY = 0x80100010
INVALID_VALUE = 0x80100011
SYSTEM_CANCELLED = 0x80100012
COMM_ERROR = 0x80100013
UNKNOWN_ERROR = 0x80100014
NOT_TRANSACTED = 0x80100016
READER_UNAVAILABLE = 0x80100017
SHUTDOWN = 0x80100018
NO_SERVICE = 0x8010001D
SERVICE_STOPPED = 0x8010001E
UNSUPPORTED_FEATURE = 0x8010001F
NO_READERS_AVAILABLE = 0x8010002E
COMM_DATA_LOST = 0x8010002F
SERVER_TOO_BUSY = 0x80100031
UNSUPPORTED_CARD = 0x80100065
UNRESPONSIVE_CARD = 0x80100066
UNPOWERED_CARD = 0x80100067
RESET_CARD = 0x80100068
REMOVED_CARD = 0x80100069
SECURITY_VIOLATION = 0x8010006A

UNSUPPORTED_FEATURE_CODES = frozenset({UNSUPPORTED_FEATURE, 0x80100022})
"""SCARD_E_UNSUPPORTED_FEATURE of pcsc-lite and macOS, and that of Windows, where the first one is SCARD_E_UNEXPECTED (fact 21)."""

_Meaning = tuple[type[SCardError], str, str]
"""The class of a code, its name in PC/SC's header, what happened and what to do."""

_START = {
    "win32": "plug a reader in, with which Windows starts it, or run 'net start SCardSvr'",
    "darwin": "plug a reader in, since macOS runs the service while there is one",
}
_START_ELSEWHERE = "install pcscd, or start it ('systemctl start pcscd.socket')"
"""What is most likely to help if no service answers."""
_ACCESS_DENIED = {
    "win32": "Windows refuses this program the smart card service: run it as the user who is logged on at this machine",
    "darwin": "macOS refuses this program the smart card service: it needs the entitlement com.apple.security.smartcard",
}
_ACCESS_DENIED_ELSEWHERE = (
    "the PC/SC service refuses this program: have polkit's rules (org.debian.pcsc-lite) let this user in. Or pcscd is at its limit "
    "of 200 contexts, all programs together, or is ending"
)
_UNSUPPORTED = (SCardError, "SCARD_E_UNSUPPORTED_FEATURE", "this PC/SC does not support that")
_DRIVER_REFUSES = (
    "the reader's driver refused the control command, does not know it, or failed in it; commands to the reader (escape commands) "
    "may be off in its settings"
)
_NO_ATTRIBUTE = "the reader's driver does not have this attribute"


@cache
def meanings(platform: str) -> Mapping[int, _Meaning]:
    """PC/SC's codes on a platform (winscard.h; pcsc-lite's pcsclite.h).

    Args:
        platform: as `sys.platform` names it; all but "win32" and "darwin" have pcsc-lite.
    """
    start = _START.get(platform, _START_ELSEWHERE)
    limits = "" if platform in _START else ", for instance at its limit of 200 contexts"
    absent = (
        f"no PC/SC service runs: {start}. If one runs, it was restarted, and a new context reaches it, or it refuses this "
        f"program{limits}"
    )
    ended = f"the PC/SC service ended: if it does not come back by itself, {start}. What was open is lost; open it anew"
    table = dict(_COMMON)
    table[SYSTEM_CANCELLED] = ServiceUnavailableError, "SCARD_E_SYSTEM_CANCELLED", ended
    table[COMM_ERROR] = ServiceUnavailableError, "SCARD_F_COMM_ERROR", ended
    table[SHUTDOWN] = ServiceUnavailableError, "SCARD_P_SHUTDOWN", ended
    table[NO_SERVICE] = ServiceUnavailableError, "SCARD_E_NO_SERVICE", absent
    release = "" if platform in _START else "; in a container, its pcsc-lite and the service's have to be of one release"
    table[SERVICE_STOPPED] = (
        ServiceUnavailableError,
        "SCARD_E_SERVICE_STOPPED",
        ended + release,
    )  # so pcscd 2 says of other releases
    refuses = _ACCESS_DENIED.get(platform, _ACCESS_DENIED_ELSEWHERE)
    table[SECURITY_VIOLATION] = ServiceUnavailableError, "SCARD_W_SECURITY_VIOLATION", refuses
    if platform == "win32":
        table[UNSUPPORTED_FEATURE] = (
            CardCommunicationError,
            "SCARD_E_UNEXPECTED",
            "something unexpected happened to the card; try again",
        )
        table.update({code: (ServiceUnavailableError, name, absent) for code, name in _RPC.items()})
        table[5] = ServiceUnavailableError, "ERROR_ACCESS_DENIED", refuses
        table.update({code: (CardRemovedError, name, _REMOVED_TEXT) for code, name in REMOVED_ON_WINDOWS.items()})
        table.update({code: (SCardError, name, "Windows refused the call") for code, name in _REFUSED_ON_WINDOWS.items()})
    return MappingProxyType(table)


_COMMON: dict[int, _Meaning] = {
    CANCELLED: (WaitCancelledError, "SCARD_E_CANCELLED", "the wait was cancelled"),
    INVALID_HANDLE: (SCardError, "SCARD_E_INVALID_HANDLE", "the context or card handle is not valid any more; open a new one"),
    INVALID_PARAMETER: (SCardError, "SCARD_E_INVALID_PARAMETER", "a parameter was not accepted"),
    0x80100005: (SCardError, "SCARD_E_INVALID_TARGET", "the service's own settings are missing or damaged"),
    NO_MEMORY: (SCardError, "SCARD_E_NO_MEMORY", "the PC/SC service is out of memory or handles; close cards that are not used"),
    0x80100007: (SCardError, "SCARD_F_WAITED_TOO_LONG", "a time-out inside the PC/SC service expired; try again"),
    INSUFFICIENT_BUFFER: (SCardError, "SCARD_E_INSUFFICIENT_BUFFER", "the answer is longer than PC/SC's buffer"),
    UNKNOWN_READER: (NoReaderError, "SCARD_E_UNKNOWN_READER", "there is no reader of that name; readers() lists those there are"),
    TIMEOUT: (CardTimeoutError, "SCARD_E_TIMEOUT", "the time ran out"),
    SHARING_VIOLATION: (
        SharingViolationError,
        "SCARD_E_SHARING_VIOLATION",
        "another program holds the card; wait for it, end it, or open the card with share=ShareMode.SHARED",
    ),
    NO_SMARTCARD: (NoCardError, "SCARD_E_NO_SMARTCARD", "there is no card in the reader; insert one"),
    0x8010000D: (SCardError, "SCARD_E_UNKNOWN_CARD", "PC/SC has no card of that name on its list"),
    0x8010000E: (SCardError, "SCARD_E_CANT_DISPOSE", "the card cannot be disconnected with that disposition"),
    PROTO_MISMATCH: (
        ProtocolMismatchError,
        "SCARD_E_PROTO_MISMATCH",
        "the card does not offer the protocols asked for, or another program fixed another one",
    ),
    NOT_READY: (CardCommunicationError, "SCARD_E_NOT_READY", "the reader or card is not ready; try again"),
    INVALID_VALUE: (SCardError, "SCARD_E_INVALID_VALUE", "a value was not accepted"),
    UNKNOWN_ERROR: (SCardError, "SCARD_F_UNKNOWN_ERROR", "PC/SC failed without saying why"),
    0x80100001: (SCardError, "SCARD_F_INTERNAL_ERROR", "the PC/SC service had an internal error; see its log"),
    0x80100015: (SCardError, "SCARD_E_INVALID_ATR", "PC/SC does not accept the ATR"),
    NOT_TRANSACTED: (
        CardCommunicationError,
        "SCARD_E_NOT_TRANSACTED",
        "the exchange failed; the card may be badly seated, broken, or not take commands of this length",
    ),
    READER_UNAVAILABLE: (NoReaderError, "SCARD_E_READER_UNAVAILABLE", "the reader does not answer; plug it in again"),
    0x80100019: (SCardError, "SCARD_E_PCI_TOO_SMALL", "PC/SC's buffer for the protocol is too small"),
    0x8010001A: (SCardError, "SCARD_E_READER_UNSUPPORTED", "the reader's driver does not do what PC/SC needs; install its own"),
    0x8010001B: (SCardError, "SCARD_E_DUPLICATE_READER", "there is another reader of that name"),
    0x8010001C: (SCardError, "SCARD_E_CARD_UNSUPPORTED", "the card does not do what PC/SC needs"),
    UNSUPPORTED_FEATURE: _UNSUPPORTED,
    0x80100020: (SCardError, "SCARD_E_ICC_INSTALLATION", "the card has no provider of its first kind installed"),
    0x80100021: (SCardError, "SCARD_E_ICC_CREATEORDER", "the card's objects cannot be made in that order"),
    0x80100022: _UNSUPPORTED,
    0x80100023: (SCardError, "SCARD_E_DIR_NOT_FOUND", "the card has no such directory"),
    0x80100024: (SCardError, "SCARD_E_FILE_NOT_FOUND", "the card has no such file"),
    0x80100025: (SCardError, "SCARD_E_NO_DIR", "that is no directory of the card"),
    0x80100026: (SCardError, "SCARD_E_NO_FILE", "that is no file of the card"),
    0x80100027: (SCardError, "SCARD_E_NO_ACCESS", "access is denied to this program or user"),
    0x80100028: (SCardError, "SCARD_E_WRITE_TOO_MANY", "the card has not enough memory for the data"),
    0x80100029: (SCardError, "SCARD_E_BAD_SEEK", "there is no such position in the card's file"),
    0x8010002A: (SCardError, "SCARD_E_INVALID_CHV", "the card does not accept this PIN"),
    0x8010002B: (SCardError, "SCARD_E_UNKNOWN_RES_MNG", "a layer of PC/SC gave an unknown answer"),
    0x8010002C: (SCardError, "SCARD_E_NO_SUCH_CERTIFICATE", "the card has no such certificate"),
    0x8010002D: (SCardError, "SCARD_E_CERTIFICATE_UNAVAILABLE", "the certificate could not be read from the card"),
    NO_READERS_AVAILABLE: (NoReaderError, "SCARD_E_NO_READERS_AVAILABLE", "there is no reader; plug one in"),
    COMM_DATA_LOST: (CardCommunicationError, "SCARD_E_COMM_DATA_LOST", "the reader lost data; try again"),
    0x80100030: (SCardError, "SCARD_E_NO_KEY_CONTAINER", "the card has no such key container"),
    SERVER_TOO_BUSY: (ServiceUnavailableError, "SCARD_E_SERVER_TOO_BUSY", "the PC/SC service is too busy; try again"),
    0x80100032: (SCardError, "SCARD_E_PIN_CACHE_EXPIRED", "the PIN in PC/SC's cache has expired; enter it again"),
    0x80100033: (SCardError, "SCARD_E_NO_PIN_CACHE", "the PIN cannot be kept"),
    0x80100034: (SCardError, "SCARD_E_READ_ONLY_CARD", "the card cannot be written to"),
    UNSUPPORTED_CARD: (CardCommunicationError, "SCARD_W_UNSUPPORTED_CARD", "the reader does not support this card"),
    UNRESPONSIVE_CARD: (
        CardCommunicationError,
        "SCARD_W_UNRESPONSIVE_CARD",
        "the card does not answer the reset; is it the right way round, are its contacts clean?",
    ),
    UNPOWERED_CARD: (NoCardError, "SCARD_W_UNPOWERED_CARD", "the card is not powered; take it out and insert it again"),
    RESET_CARD: (CardResetError, "SCARD_W_RESET_CARD", "another program reset the card; its selections and verified PINs are lost"),
    REMOVED_CARD: (CardRemovedError, "SCARD_W_REMOVED_CARD", "the card was removed; a new SCard waits for the next one"),
    0x8010006B: (SCardError, "SCARD_W_WRONG_CHV", "the PIN is wrong"),
    0x8010006C: (SCardError, "SCARD_W_CHV_BLOCKED", "the PIN is blocked: no try is left"),
    0x8010006D: (SCardError, "SCARD_W_EOF", "the end of the card's file was reached"),
    0x8010006E: (SCardError, "SCARD_W_CANCELLED_BY_USER", "the user cancelled it"),
    0x8010006F: (SCardError, "SCARD_W_CARD_NOT_AUTHENTICATED", "no PIN was given to the card"),
    0x80100070: (SCardError, "SCARD_W_CACHE_ITEM_NOT_FOUND", "PC/SC's cache does not have that"),
    0x80100071: (SCardError, "SCARD_W_CACHE_ITEM_STALE", "what PC/SC's cache has is older than what was asked for"),
    0x80100072: (SCardError, "SCARD_W_CACHE_ITEM_TOO_BIG", "that is too big for PC/SC's cache"),
}
"""On every platform; `meanings` adds what differs."""

# Windows also returns codes of its drivers and of its RPC (winerror.h).
REMOVED_ON_WINDOWS = {
    6: "ERROR_INVALID_HANDLE",
    22: "ERROR_BAD_COMMAND",
    31: "ERROR_GEN_FAILURE",
    55: "ERROR_DEV_NOT_EXIST",
    121: "ERROR_SEM_TIMEOUT",
    433: "ERROR_NO_SUCH_DEVICE",
    995: "ERROR_OPERATION_ABORTED",
    1117: "ERROR_IO_DEVICE",
    1167: "ERROR_DEVICE_NOT_CONNECTED",
}
_REMOVED_TEXT = (
    "the card was removed, or its reader; a new SCard waits for the next one (is it still there, the reader failed: it may not "
    "take commands of this length)"
)
_REFUSED_ON_WINDOWS = {
    1: "ERROR_INVALID_FUNCTION",
    50: "ERROR_NOT_SUPPORTED",
    87: "ERROR_INVALID_PARAMETER",
    1168: "ERROR_NOT_FOUND",
}
_RPC = {1702: "RPC_S_INVALID_BINDING", 1722: "RPC_S_SERVER_UNAVAILABLE", 1726: "RPC_S_CALL_FAILED"}
_READER_CALLS = {"SCardControl": _DRIVER_REFUSES, "SCardGetAttrib": _NO_ATTRIBUTE, "SCardSetAttrib": _NO_ATTRIBUTE}
"""Calls to the reader's driver, which involve no card, and what their failure means."""
_DRIVER_FAILURES = frozenset(
    {
        "SCARD_E_NOT_TRANSACTED",
        "SCARD_E_UNSUPPORTED_FEATURE",
        "ERROR_BAD_COMMAND",
        "ERROR_GEN_FAILURE",
        *_REFUSED_ON_WINDOWS.values(),
    }
)
"""What they return if the driver does not support the call."""
_CONTEXT_CALLS = frozenset(
    {"SCardEstablishContext", "SCardListReaders", "SCardListReaderGroups", "SCardGetStatusChange", "SCardReleaseContext"}
)
"""Calls of a context, which involve no card."""


def error_for(code: int, call: str, reader: str = "", platform: str | None = None) -> SCardError:
    """The error for a code that a function of PC/SC returned, ready to raise.

    Args:
        code: PC/SC's, unsigned.
        call: the function's name, with the prefix SCard.
        reader: the reader's name, where one is concerned.
        platform: the platform that the code came from, as in `sys.platform`; None: this one.
    """
    table = meanings(platform or sys.platform)
    kind, name, message = table.get(code, (SCardError, "", "PC/SC failed"))
    if call in _READER_CALLS and name in _DRIVER_FAILURES:
        kind, message = SCardError if kind is CardRemovedError else kind, _READER_CALLS[call]
    elif call in _CONTEXT_CALLS and kind is CardRemovedError and code in REMOVED_ON_WINDOWS:
        # The context was lost with the service that it was connected to; a new one is needed.
        kind, message = (ServiceUnavailableError, table[SERVICE_STOPPED][2]) if code == 6 else (SCardError, "Windows failed")
    where = f" on reader {reader!r}" if reader else ""
    return kind(f"{call}{where}: {message} ({name + ' ' if name else ''}0x{code:08X})", code, call, reader)


def pip_install(extra: str) -> str:
    """The command that installs an extra of this package; cmd.exe knows double quotes only."""
    quote = '"' if sys.platform == "win32" else "'"
    return f"pip install {quote}scardface[{extra}]{quote}"


def converted(kind: type[SCardError], error: SCardError, message: str) -> SCardError:
    """`error` as another class, for where the situation says more than the code; `message` comes before its text."""
    return kind(f"{message} [{error}]", error.code, error.call, error.reader)


def fresh_copy(error: SCardError) -> SCardError:
    """`error` as a new object, to raise it in another task or thread without its traceback."""
    return type(error)(str(error.args[0]), error.code, error.call, error.reader)
