"""The interface between the library and a PC/SC, real (`pyscard`) or simulated (`testing`).

Rules:

- Methods block, and have the names of PC/SC's functions without the prefix. They raise `SCardError` with PC/SC's code and function.
- One thread at a time may use a context. Other threads may only call `cancel` on it (fact 5).
- Reader states are unsigned 32-bit numbers, flags in the lower half and the event counter in the upper half; they are passed back
  to PC/SC unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from .._enums import Disposition, ShareMode
from .._enums import Protocol as CardProtocol

PNP_READER = "\\\\?PnP?\\Notification"
"""The name that, in a status call, stands for the list of readers itself (fact 19)."""

ATTR_ATR_STRING = 0x00090303
"""SCARD_ATTR_ATR_STRING (PC/SC part 3); asking for it never waits for another program's transaction (fact 4)."""


class StatusEntry(NamedTuple):
    """One reader in the answer of a status call.

    Attributes:
        reader: its name, as it was given.
        state: its flags, and in the upper half its event counter; 32 bits, unsigned.
        atr: the ATR of the card in it; empty without one.
    """

    reader: str
    state: int
    atr: bytes


class StatusChange(NamedTuple):
    """The answer of a status call. After a time-out the sharing flags may be stale; counters are correct (facts 10, 11).

    Attributes:
        timed_out: whether the time ran out before anything changed (SCARD_E_TIMEOUT).
        entries: the readers, in the order of those that were given.
    """

    timed_out: bool
    entries: Sequence[StatusEntry]


class CardStatus(NamedTuple):
    """The answer of SCardStatus.

    Attributes:
        reader: the reader's name.
        state: as the platform has it, unsigned; on pcsc-lite with the event counter in its upper half (fact 34).
        protocol: the protocol in use.
        atr: the card's ATR.
    """

    reader: str
    state: int
    protocol: CardProtocol
    atr: bytes


class CardHandle(Protocol):
    """One connection to a card (SCARDHANDLE), for the thread that uses its context.

    Every method raises SCardError with PC/SC's code: INVALID_HANDLE after `disconnect` or the context's release, RESET_CARD after
    another handle's reset until `reconnect`, REMOVED_CARD after a removal for good (facts 33, 34).
    """

    @property
    def protocol(self) -> CardProtocol:
        """The protocol in use since the connect or the last reconnect."""

    def status(self) -> CardStatus:
        """SCardStatus. Waits while another handle holds a transaction (fact 4).

        Returns:
            Reader, state, protocol and ATR.
        """

    def transmit(self, data: bytes) -> bytes:
        """SCardTransmit: one exchange, bytes as they are. Waits like `status`.

        Args:
            data: what goes to the card, 65,535 bytes at most.

        Returns:
            What the card answered, status bytes included; it may be empty (fact 38). Nothing is fetched or taken off (fact 37).
        """

    def begin_transaction(self) -> None:
        """SCardBeginTransaction. Waits for another handle's transaction; nothing cancels that (fact 4)."""

    def end_transaction(self, disposition: Disposition) -> None:
        """SCardEndTransaction. They are counted (fact 30); without a begin it is NOT_TRANSACTED.

        Args:
            disposition: LEAVE or RESET.
        """

    def reconnect(self, share: ShareMode, protocols: CardProtocol, disposition: Disposition) -> CardProtocol:
        """SCardReconnect: clear the mark of another program's reset, or reset the card. Waits like `status`.

        Args:
            share: as from now on.
            protocols: to choose from.
            disposition: LEAVE, RESET or UNPOWER.

        Returns:
            The protocol, which is also `protocol` from now on.
        """

    def disconnect(self, disposition: Disposition) -> None:
        """SCardDisconnect. RESET waits like `status`.

        Args:
            disposition: what becomes of the card.
        """

    def control(self, code: int, data: bytes) -> bytes:
        """SCardControl. Never waits.

        Args:
            code: the platform's control code; 32 bits, unsigned.
            data: what goes to the reader; may be empty.

        Returns:
            What the reader answered; may be empty.
        """

    def get_attribute(self, attribute: int) -> bytes:
        """SCardGetAttrib. Never waits: SHARING_VIOLATION while another handle holds a transaction.

        Args:
            attribute: its number; 32 bits, unsigned.

        Returns:
            Its value.
        """

    def set_attribute(self, attribute: int, value: bytes) -> None:
        """SCardSetAttrib. Never waits, like `get_attribute`.

        Args:
            attribute: its number; 32 bits, unsigned.
            value: its value.
        """


