"""SIMPLE-TLV data objects, taken apart and built.

Rules (ISO/IEC 7816-4:2020, 6.2):

- A tag is one byte, 01 to FE. A length is one byte up to FE, else FF and two bytes, up to 65,535; both are read for any length.
- 00 and FF are no tags: between objects they are padding, and skipped, since cards fill records and files with either.
- What is read is not trusted: every length is checked, and the only exception is `TLVError`.
"""

from __future__ import annotations

from typing import NamedTuple

from ._tlv import TLVError

_PADDING = (0x00, 0xFF)


class SimpleObject(NamedTuple):
    """A SIMPLE-TLV data object.

    Attributes:
        tag: its number, 1 to 254.
        value: the bytes of its value.
    """

    tag: int
    value: bytes


def parse_simple_tlv(data: bytes | bytearray | memoryview) -> tuple[SimpleObject, ...]:
    """The SIMPLE-TLV data objects in `data` (ISO/IEC 7816-4:2020, 6.2).

    Args:
        data: nothing but data objects, and 00 or FF between them. It is not trusted.

    Returns:
        The objects, in order.

    Raises:
        TLVError: it is something else.
    """
    octets = bytes(data)
    objects: list[SimpleObject] = []
    place = 0
    while place < len(octets):
        tag = octets[place]
        place += 1
        if tag in _PADDING:
            continue
        if place == len(octets):
            raise TLVError("a tag without a length")
        length = octets[place]
        place += 1
        if length == 0xFF:
            if place + 2 > len(octets):
                raise TLVError("a length lacks its last byte")
            length = int.from_bytes(octets[place : place + 2], "big")
            place += 2
        if length > len(octets) - place:
            raise TLVError(f"a length of {length}, and {len(octets) - place} bytes follow it")
        objects.append(SimpleObject(tag, octets[place : place + length]))
        place += length
    return tuple(objects)


def build_simple_tlv(tag: int, value: bytes | bytearray | memoryview) -> bytes:
    """A SIMPLE-TLV data object, encoded with the shortest length (ISO/IEC 7816-4:2020, 6.2).

    Args:
        tag: 1 to 254.
        value: up to 65,535 bytes.

    Returns:
        Tag, length and value.

    Raises:
        ValueError: out of these ranges.
        TypeError: a value that is not bytes.
    """
    if not 0 < tag < 0xFF:
        raise ValueError(f"a tag is 1 to 254, not {tag}")
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"a value is bytes, not {type(value).__name__}")
    contents = bytes(value)
    if len(contents) > 0xFFFF:
        raise ValueError(f"a value has at most 65535 bytes, not {len(contents)}")
    length = bytes((len(contents),)) if len(contents) < 0xFF else b"\xff" + len(contents).to_bytes(2, "big")
    return bytes((tag,)) + length + contents
