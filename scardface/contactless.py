"""Contactless storage cards: their kind, and the commands that a reader takes for them (PC/SC part 3, 2.01.09, 3.2.2.1).

::

    from scardface.contactless import KeyType, general_authenticate, load_key, read_binary, tag

    print(tag(card.atr))                             # Tag(standard="ISO 14443 A, part 3", name="MIFARE Standard 1K", ...)
    response = await card.send(                      # without await in a script; stops at the first that fails
        load_key(bytes.fromhex("FFFFFFFFFFFF"), 0), general_authenticate(4, KeyType.A, 0), read_binary(4, 16)
    )
    print(response.check().data)

Rules:

- Nothing here does I/O: there are commands to send, and meanings of their responses. So it is the same for both faces, for several
  commands at once, and for anything else that has a `send`.
- Keys appear in no repr and no log: what LOAD KEYS and UPDATE BINARY carry counts as secret (`repr(command)`, the traces).
- The kind of card is in the historical bytes of the ATR that a reader makes up for a card without one: 80 4F, a length, the RID
  A000000306 of PC/SC, a byte for the standard, two for the card (part 3, 3.1.3.2.3.1; supplement 2.01.08, tables 2 and 3).
  Anything else, and every card with an ATR of its own, is not a storage card: None. Numbers without a name are kept.
- The status words of these commands are the reader's and have their own meanings (3.2.2.1.4 to 3.2.2.1.9): `meaning`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from . import ATR, C_APDU, R_APDU

__all__ = ["KeyType", "Tag", "general_authenticate", "load_key", "meaning", "read_binary", "tag", "update_binary"]

_RID = bytes.fromhex("A000000306")


class KeyType(enum.IntEnum):
    """Which of a MIFARE sector's keys is meant (part 3, 3.2.2.1.6). For other cards it is a number of the card's."""

    A = 0x60
    """Key A."""
    B = 0x61
    """Key B."""


@dataclass(frozen=True)
class Tag:
    """A contactless storage card, as its reader recognised it.

    Attributes:
        standard: in words, "ISO 14443 A, part 3"; "unknown standard 0xF0" where the number has no name.
        name: in words, "MIFARE Standard 1K"; "unknown card 0xFF88" likewise.
        standard_number: the byte for the standard.
        name_number: the two bytes for the card.
    """

    standard: str
    name: str
    standard_number: int
    name_number: int


def tag(atr: bytes) -> Tag | None:
    """The storage card that an ATR describes; None if it is not a storage card's.

    Args:
        atr: the ATR that PC/SC reports; any bytes.
    """
    historical = ATR(atr).historical_bytes
    head, length, rid = historical[:2], historical[2:3], historical[3:8]
    # The length counts what follows it: RID, standard, name, and four bytes for the future.
    if head != b"\x80\x4f" or rid != _RID or not 8 <= length[0] <= len(historical) - 3:
        return None
    standard, name = historical[8], int.from_bytes(historical[9:11], "big")
    return Tag(
        _STANDARDS.get(standard, f"unknown standard 0x{standard:02X}"),
        _NAMES.get(name, f"unknown card 0x{name:04X}"),
        standard,
        name,
    )


def load_key(
    key: bytes,
    number: int,
    *,
    reader_key: bool = False,
    volatile: bool = True,
    encrypted_with: int | None = None,
) -> C_APDU:
    """LOAD KEYS: give a key to the reader (3.2.2.1.4).

    Args:
        key: 1 to 255 bytes; MIFARE has 6. Most readers keep it until they lose power; it cannot be read back.
        number: where the reader keeps it, 0 to 255; which numbers there are is up to the reader, mostly 0 and 1.
        reader_key: whether it is a key between reader and program, which others are encrypted with, rather than a card's.
        volatile: whether the reader forgets it without power. Some have but one kind of memory.
        encrypted_with: number of the reader key that it is encrypted with, 0 to 15; None: it is sent as it is.

    Returns:
        The command, to be sent.

    Raises:
        ValueError: out of these ranges; the text does not show the key.
    """
    if not 1 <= len(key) <= 0xFF:
        raise ValueError(f"a key has 1 to 255 bytes, not {len(key)}")
    _check("number", number, 0xFF)
    structure = (0x80 if reader_key else 0) | (0 if volatile else 0x20)
    if encrypted_with is not None:
        _check("encrypted_with", encrypted_with, 0x0F)
        structure |= 0x40 | encrypted_with
    return C_APDU(0xFF, 0x82, structure, number, key)


def general_authenticate(block: int, key_type: int, number: int) -> C_APDU:
    """GENERAL AUTHENTICATE: have the reader authenticate to the card, for the sector that a block is in (3.2.2.1.6).

    Args:
        block: the block's number, 0 to 65,535.
        key_type: `KeyType.A` or `KeyType.B`; for other cards 0 to 255, as the reader's manual says.
        number: where the reader keeps the key, as for `load_key`.

    Returns:
        The command, to be sent.

    Raises:
        ValueError: out of these ranges.
    """
    _check("block", block, 0xFFFF)
    _check("key_type", key_type, 0xFF)
    _check("number", number, 0xFF)
    return C_APDU(0xFF, 0x86, 0x00, 0x00, bytes((0x01, block >> 8, block & 0xFF, key_type, number)))


def read_binary(block: int, length: int = 256) -> C_APDU:
    """READ BINARY: read a block, or some bytes (3.2.2.1.8).

    Args:
        block: number of the block (of MIFARE: 16 bytes each), or the address, as the card counts; 0 to 65,535.
        length: how many bytes, 1 to 65,536; 256: as many as the reader reads at once.

    Returns:
        The command, to be sent; the response has the data.

    Raises:
        ValueError: out of these ranges.
    """
    _check("block", block, 0xFFFF)
    if not 1 <= length <= 0x10000:
        raise ValueError(f"length is 1 to 65536, not {length}")
    return C_APDU(0xFF, 0xB0, block >> 8, block & 0xFF, le=length)


def update_binary(block: int, data: bytes) -> C_APDU:
    """UPDATE BINARY: write a block, or some bytes (3.2.2.1.9).

    The last block of a MIFARE sector holds its keys and access conditions: a wrong one locks it.

    Args:
        block: as for `read_binary`.
        data: what to write: a whole block, where the card has blocks.

    Returns:
        The command, to be sent.

    Raises:
        ValueError: out of range, or no data.
    """
    _check("block", block, 0xFFFF)
    if not data:
        raise ValueError("there is no data to write")
    return C_APDU(0xFF, 0xD6, block >> 8, block & 0xFF, data)


def meaning(command: C_APDU, response: R_APDU) -> str:
    """What the status word of a response to one of these commands means, in words.

    Args:
        command: one of this module's; of any other the response's own `meaning` comes back.
        response: what `send` returned for it, or a callback was given.
    """
    meanings = _MEANINGS.get(command.ins, {}) if command.cla == 0xFF else {}
    return meanings.get(response.sw) or response.meaning


def _check(name: str, value: int, largest: int) -> None:
    if not 0 <= value <= largest:
        raise ValueError(f"{name} is 0 to {largest}, not {value}")


_MEANINGS: dict[int, dict[int, str]] = {
    0x82: {
        0x6300: "the key was not loaded; the reader says no more",
        0x6982: "the reader keeps no keys of cards",
        0x6983: "the reader keeps no keys of its own",
        0x6984: "the reader takes no key that is not encrypted",
        0x6985: "the reader takes no encrypted key",
        0x6986: "the reader has no volatile memory for keys; try volatile=False",
        0x6987: "the reader has no non-volatile memory for keys; try volatile=True",
        0x6988: "the reader has no key of this number",
        0x6989: "the key has another length than the reader expects",
    },
    0x86: {
        0x6300: "authentication failed: a wrong key, or the card went away",
        0x6581: "there is no such block",
        0x6982: "authentication failed: the card does not take this key",
        0x6983: "authentication cannot be done",
        0x6984: "the key cannot be used: was it loaded under this number?",
        0x6985: "authentication cannot be done now: is there a card that asks for it?",
        0x6986: "the reader does not know this type of key",
        0x6988: "there is no key of this number in the reader",
    },
    0xB0: {
        0x6281: "part of the data may be corrupted",
        0x6282: "the card has less than was asked for",
        0x6300: "reading failed: is the sector authenticated?",
        0x6981: "this card cannot be read like that",
        0x6982: "authenticate to this sector first",
        0x6986: "reading is not allowed",
        0x6A81: "the reader cannot read this card",
        0x6A82: "there is no such block",
    },
    0xD6: {
        0x6282: "the card ended before all was written",
        0x6300: "writing failed: is the sector authenticated?",
        0x6581: "writing failed",
        0x6981: "this card cannot be written like that",
        0x6982: "authenticate to this sector first, with a key that may write",
        0x6986: "writing is not allowed",
        0x6A81: "the reader cannot write this card",
        0x6A82: "there is no such block",
    },
}
"""By instruction and status word (part 3, 3.2.2.1.4, .6, .8, .9)."""

_STANDARDS = {
    0x00: "not told",
    0x01: "ISO 14443 A, part 1",
    0x02: "ISO 14443 A, part 2",
    0x03: "ISO 14443 A, part 3",
    0x05: "ISO 14443 B, part 1",
    0x06: "ISO 14443 B, part 2",
    0x07: "ISO 14443 B, part 3",
    0x09: "ISO 15693, part 1",
    0x0A: "ISO 15693, part 2",
    0x0B: "ISO 15693, part 3",
    0x0C: "ISO 15693, part 4",
    0x0D: "ISO 7816-10, I2C",
    0x0E: "ISO 7816-10, extended I2C",
    0x0F: "ISO 7816-10, 2WBP",
    0x10: "ISO 7816-10, 3WBP",
    0x11: "FeliCa",
    0x40: "low frequency",
}
"""Supplement, table 2."""

_NAMES = {
    0x0000: "not told",
    0x0001: "MIFARE Standard 1K",
    0x0002: "MIFARE Standard 4K",
    0x0003: "MIFARE Ultralight",
    0x0004: "SLE55R_XXXX",
    0x0006: "SR176",
    0x0007: "SRI X4K",
    0x0008: "AT88RF020",
    0x0009: "AT88SC0204CRF",
    0x000A: "AT88SC0808CRF",
    0x000B: "AT88SC1616CRF",
    0x000C: "AT88SC3216CRF",
    0x000D: "AT88SC6416CRF",
    0x000E: "SRF55V10P",
    0x000F: "SRF55V02P",
    0x0010: "SRF55V10S",
    0x0011: "SRF55V02S",
    0x0012: "TAG IT",
    0x0013: "LRI512",
    0x0014: "ICODE SLI",
    0x0015: "TEMPSENS",
    0x0016: "I-CODE 1",
    0x0017: "PicoPass 2K",
    0x0018: "PicoPass 2KS",
    0x0019: "PicoPass 16K",
    0x001A: "PicoPass 16KS",
    0x001B: "PicoPass 16K (8x2)",
    0x001C: "PicoPass 16KS (8x2)",
    0x001D: "PicoPass 32KS (16+16)",
    0x001E: "PicoPass 32KS (16+8x2)",
    0x001F: "PicoPass 32KS (8x2+16)",
    0x0020: "PicoPass 32KS (8x2+8x2)",
    0x0021: "LRI64",
    0x0022: "I-CODE UID",
    0x0023: "I-CODE EPC",
    0x0024: "LRI12",
    0x0025: "LRI128",
    0x0026: "MIFARE Mini",
    0x0027: "my-d move (SLE 66R01P)",
    0x0028: "my-d NFC (SLE 66RxxP)",
    0x0029: "my-d proximity 2 (SLE 66RxxS)",
    0x002A: "my-d proximity enhanced (SLE 55RxxE)",
    0x002B: "my-d light (SRF 55V01P)",
    0x002C: "PJM Stack Tag (SRF 66V10ST)",
    0x002D: "PJM Item Tag (SRF 66V10IT)",
    0x002E: "PJM Light (SRF 66V01ST)",
    0x002F: "Jewel Tag",
    0x0030: "Topaz NFC Tag",
    0x0031: "AT88SC0104CRF",
    0x0032: "AT88SC0404CRF",
    0x0033: "AT88RF01C",
    0x0034: "AT88RF04C",
    0x0035: "I-CODE SL2",
    0x0036: "MIFARE Plus SL1 2K",
    0x0037: "MIFARE Plus SL1 4K",
    0x0038: "MIFARE Plus SL2 2K",
    0x0039: "MIFARE Plus SL2 4K",
    0x003A: "MIFARE Ultralight C",
    0x003B: "FeliCa",
    0x003C: "Melexis Sensor Tag (MLX90129)",
    0x003D: "MIFARE Ultralight EV1",
}
"""Supplement, table 3."""
