"""Commands to a card and its responses: encoding, decoding, and which parts of them may be shown.

Rules (ISO/IEC 7816-4:2020, 5.1 and 5.2):

- A command is CLA INS P1 P2, Nc bytes of data (0 to 65,535) and Ne, the number of bytes expected back (0 to 65,536, 0 for none).
- Lc and Le are one byte each while Nc <= 255 and Ne <= 256 (short), otherwise 00 and two bytes, of which Le drops the 00 when Lc
  is there (extended). Both fields have the same form. Zero in Le stands for the largest number, 256 or 65,536. So there are
  seven encodings: 1, 2S, 3S, 4S, 2E, 3E, 4E.
- Decoding depends on lengths only; exactly one encoding fits a well-formed command. Every CLA and every INS is accepted.
- A response is its data and SW1-SW2; the shortest one is two bytes.
- A response is successful if its status word is 9000, unless it was judged by other words (`judge`); then it keeps the verdict.
- A repr or trace never shows a PIN or a key. Which proprietary commands carry one cannot be known, so the data of a command and of
  its response is shown only if a published standard says that the command names, finds or reads something (`_secrets.PUBLIC`). Of
  all others (comparing, authenticating, computing, writing, ENVELOPE, GET RESPONSE, secure messaging, proprietary and unknown
  instructions) only header and lengths are shown. `data`, `bytes(command)` and `ashex()` give the rest.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias

from ._secrets import may_carry_secret
from ._status import status_meaning
from ._success import SuccessWords, success_words

__all__ = ["C_APDU", "R_APDU", "StatusError", "how_to_make_bytes", "redacted"]

Success: TypeAlias = "Iterable[str] | Callable[[R_APDU], object]"
"""Which responses succeed, as users say it: patterns of status words, or a function of the response."""
SuccessRule: TypeAlias = "SuccessWords | Callable[[R_APDU], object]"
"""The same, checked."""

Buffer = bytes | bytearray | memoryview
"""Types that are accepted as bytes."""

_set = object.__setattr__


class _Value:
    """An immutable object."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed: {name!r} is fixed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed: {name!r} is fixed")


class C_APDU(_Value):
    """A command to a card (ISO/IEC 7816-4:2020, 5.1).

    Args:
        cla: class byte.
        ins: instruction byte.
        p1: first parameter byte.
        p2: second parameter byte.
        data: up to 65,535 bytes (Nc is their number).
        le: how many bytes are expected back at most (Ne), 0 to 65,536; None and 0: none. 256 (65,536 where the command is of
            extended length) means all there are.

    Raises:
        ValueError: a field is out of its range; the text names it.
        TypeError: a field is not of its kind.

    `bytes(command)` encodes it, short when it fits and extended when it must be.
    """

    __slots__ = ("_short", "cla", "data", "ins", "le", "p1", "p2")

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes
    le: int
    _short: bytes | None  # cached short encoding, since the same command is often sent again

    def __init__(self, cla: int = 0, ins: int = 0, p1: int = 0, p2: int = 0, data: Buffer = b"", le: int | None = None) -> None:
        _set(self, "cla", _number("cla", cla, 0xFF))
        _set(self, "ins", _number("ins", ins, 0xFF))
        _set(self, "p1", _number("p1", p1, 0xFF))
        _set(self, "p2", _number("p2", p2, 0xFF))
        _set(self, "data", octets_of("data", data, 0xFFFF))
        _set(self, "le", 0 if le is None else _number("le", le, 0x10000))
        _set(self, "_short", None)

    @classmethod
    def from_bytes(cls, encoded: Buffer) -> C_APDU:
        """Decode a command.

        Args:
            encoded: the bytes of the command, in any of the seven encodings.

        Returns:
            The command.

        Raises:
            ValueError: no encoding fits these lengths; the text says how many bytes there are, never which.
        """
        octets = octets_of("the command", encoded)
        size = len(octets)
        if size < 4:
            raise ValueError(f"a command has at least 4 bytes, not {size}")
        cla, ins, p1, p2 = octets[:4]
        if size == 4:
            return cls(cla, ins, p1, p2)
        first = octets[4]
        if size == 5:
            return cls(cla, ins, p1, p2, b"", first or 0x100)
        if first:
            if size == 5 + first:
                return cls(cla, ins, p1, p2, octets[5:])
            if size == 6 + first:
                return cls(cla, ins, p1, p2, octets[5:-1], octets[-1] or 0x100)
            raise ValueError(f"malformed command: Lc says {first} bytes of data, {size - 5} bytes follow it")
        if size < 7:
            raise ValueError("malformed command: an extended length field lacks its last byte")
        second = int.from_bytes(octets[5:7], "big")
        if size == 7:
            return cls(cla, ins, p1, p2, b"", second or 0x10000)
        if second == 0:
            raise ValueError("malformed command: Lc is 0, and more bytes follow it")
        if size == 7 + second:
            return cls(cla, ins, p1, p2, octets[7:])
        if size == 9 + second:
            return cls(cla, ins, p1, p2, octets[7:-2], int.from_bytes(octets[-2:], "big") or 0x10000)
        raise ValueError(f"malformed command: Lc says {second} bytes of data, {size - 7} bytes follow it")

    @classmethod
    def fromhex(cls, text: str) -> C_APDU:
        """Decode a command written in hexadecimal digits.

        Args:
            text: two digits a byte, blanks between bytes allowed.

        Returns:
            The command.

        Raises:
            ValueError: it is not hexadecimal, or no encoding fits.
        """
        return cls.from_bytes(bytes.fromhex(text))

    def __bytes__(self) -> bytes:
        if self._short is not None:
            return self._short
        header = bytes((self.cla, self.ins, self.p1, self.p2))
        data, ne = self.data, self.le
        nc = len(data)
        if nc <= 0xFF and ne <= 0x100:
            lc = b"%c%b" % (nc, data) if nc else b""
            short = b"%b%b%c" % (header, lc, ne & 0xFF) if ne else header + lc
            _set(self, "_short", short)
            return short
        le = (ne & 0xFFFF).to_bytes(2, "big") if ne else b""
        return b"%b\0%b%b%b" % (header, nc.to_bytes(2, "big") if nc else b"", data, le)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, C_APDU) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._key()

    def __repr__(self) -> str:
        le = f"0x{self.le:02X}" if self.le else "0"
        header = f"0x{self.cla:02X}, 0x{self.ins:02X}, 0x{self.p1:02X}, 0x{self.p2:02X}"
        return f"{type(self).__name__}({header}, {_shown(self.data, may_carry_secret(self))}, {le})"

    def _key(self) -> tuple[int, int, int, int, bytes, int]:
        return self.cla, self.ins, self.p1, self.p2, self.data, self.le


