"""The Answer to Reset: bytes with properties for their parts.

Rules:

- The structure is ISO/IEC 7816-3:2006, 8.2: TS, T0, then TA, TB, TC and TD as far as T0 and each TD announce them (b5 to b8),
  historical bytes (their number in b4-b1 of T0), and TCK unless T=0 is the only protocol named. It is parsed in one
  place, which all properties and the command line use. A valid TS is 3B or 3F; the rest is parsed in any case.
- Any bytes are accepted as an ATR and never raise, in the constructor or later. An ATR that is truncated among its interface bytes,
  or before them (that of a mute card is empty), has no parts. Missing and superfluous bytes are reported, and the ATR is not well
  formed then.
- TCK is the byte after the historical bytes if there has to be one. If there must be none, because only T=0 is named, such a byte
  is superfluous. pyscard's `smartcard.ATR` takes the last byte for TCK in both cases, if there is exactly one more.
- Historical bytes are ISO/IEC 7816-4:2020, 12.1.1: category 80, COMPACT-TLV to the end; category 00, COMPACT-TLV and three
  status bytes; others are not interpreted. Parsing stops at a data object that extends past the end.
- Card capabilities are the object with tag 7, and its third byte, the software function table with chaining and extended length,
  may be missing. A missing bit counts as False: not declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, Any, NamedTuple

from .._enums import Protocol

if TYPE_CHECKING:
    from ._apdu import Buffer

__all__ = ["ATR", "Capabilities", "HistoricalParts", "InterfaceByte"]


@dataclass(frozen=True)
class Capabilities:
    """What a card declares in its historical bytes (ISO/IEC 7816-4:2020, 12.1.1, card capabilities, third byte).

    Attributes:
        command_chaining: commands may come in parts, bit 5 of CLA set in all but the last.
        extended_length: Lc and Le may be of extended length.
        extended_length_information: their maximum lengths are in a file of the card, EF.ATR/INFO.
        logical_channels: how many logical channels the card has, the basic one included; 8 stands for eight or more.
    """

    command_chaining: bool = False
    extended_length: bool = False
    extended_length_information: bool = False
    logical_channels: int = 1


class InterfaceByte(NamedTuple):
    """An interface byte of an ATR.

    Attributes:
        name: TA1, TB1 and so on, as ISO/IEC 7816-3 calls it.
        octet: its value.
        protocol: the protocol T that the TD before it names; 0 for the first ones.
    """

    name: str
    octet: int
    protocol: int


class HistoricalParts(NamedTuple):
    """Historical bytes, taken apart (ISO/IEC 7816-4:2020, 12.1.1).

    Attributes:
        category: the first byte; empty if there is none.
        objects: the COMPACT-TLV data objects, tag and value.
        rest: what is no such object: everything in another category, or from an object on that extends past the end.
        status: the last three bytes of category 00; empty elsewhere, and if they are not there.
    """

    category: bytes = b""
    objects: tuple[tuple[int, bytes], ...] = ()
    rest: bytes = b""
    status: bytes = b""


class _Parts(NamedTuple):
    """The parts of an ATR; see the module's docstring."""

    interface: tuple[InterfaceByte, ...] = ()
    historical: bytes | None = None  # None: the interface bytes are cut off
    tck: int | None = None
    extra: bytes = b""
    missing: str = ""
    is_tck_right: bool = False


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

    @property
    def _parts(self) -> _Parts:
        # No functools.cached_property: before Python 3.12 it has a lock, which may stay locked in a forked child.
        parts: _Parts | None = self.__dict__.get("_parts_found")
        if parts is None:
            parts = self.__dict__["_parts_found"] = _parts(bytes(self))
        return parts

    def _column(self, letter: str) -> tuple[int | None, ...]:
        if self._parts.historical is None:
            return ()
        found = {each.name: each.octet for each in self.interface_bytes}
        rows = 1 + sum(name.startswith("TD") for name in found)  # a last row may be announced and empty
        return tuple(found.get(f"T{letter}{index}") for index in range(1, rows + 1))

    @property
    def is_well_formed(self) -> bool:
        """Whether it has all the bytes that it announces, a check character if it must have one, and no more (ISO/IEC 7816-3:2006,
        8.2). Whether the check character is right is another question.
        """
        return self[:1] in (b"\x3b", b"\x3f") and not self.missing and not self.extra

    @property
    def missing(self) -> str:
        """The first thing that is announced and not there: "T0", "TA1", "2 of 3 historical bytes", "TCK"; else empty."""
        return self._parts.missing

    @property
    def extra(self) -> bytes:
        """Bytes after those that are announced."""
        return self._parts.extra

    @property
    def interface_bytes(self) -> tuple[InterfaceByte, ...]:
        """The interface bytes that are there, in order."""
        return self._parts.interface

    @property
    def ta(self) -> tuple[int | None, ...]:
        """TA1, TA2 and so on: `ta[0]` is TA1, None where it is absent; empty if the ATR is cut off before its historical bytes."""
        return self._column("A")

    @property
    def tb(self) -> tuple[int | None, ...]:
        """TB1, TB2 and so on, as `ta`."""
        return self._column("B")

    @property
    def tc(self) -> tuple[int | None, ...]:
        """TC1, TC2 and so on, as `ta`."""
        return self._column("C")

    @property
    def td(self) -> tuple[int | None, ...]:
        """TD1, TD2 and so on, as `ta`; the last one is None."""
        return self._column("D")

    @property
    def protocols(self) -> Protocol:
        """The transmission protocols offered, T=0 where none is named; UNDEFINED if it is cut off before its historical bytes
        (8.2.3).
        """
        if self._parts.historical is None:
            return Protocol.UNDEFINED
        named = {td & 0x0F for td in self.td if td is not None} or {0}
        offered = Protocol.T0 if 0 in named else Protocol.UNDEFINED
        return offered | Protocol.T1 if 1 in named else offered

    @property
    def historical_bytes(self) -> bytes:
        """The historical bytes, at most 15; those that are there, if the ATR is truncated."""
        return self._parts.historical or b""

    @property
    def historical_parts(self) -> HistoricalParts:
        """The historical bytes, taken apart."""
        return _historical_parts(self.historical_bytes)

    @property
    def tck(self) -> int | None:
        """The check character; None if there is none, or must be none."""
        return self._parts.tck

    @property
    def is_tck_right(self) -> bool:
        """Whether the check character is as it must be: all bytes from T0 to it give 0 by exclusive or, and it is there unless T=0
        is the only protocol named (ISO/IEC 7816-3:2006, 8.2.5). False if the ATR is cut off before it.
        """
        return self._parts.is_tck_right

    @property
    def capabilities(self) -> Capabilities:
        """What the card declares about chaining, extended length and channels; all False if it declares nothing."""
        declared = next((value for tag, value in self.historical_parts.objects if tag == 7), b"")
        if len(declared) < 3:
            return Capabilities()
        table = declared[2]
        # b8 chaining, b7 extended Lc and Le, b6 extended length information in EF.ATR/INFO, b5-b4 who assigns channels (00: there
        # is only the basic one), b3-b1 their number less one.
        channels = 1 + (table & 0x07) if table & 0x18 else 1
        return Capabilities(bool(table & 0x80), bool(table & 0x40), bool(table & 0x20), channels)


