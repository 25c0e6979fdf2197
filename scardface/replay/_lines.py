"""The format of a cassette, line by line.

Rules:

- UTF-8 text, for reading, comparing and editing by hand. The first line is `scardface cassette 1`; the number is the version of
  the format. Then `atr` and `protocol` (T0, T1 or RAW), then the exchanges, one in a line, in the order of recording.
- `00A40400 A000000308 Ne=256 -> 6F10840E 9000`: a command's header, its data and Ne if it has them, an arrow, the response's data
  if it has any, the status word. The trace writes exchanges in the same way, without encoded lengths. Letters are
  upper or lower case, and blanks between bytes do not count: the first four bytes are the header, the last two the status.
- `00200001 <secret> -> 9000`: hidden data, which match any data that is not empty. `84B00000 <secret> -> <16 bytes> 9000`: hidden
  data of a response, which are played as zeros.
- `raw 00C0000010 -> 6F10 9000`: an exchange by `transmit`, its bytes as they are.
- From `#` on a line is a comment. Empty lines are ignored.
- Any error is a `MalformedLineError` with the number of the line. It never quotes the line, which may contain secret data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .._enums import Protocol
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._secrets import may_carry_secret
from ._tape import Exchange, Raw, Sent, header

TITLE = "scardface cassette"
VERSION = 1
MAX_ATR = 33
"""Bytes (ISO/IEC 7816-3:2006, 8.2.1)."""

_PROTOCOLS = {"T0": Protocol.T0, "T1": Protocol.T1, "RAW": Protocol.RAW}
_FIELDS = re.compile(r"<[^<>]*>|\S+")
_HIDDEN = re.compile(r"<(\d{1,5}) bytes>")
_SECRET = "<secret>"

Line = tuple[int, str]
"""A line's number, counted from 1, and its text."""


