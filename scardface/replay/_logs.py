"""What other programs log of a card, and this library's own traces, as cassettes.

Rules:

- Known are: the text and the JSON lines of `scardface.tracing`; pcscd's log with `--apdu` (or `-a`); the debug log of OpenSC, from
  level 4 on; what GlobalPlatformPro prints with `-d`. Lines that are none of an exchange are passed over.
- Logs show what was on the wire, so what belongs together is put together: data fetched by GET RESPONSE after 61xx, and a command
  that is repeated with the Le that 6Cxx named. The parts of a chain stay as they are.
- A command on T=0 does not say how much it wanted; if data came, it counts as one that took any length (Ne=256).
- Nothing is hidden in logs of others. Data that a trace of ours left out match any; in a response they are zeros.
- A log without an ATR has the shortest that offers the protocol, T=1 where none is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .._enums import Protocol
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._secrets import may_carry_secret
from ._dump import SHORTEST_ATR
from ._lines import MAX_ATR, Line, MalformedLineError, octets, parse_exchange
from ._tape import Exchange, Raw, Sent

_TRACE = "# scardface trace "
_TRACED = re.compile(r'\S+Z \d+\.\d+ "(?:[^"\\]|\\.)*" (?P<kind>\w+) ?(?P<rest>.*)')
_JSON = re.compile(r'\{"time": ".*"kind": ')
_PCSCD = re.compile(r"\d{8} (?:\[\d+\] )?(?:\x1b\[\d+m)?(?P<kind>APDU|SW): (?P<digits>(?:[0-9A-Fa-f]{2} ?)*)")
_OPENSC = re.compile(r"(?P<kind>Outgoing|Incoming) APDU \((?P<count>\d{1,6}) bytes\):\s*$")
_GP = re.compile(r"\s*A(?P<kind>>>|<<) .*?\)(?: \(\d+ms\))? (?P<digits>[0-9A-Fa-f ]*)$")
_ATR = re.compile(r"(?:^|\W)ATR\s*:\s*(?P<digits>[0-9A-Fa-f]{2}(?:[: ]?[0-9A-Fa-f]{2})*)\s*$")
_PROTOCOL = re.compile(r"(?:^|\W)(?:A>> |PROTOCOL: )T=(?P<name>[01])\b")
_HIDDEN = re.compile(r"<\d+ bytes>")
_ANY = 256


class _Row(NamedTuple):
    """Bytes for the card, or from it."""

    line: int
    sent: bool
    octets: bytes


def is_log(lines: Sequence[Line]) -> bool:
    """Whether the lines are a log or a trace, by the first that is of an exchange."""
    return _reader_of(lines) is not None


def parse_log(lines: Sequence[Line]) -> tuple[bytes, Protocol, tuple[Exchange, ...]]:
    """Parse a log.

    Args:
        lines: all of them.

    Returns:
        ATR, protocol, exchanges.

    Raises:
        MalformedLineError: a line that is of an exchange is damaged.
    """
    read = _reader_of(lines)
    assert read is not None, "is_log has been asked"
    return read(lines)


def _reader_of(lines: Sequence[Line]) -> Callable[[Sequence[Line]], tuple[bytes, Protocol, tuple[Exchange, ...]]] | None:
    for _, text in lines:
        if text.startswith(_TRACE) or _JSON.match(text):
            return _traced
        if _PCSCD.match(text) or _OPENSC.search(text) or _GP.match(text):
            return _logged
    return None


# Traces of ours.


def _traced(lines: Sequence[Line]) -> tuple[bytes, Protocol, tuple[Exchange, ...]]:
    atr, protocol = b"", Protocol.T1
    exchanges: list[Exchange] = []
    for number, text in lines:
        kind, asked, answer = _record(number, text)
        if kind == "connect" and not atr and answer:
            atr = octets(answer, number, "the ATR")[:MAX_ATR]
            protocol = Protocol.T0 if asked.endswith("T0") else Protocol.RAW if asked.endswith("RAW") else Protocol.T1
        elif kind == "command" and answer:
            exchanges.append(parse_exchange(f"{_HIDDEN.sub('<secret>', asked)} -> {answer}", number))
        elif kind == "transmit" and answer and not _HIDDEN.search(asked + answer):
            exchanges.append(parse_exchange(f"raw {asked} -> {answer[:-4]} {answer[-4:]}", number))
    return atr or _shortest(protocol), protocol, tuple(exchanges)


def _record(number: int, text: str) -> tuple[str, str, str]:
    """Kind, what was asked, and the answer; empty if there was an error."""
    if text.startswith("{"):
        try:
            record = json.loads(text)
            return str(record["kind"]), str(record["text"]), str(record["answer"])
        except (ValueError, KeyError, TypeError):
            raise MalformedLineError(number, "not a line of a trace") from None
    match = _TRACED.match(text)
    if match is None:
        return "", "", ""
    asked, arrow, answer = match["rest"].partition("-> ")
    return match["kind"], asked.strip(), "" if not arrow or answer.startswith("!") else answer.strip()


# Logs of others.


def _logged(lines: Sequence[Line]) -> tuple[bytes, Protocol, tuple[Exchange, ...]]:
    atrs = (octets(match["digits"].replace(":", ""), number, "the ATR") for number, text in lines if (match := _ATR.search(text)))
    protocols = (Protocol.T0 if match["name"] == "0" else Protocol.T1 for _, text in lines if (match := _PROTOCOL.search(text)))
    protocol = next(protocols, Protocol.T1)
    atr = next((atr for atr in atrs if len(atr) <= MAX_ATR), _shortest(protocol))
    return atr, protocol, tuple(_put_together(list(_pairs(_rows(lines)))))


def _rows(lines: Sequence[Line]) -> Iterator[_Row]:
    rest = iter(lines)
    for number, text in rest:
        match = _PCSCD.match(text) or _GP.match(text)
        if match is not None:
            yield _Row(number, match["kind"] in ("APDU", ">>"), octets(match["digits"], number, "the bytes"))
            continue
        match = _OPENSC.search(text)
        if match is None:
            continue
        found, count = bytearray(), int(match["count"])
        while len(found) < count:
            _, dumped = next(rest, (number, ""))
            part = octets(dumped[: 3 * min(16, count - len(found))], number, "the bytes")  # behind them stand the characters
            if not part:
                raise MalformedLineError(number, f"{count} bytes are announced, and {len(found)} follow")
            found += part
        yield _Row(number, match["kind"] == "Outgoing", bytes(found))


def _pairs(rows: Iterator[_Row]) -> Iterator[tuple[_Row, bytes]]:
    """Commands with their responses; a command that was not answered is left out."""
    waiting: _Row | None = None
    for row in rows:
        if row.sent:
            waiting = row
        elif waiting is not None:
            yield waiting, row.octets
            waiting = None


def _put_together(pairs: list[tuple[_Row, bytes]]) -> Iterator[Exchange]:
    at = 0
    while at < len(pairs):
        row, answer = pairs[at]
        sent, line, at = row.octets, row.line, at + 1
        if len(sent) < 4 or len(answer) < 2:
            raise MalformedLineError(line, "a command has at least 4 bytes, and a response 2")
        first = sent
        if answer[-2] == 0x6C and at < len(pairs) and pairs[at][0].octets[:4] == sent[:4]:
            answer, at = pairs[at][1], at + 1
        data = bytearray(answer[:-2])
        while answer[-2] == 0x61 and at < len(pairs) and pairs[at][0].octets[1:4] == b"\xc0\x00\x00":
            answer, at = pairs[at][1], at + 1
            data += answer[:-2]
        yield _exchange(first, bytes(data) + answer[-2:], line)


def _exchange(sent: bytes, received: bytes, line: int) -> Exchange:
    try:
        command = C_APDU.from_bytes(sent)
    except ValueError:
        return Raw(sent, received, line=line)
    if received[-2] in (0x61, 0x6C):
        return Raw(sent, received, line=line)
    if len(received) > 2 and not command.le:
        command = C_APDU(command.cla, command.ins, command.p1, command.p2, command.data, _ANY)
    return Sent(command, R_APDU.from_bytes(received, secret=may_carry_secret(command)), line=line)


def _shortest(protocol: Protocol) -> bytes:
    return bytes.fromhex(SHORTEST_ATR["T=0" if protocol is Protocol.T0 else "T=1"])
