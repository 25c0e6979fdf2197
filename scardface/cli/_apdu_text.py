"""Parsing commands as users enter them.

Rules:

- `00A404000AF0534341524446414345 00`: an encoded command, with blanks or colons between bytes anywhere.
- `00A40400 F0534341524446414345 Ne=256`: as traces and cassettes have it: four bytes of header, apart from the data behind them,
  and how many bytes are expected back. The length fields are put in.
- `select 04 00 F0534341524446414345`: by name, with P1 and P2 (00 00 if they are left out); before it the class, if it is not 00.
- `00200001 PIN`: the word PIN stands for what is entered at a prompt without echo, as ASCII; `PIN:8` is filled up to 8 bytes with
  FF. It has to follow the header, or a correct length: a byte that was meant as a length and is sent as data would cost one of a
  card's few tries.
- No error text repeats more of the input than the length of a header: it may be a PIN.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .. import C_APDU
from ..iso7816._instructions import INSTRUCTION_BY_NAME, usual_ne

Ask = Callable[[], bytes]

_PIN = re.compile(r"PIN(?::(\d{1,3}))?")
_NE = re.compile(r"Ne=(\d{1,5})")
_HEX = re.compile(r"[0-9A-Fa-f:]+")
_HEADER = 8
"""Digits of a header."""
_MALFORMED = (
    "a command is CLA INS P1 P2, then Lc and so many bytes of data if there are some, then Le if an answer is wanted; here the "
    "lengths do not fit"
)


class ApduTextError(ValueError):
    """The text is not a command."""


def needs_pin(text: str) -> bool:
    """Whether the text contains the word PIN."""
    return _PIN.search(text) is not None


def parse(text: str, ask: Ask | None = None) -> C_APDU:
    """Parse one command.

    Args:
        text: one command.
        ask: returns the PIN if the text contains the word; None: that is an error.

    Raises:
        ApduTextError: it is not a command.
    """
    fields = re.sub(_PIN, r" \g<0> ", text).split()
    ne = _take_ne(fields)
    pins = [field for field in fields if _PIN.fullmatch(field)]
    if len(pins) > 1:
        raise ApduTextError("the word PIN may stand there once")
    named = _take_name(fields)
    place = fields.index(pins[0]) if pins else len(fields)
    before, behind = _octets(fields[:place]), _octets(fields[place + 1 :])
    apart = bool(fields) and len(fields[0].replace(":", "")) == 8
    if named is not None:
        cla, ins = named
        before = bytes((cla, ins)) + (before or b"\0\0")
        if len(before) == 3:
            raise ApduTextError("behind a command's name stand P1 and P2, then its data")
        ne, apart = usual_ne(*before[:4]) if ne is None else ne, True
    if pins:
        data = _with_pin(before, _padded(pins[0], ask), behind)
        return _command(before[:4] + data, ne)
    if apart and (ne is not None or named is not None):
        return _command(before, ne)
    if ne is not None:
        raise ApduTextError("Ne= goes with a header that stands apart from its data: 00A40400 3F00 Ne=256")
    try:
        return C_APDU.from_bytes(before)
    except ValueError:  # its text contains a length from the input, which may be digits of a PIN
        raise ApduTextError(_MALFORMED) from None


def _take_ne(fields: list[str]) -> int | None:
    if not fields or not (found := _NE.fullmatch(fields[-1])):
        return None
    fields.pop()
    return int(found[1])


def _take_name(fields: list[str]) -> tuple[int, int] | None:
    """Class and instruction of a command by name, which are removed from the fields; None: it is not by name."""
    for place in (0, 1):
        ins = INSTRUCTION_BY_NAME.get(fields[place].lower()) if len(fields) > place else None
        if ins is not None:
            cla = _octets(fields[:place]) or b"\0"
            if len(cla) != 1:
                raise ApduTextError("before a command's name stands its class, one byte")
            del fields[: place + 1]
            return cla[0], ins
    return None


def _octets(fields: list[str]) -> bytes:
    for field in fields:
        if not _HEX.fullmatch(field):
            raise ApduTextError(
                "a command is hexadecimal digits, the word PIN, Ne=..., or a name such as 'select' before P1 and P2"
            )
    joined = "".join(fields).replace(":", "")
    if len(joined) % 2:
        raise ApduTextError("a byte is two hexadecimal digits, and one of them is missing")
    return bytes.fromhex(joined)


def _padded(field: str, ask: Ask | None) -> bytes:
    if ask is None:
        raise ApduTextError("the word PIN needs --pin-prompt, which asks for it")
    found = _PIN.fullmatch(field)
    assert found is not None, "it was looked for with the same pattern"
    pin, size = ask(), int(found[1] or 0)
    if size and len(pin) > size:
        raise ApduTextError(f"the PIN has more than {size} bytes")
    return pin.ljust(size, b"\xff")


def _with_pin(before: bytes, pin: bytes, behind: bytes) -> bytes:
    data = pin + behind
    if len(before) == 5 and before[4] == len(data):
        return data
    if len(before) == 4:
        return data
    raise ApduTextError("the word PIN stands right behind the header, CLA INS P1 P2; the length is put in: 00200001 PIN")


def _command(octets: bytes, ne: int | None) -> C_APDU:
    if len(octets) < 4:
        raise ApduTextError("a command begins with four bytes, CLA INS P1 P2")
    try:
        return C_APDU(octets[0], octets[1], octets[2], octets[3], octets[4:], ne)
    except ValueError as error:
        raise ApduTextError(str(error)) from None


def lines(text: str) -> list[tuple[int, str]]:
    """The commands of a script, one a line, with the numbers of their lines; `#` begins a comment, empty lines do not count."""
    meant = ((number, line.split("#", 1)[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in meant if line]


def pieces(words: tuple[str, ...]) -> tuple[str, ...]:
    """Group the words of a command line into commands.

    Each word is a command. A single command without quotes is recognised if the words can be nothing else: bytes one by one
    (`00 A4 00 00`), a name with P1, P2 and data (`select 04 00 A000000308`), a header with data and Ne= or the word PIN
    (`00A40000 3F00 Ne=256`). Its data is one word, or bytes one by one: two words may be two commands.

    Raises:
        ApduTextError: a word follows a command without quotes.
    """
    if any(" " in word for word in words) or all(_is_whole(word) for word in words):
        return words
    return (" ".join(words),) if _is_one(words) else words


def _is_whole(word: str) -> bool:
    """Whether a word may be a command of its own."""
    return word.lower() in INSTRUCTION_BY_NAME or (len(word.replace(":", "")) >= 8 and _HEX.fullmatch(word) is not None)


def _is_one(words: tuple[str, ...]) -> bool:
    """Whether words are one command without quotes."""
    if all(_is_byte(word) or _PIN.fullmatch(word) for word in words):
        return True
    begin = next((place + 1 for place in (0, 1) if words[place : place + 1] and words[place].lower() in INSTRUCTION_BY_NAME), 0)
    rest = list(words[begin:])
    has_ne = bool(rest) and _NE.fullmatch(rest[-1]) is not None
    if has_ne:
        rest.pop()
    if begin:
        _take_parameters(rest)
    elif _begins_apart(words, has_ne):
        rest.pop(0)
    else:
        return False
    data = [word for word in rest if not _PIN.fullmatch(word)]
    if len(data) > 1 and not all(_is_byte(word) for word in data):
        raise ApduTextError(f"{named(data[1])} stands behind a command of several words: put each such command into quotes")
    return True


def _begins_apart(words: tuple[str, ...], has_ne: bool) -> bool:
    """Whether words begin with a header and go on with what belongs to it."""
    size = len(words[0].replace(":", ""))
    has_pin = len(words) > 1 and _PIN.fullmatch(words[1]) is not None
    return _HEX.fullmatch(words[0]) is not None and ((size == 8 and has_ne) or (size in (8, 10) and has_pin))


def _take_parameters(words: list[str]) -> None:
    """Remove P1 and P2 from the words, as far as they are there."""
    if words and _HEX.fullmatch(words[0]) and len(words[0].replace(":", "")) == 4:
        del words[:1]
    elif len(words) > 1 and _is_byte(words[0]) and _is_byte(words[1]):
        del words[:2]


def _is_byte(word: str) -> bool:
    return len(word) == 2 and _HEX.fullmatch(word) is not None


def named(piece: str) -> str:
    """A part of the input for an error text: no more than the length of a header, since a PIN may follow."""
    return repr(piece if len(piece) <= _HEADER else piece[:_HEADER] + "...")
