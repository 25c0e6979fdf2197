"""Names of instruction bytes, and instruction bytes by name.

Rules:

- Interindustry commands are those of ISO/IEC 7816-4:2020, table 4, with parts 7, 8, 9 and 13; they mean the same in every class
  but FF, which is PC/SC's own (part 3, 3.2.2.1). Of GlobalPlatform's there are those that ISO leaves open.
- A name for the command line is the command's name in lower case, with `-` for a blank: `read-binary`.
- A command entered by name asks for response data (Ne 256) if it usually has some.
"""

from __future__ import annotations

from ._apdu import C_APDU

_NAMES = {
    0x04: "DEACTIVATE FILE",
    0x0C: "ERASE RECORD",
    0x0E: "ERASE BINARY",
    0x0F: "ERASE BINARY",
    0x10: "PERFORM SCQL OPERATION",
    0x12: "PERFORM TRANSACTION OPERATION",
    0x14: "PERFORM USER OPERATION",
    0x20: "VERIFY",
    0x21: "VERIFY",
    0x22: "MANAGE SECURITY ENVIRONMENT",
    0x24: "CHANGE REFERENCE DATA",
    0x25: "CHANGE REFERENCE DATA",
    0x26: "DISABLE VERIFICATION REQUIREMENT",
    0x28: "ENABLE VERIFICATION REQUIREMENT",
    0x2A: "PERFORM SECURITY OPERATION",
    0x2B: "PERFORM SECURITY OPERATION",
    0x2C: "RESET RETRY COUNTER",
    0x2D: "RESET RETRY COUNTER",
    0x44: "ACTIVATE FILE",
    0x46: "GENERATE ASYMMETRIC KEY PAIR",
    0x47: "GENERATE ASYMMETRIC KEY PAIR",
    0x70: "MANAGE CHANNEL",
    0x82: "EXTERNAL AUTHENTICATE",
    0x84: "GET CHALLENGE",
    0x86: "GENERAL AUTHENTICATE",
    0x87: "GENERAL AUTHENTICATE",
    0x88: "INTERNAL AUTHENTICATE",
    0xA0: "SEARCH BINARY",
    0xA1: "SEARCH BINARY",
    0xA2: "SEARCH RECORD",
    0xA4: "SELECT",
    0xB0: "READ BINARY",
    0xB1: "READ BINARY",
    0xB2: "READ RECORD",
    0xB3: "READ RECORD",
    0xC0: "GET RESPONSE",
    0xC2: "ENVELOPE",
    0xC3: "ENVELOPE",
    0xCA: "GET DATA",
    0xCB: "GET DATA",
    0xCC: "GET NEXT DATA",
    0xCD: "GET NEXT DATA",
    0xD0: "WRITE BINARY",
    0xD1: "WRITE BINARY",
    0xD2: "WRITE RECORD",
    0xD6: "UPDATE BINARY",
    0xD7: "UPDATE BINARY",
    0xDA: "PUT DATA",
    0xDB: "PUT DATA",
    0xDC: "UPDATE RECORD",
    0xDD: "UPDATE RECORD",
    0xE0: "CREATE FILE",
    0xE2: "APPEND RECORD",
    0xE4: "DELETE FILE",
    0xE6: "TERMINATE DF",
    0xE8: "TERMINATE EF",
    0xF2: "GET STATUS",
    0xFE: "TERMINATE CARD USAGE",
}
_READER = {
    0x82: "LOAD KEYS",
    0x86: "GENERAL AUTHENTICATE",
    0xB0: "READ BINARY",
    0xCA: "GET DATA",
    0xD6: "UPDATE BINARY",
}
"""Class FF: the commands of contactless readers (PC/SC part 3)."""

_SELECT, _PERFORM_SECURITY_OPERATION, _MANAGE_CHANNEL = 0xA4, 0x2A, 0x70
_ANSWERED = frozenset((0x84, 0xA4, 0xB0, 0xB2, 0xC0, 0xCA, 0xCC, 0xF2, 0x88, 0x2A, 0x86))


def _by_name() -> dict[str, int]:
    by_name: dict[str, int] = {}
    for ins, name in _NAMES.items():
        by_name.setdefault(name.lower().replace(" ", "-"), ins)
    return by_name


INSTRUCTION_BY_NAME = _by_name()
"""Command line name to instruction byte; of two, the even one, whose data is not BER-TLV (ISO/IEC 7816-4:2020, 5.5)."""


def instruction_name(command: C_APDU) -> str:
    """The name of a command, in capitals as in the standard; empty if it is not known.

    Args:
        command: of which class and instruction count.
    """
    return (_READER if command.cla == 0xFF else _NAMES).get(command.ins, "")


def usual_ne(cla: int, ins: int, p1: int, p2: int) -> int:
    """How many bytes a command entered by name asks for: 256, 1 or none.

    SELECT whose P2 has b4 and b3 set asks for no response data (ISO/IEC 7816-4, coding of P2), and so does PERFORM
    SECURITY OPERATION with P1 00 (ISO/IEC 7816-8); MANAGE CHANNEL that opens a channel is answered with its number (7816-4). A
    reader's GENERAL AUTHENTICATE has no response data (PC/SC part 3).
    """
    if (ins == _SELECT and p2 & 0x0C == 0x0C) or (ins == _PERFORM_SECURITY_OPERATION and p1 == 0) or (cla == 0xFF and ins == 0x86):
        return 0
    if ins == _MANAGE_CHANNEL:
        return int(p1 == p2 == 0)
    return 256 if ins in _ANSWERED else 0
