"""A reader's features and properties (PC/SC part 10, 2.02.09, 2.2 to 2.6), without I/O.

Rules:

- Nothing here does I/O: each function makes an exchange of control commands (see `control_exchange`), which the session carries
  out.
- A reader's features are asked for with CM_IOCTL_GET_FEATURE_REQUEST: tag, length (always 4) and control code, most significant
  byte first, for each. The control codes are the driver's own; none is known beforehand.
- A driver that does not implement part 10 has no features. pcsc-lite then returns SCARD_E_UNSUPPORTED_FEATURE (seen with vpcd on
  pcscd 1.9.9), and for any other failure SCARD_E_NOT_TRANSACTED. Windows returns the driver's
  ERROR_NOT_SUPPORTED or ERROR_INVALID_FUNCTION (as reported for vsmartcard and OpenSC; not run). Any other code is an error.
- Properties are tag, length and value, numbers with their least significant byte first. Tags that this list lacks, and values
  that are no number of theirs, are kept as bytes.
- A driver's answer is untrusted. If it is truncated, or has a length that the part does not define, that is a
  CardCommunicationError that says what is wrong. Of a tag that occurs twice the first counts.
- pyscard's `smartcard.pcsc.PCSCPart10` is not used: its parsers check no lengths (a truncated answer is an IndexError, or a wrong
  number), they drop unknown features and all unknown properties but the last, and importing it loads the binding.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import COMM_DATA_LOST, UNSUPPORTED_FEATURE_CODES, CardCommunicationError, SCardError
from .control_exchange import ControlExchange

__all__ = ["EntryEnd", "Feature", "ReaderProperties", "control_code", "query_features", "query_properties"]


def control_code(function: int) -> int:
    """The control code of a driver's function, as SCARD_CTL_CODE makes it: 0x42000000 + n, on Windows 0x310000 | n << 2.

    Args:
        function: 0 to 0xFFFFFF, on Windows 0 to 0xFFF.

    Raises:
        ValueError: out of that range.
    """
    if sys.platform == "win32":
        _check_function(function, 0xFFF)
        return 0x31 << 16 | function << 2  # CTL_CODE(FILE_DEVICE_SMARTCARD, n, METHOD_BUFFERED, FILE_ANY_ACCESS)
    _check_function(function, 0xFFFFFF)
    return 0x42000000 + function


def _check_function(function: int, largest: int) -> None:
    if not 0 <= function <= largest:
        raise ValueError(f"a driver's function is 0 to 0x{largest:X}, not {function}")


CM_IOCTL_GET_FEATURE_REQUEST = control_code(3400)
"""Asks for the features (part 10, 2.2)."""


class Feature(enum.IntEnum):
    """What a reader may offer over SCardControl (PC/SC part 10, 2.3)."""

    VERIFY_PIN_START = 0x01
    """Begin to ask for a PIN that the card compares."""
    VERIFY_PIN_FINISH = 0x02
    """End that, and get the card's answer."""
    MODIFY_PIN_START = 0x03
    """Begin to ask for a new PIN."""
    MODIFY_PIN_FINISH = 0x04
    """End that, and get the card's answer."""
    GET_KEY_PRESSED = 0x05
    """Whether a key was pressed meanwhile; not which."""
    VERIFY_PIN_DIRECT = 0x06
    """Ask for a PIN on the reader's keypad and have the card compare it, in one call."""
    MODIFY_PIN_DIRECT = 0x07
    """Ask for a new PIN and have the card take it, in one call."""
    MCT_READER_DIRECT = 0x08
    """Commands of multifunctional card terminals (MKT; Secoder)."""
    MCT_UNIVERSAL = 0x09
    """Commands of the CT-API."""
    IFD_PIN_PROPERTIES = 0x0A
    """Properties about PIN entry, as a structure."""
    ABORT = 0x0B
    """End a PIN entry."""
    SET_SPE_MESSAGE = 0x0C
    """Set what the display shows at a PIN entry."""
    VERIFY_PIN_DIRECT_APP_ID = 0x0D
    """VERIFY_PIN_DIRECT, with the name of an application."""
    MODIFY_PIN_DIRECT_APP_ID = 0x0E
    """MODIFY_PIN_DIRECT, with the name of an application."""
    WRITE_DISPLAY = 0x0F
    """Show a text."""
    GET_KEY = 0x10
    """Wait for a key."""
    IFD_DISPLAY_PROPERTIES = 0x11
    """Properties of the display, as a structure."""
    GET_TLV_PROPERTIES = 0x12
    """Properties of the reader, one by one."""
    CCID_ESC_COMMAND = 0x13
    """The maker's own commands."""
    EXECUTE_PACE = 0x20
    """PACE, with the password entered on the reader (part 10, amendment 1)."""


class EntryEnd(enum.IntFlag):
    """What ends the entry of a PIN on a reader's keypad (part 10, bEntryValidationCondition)."""

    MAX_LENGTH = 0x01
    """The longest possible PIN is complete."""
    KEY = 0x02
    """The validation key is pressed."""
    TIMEOUT = 0x04
    """The time is over."""


