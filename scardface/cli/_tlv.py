"""BER-TLV data objects, read for display.

Rules of this room (ISO/IEC 7816-4:2020, 6.3):

- A tag has one to three bytes: b5-b1 of the first all set mean that more follow, b8 of those that one more does. b6 of the first
  says that the value is data objects again.
- A length has one byte up to 127, else 81 to 84 and as many bytes as that says. A length of no end (80) is not of this standard.
- Bytes 00 before, between and behind data objects do not count.
- What a card sends is not trusted: every length is checked, objects are read into a depth of 16, and nothing but `TLVError` leaves.
- A data object whose contents are none is kept, with its bytes, and says so: what is around it can be read all the same.

It is a reader of our own, since nothing well kept was found on PyPI (2026): ber-tlv has not been released since 2022, pytlv wants
the tags named before, and the big ASN.1 libraries want a schema and refuse what cards really send.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_DEPTH = 16
_MAX_TAG = 3
_MAX_LENGTH = 4


class TLVError(ValueError):
    """These bytes are no BER-TLV data objects; the text says why, and not which bytes."""


@dataclass(frozen=True, slots=True)
class DataObject:
    """A data object.

    Attributes:
        tag: its bytes.
        value: the bytes of its value.
        children: the data objects in it, if the tag says that there are, and they can be read.
        damage: why they cannot be read; empty if they can.
    """

    tag: bytes
    value: bytes
    children: tuple[DataObject, ...] = ()
    damage: str = ""

    @property
    def is_constructed(self) -> bool:
        """Whether the tag says that the value is data objects."""
        return bool(self.tag[0] & 0x20)


def parse(data: bytes, depth: int = 0) -> tuple[DataObject, ...]:
    """The data objects in `data`.

    Args:
        data: nothing but data objects, and 00 between them.
        depth: how many objects these are in.

    Raises:
        TLVError: it is something else.
    """
    objects: list[DataObject] = []
    place = 0
    while place < len(data):
        if data[place] == 0:
            place += 1
            continue
        tag, place = _tag(data, place)
        length, place = _length(data, place)
        if length > len(data) - place:
            raise TLVError(f"a length of {length}, and {len(data) - place} bytes follow it")
        objects.append(_object(tag, data[place : place + length], depth))
        place += length
    return tuple(objects)


def _object(tag: bytes, value: bytes, depth: int) -> DataObject:
    if not tag[0] & 0x20:
        return DataObject(tag, value)
    if depth == MAX_DEPTH:
        return DataObject(tag, value, damage=f"more than {MAX_DEPTH} objects within each other")
    try:
        return DataObject(tag, value, parse(value, depth + 1))
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
