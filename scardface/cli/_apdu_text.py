"""Parsing commands as users enter them.

Rules:

- `00A404000AF0534341524446414345 00`: an encoded command, with blanks or colons between bytes anywhere.
- `00A40400 F0534341524446414345 Ne=256`: as traces and cassettes have it: four bytes of header, apart from the data behind them,
  and how many bytes are expected back. The length fields are put in. Without `Ne=` none are expected, as there; but then the digits
  may be an encoding with its lengths, which they are if they fit one. If they nearly do, or may carry a PIN or a key, or the data
  are of several words, `Ne=0` has to be written: a mistyped length is not to be sent as data.
- `select 04 00 F0534341524446414345`: by name, with P1 and P2 (00 00 if they are left out); before it the class, if it is not 00.
- `00200001 PIN`: the word PIN stands for what is entered at a prompt without echo, as ASCII; `PIN:8` is filled up to 8 bytes with
  FF. It has to follow the header, or a correct length: a byte that was meant as a length and is sent as data would cost one of a
  card's few tries.
- An error text names the piece that is wrong, if the command is known as one without secrets, or the piece resembles the name of a
  command and follows none that may be one with a PIN. It repeats no more of it than the length of a header.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

from .. import C_APDU
from ..iso7816._instructions import INSTRUCTION_BY_NAME, usual_ne
from ..replay import carries_secret, may_carry_secret

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
_NEEDS_NE = "; if all behind the header is data, Ne= has to say so: '00A40000 3F00 Ne=0'"
_NEEDS_PIN = "; a PIN apart from its header is the word PIN, which is asked for: '00200001 PIN', or has Ne=0 behind it"
_WORDS = "a command is hexadecimal digits, the word PIN, Ne=..., or a name such as 'select' before P1 and P2"
_NEARLY = 2
"""By how many bytes a length and what follows it may differ, and still look like a mistyped length."""
_ALIKE = 0.75
"""How much of a word a name has in common with it to be suggested (difflib's ratio)."""


class ApduTextError(ValueError):
    """The text is not a command."""


def needs_pin(text: str) -> bool:
    """Whether the text contains the word PIN."""
    return _PIN.search(text) is not None


def parse(text: str, ask: Ask | None = None, *, may_be_pin: bool = False, own: Iterable[str] = ()) -> C_APDU:
    """Parse one command.

    Args:
        text: one command.
        ask: returns the PIN if the text contains the word; None: that is an error.
        may_be_pin: whether the whole text may be a PIN, since it follows a command that may carry one: then no error names a piece.
        own: names besides those of commands that may be suggested in place of a misspelt one.

    Raises:
        ApduTextError: it is not a command.
    """
    fields = re.sub(_PIN, r" \g<0> ", text).split()
    ne = _take_ne(fields)
    pins = [field for field in fields if _PIN.fullmatch(field)]
    if len(pins) > 1:
        raise ApduTextError("the word PIN may stand there once")
    by_name = _take_name(fields)
    if by_name is None and not may_be_pin:
        _suggest(fields, own)
    place = fields.index(pins[0]) if pins else len(fields)
    begin = bytes(by_name or ())
    before = _octets(fields[:place], None if may_be_pin else begin)
    behind = _octets(fields[place + 1 :], None)
    apart = bool(fields) and len(fields[0].replace(":", "")) == _HEADER
    if by_name is not None:
        before = begin + (before or b"\0\0")
        if len(before) == 3:
            raise ApduTextError("behind a command's name stand P1 and P2, then its data")
        ne, apart = usual_ne(*before[:4]) if ne is None else ne, True
    if pins:
        data = _with_pin(before, _padded(pins[0], ask), behind)
        return _command(before[:4] + data, ne)
    if apart and (ne is not None or by_name is not None):
        return _command(before, ne)
    if ne is not None:
        raise ApduTextError("Ne= goes with a header that stands apart from its data: 00A40400 3F00 Ne=256")
    try:
        return C_APDU.from_bytes(before)
    except ValueError:  # its text contains a length from the input, which may be digits of a PIN
        if apart and len(fields) == 2 and not _looks_encoded(before[4:]):
            command = _command(before, 0)
            if not carries_secret(command):
                return command
        raise ApduTextError(_MALFORMED + (_how_apart(before) if apart else "")) from None


def _how_apart(octets: bytes) -> str:
    """What to write where bytes are a header and data apart from it, which were not taken for that."""
    return _NEEDS_PIN if carries_secret(C_APDU(octets[0], octets[1], octets[2], octets[3], octets[4:])) else _NEEDS_NE


def _looks_encoded(body: bytes) -> bool:
    """Whether bytes behind a header look as if they began with a length, of which a digit or a byte was forgotten."""
    return bool(body[0]) and abs(len(body) - 1 - body[0]) <= _NEARLY


def needs_ne(command: C_APDU) -> bool:
    """Whether a command without response data needs Ne=0 to be read back from its header and, apart from it, its data."""
    header = bytes((command.cla, command.ins, command.p1, command.p2)).hex()
    try:
        return parse(f"{header} {command.data.hex()}") != command
    except ApduTextError:
        return True


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
            cla = _octets(fields[:place], None) or b"\0"
            if len(cla) != 1:
                raise ApduTextError("before a command's name stands its class, one byte")
            del fields[: place + 1]
            return cla[0], ins
    return None


def _suggest(fields: list[str], own: Iterable[str]) -> None:
    """Raises ApduTextError if a name stands where one may, and is misspelt; behind a class, a name of `own` is none."""
    place = 1 if fields and _is_byte(fields[0]) else 0
    word = fields[place] if len(fields) > place else ""
    if len(word) > 2 and not _is_digits(word) and not _PIN.fullmatch(word):
        names = _resembling(word.lower(), [*INSTRUCTION_BY_NAME, *(() if place else own)])
        if names:
            raise ApduTextError(f"{named(word)} is no command's name; did you mean {' or '.join(map(repr, names))}?")


def _resembling(word: str, names: list[str]) -> list[str]:
    """Names that begin with a word, else that are spelt nearly like it; the likeliest first."""
    begin = sorted(name for name in names if name.startswith(word))
    return begin[:3] or difflib.get_close_matches(word, names, cutoff=_ALIKE)


def _octets(fields: list[str], before: bytes | None) -> bytes:
    """The bytes that fields of digits stand for.

    Args:
        fields: the fields.
        before: the bytes of the command that stand before them, as far as they are known; None: no error may name a field.
    """
    for place, field in enumerate(fields):
        if not _is_digits(field):
            raise ApduTextError(f"{_wrong(field, fields[:place], before)}{_WORDS}")
    joined = "".join(fields).replace(":", "")
    if len(joined) % 2:
        odd = [place for place, field in enumerate(fields) if len(field.replace(":", "")) % 2]
        place = odd[0]
        what = _wrong(fields[place], fields[:place], before) if len(odd) == 1 else ""
        raise ApduTextError(f"{what}a byte is two hexadecimal digits, and one of them is missing")
    return bytes.fromhex(joined)


def _wrong(field: str, earlier: list[str], before: bytes | None) -> str:
    """The beginning of an error text that names a field, if it is known to be no part of a PIN or a key; else nothing."""
    digits = "".join(earlier).replace(":", "")
    if before is None or len(digits) % 2 or len(known := before + bytes.fromhex(digits)) < 2:
        return ""
    cla, ins, p1, p2 = known[:4].ljust(4, b"\0")
    return "" if may_carry_secret(C_APDU(cla, ins, p1, p2, known[4:] or b"\0")) else f"{named(field)} is wrong: "


def _is_digits(field: str) -> bool:
    return _HEX.fullmatch(field) is not None


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
