"""Which commands are written to a cassette without their data.

Rules of this room:

- What is hidden is the data of the command, which then match any value, and the data of its response, which are played as so many
  zero bytes. Header, Ne and status word are always written. Nothing is hidden where there is no data.
- `carries_secret` is the default: the commands that standards say carry a PIN, a key or what is made with one. A proprietary
  command that does so it cannot know: whoever records one adds it, or takes `may_carry_secret`, which hides the data of every
  command that no standard says to be harmless, and with them much that a replay may need.
- Both go by the header alone, so they are right for a command in a chain and for one that cannot be decoded.
"""

from __future__ import annotations

from .._apdu import C_APDU, is_secret

__all__ = ["carries_secret", "may_carry_secret"]

_INSTRUCTIONS = frozenset(
    (
        *(0x20, 0x21),  # VERIFY
        *(0x24, 0x25),  # CHANGE REFERENCE DATA
        *(0x26, 0x28),  # DISABLE and ENABLE VERIFICATION REQUIREMENT, which a PIN may go with
        *(0x2C, 0x2D),  # RESET RETRY COUNTER
        0x82,  # EXTERNAL and MUTUAL AUTHENTICATE; in class FF LOAD KEYS (PC/SC part 3)
        *(0x86, 0x87),  # GENERAL AUTHENTICATE
        *(0xC2, 0xC3),  # ENVELOPE: part of a command that is not seen; in class FF pseudo-APDUs for PINs (PC/SC part 10, 2.3.1)
    )
)
"""In every class (ISO/IEC 7816-4:2020, 5.4.2); GSM 11.11 has the same for its CHVs."""

_OF_READERS = {
    0x86: False,  # GENERAL AUTHENTICATE tells the number of a key, not the key
    0xD6: True,  # UPDATE BINARY: a sector trailer of MIFARE cards holds both keys of the sector, and nothing tells it from data
}
"""In class FF, where PC/SC part 3 (3.2.2.1) means something else than ISO/IEC 7816-4."""
_PUT_KEY = 0xD8
"""GlobalPlatform Card Specification 2.3.1, 11.8, in its classes."""


def carries_secret(command: C_APDU) -> bool:
    """Whether a command carries a PIN, a key or a cryptogram, as far as standards tell: what a `Recorder` hides by default.

    VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER, ENABLE and DISABLE VERIFICATION REQUIREMENT, EXTERNAL, MUTUAL and GENERAL
    AUTHENTICATE, ENVELOPE (ISO/IEC 7816-4:2020, 11), LOAD KEYS, UPDATE BINARY and the pseudo-APDUs for PINs (PC/SC parts 3 and
    10, class FF), PUT KEY (GlobalPlatform), and every message whose class says secure messaging.
    """
    cla, ins = command.cla, command.ins
    if cla == 0xFF and ins in _OF_READERS:
        return _OF_READERS[ins]
    return ins in _INSTRUCTIONS or (ins == _PUT_KEY and 0x80 <= cla < 0xFF) or _is_secured(cla)


def may_carry_secret(command: C_APDU) -> bool:
    """Whether the data of a command, or of its response, may be secret, as nobody says that they are not.

    The data of SELECT, READ BINARY, READ RECORD, GET DATA and their like are written; those of all else, proprietary commands
    included, are not. It is the rule that repr and the trace keep.
    """
    return is_secret(command)


def _is_secured(cla: int) -> bool:
    """Whether the class says secure messaging (ISO/IEC 7816-4:2020, 5.4.1; GlobalPlatform Card Specification 2.3.1, 11.1.4)."""
    if cla & 0xE0 == 0x00 or cla & 0xF0 == 0x80:  # channels 0 to 3
        return bool(cla & 0x0C)
    if cla & 0xC0 == 0x40 or (cla & 0xD0 == 0xC0):  # channels 4 to 19
        return bool(cla & 0x20)
    return False
