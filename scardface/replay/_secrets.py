"""Which commands are written to a cassette without their data.

Rules:

- Hidden are the data of the command, which then matches any value, and the data of its response, which is played as so many zero
  bytes. Header, Ne and status word are always written.
- `carries_secret` is the default: commands that by standard carry a PIN, a key or a value derived from one. It cannot know which
  proprietary commands do: a caller that records some adds them, or uses `may_carry_secret`, which hides the data of every command
  that is not harmless by standard, and with it much that a replay may need.
- The table of commands is `scardface.iso7816._secrets`.
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
    """Whether the data of a command, or of its response, may be secret, as no standard says that it is not.

    The data of SELECT, READ BINARY, READ RECORD, GET DATA and their like are written; those of all else, proprietary commands
    included, are not. It is the rule that repr and the trace keep.
    """
    return _secrets.may_carry_secret(command)