class R_APDU(_Value):
    """A card's response (ISO/IEC 7816-4:2020, 5.1).

    Args:
        data: the response data.
        sw1: first status byte.
        sw2: second status byte.
        secret: whether repr hides the data, because the command `may_carry_secret`; not part of the comparison.

    Raises:
        ValueError: a field is out of its range; the text names it.
        TypeError: a field is not of its kind.
    """

    __slots__ = ("_judged", "data", "secret", "sw1", "sw2")

    data: bytes
    sw1: int
    sw2: int
    secret: bool
    _judged: tuple[bool, str]  # whether it is successful, and by which words; not set where 9000 alone counts

    def __init__(self, data: Buffer, sw1: int, sw2: int, *, secret: bool = False) -> None:
        _set(self, "data", octets_of("data", data))
        _set(self, "sw1", _number("sw1", sw1, 0xFF))
        _set(self, "sw2", _number("sw2", sw2, 0xFF))
        _set(self, "secret", secret)

    @classmethod
    def from_bytes(cls, encoded: Buffer, *, secret: bool = False) -> R_APDU:
        """Decode a response: data, then SW1 and SW2.

        Args:
            encoded: the bytes of the response, at least 2.
            secret: whether repr hides the data.

        Returns:
            The response.

        Raises:
            ValueError: it is shorter than two bytes.
        """
        octets = encoded if type(encoded) is bytes else octets_of("the response", encoded)
        if len(octets) < 2:
            raise ValueError(f"a response has at least 2 bytes, not {len(octets)}")
        response = object.__new__(cls)  # all fields are valid, and this runs for every command sent
        _set(response, "data", octets[:-2])
        _set(response, "sw1", octets[-2])
        _set(response, "sw2", octets[-1])
        _set(response, "secret", secret)
        return response

    @property
    def sw(self) -> int:
        """SW1-SW2 as a number: 0x9000."""
        return self.sw1 << 8 | self.sw2

    @property
    def sw12(self) -> bytes:
        """SW1-SW2 as two bytes."""
        return bytes((self.sw1, self.sw2))

    @property
    def meaning(self) -> str:
        """The meaning of the status word."""
        return status_meaning(self.sw1, self.sw2)

    def is_successful(self) -> bool:
        """Whether the status word is 9000; of a response to a command that was sent with `success`, whether it is one of those."""
        judged = getattr(self, "_judged", None)
        return self.sw1 == 0x90 and self.sw2 == 0 if judged is None else judged[0]

    def is_successful_with(self, success: Success) -> bool:
        """Whether the status word succeeds by these words, whichever this response was judged by.

        Args:
            success: patterns of four characters, `x` for any digit: `["9000", "91xx"]`; 9000 is not implied. Or a function of the
                response.

        Raises:
            TypeError, ValueError: it is neither.
        """
        return succeeds(self, success_rule(success))

    def check(self) -> R_APDU:
        """This response, if it is successful.

        Raises:
            StatusError: it is not.
        """
        if not self.is_successful():
            raise StatusError(self)
        return self

    def ashex(self) -> str:
        """Data and status word in hexadecimal digits, secret or not."""
        return bytes(self).hex().upper()

    def __bytes__(self) -> bytes:
        return b"%b%c%c" % (self.data, self.sw1, self.sw2)

    def __eq__(self, other: object) -> bool:
        return bytes(self) == bytes(other) if isinstance(other, R_APDU) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.data, self.sw1, self.sw2))

    def __reduce__(self) -> tuple[Any, ...]:
        return _response, (type(self), self.data, self.sw1, self.sw2, self.secret, getattr(self, "_judged", None))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_shown(self.data, self.secret)}, 0x{self.sw1:02X}, 0x{self.sw2:02X})"


