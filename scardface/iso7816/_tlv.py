"""A parser for BER-TLV data objects, for display.

Rules (ISO/IEC 7816-4:2020, 6.3):

- A tag has one to three bytes: b5-b1 of the first all set mean that more follow, b8 of those that one more does. b6 of the first
  says that the value is data objects again.
- A length has one byte up to 127, else 81 to 84 and as many bytes as that says. A length of no end (80) is not of this standard.
- Bytes 00 and FF before, between and after data objects are ignored: cards pad files with either (both are in the edition of 1995,
  5.2.2.1). FF may begin a tag as well. It is padding if another FF is next to it, if a tag that begins with it cannot be parsed, or
  if the tag after it is known and the tag with it is not.
- The card is not trusted: every length is checked, objects are parsed to a depth of 16, and the only exception is `TLVError`.
- A constructed data object whose value cannot be parsed is kept, with its bytes, and marked: the objects around it are valid.

There is no dependency for this, since no maintained one was found on PyPI (2026): the last release of ber-tlv is of 2022, pytlv
needs a list of tags, and the big ASN.1 libraries need a schema and reject what cards really send.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_DEPTH = 16
_MAX_TAG = 3
_MAX_LENGTH = 4


class TLVError(ValueError):
    """The bytes are not BER-TLV data objects; the text says why, without the bytes."""


@dataclass(frozen=True, slots=True)
class DataObject:
    """A data object.

    Attributes:
        tag: its bytes.
        value: the bytes of its value.
        children: the data objects in it, if it is constructed and they can be parsed.
        damage: why they cannot be parsed; empty if they can.
    """

    tag: bytes
    value: bytes
    children: tuple[DataObject, ...] = ()
    damage: str = ""

    @property
    def is_constructed(self) -> bool:
        """Whether the tag is constructed: its value consists of data objects."""
        return bool(self.tag[0] & 0x20)


Known = Callable[[bytes], bool]
"""Whether a tag has a name."""


def parse(data: bytes, depth: int = 0, known: Known = lambda tag: False) -> tuple[DataObject, ...]:
    """The data objects in `data`.

    Args:
        data: nothing but data objects, and 00 or FF between them.
        depth: how many objects these are in.
        known: whether a tag has a name.

    Raises:
        TLVError: it is something else.
    """
    objects: list[DataObject] = []
    place, behind = 0, -1  # behind: where the last FF that was padding ended
    while place < len(data):
        if data[place] == 0:
            place += 1
            continue
        if data[place] == 0xFF and (place == behind or _is_padding(data, place, known)):
            place = behind = place + 1
            continue
        tag, start, place = _next(data, place)
        objects.append(_object(tag, data[start:place], depth, known))
    return tuple(objects)


def _next(data: bytes, start: int) -> tuple[bytes, int, int]:
    """The tag of the object at `start`, and where its value begins and ends."""
    tag, place = _tag(data, start)
    length, place = _length(data, place)
    if length > len(data) - place:
        raise TLVError(f"a length of {length}, and {len(data) - place} bytes follow it")
    return tag, place, place + length


def _is_padding(data: bytes, place: int, known: Known) -> bool:
    """Whether the FF at `place`, which stands behind no other, is padding rather than the first byte of a tag."""
    if data[place + 1 : place + 2] == b"\xff":
        return True
    try:
        tag, _, _ = _next(data, place)
        return not known(tag) and known(_tag(data, place + 1)[0])
    except TLVError:
        return True


def _object(tag: bytes, value: bytes, depth: int, known: Known) -> DataObject:
    if not tag[0] & 0x20:
        return DataObject(tag, value)
    if depth == MAX_DEPTH:
        return DataObject(tag, value, damage=f"more than {MAX_DEPTH} objects within each other")
    try:
        return DataObject(tag, value, parse(value, depth + 1, known))
    except TLVError as error:
        return DataObject(tag, value, damage=str(error))


def _tag(data: bytes, start: int) -> tuple[bytes, int]:
    """A tag, and where it ends."""
    end = start + 1
    if data[start] & 0x1F == 0x1F:
        while True:
            if end == len(data):
                raise TLVError("a tag lacks its last byte")
            if end - start == _MAX_TAG:
                raise TLVError(f"a tag of more than {_MAX_TAG} bytes")
            end += 1
            if not data[end - 1] & 0x80:
                break
    return data[start:end], end


def _length(data: bytes, start: int) -> tuple[int, int]:
    """A length, and where it ends."""
    if start == len(data):
        raise TLVError("a tag without a length")
    first = data[start]
    if first < 0x80:
        return first, start + 1
    count = first - 0x80
    if not 1 <= count <= _MAX_LENGTH:
        raise TLVError(f"a length cannot begin with {first:02X}")
    end = start + 1 + count
    if end > len(data):
        raise TLVError("a length lacks its last byte")
    return int.from_bytes(data[start + 1 : end], "big"), end
