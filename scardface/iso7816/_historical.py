"""Descriptions of the historical bytes of an ATR (ISO/IEC 7816-4:2020, 12.1.1).

Rules:

- The first byte is the category: 00, COMPACT-TLV data objects and three status bytes; 80, COMPACT-TLV data objects; 10, a reference
  to DIR data; 81 to 8F reserved; all else the manufacturer's own.
- `ATR` finds the COMPACT-TLV objects; here they are described. An object that extends past the end is reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from ._apdu import R_APDU
from ._atr import ATR
from ._readable import digits, legible

_TAGS = {
    0x1: "country code (ISO 3166-1) and national data",
    0x2: "issuer identification number (ISO/IEC 7812-1)",
    0x3: "card service data",
    0x4: "initial access data",
    0x5: "card issuer's data",
    0x6: "pre-issuing data",
    0x7: "card capabilities",
    0x8: "status indicator",
    0xE: "application family identifier",
    0xF: "application identifier (AID)",
}
_SELECTION = (
    (0x80, "DF selection by full name"),
    (0x40, "by partial name"),
    (0x20, "by path"),
    (0x10, "by file identifier"),
    (0x08, "implicit"),
    (0x04, "short EF identifiers"),
    (0x02, "record numbers"),
    (0x01, "record identifiers"),
)
_SERVICE = (
    (0x80, "applications selected by full name"),
    (0x40, "by partial name"),
    (0x20, "data objects in EF.DIR"),
    (0x10, "data objects in EF.ATR/INFO"),
)
_ACCESS = {0x00: "READ RECORD", 0x04: "GET DATA", 0x08: "READ BINARY"}
_WRITING = ("one-time write", "proprietary write", "write OR", "write AND")
_LIFE = {0x00: "no information", 0x01: "creation", 0x03: "initialisation"}

_STORAGE = bytes.fromhex("4F0CA000000306")
"""What a reader makes up for a storage card, with a length where COMPACT-TLV has none (PC/SC part 3, 2.01.09, 3.1.3.2.3.1)."""
Part = tuple[bytes, str]
"""Bytes and their description."""


def explain_historical(atr: ATR) -> Iterator[Part]:
    """The historical bytes of an ATR, part by part, in order and without gaps: bytes and their description.

    Args:
        atr: of which they are.
    """
    category, objects, rest, status = atr.historical_parts
    if not category:
        return
    if category == b"\x00":
        yield category, "category: COMPACT-TLV data objects, then a status indicator of three bytes"
        yield from _objects(objects)
        if status:
            if rest:
                yield _cut_off(rest)
            yield status, f"status indicator: {_status(status)}"
        elif rest:
            yield rest, "too short for a status indicator of three bytes"
    elif category == b"\x80":
        yield category, "category: COMPACT-TLV data objects"
        yield from _objects(objects)
        if rest.startswith(_STORAGE) and len(rest) >= len(_STORAGE) + 3:
            yield rest, _storage_card(rest[len(_STORAGE) :])
        elif rest:
            yield _cut_off(rest)
    elif category == b"\x10":
        yield category, "category: a reference to DIR data"
        if rest:
            yield rest, "DIR data reference"
    elif 0x81 <= category[0] <= 0x8F:
        yield category + rest, "category reserved for future use"
    else:
        yield category + rest, f"the manufacturer's own format: {legible(category + rest)!r}"


def _objects(objects: tuple[tuple[int, bytes], ...]) -> Iterator[Part]:
    for tag, value in objects:
        name = _TAGS.get(tag, f"data object {tag:X}")
        meaning = _meaning(tag, value)
        yield bytes((tag << 4 | len(value),)) + value, f"{name}: {meaning}" if meaning else name


def _cut_off(data: bytes) -> Part:
    return data, f"a data object of {data[0] & 0x0F} bytes, of which {len(data) - 1} are there"


def _storage_card(rest: bytes) -> str:
    numbers = f"standard {rest[0]:02X}, card {rest[1:3].hex().upper()}"
    return f"a storage card, as a contactless reader tells of it (PC/SC part 3): {numbers}"


def _meaning(tag: int, value: bytes) -> str:
    if tag == 0x3 and len(value) == 1:
        return _service(value[0])
    if tag == 0x7 and 1 <= len(value) <= 3:
        return _capabilities(value)
    if tag == 0x8 and 1 <= len(value) <= 3:
        return _status(value)
    if tag == 0x1:
        return f"{digits(value)} (three digits of the country, then national data)"
    return digits(value)


def _flags(octet: int, table: tuple[tuple[int, str], ...]) -> list[str]:
    return [text for bit, text in table if octet & bit]


def _service(octet: int) -> str:
    access = _ACCESS.get(octet & 0x0E, "an unknown command")
    found = [*_flags(octet, _SERVICE), f"these files read by {access}", "no MF" if octet & 0x01 else "an MF"]
    return ", ".join(found)


def _capabilities(value: bytes) -> str:
    """The three software function tables (ISO/IEC 7816-4:2020, 12.1.1.9)."""
    parts = [", ".join(_flags(value[0], _SELECTION)) or "no way of selection"]
    if len(value) > 1:
        coding = value[1]
        structure = ["BER-TLV files"] if coding & 0x80 else []
        unit = 1 << (coding & 0x0F)
        first = "allowed" if coding & 0x10 else "not allowed"
        parts.append(", ".join([*structure, _WRITING[coding >> 5 & 3], f"data unit of {unit} quartets", f"tag FF {first}"]))
    if len(value) > 2:
        parts.append(_third(value[2]))
    return "; ".join(parts)


def _third(octet: int) -> str:
    found = _flags(
        octet, ((0x80, "command chaining"), (0x40, "extended length"), (0x20, "extended length information in EF.ATR/INFO"))
    )
    by = _flags(octet, ((0x10, "the card"), (0x08, "the terminal")))
    if by:
        count = "8 or more" if octet & 0x07 == 0x07 else str(1 + (octet & 0x07))
        found.append(f"{count} logical channels, assigned by {' or '.join(by)}")
    return ", ".join(found) or "no chaining, no extended length, one logical channel"


def _status(value: bytes) -> str:
    parts = []
    if len(value) != 2:
        parts.append(f"life cycle: {_life(value[0])}")
    if len(value) >= 2:
        sw1, sw2 = value[-2:]
        none = not sw1 and not sw2
        parts.append("no status word" if none else f"status {sw1:02X}{sw2:02X}, {R_APDU(b'', sw1, sw2).meaning}")
    return ", ".join(parts)


def _life(octet: int) -> str:
    """ISO/IEC 7816-4:2020, 7.4.10."""
    if octet in _LIFE:
        return _LIFE[octet]
    if octet in (0x05, 0x07):
        return "operational, activated"
    if octet in (0x04, 0x06):
        return "operational, deactivated"
    if 0x0C <= octet <= 0x0F:
        return "terminated"
    return f"proprietary ({octet:02X})" if octet >= 0x10 else f"reserved ({octet:02X})"
