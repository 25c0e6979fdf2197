"""Attributes of a reader: their numbers, and how the driver's answers become text or numbers.

Rules:

- The numbers and meanings are those of PC/SC part 3 (2.01.09, 3.1: capabilities, protocol options, state of the card), of
  winscard.h and of pcsc-lite's reader.h; names are theirs without SCARD_ATTR_. pyscard's have the same numbers; a test compares.
- An attribute that the part calls a string is text, one that it calls a number (byte, word, DWORD) an `int`; all others, and
  numbers that are no attribute of this list, stay bytes. `TextAttribute` and `NumberAttribute` say which are which to a type
  checker, and `decode_attribute` goes by the same lists.
- What a driver answers is untrusted. Text ends at its first NUL, and bytes that are no text become U+FFFD, so text never raises.
  A number has 1 to 8 bytes in the machine's own order (a DWORD of PC/SC has 4, some drivers for 64-bit Linux answer a long);
  anything else is a CardCommunicationError.
- Which of them exist is up to the driver: libccid knows about a dozen, virtual readers none (SCARD_E_UNSUPPORTED_FEATURE).
- VENDOR_IFD_VERSION is a number, 0xMMmmbbbb: major and minor version and build. So versions compare as they should.
"""

from __future__ import annotations

import enum
import sys
from typing import Literal, TypeAlias, get_args

from ..errors import CardCommunicationError

__all__ = ["Attribute", "NumberAttribute", "TextAttribute", "decode_attribute", "encode_attribute"]


