"""The structures that make a reader with a keypad ask for a PIN (PC/SC part 10, 2.02.09, 2.5.2 and 2.5.3), without I/O.

Rules:

- A structure says how long the PIN is, how it is inserted into the command, what ends its entry and what the display shows; then
  follows the command, a template that the reader writes the PIN into. Numbers have their least significant byte first, and nothing
  is padded. The PIN itself is not in it.
- The PIN block stands in the command's data. Its first `position` bytes are the template's own; then come `block_size` bytes for
  the digits, justified left or right; what the digits do not cover stays as the template has it. A size of 0 is as long as the
  PIN: the reader inserts the digits and corrects Lc, and a template without data has an Lc of 00.
- How many digits were entered may be written into the first `position` bytes, as a number of `length_size` bits that begins
  `length_position` bits behind the start of the block.
- A block of ISO 9564-1:2017, 9.3.3, format 2, is one of these: a byte of the control field 2 and the length, seven bytes of BCD
  filled with F. The fields for it (89 47 04) are those of the USB CCID specification 1.1 and of readers' manuals.
- Everything is checked when a structure is made, with ValueError; nothing has been sent then.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ..iso7816._apdu import C_APDU
from .features import EntryEnd

__all__ = ["PinEntry", "PinFormat", "modify_structure", "verify_structure"]


class PinFormat(enum.Enum):
    """How the digits of a PIN stand in the command."""

    BINARY = 0
    """A byte each: 1 is 01."""
    BCD = 1
    """Half a byte each: 12 is 12."""
    ASCII = 2
    """A byte each, as text: 1 is 31."""
    ISO_9564_2 = 3
    """A block of ISO 9564-1, format 2: 8 bytes, 2 and the length, then BCD, filled with F. 1234 is 24 12 34 FF FF FF FF FF."""


_ISO_BLOCK = b"\x20" + bytes([0xFF] * 7)
_DEFAULT_MESSAGES = 0xFF
"""bNumberMessage: the reader's own."""


