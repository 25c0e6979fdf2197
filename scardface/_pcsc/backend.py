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
    """One reader in the answer of a status call: its name, its state (flags and counter), its ATR."""

    reader: str
    state: int
    atr: bytes


class StatusChange(NamedTuple):
    """The answer of a status call. After a time-out the sharing flags may be stale; counters are correct (facts 10, 11)."""

    timed_out: bool
    entries: Sequence[StatusEntry]


class CardStatus(NamedTuple):
    """The answer of SCardStatus: reader, state (the event counter in its upper half, fact 34), protocol, ATR."""

    reader: str
    state: int
    protocol: CardProtocol
    atr: bytes


class CardHandle(Protocol):
    """One connection to a card, for the thread that uses its context."""

    @property
    def protocol(self) -> CardProtocol:
        """The protocol in use since the connect or the last reconnect."""

    def status(self) -> CardStatus:
        """SCardStatus. Waits while another handle holds a transaction (fact 4)."""

    def transmit(self, data: bytes) -> bytes:
        """SCardTransmit: one exchange, bytes as they are; the answer may be empty (fact 38). Waits like `status`."""

    def begin_transaction(self) -> None:
        """SCardBeginTransaction. Waits for another handle's transaction; nothing cancels that (fact 4)."""

    def end_transaction(self, disposition: Disposition) -> None:
        """SCardEndTransaction."""

    def reconnect(self, share: ShareMode, protocols: CardProtocol, disposition: Disposition) -> CardProtocol:
        """SCardReconnect. Waits like `status`."""

    def disconnect(self, disposition: Disposition) -> None:
        """SCardDisconnect. RESET waits like `status`."""

    def control(self, code: int, data: bytes) -> bytes:
        """SCardControl. Never waits."""

    def get_attribute(self, attribute: int) -> bytes:
        """SCardGetAttrib. Never waits: SHARING_VIOLATION while another handle holds a transaction."""

    def set_attribute(self, attribute: int, value: bytes) -> None:
        """SCardSetAttrib."""


class Context(Protocol):
    """One context (SCARDCONTEXT): a connection to the service."""

    def list_readers(self, groups: Sequence[str] | None = None) -> tuple[str, ...]:
        """SCardListReaders: the names in PC/SC's order; no reader is an empty tuple on every platform (fact 49)."""

    def list_reader_groups(self) -> tuple[str, ...]:
        """SCardListReaderGroups."""

    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        """SCardGetStatusChange: waits at most `timeout` ms until a state differs from the given one (0: unaware)."""

    def cancel(self) -> None:
        """SCardCancel, from any thread. Its success proves nothing: without a waiting status call it is lost (facts 1, 3)."""

    def connect(self, reader: str, share: ShareMode, protocols: CardProtocol) -> CardHandle:
        """SCardConnect. Waits while another handle holds a transaction (fact 4)."""

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
        """SCardEstablishContext."""


def takes_reader_name(backend: Backend, name: str) -> bool:
    """Whether the binding can be called with this reader name: a backend's own method of that name, else as pyscard (fact 42)."""
    own: Callable[[str], object] | None = getattr(backend, "takes_reader_name", None)
    return is_plain_ascii(name) if own is None else bool(own(name))


def is_plain_ascii(name: str) -> bool:
    """Whether a reader name is ASCII without NUL, which pyscard survives (fact 42)."""
    return name.isascii() and "\0" not in name


def why_left_out(name: str) -> str:
    """The reason why a binding cannot be called with this reader name, in words."""
    if "\ufffd" in name:  # what could not be decoded
        return "it is not UTF-8"
    return "this PC/SC binding takes ASCII names only"


def reconnect_ends_transaction(backend: Backend) -> bool:
    """Whether SCardReconnect ends a transaction (fact 32): a backend's attribute of that name, else as on this platform."""
    return bool(getattr(backend, "reconnect_ends_transaction", sys.platform == "win32"))