class Attribute(enum.IntEnum):
    """Attributes of a reader and its card (PC/SC part 3, 3.1; winscard.h). Any other number can be used, too."""

    VENDOR_NAME = 0x00010100
    """The reader's manufacturer; text."""
    VENDOR_IFD_TYPE = 0x00010101
    """The model of the reader, as the manufacturer names it; text."""
    VENDOR_IFD_VERSION = 0x00010102
    """The version of the reader: 0xMMmmbbbb, major, minor, build."""
    VENDOR_IFD_SERIAL_NO = 0x00010103
    """The serial number of the reader; text."""
    CHANNEL_ID = 0x00020110
    """How the reader is connected: 0xDDDDCCCC, kind (0x0001 serial, 0x0020 USB, ...) and number of the channel."""
    ASYNC_PROTOCOL_TYPES = 0x00030120
    """The asynchronous protocols that the reader supports: bit 0 is T=0, bit 1 is T=1."""
    DEFAULT_CLK = 0x00030121
    """Clock frequency at the start, in kHz."""
    MAX_CLK = 0x00030122
    """The highest clock frequency, in kHz."""
    DEFAULT_DATA_RATE = 0x00030123
    """Data rate at the start, in bits per second."""
    MAX_DATA_RATE = 0x00030124
    """The highest data rate, in bits per second."""
    MAX_IFSD = 0x00030125
    """The longest information field of a T=1 block that the reader takes, in bytes."""
    SYNC_PROTOCOL_TYPES = 0x00030126
    """The synchronous protocols (memory cards) that the reader supports, as bits."""
    POWER_MGMT_SUPPORT = 0x00040131
    """Whether the reader can switch itself down while a card is in: 0 if it cannot."""
    USER_TO_CARD_AUTH_DEVICE = 0x00050140
    """What the reader has for authenticating a user to the card, as bits (keypad, fingerprint, ...); 0: nothing."""
    USER_AUTH_INPUT_DEVICE = 0x00050142
    """What the reader has for a user's input, as bits; 0: nothing."""
    CHARACTERISTICS = 0x00060150
    """Mechanics, as bits: 1 swallows cards, 2 ejects them, 4 captures them; 0: nothing of this."""
    CURRENT_PROTOCOL_TYPE = 0x00080201
    """The protocol in use: 1 is T=0, 2 is T=1, 0x10000 is raw; 0 is none."""
    CURRENT_CLK = 0x00080202
    """Clock frequency now, in kHz."""
    CURRENT_F = 0x00080203
    """Clock rate conversion factor F now (ISO/IEC 7816-3:2006, 7.1)."""
    CURRENT_D = 0x00080204
    """Baud rate adjustment factor D now."""
    CURRENT_N = 0x00080205
    """Extra guard time N now."""
    CURRENT_W = 0x00080206
    """Work waiting integer of T=0 now."""
    CURRENT_IFSC = 0x00080207
    """The longest information field of a T=1 block that the card takes, in bytes."""
    CURRENT_IFSD = 0x00080208
    """The longest information field of a T=1 block that the reader takes now, in bytes."""
    CURRENT_BWT = 0x00080209
    """Block waiting time of T=1 now."""
    CURRENT_CWT = 0x0008020A
    """Character waiting time of T=1 now."""
    CURRENT_EBC_ENCODING = 0x0008020B
    """How T=1 blocks are checked: 0 by LRC, 1 by CRC."""
    EXTENDED_BWT = 0x0008020C
    """By how much the block waiting time is multiplied."""
    ICC_PRESENCE = 0x00090300
    """The card: 0 none, 1 in but not in place, 2 in place (swallowed if the reader does that), 4 held back."""
    ICC_INTERFACE_STATUS = 0x00090301
    """Whether the card's contacts are active: 0 if not."""
    CURRENT_IO_STATE = 0x00090302
    """The state of the card's I/O line."""
    ATR_STRING = 0x00090303
    """The Answer to Reset; bytes."""
    ICC_TYPE_PER_ATR = 0x00090304
    """The kind of card: 0 unknown, 1 asynchronous, 2 synchronous (ISO/IEC 7816)."""
    ESC_RESET = 0x0007A000
    """Specific to the manufacturer; bytes."""
    ESC_CANCEL = 0x0007A003
    """Specific to the manufacturer; bytes."""
    ESC_AUTHREQUEST = 0x0007A005
    """Specific to the manufacturer; bytes."""
    MAXINPUT = 0x0007A007
    """The longest command that the driver takes, in bytes (pcsc-lite's drivers)."""
    DEVICE_UNIT = 0x7FFF0001
    """Which of several readers of the same model this is, from 0."""
    DEVICE_IN_USE = 0x7FFF0002
    """Reserved."""
    DEVICE_FRIENDLY_NAME = 0x7FFF0003
    """The reader's name as PC/SC lists it; text. pyscard cannot get it from pcsc-lite: `card.reader` has it."""
    DEVICE_SYSTEM_NAME = 0x7FFF0004
    """The reader's name in the system; text. pyscard cannot get it from pcsc-lite."""
    DEVICE_FRIENDLY_NAME_A = 0x7FFF0003
    """The same as DEVICE_FRIENDLY_NAME."""
    DEVICE_SYSTEM_NAME_A = 0x7FFF0004
    """The same as DEVICE_SYSTEM_NAME."""
    DEVICE_FRIENDLY_NAME_W = 0x7FFF0005
    """The same in UTF-16, on Windows; text."""
    DEVICE_SYSTEM_NAME_W = 0x7FFF0006
    """The same in UTF-16, on Windows; text."""
    SUPRESS_T1_IFS_REQUEST = 0x7FFF0007
    """Whether the T=1 request for a longer information field is left out (spelt as winscard.h does): 0 if not."""


TextAttribute: TypeAlias = Literal[
    Attribute.VENDOR_NAME,
    Attribute.VENDOR_IFD_TYPE,
    Attribute.VENDOR_IFD_SERIAL_NO,
    Attribute.DEVICE_FRIENDLY_NAME,
    Attribute.DEVICE_SYSTEM_NAME,
    Attribute.DEVICE_FRIENDLY_NAME_W,
    Attribute.DEVICE_SYSTEM_NAME_W,
]
"""The attributes that are text."""