class Context(Protocol):
    """One context (SCARDCONTEXT): a connection to the service.

    Every method raises SCardError with PC/SC's code: INVALID_HANDLE after `release`; NO_SERVICE, SERVICE_STOPPED, COMM_ERROR or
    SYSTEM_CANCELLED once the service has ended, even if it runs again (fact 22).
    """

    def list_readers(self, groups: Sequence[str] | None = None) -> tuple[str, ...]:
        """SCardListReaders.

        Args:
            groups: those whose readers are meant, where there are any; None: all readers.

        Returns:
            The names in PC/SC's order; no reader is an empty tuple on every platform (fact 49).
        """

    def list_reader_groups(self) -> tuple[str, ...]:
        """SCardListReaderGroups.

        Returns:
            The names of the groups.
        """

    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        """SCardGetStatusChange: waits until a state differs from the given one, which is at once for a state of 0.

        A reader that is not there is UNKNOWN_READER; one that goes meanwhile is success, with UNKNOWN in its state (fact 16).
        `cancel` ends the call with CANCELLED. Without entries it returns at once.

        Args:
            timeout: whole milliseconds that it may wait, from 0 to 2**31 - 1. A time-out is an answer, no error.
            entries: names of readers, or PNP_READER, and the state that is known of each; `max_entries` at most.

        Returns:
            The readers' states in the order of `entries`.

        Raises:
            ValueError: a name that the backend does not take, see `takes_reader_name`.
        """

    def cancel(self) -> None:
        """SCardCancel, from any thread. Its success proves nothing: without a waiting status call it is lost (facts 1, 3)."""

    def connect(self, reader: str, share: ShareMode, protocols: CardProtocol) -> CardHandle:
        """SCardConnect. Waits while another handle holds a transaction (fact 4).

        Args:
            reader: its name.
            share: EXCLUSIVE against anything else is SHARING_VIOLATION at once (fact 26).
            protocols: to choose from; UNDEFINED with DIRECT.

        Returns:
            The handle.

        Raises:
            ValueError: a name that the backend does not take, see `takes_reader_name`.
        """

    def release(self) -> None:
        """SCardReleaseContext. Never while another thread is in a call of this context (fact 5)."""


class Backend(Protocol):
    """One PC/SC. Two more members are optional, see `takes_reader_name` and `reconnect_ends_transaction`.

    Attributes:
        max_entries: how many entries one status call takes (fact 18).
        absent_service_means_no_reader: the service stops with the last reader and comes with the first (fact 48).
        release_disconnects: releasing a context disconnects its handles: RESET if EXCLUSIVE, else LEAVE; see `_session.session`.
    """

    @property
    def max_entries(self) -> int:
        """How many entries one status call takes."""

    @property
    def absent_service_means_no_reader(self) -> bool:
        """Whether the service runs only while a reader is plugged in."""

    @property
    def release_disconnects(self) -> bool:
        """Whether SCardReleaseContext disconnects the context's handles: RESET for an EXCLUSIVE one, LEAVE for others."""

    def establish(self) -> Context:
        """SCardEstablishContext.

        Returns:
            A new context, which nobody else has.

        Raises:
            ServiceUnavailableError: there is no service.
        """


def takes_reader_name(backend: Backend, name: str) -> bool:
    """Whether the binding can be called with this reader name.

    Args:
        backend: its own method `takes_reader_name(name)` answers; without one it is taken to be as pyscard (fact 42).
        name: the reader's name.
    """
    own: Callable[[str], object] | None = getattr(backend, "takes_reader_name", None)
    return is_plain_ascii(name) if own is None else bool(own(name))


def is_plain_ascii(name: str) -> bool:
    """Whether a reader name is ASCII without NUL, which pyscard survives (fact 42)."""
    return name.isascii() and "\0" not in name


def why_left_out(name: str) -> str:
    """The reason why a binding cannot be called with the reader name `name`, in words."""
    if "\ufffd" in name:  # what could not be decoded
        return "it is not UTF-8"
    if "\0" in name:
        return "it holds a NUL character"
    if any("\ud800" <= char <= "\udfff" for char in name):
        return "it is not valid Unicode"
    return "this PC/SC binding takes ASCII names only"


def reconnect_ends_transaction(backend: Backend) -> bool:
    """Whether SCardReconnect ends a transaction (fact 32): a backend's attribute of that name, else as on this platform."""
    return bool(getattr(backend, "reconnect_ends_transaction", sys.platform == "win32"))