def _parts(atr: bytes) -> _Parts:
    if len(atr) < 2:
        return _Parts(missing="T0" if atr else "TS")
    interface: list[InterfaceByte] = []
    place, index, announced, protocol = 2, 1, atr[1] >> 4, 0
    while announced:  # by T0, then by each TD; the loop ends since each TD is a byte of the ATR
        follow = 0
        for bit, letter in enumerate("ABCD"):
            if not announced >> bit & 1:
                continue
            if place == len(atr):
                return _Parts(tuple(interface), missing=f"T{letter}{index}")
            octet = atr[place]
            interface.append(InterfaceByte(f"T{letter}{index}", octet, protocol))
            place += 1
            if letter == "D":
                follow = octet
        index, announced, protocol = index + 1, follow >> 4, follow & 0x0F
    count = atr[1] & 0x0F
    historical, rest = atr[place : place + count], atr[place + count :]
    if len(historical) < count:
        return _Parts(tuple(interface), historical, missing=f"{count - len(historical)} of {count} historical bytes")
    if not any(each.octet & 0x0F for each in interface if each.name.startswith("TD")):
        return _Parts(tuple(interface), historical, extra=rest, is_tck_right=True)
    if not rest:
        return _Parts(tuple(interface), historical, missing="TCK")
    is_right = reduce(xor, atr[1 : place + count + 1]) == 0
    return _Parts(tuple(interface), historical, rest[0], rest[1:], is_tck_right=is_right)


def _historical_parts(historical: bytes) -> HistoricalParts:
    category, rest, status = historical[:1], historical[1:], b""
    if category == b"\x00":
        if len(rest) < 3:
            return HistoricalParts(category, rest=rest)
        rest, status = rest[:-3], rest[-3:]
    elif category != b"\x80":
        return HistoricalParts(category, rest=rest)
    objects = []
    while rest:
        tag, length = rest[0] >> 4, rest[0] & 0x0F
        if length >= len(rest):
            break
        objects.append((tag, rest[1 : 1 + length]))
        rest = rest[1 + length :]
    return HistoricalParts(category, tuple(objects), rest, status)