@dataclass(frozen=True)
class PinEntry:
    """How a PIN is asked for on a reader's keypad (PC/SC part 10, 2.5.2), apart from the command that it goes into.

    Args:
        format: how the digits are written.
        min_length: digits of the shortest PIN.
        max_length: digits of the longest PIN; 12 at most in a block of ISO 9564, which needs 4 at least.
        block_size: bytes for the digits, 1 to 15; 0: as many as the PIN has. Not for ISO_9564_2, which has 8 in all.
        padding: the byte that fills the block where the command brings no data of its own.
        right_justified: whether the digits end at the block's end rather than begin at its start.
        position: bytes of the block before the digits, 0 to 15, which are the template's own.
        length_size: bits for the number of digits, within those bytes; 0: it is not written.
        length_position: where it begins, in bits behind the start of the block: 0 to 15, or a multiple of 8 up to 120.
        timeout: seconds for the entry, 1 to 255; 0: as many as the reader likes.
        key_timeout: seconds after each key, for readers that `distinguishes_timeouts`; 0: as many as the reader likes.
        end: what ends the entry. Some readers know the validation key only, and drivers set that for them.
        messages: numbers of the reader's texts to show, up to one for `verify`, up to three for `modify`; none: (). None: the
            reader's own choice.
        language: the Windows language identifier of those texts; 0x0409 is English.
        teo_prologue: the three prologue bytes of a T=1 block (NAD, PCB, LEN) for readers that leave blocks to the driver; drivers
            that need them make them.

    Raises:
        ValueError: a field is out of its range, or two do not go together; the text names them.
    """

    format: PinFormat = PinFormat.ASCII
    min_length: int = 4
    max_length: int = 8
    block_size: int = 0
    padding: int = 0xFF
    right_justified: bool = False
    position: int = 0
    length_size: int = 0
    length_position: int = 0
    timeout: int = 0
    key_timeout: int = 0
    end: EntryEnd = EntryEnd.KEY
    messages: Sequence[int] | None = None
    language: int = 0x0409
    teo_prologue: bytes = bytes(3)

    def __post_init__(self) -> None:
        for name, smallest, largest in _RANGES:
            _check(name, getattr(self, name), smallest, largest)
        if self.min_length > self.max_length:
            raise ValueError(f"min_length is {self.min_length}, more than max_length, {self.max_length}")
        if not EntryEnd(0) < self.end <= EntryEnd(7):
            raise ValueError("end: something must end the entry: EntryEnd.MAX_LENGTH, KEY, TIMEOUT, or several of them")
        if len(self.teo_prologue) != 3:
            raise ValueError(f"teo_prologue has 3 bytes, not {len(self.teo_prologue)}")
        if self.messages is not None:
            object.__setattr__(self, "messages", tuple(self.messages))
            if len(self.messages) > 3:
                raise ValueError(f"messages: 3 at most, not {len(self.messages)}")
            for number in self.messages:
                _check("messages", number, 0, 0xFF)
        if self.format is PinFormat.ISO_9564_2:
            self._check_iso()
        else:
            self._check_block()

    def _check_iso(self) -> None:
        fields = (self.block_size, self.right_justified, self.position, self.length_size, self.length_position)
        if any(fields):
            raise ValueError(
                "ISO_9564_2 is a block of its own: it takes no block_size, right_justified, position, length_size, length_position"
            )
        if self.min_length < 4 or self.max_length > 12:
            raise ValueError("ISO_9564_2: a PIN has 4 to 12 digits (ISO 9564-1:2017, 8.1)")

    def _check_block(self) -> None:
        needed = (self.max_length + 1) // 2 if self.format is PinFormat.BCD else self.max_length
        if self.block_size and needed > self.block_size:
            raise ValueError(
                f"max_length is {self.max_length}: as {self.format.name} that takes {needed} bytes, more than block_size"
            )
        if not self.length_size:
            if self.length_position:
                raise ValueError("length_position needs a length_size")
            return
        if self.length_position > 15 and self.length_position % 8:
            raise ValueError(f"length_position is 0 to 15 or a multiple of 8, not {self.length_position}")
        if self.length_position + self.length_size > 8 * self.position:
            raise ValueError("the length must end before the digits begin: length_position + length_size is at most 8 * position")
        if self.max_length >> self.length_size:
            raise ValueError(f"max_length is {self.max_length}, which length_size, {self.length_size} bits, cannot say")

    @property
    def span(self) -> int:
        """How many bytes of the template a PIN block takes."""
        return len(_ISO_BLOCK) if self.format is PinFormat.ISO_9564_2 else self.position + self.block_size

    @property
    def blank(self) -> bytes:
        """A PIN block that no PIN was written into."""
        return _ISO_BLOCK if self.format is PinFormat.ISO_9564_2 else bytes([self.padding] * self.span)

    def _format_bytes(self) -> tuple[int, int, int]:
        """bmFormatString, bmPINBlockString, bmPINLengthFormat."""
        if self.format is PinFormat.ISO_9564_2:
            return 0x80 | 1 << 3 | PinFormat.BCD.value, 4 << 4 | 7, 4
        form = 0x80 | self.position << 3 | (0x04 if self.right_justified else 0) | self.format.value
        place = self.length_position if self.length_position <= 15 else 0x10 | self.length_position // 8
        return form, self.length_size << 4 | self.block_size, place

    def _sizes(self) -> int:
        """wPINMaxExtraDigit."""
        return self.min_length << 8 | self.max_length

    def _indexes(self, most: int) -> tuple[int, tuple[int, ...]]:
        """bNumberMessage, and as many bMsgIndex as there can be."""
        if self.messages is None:
            return _DEFAULT_MESSAGES, tuple(range(most))
        if len(self.messages) > most:
            raise ValueError(f"messages: {most} at most here, not {len(self.messages)}")
        return len(self.messages), (*self.messages, *[0] * (most - len(self.messages)))


_RANGES = (
    ("min_length", 1, 0xFF),
    ("max_length", 1, 0xFF),
    ("block_size", 0, 15),
    ("padding", 0, 0xFF),
    ("position", 0, 15),
    ("length_size", 0, 15),
    ("length_position", 0, 120),
    ("timeout", 0, 0xFF),
    ("key_timeout", 0, 0xFF),
    ("language", 0, 0xFFFF),
)


