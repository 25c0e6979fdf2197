"""Logical channels: their number in the class byte, and the commands that open and close them. No I/O.

Rules (ISO/IEC 7816-4:2020, 5.4.1 and 11.1.2; GlobalPlatform Card Specification 2.3.1, 11.1.4):

- Channels 0 to 3 are coded in b2-b1 of a first interindustry class (000x xxxx), 4 to 19 as 0 to 15 in b4-b1 of a further one
  (01xx xxxx). GlobalPlatform's classes are coded alike with b8 set: 1000 xxxx and 11x0 xxxx.
- The chaining bit (b5) is kept. Secure messaging has four values in a first class (b4-b3), two in a further one (b6): none, and
  that of clause 10 with an unprotected header; the other two cannot be expressed in channel 4 and up. GlobalPlatform has none and
  its own (b3, or b6).
- No other class can name a channel.
- MANAGE CHANNEL (INS 70) is sent in the basic channel, 0; the card chooses the number, which is checked.
"""

from __future__ import annotations

from ..errors import CardCommunicationError
from ._apdu import C_APDU, R_APDU

LAST = 19

OPEN = C_APDU(0x00, 0x70, 0x00, 0x00, le=1)
"""MANAGE CHANNEL: open a channel; the card answers its number."""


def close_command(number: int) -> C_APDU:
    """MANAGE CHANNEL: close channel `number`."""
    return C_APDU(0x00, 0x70, 0x80, number)


def opened(response: R_APDU) -> int:
    """The number of the channel that the card has opened.

    Raises:
        StatusError: it refused.
        CardCommunicationError: its answer is no channel's number.
    """
    data = response.check().data
    if len(data) != 1 or not 1 <= data[0] <= LAST:
        raise CardCommunicationError(
            f"MANAGE CHANNEL: the card answered {data.hex(' ') or 'nothing'}, which is no channel from 1 to 19"
        )
    return data[0]


def in_channel(command: C_APDU, number: int) -> C_APDU:
    """`command` in channel `number`, 0 to 19.

    Raises:
        ValueError: its class has no place for that channel.
    """
    return C_APDU(_class(command.cla, number), command.ins, command.p1, command.p2, command.data, command.le)


def _class(cla: int, number: int) -> int:
    if cla & 0xE0 == 0x00:  # first interindustry
        chaining, secure = cla & 0x10, cla & 0x0C
        if number <= 3:
            return chaining | secure | number
        if secure in (0x00, 0x08):
            return 0x40 | chaining | (0x20 if secure else 0) | number - 4
        raise ValueError(f"class {cla:02X}: its kind of secure messaging cannot be said in channel {number}, only in 0 to 3")
    if cla & 0xC0 == 0x40:  # further interindustry
        chaining, secure = cla & 0x10, cla & 0x20
        return (chaining | (0x08 if secure else 0) | number) if number <= 3 else 0x40 | secure | chaining | number - 4
    if cla & 0xF0 == 0x80:  # GlobalPlatform, 0 to 3; b4 is reserved there
        secure = cla & 0x0C
        return 0x80 | secure | number if number <= 3 else 0xC0 | (0x20 if secure else 0) | number - 4
    if cla & 0xD0 == 0xC0:  # GlobalPlatform, 4 to 19
        secure = cla & 0x20
        return 0x80 | (0x04 if secure else 0) | number if number <= 3 else 0xC0 | secure | number - 4
    raise ValueError(f"class {cla:02X} has no place for a logical channel")