@dataclass(frozen=True)
class ReaderProperties:
    """A reader's properties (PC/SC part 10, 2.6, FEATURE_GET_TLV_PROPERTIES). None: the reader does not report it.

    Attributes:
        display_columns: characters in a line of its display, 0 without display (wLcdLayout, low byte).
        display_lines: lines of its display, 0 without (wLcdLayout, high byte).
        entry_end: what can end a PIN entry (bEntryValidationCondition).
        distinguishes_timeouts: whether it has a time-out of its own for the time after the first key (bTimeOut2).
        max_characters: wLcdMaxCharacters.
        max_lines: wLcdMaxLines.
        min_pin_size: digits of the shortest PIN that it takes (bMinPINSize).
        max_pin_size: digits of the longest PIN that it takes (bMaxPINSize).
        firmware: version of its firmware (sFirmwareID).
        ppdu_support: how it takes PIN commands as pseudo-APDUs: bit 0 by SCardControl, bit 1 by SCardTransmit (bPPDUSupport).
        max_apdu_data_size: the most data in one command, in bytes; 0: short commands only (dwMaxAPDUDataSize).
        vendor_id: USB vendor (wIdVendor).
        product_id: USB product (wIdProduct).
        other: everything else that it answered, by tag.
    """

    display_columns: int | None = None
    display_lines: int | None = None
    entry_end: EntryEnd | None = None
    distinguishes_timeouts: bool | None = None
    max_characters: int | None = None
    max_lines: int | None = None
    min_pin_size: int | None = None
    max_pin_size: int | None = None
    firmware: str | None = None
    ppdu_support: int | None = None
    max_apdu_data_size: int | None = None
    vendor_id: int | None = None
    product_id: int | None = None
    other: Mapping[int, bytes] = field(default_factory=dict, hash=False)


def query_features() -> ControlExchange[Mapping[int, int]]:
    """Ask a reader for its features; `Feature` (a plain number, where `Feature` lacks it) to control code. Empty: it has none.

    Raises:
        CardCommunicationError: the answer is malformed.
        SCardError: SCardControl failed.
    """
    try:
        answer = yield CM_IOCTL_GET_FEATURE_REQUEST, b""
    except SCardError as error:
        if error.code in _UNSUPPORTED:
            return {}
        raise
    found: dict[int, int] = {}
    for tag, value in _tlv("the list of features", answer):
        if len(value) != 4:
            raise malformed(f"the list of features: feature {tag:02X} has {len(value)} bytes, and a control code has 4")
        found.setdefault(Feature(tag) if tag in _FEATURES else tag, int.from_bytes(value, "big"))
    return found


def query_properties() -> ControlExchange[ReaderProperties]:
    """Ask a reader for its properties, by FEATURE_GET_TLV_PROPERTIES, else FEATURE_IFD_PIN_PROPERTIES; all None if it has neither.

    Raises:
        CardCommunicationError: an answer is malformed.
        SCardError: SCardControl failed.
    """
    found = yield from query_features()
    if (code := found.get(Feature.GET_TLV_PROPERTIES)) is not None:
        return _properties((yield code, b""))
    if (code := found.get(Feature.IFD_PIN_PROPERTIES)) is not None:
        answer = yield code, b""
        if len(answer) != 4:  # PIN_PROPERTIES_STRUCTURE: wLcdLayout, bEntryValidationCondition, bTimeOut2
            raise malformed(f"the PIN properties have {len(answer)} bytes, and must have 4")
        return _properties(b"\x01\x02%b\x02\x01%b\x03\x01%b" % (answer[:2], answer[2:3], answer[3:]))
    return ReaderProperties()


def malformed(message: str) -> CardCommunicationError:
    """The error for a malformed answer of a driver."""
    return CardCommunicationError(f"SCardControl: {message}", COMM_DATA_LOST, "SCardControl")


def _properties(answer: bytes) -> ReaderProperties:
    known: dict[str, Any] = {}
    other: dict[int, bytes] = {}
    seen: set[int] = set()
    for tag, value in _tlv("the properties", answer):
        if tag in seen:
            continue
        seen.add(tag)
        size, read = _PROPERTIES.get(tag, (0, None))
        if read is None or (size is not None and len(value) != size):
            other[tag] = value
        else:
            known.update(read(value))
    return ReaderProperties(**known, other=other)


def _number(name: str) -> Callable[[bytes], dict[str, Any]]:
    return lambda value: {name: int.from_bytes(value, "little")}


_PROPERTIES: dict[int, tuple[int | None, Callable[[bytes], dict[str, Any]]]] = {
    1: (2, lambda value: {"display_columns": value[0], "display_lines": value[1]}),
    2: (1, lambda value: {"entry_end": EntryEnd(value[0] & 0x07)}),
    3: (1, lambda value: {"distinguishes_timeouts": bool(value[0])}),
    4: (2, _number("max_characters")),
    5: (2, _number("max_lines")),
    6: (1, _number("min_pin_size")),
    7: (1, _number("max_pin_size")),
    8: (None, lambda value: {"firmware": value.decode("ascii", "replace").rstrip("\0")}),
    9: (1, _number("ppdu_support")),
    10: (4, _number("max_apdu_data_size")),
    11: (2, _number("vendor_id")),
    12: (2, _number("product_id")),
}
"""By tag: the bytes that the value has, None for any number of them, and how it is read."""


def _tlv(what: str, answer: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and value of each object: a tag of one byte, a length of one byte."""
    position = 0
    while position < len(answer):
        if position + 2 > len(answer):
            raise malformed(f"{what}: cut off behind tag {answer[position]:02X}")
        tag, length = answer[position : position + 2]
        value = answer[position + 2 : position + 2 + length]
        if len(value) < length:
            raise malformed(f"{what}: tag {tag:02X} announces {length} bytes, and {len(value)} follow")
        yield tag, value
        position += 2 + length


_FEATURES: frozenset[int] = frozenset(Feature)
_UNSUPPORTED = UNSUPPORTED_FEATURE_CODES | {1, 50}
"""Fact 21; 1 and 50 are ERROR_INVALID_FUNCTION and ERROR_NOT_SUPPORTED of drivers on Windows (winerror.h)."""
