"""The Answer to Reset: bytes that know their parts.

Rules of this room:

- The structure is ISO/IEC 7816-3:2006, 8.2. pyscard's `smartcard.ATR` takes it apart; it is imported when the first part is
  asked for, so that importing scardface costs nothing of pyscard's.
- Whatever a card or reader calls its ATR is accepted and never raises, in the constructor or later: what cannot be taken apart
  (cut off, empty, of a mute card, of a storage card that has none) has no parts, and `is_well_formed` says so.
- Historical bytes are ISO/IEC 7816-4:2020, 12.1.1: category 80, COMPACT-TLV to the end; category 00, COMPACT-TLV and three
  status bytes; others say nothing to us. A data object that reaches over the end ends the reading.
- Card capabilities are the object with tag 7, and its third byte, the software function table that tells of chaining and extended
  length, may be missing. A bit that is not there is False: nothing was declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ._enums import Protocol

if TYPE_CHECKING:
    from smartcard.ATR import ATR as ParsedATR

    from ._apdu import Buffer

__all__ = ["ATR", "Capabilities"]


@dataclass(frozen=True)
class Capabilities:
    """What a card declares in its historical bytes (ISO/IEC 7816-4:2020, 12.1.1, card capabilities, third byte)."""

    command_chaining: bool = False
    """Commands may come in parts, bit 5 of CLA set in all but the last."""
    extended_length: bool = False
    """Lc and Le may be of extended length."""
    extended_length_information: bool = False
    """How long they may be stands in a file of the card, EF.ATR/INFO."""
    logical_channels: int = 1
    """How many logical channels the card has, the basic one included; 8 stands for eight or more."""


class ATR(bytes):
    """An Answer to Reset: the bytes themselves, with parts parsed when they are asked for.

    Args:
        octets: what the reader reported; any bytes, none too.
    """

    def __new__(cls, octets: Buffer = b"") -> ATR:
        if not isinstance(octets, (bytes, bytearray, memoryview)):
            raise TypeError(f"an ATR is bytes, not {type(octets).__name__}; of hexadecimal digits it is ATR.fromhex(...)")
        return super().__new__(cls, octets)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (bytes(self),)

    def __repr__(self) -> str:
        return f'{type(self).__name__}.fromhex("{self}")'

    def __str__(self) -> str:
        return self.hex(" ").upper()

    @cached_property
    def _parsed(self) -> ParsedATR | None:
        from smartcard.ATR import ATR as ParsedATR
        from smartcard.Exceptions import SmartcardException

        try:
            return ParsedATR(list(self))
        except (SmartcardException, IndexError):  # the second is how it meets one that is cut off
            return None

    @property
    def is_well_formed(self) -> bool:
        """Whether it has all the bytes that it announces and no more than a check character besides (ISO/IEC 7816-3:2006, 8.2)."""
        parsed = self._parsed
        if parsed is None or len(parsed.historicalBytes) < parsed.K:
            return False
        announced = 2 + int(parsed.interfaceBytesCount) + int(parsed.K)
        return len(self) == announced + (parsed.TCK is not None)

    @property
    def ta(self) -> tuple[int | None, ...]:
        """TA1, TA2 and so on: `ta[0]` is TA1, None where it is absent; empty if the ATR could not be parsed."""
        return () if self._parsed is None else tuple(self._parsed.TA)

    @property
    def tb(self) -> tuple[int | None, ...]:
        """TB1, TB2 and so on, as `ta`."""
        return () if self._parsed is None else tuple(self._parsed.TB)

    @property
    def tc(self) -> tuple[int | None, ...]:
        """TC1, TC2 and so on, as `ta`."""
        return () if self._parsed is None else tuple(self._parsed.TC)

    @property
    def td(self) -> tuple[int | None, ...]:
        """TD1, TD2 and so on, as `ta`; the last one is None."""
        return () if self._parsed is None else tuple(self._parsed.TD)

    @property
    def protocols(self) -> Protocol:
        """The transmission protocols offered, T=0 where none is named; UNDEFINED if the ATR could not be parsed (8.2.3)."""
        if self._parsed is None:
            return Protocol.UNDEFINED
        offered = Protocol.T0 if self._parsed.isT0Supported() else Protocol.UNDEFINED
        return offered | Protocol.T1 if self._parsed.isT1Supported() else offered

    @property
    def historical_bytes(self) -> bytes:
        """What the card says of itself, at most 15 bytes; those that are there, if the ATR is cut off."""
        return b"" if self._parsed is None else bytes(self._parsed.historicalBytes)

    @property
    def tck(self) -> int | None:
        """The check character; None where there is none."""
        return None if self._parsed is None else self._parsed.TCK

    @property
    def is_tck_right(self) -> bool:
        """Whether the check character is as it must be: all bytes but the first give 0 by exclusive or, and it is there unless T=0
        is the only protocol named (ISO/IEC 7816-3:2006, 8.2.5).
        """
        if self._parsed is None:
            return False
        if self._parsed.TCK is None:
            return self.is_well_formed and not any(td & 0x0F for td in self.td if td is not None)
        return bool(self._parsed.checksumOK)

    @property
    def capabilities(self) -> Capabilities:
        """What the card declares of chaining, extended length and channels; all False where it declares nothing."""
        objects = _compact_tlv(self.historical_bytes)
        declared = next((value for tag, value in objects if tag == 7), b"")
        if len(declared) < 3:
            return Capabilities()
        table = declared[2]
        # b8 chaining, b7 extended Lc and Le, b6 extended length information in EF.ATR/INFO, b5-b4 who assigns channels (00: there
        # is only the basic one), b3-b1 their number less one.
        channels = 1 + (table & 0x07) if table & 0x18 else 1
        return Capabilities(bool(table & 0x80), bool(table & 0x40), bool(table & 0x20), channels)


def _compact_tlv(historical: bytes) -> list[tuple[int, bytes]]:
    """The COMPACT-TLV data objects among historical bytes, as (tag, value)."""
    category = historical[:1]
    if category == b"\x80":
        rest = historical[1:]
    elif category == b"\x00":
        rest = historical[1:-3]
    else:
        return []
    objects = []
    while rest:
        tag, length = rest[0] >> 4, rest[0] & 0x0F
        if length >= len(rest):
            break
        objects.append((tag, rest[1 : 1 + length]))
        rest = rest[1 + length :]
    return objects