class MalformedLineError(ValueError):
    """A line does not have the format.

    Attributes:
        line: its number; 0: the file as a whole.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def octets(digits: str, line: int, what: str) -> bytes:
    """Hexadecimal digits as bytes, blanks between them allowed; a MalformedLineError if they are not."""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise MalformedLineError(line, f"{what}: not pairs of hexadecimal digits") from None


def parse(lines: Sequence[Line]) -> tuple[bytes, Protocol, tuple[Exchange, ...]]:
    """Parse a cassette.

    Args:
        lines: all of them.

    Returns:
        ATR, protocol, exchanges.

    Raises:
        MalformedLineError: a line does not have the format.
    """
    meant = ((number, text.split("#", 1)[0].strip()) for number, text in lines)
    rest = [(number, text) for number, text in meant if text]
    _check_title(*(rest[0] if rest else (1, "")))
    head: dict[str, str] = {}
    exchanges: list[Exchange] = []
    for number, text in rest[1:]:
        name, _, value = text.partition(" ")
        if name not in ("atr", "protocol"):
            _check_head(head, number)
            exchanges.append(parse_exchange(text, number))
        elif name in head:
            raise MalformedLineError(number, f"'{name}' stands once, before the first exchange")
        else:
            head[name] = value
            _check_value(name, value, number)
    _check_head(head, lines[-1][0] if lines else 1)
    return bytes.fromhex(head["atr"]), _PROTOCOLS[head["protocol"].strip()], tuple(exchanges)


def _check_title(number: int, text: str) -> None:
    title, _, version = text.rpartition(" ")
    if title != TITLE or not version.isdecimal():
        raise MalformedLineError(number, f"the first line of a cassette is '{TITLE} {VERSION}'")
    if int(version) != VERSION:
        raise MalformedLineError(number, f"version {version} of the format is not known here, {VERSION} is")


def _check_value(name: str, value: str, number: int) -> None:
    if name == "protocol" and value.strip() not in _PROTOCOLS:
        raise MalformedLineError(number, f"the protocol is one of {', '.join(_PROTOCOLS)}")
    if name == "atr" and len(octets(value, number, "the ATR")) > MAX_ATR:
        raise MalformedLineError(number, f"an ATR has at most {MAX_ATR} bytes")


def _check_head(head: dict[str, str], number: int) -> None:
    for name in ("atr", "protocol"):
        if name not in head:
            raise MalformedLineError(number, f"there is no line '{name}' before this one")


def parse_exchange(text: str, number: int) -> Exchange:
    """Parse the line of an exchange.

    Raises:
        MalformedLineError: it does not have the format.
    """
    command, arrow, response = text.partition("->")
    if not arrow or "->" in response:
        raise MalformedLineError(number, "an exchange is a command, '->' and a response")
    fields = _FIELDS.findall(command)
    data, hidden = _parse_response(_FIELDS.findall(response), number)
    is_raw = fields[:1] == ["raw"]
    hides_data = _SECRET in fields
    ne = [field for field in fields if field.startswith("Ne=")]
    digits = [field for field in fields[is_raw:] if field != _SECRET and field not in ne]
    sent = octets(" ".join(digits), number, "the command")
    if len(sent) < 4 or (hides_data and len(sent) > 4):
        raise MalformedLineError(number, "a command begins with four bytes (CLA INS P1 P2), and then has data or <secret>")
    if is_raw:
        if ne:
            raise MalformedLineError(number, "a raw command has no Ne")
        return Raw(sent, data, hides_data, hidden, number)
    try:
        apdu = C_APDU(sent[0], sent[1], sent[2], sent[3], sent[4:], _parse_ne(ne, number))
    except ValueError as error:
        raise MalformedLineError(number, str(error)) from None
    return Sent(apdu, R_APDU.from_bytes(data, secret=may_carry_secret(apdu)), hides_data, hidden, number)


def _parse_ne(fields: list[str], number: int) -> int:
    value = fields[0][3:] if fields else "0"
    if len(fields) > 1 or not value.isdecimal() or len(value) > 5:
        raise MalformedLineError(number, "Ne is written once, as a number of bytes: Ne=256")
    return int(value)


def _parse_response(fields: list[str], number: int) -> tuple[bytes, bool]:
    """The bytes of a response, and whether its data are hidden."""
    hidden = _HIDDEN.fullmatch(fields[0]) if fields else None
    received = octets(" ".join(fields[1:] if hidden else fields), number, "the response")
    if len(received) < 2 or (hidden and len(received) > 2):
        raise MalformedLineError(number, "a response ends with a status word of two bytes, and has data or <n bytes> before it")
    return (bytes(int(hidden[1])) if hidden else b"") + received, hidden is not None


def head_lines(atr: bytes, protocol: Protocol) -> list[str]:
    """The first lines of a cassette.

    Raises:
        ValueError: a card without a protocol cannot be recorded.
    """
    name = next((name for name, each in _PROTOCOLS.items() if each == protocol), None)
    if name is None:
        raise ValueError("a cassette is of a card that is opened with a protocol, T=0 or T=1")
    return [f"{TITLE} {VERSION}", f"atr {_digits(atr)}".rstrip(), f"protocol {name}"]


def exchange_lines(exchanges: Iterable[Exchange]) -> list[str]:
    """The lines of exchanges."""
    return [_exchange_line(each) for each in exchanges]


def _exchange_line(exchange: Exchange) -> str:
    hidden = _SECRET if exchange.hides_data else ""
    if isinstance(exchange, Raw):
        fields = ["raw", _digits(exchange.command), hidden]
    else:
        command = exchange.command
        fields = [_digits(bytes(header(command))), _digits(command.data), hidden, f"Ne={command.le}" if command.le else ""]
    response = bytes(exchange.response)
    data = f"<{len(response) - 2} bytes>" if exchange.hides_response else _digits(response[:-2])
    fields += ["->", data, _digits(response[-2:])]
    return " ".join(field for field in fields if field)


def _digits(data: bytes) -> str:
    return data.hex().upper()
