"""What both bindings to the system's PC/SC (`pyscard`, `ctypes_binding`) share: they call one library in one process.

Rules:

- Codes and states are unsigned on this side, on every platform (fact 45).
- SCardDisconnect walks libpcsclite's list of contexts without its lock (1.9.9; 2.3.3 has the same code): of 4 processes that called
  it beside SCardReleaseContext for 8 s one crashed. So these two, and SCardEstablishContext, come one after another, whichever
  binding calls them (`contexts_lock`). A caller that disconnects with a reset first makes sure that no transaction blocks it.
- No reader is an empty list, whatever code a platform has for it (fact 49).
- libpcsclite 2.5 keeps a table of readers for the process, which grows and never shrinks. Once pcscd has fewer readers than the
  table has places, whatever needs the table answers UNSUPPORTED_FEATURE, in every context, until there are as many again: the
  lists of whatever groups, SCardGetStatusChange, SCardStatus (2.5.3, by experiment and in its machine code; fact 67). Only another
  process helps, so that is what the list says; elsewhere the code may also be a passing one (fact 17).
"""

from __future__ import annotations

import sys

from .._enums import Protocol
from .._threads import ForkLock
from ..errors import NO_READERS_AVAILABLE, UNSUPPORTED_FEATURE, SCardError, ServiceUnavailableError

BRIEF_CALLS = frozenset({"SCardEstablishContext", "SCardListReaders", "SCardListReaderGroups", "SCardReleaseContext"})
"""Calls that never block for long; a fork waits for them, see `fork_gate`."""
ON_WINDOWS = sys.platform == "win32"
ON_PCSC_LITE = sys.platform not in ("win32", "darwin")
"""Whether it is pcsc-lite that answers."""
MAX_ENTRIES = 16
"""Entries of a status call: what pcsc-lite takes, before 2.5 with the entry for plug and play (fact 18)."""

_FEWER_READERS = (
    "SCardListReaders: pcscd was started again with fewer readers than this process has seen, which libpcsclite 2.5 cannot read: "
    "restart this program (SCARD_E_UNSUPPORTED_FEATURE 0x8010001F)"
)

contexts_lock = ForkLock()
"""Held while a context is established or released, and during SCardDisconnect."""


def unsigned(number: int) -> int:
    """A code, state or protocol without its sign: 32 bits."""
    return number & 0xFFFFFFFF


def protocol_of(number: int, raw: int) -> Protocol:
    """The protocol that a library reports; RAW has another number on Windows.

    Args:
        raw: that number, as the library has it.
    """
    number = unsigned(number)
    return Protocol.RAW if number == raw else Protocol(number)


def protocol_mask(protocols: Protocol, raw: int) -> int:
    """Protocols as a number for a library; `raw` as above."""
    return int(protocols & ~Protocol.RAW) | (raw if Protocol.RAW in protocols else 0)


def is_no_reader(error: SCardError, pcsc_lite: bool) -> bool:
    """Whether a list failed because there is no reader.

    Args:
        error: of SCardListReaders.
        pcsc_lite: whether it was pcsc-lite that answered.

    Raises:
        ServiceUnavailableError: the table of readers cannot be read any more.
    """
    if error.code == UNSUPPORTED_FEATURE and pcsc_lite:
        raise ServiceUnavailableError(_FEWER_READERS, error.code, error.call) from None
    return error.code == NO_READERS_AVAILABLE
