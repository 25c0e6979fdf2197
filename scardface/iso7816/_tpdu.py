"""The encoding of a command for T=0 and T=1, in one or more parts. No I/O.

Rules (ISO/IEC 7816-3:2006, 12.2 for T=0 and 12.3 for T=1; ISO/IEC 7816-4:2020, 5.2 and 5.3):

- T=1 (and everything else that is not T=0): the encoded command.
- T=0: header, P3 and data. Case 1: P3 = 00. Case 2: P3 = Le, 00 for 256 and more. Case 3: P3 = Lc. Case 4: as case 3, without
  Le; the response data is fetched.
- More than 255 bytes of data, by `Lengths`. EXTENDED, T=1: extended length. CHAINING: parts of 255 bytes, bit 5 of CLA set in all
  but the last, Le in the last. ENVELOPE, T=0: the command as it is encoded for T=1, in ENVELOPE (C2) commands of 255 bytes; a full
  last part is followed by an empty one. SHORT: refused. AUTO: extended length on T=1, ENVELOPE on T=0; with the
  ATR `resolve_lengths` makes a better choice.
- Ne over 256: extended length where that is used, otherwise short Le = 00, and the rest is fetched.
- ENVELOPE is an interindustry command, so its class is an interindustry one (ISO/IEC 7816-4:2020, 5.4.1): C2 in another class is
  another command (80 C2 and A0 C2 tell a SIM of an event: ETSI TS 102 223, 6.8; FF C2 goes to the reader). AUTO uses it only for
  commands of an interindustry class, and refuses others: cards with proprietary commands usually do not support ENVELOPE.
  `ExchangeOptions.response_class` sets another class; AUTO refuses one that is not interindustry.
- GET RESPONSE has the class of the command, reduced to its logical channel.
"""

from __future__ import annotations

import functools

from .._enums import Lengths, Protocol
from ._apdu import C_APDU
from ._atr import ATR

__all__ = ["encode_t0", "has_extended_fields", "resolve_lengths", "response_class", "tpdus", "with_ne"]

_PART = 255


@functools.lru_cache(maxsize=64)  # most openings are of the same few kinds of cards
def resolve_lengths(lengths: Lengths, atr: bytes, protocol: Protocol) -> Lengths:
    """Choose for `Lengths.AUTO` by what a card declares (ISO/IEC 7816-4:2020, 12.1.1, card capabilities).

    Args:
        lengths: what the caller set; anything but AUTO is returned as it is.
        atr: the card's ATR, any bytes.
        protocol: the protocol in use.

    Returns:
        On T=1 EXTENDED if that is declared; else CHAINING if that is; else AUTO, which means extended length on T=1 and ENVELOPE on
        T=0 though the card declares neither.
    """
    if lengths is not Lengths.AUTO:
        return lengths
    declared = ATR(atr).capabilities
    if declared.extended_length and protocol != Protocol.T0:
        return Lengths.EXTENDED
    return Lengths.CHAINING if declared.command_chaining else Lengths.AUTO


def response_class(cla: int) -> int:
    """The class byte of the GET RESPONSE that belongs to a command of class `cla`: its logical channel, no more.

    ISO/IEC 7816-4:2020, 5.4.1: 000x xxxx keeps b2-b1, 01xx xxxx keeps b4-b1. GlobalPlatform Card Specification 2.3.1, 11.1.4:
    1000 xxxx likewise, 110x and 111x with b5 = 0 become 1100 xxxx. Others are unchanged.
    """
    if cla <= 0x1F:
        return cla & 0x03
    if 0x40 <= cla <= 0x7F:
        return 0x40 | cla & 0x0F
    if cla & 0xF0 == 0x80:
        return 0x80 | cla & 0x03
    if cla & 0xD0 == 0xC0:
        return 0xC0 | cla & 0x0F
    return cla


