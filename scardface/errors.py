"""What can go wrong, one class for each different thing that a caller would do about it.

Rules of this room:

- Every failure of PC/SC is an `SCardError`; `error_for` turns a code into the class and the words.
- A text says what happened, on which reader, in which call, and what to do next.
- Codes are the unsigned 32-bit numbers of PC/SC (winscard.h), on every platform; `_pcsc` folds signed ones.
- Errors survive `pickle`, so they cross process pools whole.
- A card that answers with a status word other than 9000 is no failure of PC/SC: see `StatusError`.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = [
    "CardCommunicationError",
    "CardRemovedError",
    "CardResetError",
    "CardTimeoutError",
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
        code: PC/SC's code, unsigned (0x80100069 is SCARD_W_REMOVED_CARD).
        call: PC/SC's name of the call that answered it ("SCardTransmit"); empty where this library itself decided.
        reader: the reader's name; empty where none is concerned.
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
    """The PC/SC service does not run, does not answer or does not let us in: start it, or wait for it."""


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
        if self.answered is None:
            return super().__str__()
        return f"{self.args[0]}; before that {self.answered} of the commands sent together had been answered"


class CardResetError(SCardError):
    """Somebody reset the card: what was selected and verified on it is gone."""


class SharingViolationError(SCardError):
    """Another program holds the card: wait, share it, or end that program."""


class ProtocolMismatchError(SCardError):
    """The card does not speak the protocols asked for, or another program fixed another one."""


class CardCommunicationError(SCardError):
    """The card or the reader answered badly or not at all: reset it, clean its contacts, try again."""


SUCCESS = 0
CANCELLED = 0x80100002
INVALID_HANDLE = 0x80100003
INVALID_PARAMETER = 0x80100004
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
NO_READERS_AVAILABLE = 0x8010002E
COMM_DATA_LOST = 0x8010002F
SERVER_TOO_BUSY = 0x80100031
UNSUPPORTED_CARD = 0x80100065
UNRESPONSIVE_CARD = 0x80100066
UNPOWERED_CARD = 0x80100067
RESET_CARD = 0x80100068
REMOVED_CARD = 0x80100069
SECURITY_VIOLATION = 0x8010006A

_START = {
    "win32": "plug a reader in, since Windows runs the service while there is one, or start it ('net start SCardSvr')",
    "darwin": "plug a reader in, since macOS runs the service while there is one",
}.get(sys.platform, "install pcscd, or start it ('systemctl start pcscd.socket')")
"""What is most likely to mend it where no service answers: the first sentence of each text."""
_ABSENT = (
    f"no PC/SC service runs: {_START}. If one runs, it was restarted, and a new context reaches it, or it refuses this program, "
    "for instance at its limit of 200 contexts"
)
_ENDED = f"the PC/SC service ended: if it does not come back by itself, {_START}. What was open is lost; open it anew"
_REFUSES = (
    "the PC/SC service refuses this program: have polkit's rules (org.debian.pcsc-lite) let this user in. Or pcscd is at its limit "
    "of 200 contexts, all programs together, or is ending"
)

_MEANINGS: dict[int, tuple[type[SCardError], str, str]] = {
    CANCELLED: (WaitCancelledError, "SCARD_E_CANCELLED", "the wait was cancelled"),
    INVALID_HANDLE: (SCardError, "SCARD_E_INVALID_HANDLE", "the context or card handle is not valid any more; open a new one"),
    INVALID_PARAMETER: (SCardError, "SCARD_E_INVALID_PARAMETER", "a parameter was not accepted"),
    0x80100006: (SCardError, "SCARD_E_NO_MEMORY", "the PC/SC service is out of memory or handles; close cards that are not used"),
    0x80100008: (SCardError, "SCARD_E_INSUFFICIENT_BUFFER", "the answer is longer than PC/SC's buffer"),
    UNKNOWN_READER: (NoReaderError, "SCARD_E_UNKNOWN_READER", "there is no reader of that name; readers() lists those there are"),
    TIMEOUT: (CardTimeoutError, "SCARD_E_TIMEOUT", "the time ran out"),
    SHARING_VIOLATION: (
        SharingViolationError,
        "SCARD_E_SHARING_VIOLATION",
        "another program holds the card; wait for it, end it, or open the card with share=ShareMode.SHARED",
    ),
    NO_SMARTCARD: (NoCardError, "SCARD_E_NO_SMARTCARD", "there is no card in the reader; insert one"),
    PROTO_MISMATCH: (
        ProtocolMismatchError,
        "SCARD_E_PROTO_MISMATCH",
        "the card does not offer the protocols asked for, or another program fixed another one",
    ),
    NOT_READY: (CardCommunicationError, "SCARD_E_NOT_READY", "the reader or card is not ready; try again"),
    INVALID_VALUE: (SCardError, "SCARD_E_INVALID_VALUE", "a value was not accepted"),
    SYSTEM_CANCELLED: (ServiceUnavailableError, "SCARD_E_SYSTEM_CANCELLED", _ENDED),
    COMM_ERROR: (ServiceUnavailableError, "SCARD_F_COMM_ERROR", _ENDED),
    UNKNOWN_ERROR: (SCardError, "SCARD_F_UNKNOWN_ERROR", "PC/SC failed without saying why"),
    0x80100001: (SCardError, "SCARD_F_INTERNAL_ERROR", "the PC/SC service failed inside; see its log"),
    NOT_TRANSACTED: (
        CardCommunicationError,
        "SCARD_E_NOT_TRANSACTED",
        "the exchange failed; the card may be badly seated, broken, or not take commands of this length",
    ),
    READER_UNAVAILABLE: (NoReaderError, "SCARD_E_READER_UNAVAILABLE", "the reader does not answer; plug it in again"),
    SHUTDOWN: (ServiceUnavailableError, "SCARD_P_SHUTDOWN", _ENDED),
    NO_SERVICE: (ServiceUnavailableError, "SCARD_E_NO_SERVICE", _ABSENT),
    SERVICE_STOPPED: (ServiceUnavailableError, "SCARD_E_SERVICE_STOPPED", _ENDED),
    NO_READERS_AVAILABLE: (NoReaderError, "SCARD_E_NO_READERS_AVAILABLE", "there is no reader; plug one in"),
    COMM_DATA_LOST: (CardCommunicationError, "SCARD_E_COMM_DATA_LOST", "the reader lost data; try again"),
    SERVER_TOO_BUSY: (ServiceUnavailableError, "SCARD_E_SERVER_TOO_BUSY", "the PC/SC service is too busy; try again"),
    UNSUPPORTED_CARD: (CardCommunicationError, "SCARD_W_UNSUPPORTED_CARD", "the reader cannot speak to this card"),
    UNRESPONSIVE_CARD: (
        CardCommunicationError,
        "SCARD_W_UNRESPONSIVE_CARD",
        "the card does not answer the reset; is it the right way round, are its contacts clean?",
    ),
    UNPOWERED_CARD: (NoCardError, "SCARD_W_UNPOWERED_CARD", "the card is not powered; take it out and insert it again"),
    RESET_CARD: (CardResetError, "SCARD_W_RESET_CARD", "somebody reset the card; its selections and verified PINs are lost"),
    REMOVED_CARD: (CardRemovedError, "SCARD_W_REMOVED_CARD", "the card was removed; a new SCard waits for the next one"),
    SECURITY_VIOLATION: (
        ServiceUnavailableError,
        "SCARD_W_SECURITY_VIOLATION",
        _REFUSES,
    ),
    0x8010001F: (SCardError, "SCARD_E_UNSUPPORTED_FEATURE", "this PC/SC does not support that"),
    0x80100022: (SCardError, "SCARD_E_UNSUPPORTED_FEATURE", "this PC/SC does not support that"),
}


def error_for(code: int, call: str, reader: str = "") -> SCardError:
    """The error that `call` of PC/SC means by `code` (unsigned), ready to raise."""
    kind, name, words = _MEANINGS.get(code, (SCardError, "", "PC/SC failed"))
    where = f" on reader {reader!r}" if reader else ""
    return kind(f"{call}{where}: {words} ({name + ' ' if name else ''}0x{code:08X})", code, call, reader)


def as_error(kind: type[SCardError], error: SCardError, words: str) -> SCardError:
    """`error` told again as another kind, where the situation says more than the code does."""
    return kind(f"{words} [{error}]", error.code, error.call, error.reader)


def again(error: SCardError) -> SCardError:
    """`error` as a new object, to raise in another task than the one that saw it first."""
    return type(error)(str(error.args[0]), error.code, error.call, error.reader)
