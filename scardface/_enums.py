"""PC/SC's enumerations: protocols, share modes, dispositions, reader-state flags; and how to send long data.

The numbers are those of PC/SC (part 5, pcsclite.h) and are passed to it unchanged.
"""

from __future__ import annotations

import enum


class Protocol(enum.IntFlag):
    """Transmission protocols of ISO 7816-3; `Protocol.T0 | Protocol.T1` lets the reader choose by the ATR."""

    UNDEFINED = 0
    """No protocol: a reader opened with `ShareMode.DIRECT`."""
    T0 = 1
    """T=0, byte by byte."""
    T1 = 2
    """T=1, in blocks; contactless cards are reported as T=1, too."""
    RAW = 4
    """The reader's own protocol. It always wins in a choice of several, so do not combine it."""


class ShareMode(enum.IntEnum):
    """Who else may use the card while it is open (SCardConnect's dwShareMode)."""

    EXCLUSIVE = 1
    """Nobody."""
    SHARED = 2
    """Everybody who asks for SHARED too."""
    DIRECT = 3
    """The reader itself, with a card or without one."""


class Disposition(enum.IntEnum):
    """What happens to the card when it is disconnected (SCardDisconnect's dwDisposition)."""

    LEAVE = 0
    """Nothing: the next program finds it as it is, with its verified PINs."""
    RESET = 1
    """A warm reset: selections and verified PINs are gone."""
    UNPOWER = 2
    """Powered down. On pcsc-lite other programs' new connections fail until the card is reset."""
    EJECT = 3
    """Ejected, if the reader has a motor."""


class Lengths(enum.Enum):
    """How a command or an answer of more than 255 (256) bytes reaches the card (ISO 7816-4:2020, 5.2 and 5.3)."""

    AUTO = "auto"
    """By the card's ATR: extended length, else command chaining; where it declares neither, extended length on T=1, and on T=0
    ENVELOPE in the interindustry classes (0x, 1x, 4x to 7x), a ValueError in others."""
    EXTENDED = "extended"
    """Extended length fields; a ValueError on T=0."""
    CHAINING = "chaining"
    """Command chaining, bit 5 of CLA."""
    ENVELOPE = "envelope"
    """ENVELOPE (INS C2) commands; a ValueError on T=1."""
    SHORT = "short"
    """Short length fields only: more than 255 bytes of data are a ValueError."""


class StateFlag(enum.IntFlag):
    """The lower half of a reader's state in SCardGetStatusChange; the upper half counts insertions and removals."""

    UNAWARE = 0x0000
    """Given: nothing is known of the reader."""
    IGNORE = 0x0001
    """Given: the reader does not count."""
    CHANGED = 0x0002
    """Told: something differs from what was given."""
    UNKNOWN = 0x0004
    """There is no such reader any more."""
    UNAVAILABLE = 0x0008
    """The reader, or its driver, has failed."""
    EMPTY = 0x0010
    """No card is in."""
    PRESENT = 0x0020
    """A card is in."""
    ATRMATCH = 0x0040
    """The card in it is one of those that Windows was asked to locate."""
    EXCLUSIVE = 0x0080
    """Somebody has the card for itself."""
    INUSE = 0x0100
    """Somebody uses the card."""
    MUTE = 0x0200
    """The card in it does not answer."""
    UNPOWERED = 0x0400
    """The card in it has no power; pcsc-lite never says so (fact 14)."""