NumberAttribute: TypeAlias = Literal[
    Attribute.VENDOR_IFD_VERSION,
    Attribute.CHANNEL_ID,
    Attribute.ASYNC_PROTOCOL_TYPES,
    Attribute.DEFAULT_CLK,
    Attribute.MAX_CLK,
    Attribute.DEFAULT_DATA_RATE,
    Attribute.MAX_DATA_RATE,
    Attribute.MAX_IFSD,
    Attribute.SYNC_PROTOCOL_TYPES,
    Attribute.POWER_MGMT_SUPPORT,
    Attribute.USER_TO_CARD_AUTH_DEVICE,
    Attribute.USER_AUTH_INPUT_DEVICE,
    Attribute.CHARACTERISTICS,
    Attribute.CURRENT_PROTOCOL_TYPE,
    Attribute.CURRENT_CLK,
    Attribute.CURRENT_F,
    Attribute.CURRENT_D,
    Attribute.CURRENT_N,
    Attribute.CURRENT_W,
    Attribute.CURRENT_IFSC,
    Attribute.CURRENT_IFSD,
    Attribute.CURRENT_BWT,
    Attribute.CURRENT_CWT,
    Attribute.CURRENT_EBC_ENCODING,
    Attribute.EXTENDED_BWT,
    Attribute.ICC_PRESENCE,
    Attribute.ICC_INTERFACE_STATUS,
    Attribute.CURRENT_IO_STATE,
    Attribute.ICC_TYPE_PER_ATR,
    Attribute.MAXINPUT,
    Attribute.DEVICE_UNIT,
    Attribute.DEVICE_IN_USE,
    Attribute.SUPRESS_T1_IFS_REQUEST,
]
"""The attributes that are numbers."""

_TEXT: frozenset[int] = frozenset(get_args(TextAttribute))
_NUMBERS: frozenset[int] = frozenset(get_args(NumberAttribute))
_WIDE: frozenset[int] = frozenset((Attribute.DEVICE_FRIENDLY_NAME_W, Attribute.DEVICE_SYSTEM_NAME_W))
_SINGLE_BYTES: frozenset[int] = frozenset(
    (
        Attribute.ICC_PRESENCE,
        Attribute.ICC_INTERFACE_STATUS,
        Attribute.CURRENT_IO_STATE,
        Attribute.ICC_TYPE_PER_ATR,
        Attribute.CURRENT_EBC_ENCODING,
    )
)
"""Numbers of one byte; all others have four (DWORD)."""
_MAX_NUMBER_BYTES = 8


def decode_attribute(attribute: int, value: bytes) -> str | int | bytes:
    """A driver's answer for an attribute, as text, number or bytes (see the module's docstring).

    Args:
        attribute: an `Attribute`, or any number.
        value: the driver's answer.

    Raises:
        CardCommunicationError: the attribute is a number, and the answer has no length of one.
    """
    if attribute in _TEXT:
        # UTF-16 is Windows' alone, and there low bytes come first.
        text = value.decode("utf-16-le" if attribute in _WIDE else "utf-8", "replace")
        return text.partition("\0")[0]
    if attribute in _NUMBERS:
        if not 1 <= len(value) <= _MAX_NUMBER_BYTES:
            raise CardCommunicationError(
                f"attribute {_name(attribute)}: the driver answered {len(value)} bytes, where a number was expected"
            )
        return int.from_bytes(value, sys.byteorder)
    return bytes(value)


def encode_attribute(attribute: int, value: str | int | bytes) -> bytes:
    """The bytes that set an attribute.

    Args:
        attribute: an `Attribute`, or any number.
        value: text for a text attribute, sent with a NUL behind it; a number for a number attribute, sent with four bytes (with
            one, where the part says byte) in the machine's order; bytes for any attribute, sent as they are.

    Raises:
        TypeError: the attribute takes no value of this kind.
        ValueError: the number is negative, or too large.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str) and attribute in _TEXT:
        return f"{value}\0".encode("utf-16-le" if attribute in _WIDE else "utf-8")
    if isinstance(value, int) and attribute in _NUMBERS:
        size = 1 if attribute in _SINGLE_BYTES else 4
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"attribute {_name(attribute)}: a number of {size} bytes is 0 to {(1 << 8 * size) - 1}, not {value}")
        return value.to_bytes(size, sys.byteorder)
    raise TypeError(f"attribute {_name(attribute)} cannot be set to a {type(value).__name__}; bytes are sent as they are")


def _name(attribute: int) -> str:
    try:
        return Attribute(attribute).name
    except ValueError:
        return f"0x{attribute:08X}"