def tpdus(command: C_APDU, protocol: Protocol, lengths: Lengths, envelope_class: int | None = None) -> list[bytes]:
    """The TPDUs of one command, in order.

    Args:
        envelope_class: the class of ENVELOPE, if the caller has set it.

    Raises:
        ValueError: it cannot be sent that way; the text says which `lengths` would work.
    """
    nc, ne = len(command.data), command.le
    if nc <= 0xFF:
        if protocol == Protocol.T0:
            return [encode_t0(command)]
        if ne <= 0x100 or lengths in (Lengths.AUTO, Lengths.EXTENDED):
            return [bytes(command)]
        return [bytes(with_ne(command, 0x100))]
    if lengths is Lengths.SHORT:
        raise ValueError(f"{nc} bytes of data are more than Lengths.SHORT takes (255): set another one")
    if lengths is Lengths.CHAINING:
        return _chain(command, protocol)
    return [bytes(command)] if protocol != Protocol.T0 else _envelopes(command, lengths, envelope_class)


def encode_t0(command: C_APDU) -> bytes:
    """Encode a command of at most 255 bytes of data for T=0."""
    header = bytes((command.cla, command.ins, command.p1, command.p2))
    if command.data:
        return b"%b%c%b" % (header, len(command.data), command.data)
    return b"%b%c" % (header, min(command.le, 0x100) & 0xFF)


def _chain(command: C_APDU, protocol: Protocol) -> list[bytes]:
    if command.cla & 0x10:
        raise ValueError(
            f"{len(command.data)} bytes of data cannot be chained in class {command.cla:02X}, bit 5 of it is set already: "
            "send them in parts, or set lengths=Lengths.EXTENDED on T=1, Lengths.ENVELOPE on T=0"
        )
    header = command.cla, command.ins, command.p1, command.p2
    data = command.data
    last = (len(data) - 1) // _PART * _PART
    parts = [b"%c%b" % (header[0] | 0x10, bytes((*header[1:], _PART)) + data[at : at + _PART]) for at in range(0, last, _PART)]
    end = C_APDU(*header, data[last:], min(command.le, 0x100))
    return [*parts, encode_t0(end) if protocol == Protocol.T0 else bytes(end)]


def _envelopes(command: C_APDU, lengths: Lengths, cla: int | None) -> list[bytes]:
    if lengths is Lengths.AUTO and not (_is_interindustry(command.cla) and (cla is None or _is_interindustry(cla))):
        raise ValueError(
            f"{len(command.data)} bytes of data in class {command.cla:02X} have no way to this card on T=0: it declares no command "
            f"chaining, and ENVELOPE is another command outside the interindustry classes. Set lengths=Lengths.CHAINING, or "
            "lengths=Lengths.ENVELOPE, if the card is known to take it, or send them in parts"
        )
    if cla is None:
        cla = response_class(command.cla)
        if not _is_interindustry(cla):  # the channel, in an interindustry class
            cla = 0x40 | cla & 0x0F if cla & 0xF0 == 0xC0 else cla & 0x03 if cla & 0xF0 == 0x80 else 0
    encoded = bytes(command)
    # + 1: a full last part is followed by an empty one.
    return [encode_t0(C_APDU(cla, 0xC2, 0, 0, encoded[at : at + _PART])) for at in range(0, len(encoded) + 1, _PART)]


def _is_interindustry(cla: int) -> bool:
    """000x xxxx and 01xx xxxx; 001x xxxx is reserved."""
    return cla <= 0x1F or 0x40 <= cla <= 0x7F


def with_ne(command: C_APDU, ne: int) -> C_APDU:
    """The same command with another Ne."""
    return C_APDU(command.cla, command.ins, command.p1, command.p2, command.data, ne)


def has_extended_fields(tpdu: bytes) -> bool:
    """Whether a TPDU has length fields of extended length."""
    # In short form the fifth byte is 00 only where it is the last one (Le, or P3 on T=0).
    return len(tpdu) > 5 and tpdu[4] == 0
