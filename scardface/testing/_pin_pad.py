"""A reader with a keypad for the simulated PC/SC, and the user in front of it (PC/SC part 10, 2.02.09).

Rules:

- It parses the structures of part 10 by itself, bit by bit, independently of the code that builds them. What a reader would refuse
  is answered 6B80.
- The PIN block is as in real readers (ACS ACR83, reference manual 1.05, 11 and 12; OpenSC builds the same): with the position in
  bytes, the digits' field follows it; with the position in bits, the block's size counts from its start. A size of 0 inserts as
  many bytes as the digits need, and Lc is corrected.
- The user does what the test said beforehand, one entry after the other. Without instructions the user hesitates, in real time,
  until the test gives one or the structure's time-out ends; no lock is held meanwhile.
- PINs are not logged, although they are the test's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .._reader.features import CM_IOCTL_GET_FEATURE_REQUEST, Feature, control_code
from .._threads import RLock

__all__ = ["PinPad"]

TIMED_OUT, CANCELLED, DIFFERENT, WRONG_LENGTH, REFUSED = b"\x64\x00", b"\x64\x01", b"\x64\x02", b"\x64\x03", b"\x6b\x80"
_DEFAULT_TIMEOUT = 30
_DIRECT = (Feature.VERIFY_PIN_DIRECT, Feature.MODIFY_PIN_DIRECT)
_IN_TWO_STEPS = (Feature.VERIFY_PIN_START, Feature.VERIFY_PIN_FINISH, Feature.MODIFY_PIN_START, Feature.MODIFY_PIN_FINISH)
_PROPERTIES = {1: b"\x10\x02", 2: b"\x07", 3: b"\x00", 6: b"\x01", 7: b"\x0f", 8: b"scardface", 9: b"\x00", 10: b"\0\0\0\0"}


class _Ended(Exception):
    """Ends the entry without a command to the card."""

    def __init__(self, status: bytes) -> None:
        self.status = status


class _Block(NamedTuple):
    """What a structure says about the PIN block; offsets and sizes in bits, from the start of the block."""

    start: int
    """The begin of the digits' field."""
    end: int | None
    """Its end; None: that of the digits."""
    right: bool
    coding: int
    length_at: int
    length_size: int


class PinPad:
    """A reader's keypad, and the user: `pcsc.add_reader("Pad", controls=PinPad())`.

    ::

        pad = PinPad()
        pcsc.add_reader("Pad", controls=pad)
        pcsc.insert("Pad", FileCard())
        pad.type("1234")                      # what the user will do when the reader asks
        result = card.verify_pin_on_pad(C_APDU(0x00, 0x20, 0x00, 0x01), PinEntry())

    Methods may be called from any thread, before the reader asks or meanwhile. Without instructions the user lets the reader wait
    until its time-out, or for 30 s.

    Attributes:
        asked: what the reader has asked for so far: "PIN", "new PIN", "new PIN again".
    """

    def __init__(self, *, direct: bool = True, properties: Mapping[int, bytes] | None = None) -> None:
        """Make a keypad.

        Args:
            direct: whether a PIN entry is one call (VERIFY_PIN_DIRECT), rather than two (VERIFY_PIN_START and FINISH).
            properties: what FEATURE_GET_TLV_PROPERTIES answers, value by tag; None: a display of two lines of 16 characters, PINs
                of 1 to 15 digits. Empty: the reader has no such feature.
        """
        self._properties = dict(_PROPERTIES if properties is None else properties)
        features = (*(_DIRECT if direct else _IN_TWO_STEPS), *((Feature.GET_TLV_PROPERTIES,) if self._properties else ()))
        self._features = {control_code(0x900 + one): one for one in features}
        self._inputs: deque[str | bytes] = deque()  # digits, or the status that ends the entry
        self._input_given = threading.Condition(RLock())
        self._begun = b""  # the data of START
        self.asked: list[str] = []

    # The user.

    def type(self, *pins: str) -> None:
        """Type a PIN and the validation key; several: one at each question.

        Args:
            pins: each a str of digits.

        Raises:
            ValueError: not digits.
        """
        for pin in pins:
            if not (pin.isascii() and pin.isdigit()) and pin:
                raise ValueError("a keypad has digits only")
        self._give(*pins)

    def press_cancel(self) -> None:
        """Press the cancel key."""
        self._give(CANCELLED)

    def say_nothing(self) -> None:
        """Let the time-out pass; in the simulation it passes at once."""
        self._give(TIMED_OUT)

    def _give(self, *inputs: str | bytes) -> None:
        with self._input_given:
            self._inputs.extend(inputs)
            self._input_given.notify_all()

    # The reader.

    def __call__(self, code: int, data: bytes, transmit: Callable[[bytes], bytes]) -> bytes | None:
        """Answer SCardControl.

        Args:
            code: the control code.
            data: what it was called with.
            transmit: exchanges a command with the card in the reader.

        Returns:
            The answer; None: no such control code.
        """
        if code == CM_IOCTL_GET_FEATURE_REQUEST:
            return b"".join(bytes((one, 4)) + number.to_bytes(4, "big") for number, one in self._features.items())
        feature = self._features.get(code)
        if feature is None:
            return None
        if feature is Feature.GET_TLV_PROPERTIES:
            return b"".join(bytes((tag, len(value))) + value for tag, value in self._properties.items())
        if feature in (Feature.VERIFY_PIN_START, Feature.MODIFY_PIN_START):
            self._begun = data
            return b""
        if feature in (Feature.VERIFY_PIN_FINISH, Feature.MODIFY_PIN_FINISH):
            data, self._begun = self._begun, b""
        modifies = feature in (Feature.MODIFY_PIN_DIRECT, Feature.MODIFY_PIN_FINISH)
        try:
            command = self._modify(data) if modifies else self._verify(data)
        except _Ended as ended:
            return ended.status
        return transmit(command)

    def _verify(self, data: bytes) -> bytes:
        """The command for the card by PIN_VERIFY (2.5.2)."""
        _require(len(data) >= 19 + 4 and int.from_bytes(data[15:19], "little") == len(data) - 19)
        block, header, body = _block(data[2:5]), data[19:23], _body(data[19:])
        _require(data[8] in (0, 1, 0xFF))
        pin = self._entry("PIN", data, data[5], data[6], data[7])
        return _command(header, _inserted(body, block, 0, pin))

    def _modify(self, data: bytes) -> bytes:
        """The command for the card by PIN_MODIFY (2.5.3)."""
        _require(len(data) >= 24 + 4 and int.from_bytes(data[20:24], "little") == len(data) - 24)
        block, header, body = _block(data[2:5]), data[24:28], _body(data[24:])
        old, new, confirm = data[5], data[6], data[9]
        _require(confirm <= 3 and data[11] in (0, 1, 2, 3, 0xFF))
        limits = data, data[7], data[8], data[10]
        size = len(body)
        if confirm & 2:
            body = _inserted(body, block, old, self._entry("PIN", *limits))
        pin = self._entry("new PIN", *limits)
        if confirm & 1 and self._entry("new PIN again", *limits) != pin:
            raise _Ended(DIFFERENT)
        grown = len(body) - size if confirm & 2 and new >= old else 0
        return _command(header, _inserted(body, block, new + grown, pin))

    def _entry(self, question: str, structure: bytes, longest: int, shortest: int, end: int) -> str:
        """What the user types."""
        _require(0 < end <= 7 and shortest <= longest)
        self.asked.append(question)
        with self._input_given:
            self._input_given.wait_for(lambda: self._inputs, structure[0] or _DEFAULT_TIMEOUT)
            given = self._inputs.popleft() if self._inputs else TIMED_OUT
        if isinstance(given, bytes):
            raise _Ended(given)
        if end & 1:
            given = given[:longest]  # the entry ended there
        if not shortest <= len(given) <= longest:
            raise _Ended(WRONG_LENGTH)
        return given


