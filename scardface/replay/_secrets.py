"""Which commands are written to a cassette without their data.

Rules:

- What is hidden is the data of the command, which then match any value, and the data of its response, which are played as so many
  zero bytes. Header, Ne and status word are always written. Nothing is hidden where there is no data.
- `carries_secret` is the default: the commands that standards say carry a PIN, a key or what is made with one. A proprietary
  command that does so it cannot know: whoever records one adds it, or takes `may_carry_secret`, which hides the data of every
  command that no standard says to be harmless, and with them much that a replay may need.
- The table of commands, clause by clause, is the floors' (`scardface/_secrets.py`).
"""

from __future__ import annotations

from ..iso7816 import _secrets
from ..iso7816._apdu import C_APDU

__all__ = ["carries_secret", "may_carry_secret"]


def carries_secret(command: C_APDU) -> bool:
    """Whether a command carries a PIN, a key or a cryptogram, as far as standards tell: what a `Recorder` hides by default.

    VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER, ENABLE and DISABLE VERIFICATION REQUIREMENT, EXTERNAL, MUTUAL and GENERAL
    AUTHENTICATE, ENVELOPE (ISO/IEC 7816-4:2020), deciphering, enciphering and checksums of PERFORM SECURITY OPERATION (-8),
    AUTHENTICATE of SIMs and USIMs, PUT DATA of OpenPGP's keys and resetting code, PUT KEY and STORE DATA (GlobalPlatform), LOAD
    KEYS, UPDATE BINARY and the pseudo-APDUs for PINs (PC/SC parts 3 and 10, class FF), and every message whose class says secure
    messaging. A `Recorder` hides besides what such a command leaves to be fetched, later parts of its chain, and files of SIMs that
    hold keys.
    """
    return _secrets.carries_secret(command)


def may_carry_secret(command: C_APDU) -> bool:
    """Whether the data of a command, or of its response, may be secret, as nobody says that they are not.

    The data of SELECT, READ BINARY, READ RECORD, GET DATA and their like are written; those of all else, proprietary commands
    included, are not. It is the rule that repr and the trace keep.
    """
    return _secrets.may_be_secret(command)