def verify_structure(command: C_APDU, entry: PinEntry) -> bytes:
    """PIN_VERIFY (part 10, 2.5.2).

    Args:
        command: the template. Without data it gets a blank PIN block; with data, they are the block, and what is behind it.

    Raises:
        ValueError: the data are too short for the PIN block, or too long for a reader; or the command wants an answer.
        TypeError: the command is no C_APDU.
    """
    _check_command(command)
    data = command.data or entry.blank
    if len(data) < entry.span or (_has_variable_length_block(entry) and len(data) > entry.span):
        raise ValueError(f"the PIN block has {entry.span} bytes, and the command has {len(data)} bytes of data")
    template = _template(command, data)
    number, indexes = entry._indexes(1)
    return (
        struct.pack(
            "<5BH2BHB3sI",
            *(entry.timeout, entry.key_timeout, *entry._format_bytes(), entry._sizes(), int(entry.end), number, entry.language),
            *(*indexes, entry.teo_prologue, len(template)),
        )
        + template
    )


def modify_structure(
    command: C_APDU,
    entry: PinEntry,
    *,
    ask_current: bool = True,
    confirm: bool = True,
    current_offset: int = 0,
    new_offset: int | None = None,
) -> bytes:
    """PIN_MODIFY (part 10, 2.5.3).

    Args:
        command: the template. Without data it gets blank PIN blocks; with data, they are the blocks and what is around them.
        ask_current: ask for the current PIN, too.
        confirm: ask for the new one twice.
        current_offset: where the block of the current PIN begins in the data, in bytes.
        new_offset: where that of the new one begins; None: behind the current one, or at the start if that is not asked for.

    Raises:
        ValueError: an offset is out of its range, the blocks overlap, or the data are too short for them, or too long for a reader;
            or the command wants an answer.
        TypeError: the command is no C_APDU.
    """
    _check_command(command)
    if new_offset is None:
        new_offset = current_offset + entry.span if ask_current and not _has_variable_length_block(entry) else 0
    _check("current_offset", current_offset, 0, 0xFF)
    _check("new_offset", new_offset, 0, 0xFF)
    offsets = [current_offset, new_offset] if ask_current else [new_offset]
    if ask_current and abs(new_offset - current_offset) < entry.span and not _has_variable_length_block(entry):
        raise ValueError(
            f"two PIN blocks of {entry.span} bytes overlap at current_offset={current_offset}, new_offset={new_offset}"
        )
    size = max(offsets) + entry.span
    data = command.data or _blanks(entry, offsets, size)
    if len(data) < size:
        raise ValueError(f"the PIN blocks end behind {size} bytes, and the command has {len(data)} bytes of data")
    template = _template(command, data)
    number, indexes = entry._indexes(3)
    return (
        struct.pack(
            "<7BH3BH3B3sI",
            *(entry.timeout, entry.key_timeout, *entry._format_bytes(), current_offset, new_offset, entry._sizes()),
            *(int(confirm) | int(ask_current) << 1, int(entry.end), number, entry.language),
            *(*indexes, entry.teo_prologue, len(template)),
        )
        + template
    )


def _has_variable_length_block(entry: PinEntry) -> bool:
    """Whether the PIN block is as long as the PIN."""
    return entry.format is not PinFormat.ISO_9564_2 and not entry.block_size


def _blanks(entry: PinEntry, offsets: Sequence[int], size: int) -> bytes:
    data = bytearray([entry.padding] * size)
    for offset in offsets:
        data[offset : offset + entry.span] = entry.blank
    return bytes(data)


def _check_command(command: C_APDU) -> None:
    if not isinstance(command, C_APDU):
        raise TypeError(f"the command is a C_APDU, not {type(command).__name__}")
    if command.le:
        raise ValueError("a command with a PIN has no Le: it is answered with a status word only")


def _template(command: C_APDU, data: bytes) -> bytes:
    if len(data) > 0xFF:
        raise ValueError(f"a reader puts PINs into commands of 255 bytes of data at most, not {len(data)}")
    return bytes((command.cla, command.ins, command.p1, command.p2, len(data))) + data


def _check(name: str, value: int, smallest: int, largest: int) -> None:
    if not smallest <= value <= largest:
        raise ValueError(f"{name} is {smallest} to {largest}, not {value}")
