"""The files of a card (ISO/IEC 7816-4:2020, 7.1), and their control parameters.

Rules:

- A file has an identifier, unique within its DF; a DF may have a name, an EF a short identifier.
- These are data only; the card decides who may read them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["DF", "EF"]

MF = 0x3F00
"""The identifier of the master file, the root DF."""


@dataclass(eq=False)
class EF:
    """A transparent elementary file: a row of bytes (7.1).

    Args:
        file_id: file identifier, two bytes as a number.
        content: up to 32,768 bytes; the size is fixed.
        sfi: short EF identifier, 1 to 30; None: it has none.
        read_needs_pin: whether READ BINARY needs a VERIFY before.
        update_needs_pin: whether UPDATE BINARY does.
    """

    file_id: int
    content: bytes = field(repr=False)
    sfi: int | None = None
    read_needs_pin: bool = False
    update_needs_pin: bool = True

    def __post_init__(self) -> None:
        check_range("file_id", self.file_id, 0, 0xFFFF)
        check_range("the length of content", len(self.content), 0, 0x8000)
        if self.sfi is not None:
            check_range("sfi", self.sfi, 1, 30)


@dataclass(eq=False)
class DF:
    """A dedicated file: a directory; with a name, an application (7.1).

    Args:
        file_id: file identifier, two bytes as a number; the MF's is 3F00.
        name: DF name, up to 16 bytes, e.g. an application identifier; empty: it has none.
        files: the files in it.
    """

    file_id: int
    name: bytes = b""
    files: list[EF | DF] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_range("file_id", self.file_id, 0, 0xFFFF)
        check_range("the length of name", len(self.name), 0, 16)


def check_range(what: str, number: int, least: int, most: int) -> None:
    """ValueError unless `number` is in the range."""
    if not least <= number <= most:
        raise ValueError(f"{what} is {number}, must be {least} to {most}")


def all_dfs(df: DF) -> Iterator[DF]:
    """A DF and all DFs below it."""
    yield df
    for file in df.files:
        if isinstance(file, DF):
            yield from all_dfs(file)


def control_parameters(file: EF | DF) -> bytes:
    """7.4: file descriptor, identifier; of an EF its size and short identifier, of a DF its name."""
    identifier = tlv(0x83, file.file_id.to_bytes(2, "big"))
    if isinstance(file, DF):
        return tlv(0x82, b"\x38") + identifier + (tlv(0x84, file.name) if file.name else b"")
    short = tlv(0x88, bytes((file.sfi << 3,))) if file.sfi else b""
    return tlv(0x80, len(file.content).to_bytes(2, "big")) + tlv(0x82, b"\x01") + identifier + short


def tlv(tag: int, value: bytes) -> bytes:
    """A data object; all of this card's are short (ISO/IEC 8825-1, 8.1.3.4)."""
    return bytes((tag, len(value))) + value