class StatusError(Exception):
    """A card answered with another status than 9000, or than those given as `success`. The communication did not fail: no OSError.

    Attributes:
        response: what the card answered.
    """

    response: R_APDU

    def __init__(self, response: R_APDU) -> None:
        _, words = getattr(response, "_judged", (False, ""))
        asked = f"; success is {words}" if words else ""
        super().__init__(f"the card answered {response.sw:04X}: {response.meaning}{asked}")
        self.response = response

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.response,)


def success_rule(success: Success) -> SuccessRule:
    """What the caller gave as `success`, checked.

    Raises:
        TypeError: neither patterns nor a function.
        ValueError: no pattern, or one that is none.
    """
    return success if callable(success) else success_words(success)


def succeeds(response: R_APDU, rule: SuccessRule) -> bool:
    """Whether a response succeeds by a rule."""
    return rule.matches(response.sw) if isinstance(rule, SuccessWords) else bool(rule(response))


def judge(response: R_APDU, rule: SuccessRule) -> None:
    """Have a response that nobody else has seen yet remember whether it succeeds by a rule."""
    words = str(rule) if isinstance(rule, SuccessWords) else f"what {getattr(rule, '__name__', type(rule).__name__)} says"
    _set(response, "_judged", (succeeds(response, rule), words))


def as_command(octets: bytes) -> C_APDU:
    """`octets` as a command; if it cannot be decoded, a header and data."""
    try:
        return C_APDU.from_bytes(octets)
    except ValueError:
        cla, ins, p1, p2 = octets[:4].ljust(4, b"\0")
        return C_APDU(cla, ins, p1, p2, octets[4 : 4 + 0xFFFF])


def redacted(apdu: C_APDU | R_APDU, hidden: bool = False) -> str:
    """One line for a log: `00A40400 A000000308 Ne=256`, `6F10 9000`; what may be secret is `<4 bytes>`.

    Args:
        hidden: hide the data in any case.
    """
    return in_digits(apdu, hidden or (apdu.secret if isinstance(apdu, R_APDU) else may_carry_secret(apdu)))


def in_digits(apdu: C_APDU | R_APDU, hidden: bool) -> str:
    """As `redacted`, with the data hidden or shown as it is said."""
    if isinstance(apdu, R_APDU):
        parts = [_digits(apdu.data, hidden), f"{apdu.sw:04X}"]
    else:
        header = bytes((apdu.cla, apdu.ins, apdu.p1, apdu.p2)).hex().upper()
        parts = [header, _digits(apdu.data, hidden), f"Ne={apdu.le}" if apdu.le else ""]
    return " ".join(part for part in parts if part)


def _digits(data: bytes, secret: bool) -> str:
    return f"<{len(data)} bytes>" if secret and data else data.hex().upper()


def _shown(data: bytes, secret: bool) -> str:
    if not data:
        return 'b""'
    return _digits(data, secret) if secret else f'bytes.fromhex("{_digits(data, secret)}")'


def _number(name: str, value: int, largest: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name} is a number, not {type(value).__name__}")
    if not 0 <= value <= largest:
        raise ValueError(f"{name} is 0 to {largest}, not {value}")
    return value


def octets_of(name: str, value: Buffer, longest: int | None = None) -> bytes:
    """What the caller gave as `name`, as bytes; a TypeError that names it if it is none, a ValueError if it is too long."""
    # bytes() accepts more, with unintended results: bytes(5) is five zero bytes.
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{name} is bytes, not {type(value).__name__}{how_to_make_bytes(value)}")
    octets = bytes(value)
    if longest is not None and len(octets) > longest:
        raise ValueError(f"{name} has at most {longest} bytes, not {len(octets)}")
    return octets


def how_to_make_bytes(value: object) -> str:
    """How to make bytes of a value that is not: the end of an error text, which does not contain the value."""
    if isinstance(value, str):
        return ": hexadecimal digits become bytes by bytes.fromhex(...), text by .encode()"
    return ": numbers from 0 to 255 become bytes by bytes([...])" if isinstance(value, (int, list, tuple, array)) else ""


def _response(kind: type[R_APDU], data: bytes, sw1: int, sw2: int, secret: bool, judged: tuple[bool, str] | None = None) -> R_APDU:
    """For pickle, which knows no keyword arguments."""
    response = kind(data, sw1, sw2, secret=secret)
    if judged is not None:
        _set(response, "_judged", judged)
    return response