def _require(right: bool) -> None:
    """Refuse the structure unless the condition holds."""
    if not right:
        raise _Ended(REFUSED)


def _block(fields: bytes) -> _Block:
    """bmFormatString, bmPINBlockString, bmPINLengthFormat."""
    form, block, place = fields
    in_bytes, position, size = bool(form & 0x80), form >> 3 & 0x0F, 8 * (block & 0x0F)
    _require(form & 3 != 3 and place < 0x20)
    start = 8 * position if in_bytes else position
    end = (start + size if in_bytes else size) if size else None
    length_at = (place & 0x0F) * (8 if place & 0x10 else 1)
    length_size = block >> 4
    _require(length_at + length_size <= start or not length_size)
    return _Block(start, end, bool(form & 4), form & 3, length_at, length_size)


def _body(template: bytes) -> bytes:
    """The data of a template: a header alone, or with Lc and so many bytes."""
    if len(template) == 4:
        return b""
    _require(template[4] == len(template) - 5)
    return template[5:]


def _inserted(body: bytes, block: _Block, offset: int, pin: str) -> bytes:
    """The data with a PIN in the block that begins behind `offset` bytes."""
    digits = [int(digit) for digit in pin]
    if block.coding == 1:
        bits = "".join(f"{digit:04b}" for digit in digits)
    else:
        bits = "".join(f"{digit + (0x30 if block.coding == 2 else 0):08b}" for digit in digits)
    all_bits = "".join(f"{byte:08b}" for byte in body)
    before, rest = all_bits[: 8 * offset], all_bits[8 * offset :]
    _require(len(before) == 8 * offset and len(rest) >= (block.start if block.end is None else block.end))
    if block.end is None:
        bits += "1" * (-len(bits) % 8)
        rest = rest[: block.start] + bits + rest[block.start :]
    else:
        _require(len(bits) <= block.end - block.start)
        at = block.end - len(bits) if block.right else block.start
        rest = rest[:at] + bits + rest[at + len(bits) :]
    if block.length_size:
        _require(len(digits) < 1 << block.length_size)
        count = f"{len(digits):0{block.length_size}b}"
        rest = rest[: block.length_at] + count + rest[block.length_at + block.length_size :]
    whole = before + rest
    return bytes(int(whole[at : at + 8], 2) for at in range(0, len(whole), 8))


def _command(header: bytes, body: bytes) -> bytes:
    _require(len(body) <= 0xFF)
    return header + bytes((len(body),)) * bool(body) + body
