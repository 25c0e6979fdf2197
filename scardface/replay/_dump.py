"""Dumps of apdu4j, a library and command line for Java, as cassettes.

Rules (apdu4j, DumpFormat.java):

- A dump is text: `# ATR: ` and `# PROTOCOL: ` at the beginning, each with its value, other comments from `#` on; then commands and
  responses in hexadecimal digits, in alternate lines.
- Programs that write them (GlobalPlatformPro) may omit the head. The card then has the shortest ATR that offers the protocol, which
  is T=1 if it is not given either.
- Java's own smart card library asks for what 61xx and 6Cxx announce before the dump is written, apdu4j's newer layers after it. So
  an exchange counts as one by `send`, unless its response is one of those, or the command cannot be decoded: then it counts as one
  by `transmit`.
- Nothing is hidden in a dump. Dumps are only read, never written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .._enums import Protocol
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._secrets import may_carry_secret
from ._lines import MAX_ATR, TITLE, Line, MalformedLineError, octets
from ._tape import Exchange, Raw, Sent

_ATR, _PROTOCOL = "# ATR:", "# PROTOCOL:"
_PROTOCOLS = {"T=0": Protocol.T0, "T=1": Protocol.T1, "T=CL": Protocol.T1}
"""T=CL is what Java calls a contactless card, which PC/SC readers show as one that speaks T=1 (PC/SC part 3)."""
SHORTEST_ATR = {"T=0": "3B00", "T=1": "3B800181", "T=CL": "3B800181"}
"""TS and T0; with TD1, which names T=1, and TCK (ISO/IEC 7816-3:2006, 8.2)."""
_DIGITS = re.compile(r"[0-9A-Fa-f ]+")


def is_dump(lines: Sequence[Line]) -> bool:
    """Whether the lines are a dump's: an ATR in a comment and no title of ours, or nothing but digits besides comments."""
    texts = [text.strip() for _, text in lines]
    content = [text for text in texts if text and not text.startswith("#")]
    if content and content[0].startswith(TITLE):
        return False
    return any(text.startswith(_ATR) for text in texts) or (bool(content) and _DIGITS.fullmatch(content[0]) is not None)


def parse_dump(lines: Sequence[Line]) -> tuple[bytes, Protocol, tuple[Exchange, ...]]:
    """Parse a dump.

    Args:
        lines: all of them.

    Returns:
        ATR, protocol, exchanges.

    Raises:
        MalformedLineError: a line does not have the format.
    """
    number, name = _value(lines, _PROTOCOL, "T=1")
    if name not in _PROTOCOLS:
        raise MalformedLineError(number, f"the protocol of a dump is one of {', '.join(_PROTOCOLS)}")
    number, digits = _value(lines, _ATR, SHORTEST_ATR[name])
    atr = octets(digits, number, "the ATR")
    if len(atr) > MAX_ATR:
        raise MalformedLineError(number, f"an ATR has at most {MAX_ATR} bytes")
    rows = [(number, text.strip()) for number, text in lines if text.strip() and not text.strip().startswith("#")]
    if len(rows) % 2:
        raise MalformedLineError(rows[-1][0], "the last command has no response")
    exchanges = (_exchange(command, response) for command, response in zip(rows[::2], rows[1::2], strict=True))
    return atr, _PROTOCOLS[name], tuple(exchanges)


def _value(lines: Sequence[Line], name: str, default: str) -> Line:
    """The value of a name in the head, with the number of its line."""
    found = ((number, text.strip()[len(name) :].strip()) for number, text in lines if text.strip().startswith(name))
    return next(found, (0, default))


def _exchange(command: Line, response: Line) -> Exchange:
    line = command[0]
    sent, received = octets(command[1], line, "the command"), octets(response[1], response[0], "the response")
    if len(sent) < 4:
        raise MalformedLineError(line, "a command has at least 4 bytes")
    if len(received) < 2:
        raise MalformedLineError(response[0], "a response has at least 2 bytes")
    if received[-2] in (0x61, 0x6C):
        return Raw(sent, received, line=line)
    try:
        apdu = C_APDU.from_bytes(sent)
    except ValueError:
        return Raw(sent, received, line=line)
    return Sent(apdu, R_APDU.from_bytes(received, secret=may_carry_secret(apdu)), line=line)
