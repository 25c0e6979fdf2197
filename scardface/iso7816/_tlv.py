"""BER-TLV data objects, taken apart and built.

Rules (ISO/IEC 7816-4:2020, 6.3):

- A tag has one to three bytes: b5-b1 of the first all set mean that more follow, b8 of those that one more does. b6 of the first
  says that the value is data objects again.
- A length has one byte up to 127, else 81 to 84 and as many bytes as that says. A length of no end (80) is not of this standard.
- Bytes 00 and FF before, between and after data objects are ignored: cards pad files with either (both are in the edition of 1995,
  5.2.2.1). FF may begin a tag as well. It is padding if another FF is next to it, if a tag that begins with it cannot be parsed, or
  if the tag after it is known and the tag with it is not.
- The card is not trusted: every length is checked, objects are parsed to a depth of 16, and the only exception is `TLVError`.
- A constructed data object whose value cannot be parsed is kept, with its bytes, and marked: the objects around it are valid.
- What is built has the shortest length there is, and can be parsed again. Tags that begin with 00 or FFFF, which is padding, are
  refused, and so are objects in a primitive one.

There is no dependency for this, since no maintained one was found on PyPI (2026): the last release of ber-tlv is of 2022, pytlv
needs a list of tags, and the big ASN.1 libraries need a schema and reject what cards really send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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

    @property
    def number(self) -> int:
        """The tag as a number: 0x5F50."""
        return int.from_bytes(self.tag, "big")

    def __bytes__(self) -> bytes:
        return build_tlv(self.tag, self.value)


Known = Callable[[bytes], bool]
"""Whether a tag has a name."""


def parse_tlv(data: bytes | bytearray | memoryview, known: Known = lambda tag: False) -> tuple[DataObject, ...]:
    """The BER-TLV data objects in `data` (ISO/IEC 7816-4:2020, 6.3).

    Args:
        data: nothing but data objects, and 00 or FF between them. It is not trusted.
        known: whether a tag has a name: it decides whether an FF is padding or begins a tag, where both can be.

    Returns:
        The objects, in order; what is in a constructed one are its `children`.

    Raises:
        TLVError: it is something else.
    """
    return _parse(bytes(data), 0, known)


def find_tlv(objects: Iterable[DataObject], *tags: int) -> DataObject | None:
    """The first data object with a tag, at the end of a path of tags: `find_tlv(objects, 0x6F, 0xA5, 0x50)`.

    Args:
        objects: from `parse_tlv`, or `children` of one.
        tags: as numbers, from the outermost on; all objects with these tags are gone through.

    Returns:
        The object; None: there is none.

    Raises:
        ValueError: no tag.
    """
    if not tags:
        raise ValueError("find_tlv() needs at least one tag")
    return next(_found(objects, tags), None)


def build_tlv(tag: int | bytes, value: bytes | bytearray | memoryview | DataObject | Iterable[DataObject | bytes]) -> bytes:
    """A BER-TLV data object, encoded with the shortest length (ISO/IEC 7816-4:2020, 6.3).

    Args:
        tag: as a number or as bytes, one to three.
        value: bytes; or objects, as `DataObject` or encoded, if the tag is constructed (b6 of its first byte).

    Returns:
        Tag, length and value.

    Raises:
        ValueError: no tag, or a primitive one for objects.
        TypeError: a value of another type.
    """
    octets = tag_octets(tag)
    if isinstance(value, (bytes, bytearray, memoryview)):
        contents = bytes(value)
    else:
        objects = (value,) if isinstance(value, DataObject) else _iterable(value)
        if not octets[0] & 0x20:
            raise ValueError(f"tag {octets.hex().upper()} is primitive: its value is bytes, not data objects")
        contents = b"".join(map(_encoded, objects))
    size = len(contents)
    if size < 0x80:
        return octets + bytes((size,)) + contents
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    if len(length) > _MAX_LENGTH:
        raise ValueError(f"a value has at most 0xFFFFFFFF bytes, not {size}")
    return octets + bytes((0x80 | len(length),)) + length + contents


def tag_octets(tag: int | bytes) -> bytes:
    """A tag as bytes.

    Raises:
        ValueError: it is no tag; the text says why.
        TypeError: neither a number nor bytes.
    """
    if isinstance(tag, int) and not isinstance(tag, bool):
        if not 0 < tag <= 0xFFFFFF:
            raise ValueError(f"a tag has one to three bytes and is not 00: {tag:#x}")
        octets = tag.to_bytes((tag.bit_length() + 7) // 8, "big")
    elif isinstance(tag, (bytes, bytearray)):
        octets = bytes(tag)
    else:
        raise TypeError(f"a tag is a number or bytes, not {type(tag).__name__}")
    digits = octets.hex().upper() or "nothing"
    if not octets or octets[0] == 0 or octets[:2] == b"\xff\xff":
        raise ValueError(f"{digits} is no tag: 00 and FFFF are padding")
    try:
        _, end = _tag(octets, 0)
    except TLVError as error:
        raise ValueError(f"{digits} is no tag: {error}") from None
    if end != len(octets):
        raise ValueError(f"{digits} is no tag: it ends after {end} bytes")
    return octets


def _encoded(each: DataObject | bytes) -> bytes:
    if not isinstance(each, (DataObject, bytes, bytearray, memoryview)):
        raise TypeError(f"what is in a constructed object is a DataObject or bytes, not {type(each).__name__}")
    return bytes(each)


def _iterable(value: Iterable[DataObject | bytes]) -> Iterable[DataObject | bytes]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"a value is bytes or data objects, not {type(value).__name__}")
    return value


def _found(objects: Iterable[DataObject], tags: tuple[int, ...]) -> Iterator[DataObject]:
    for each in objects:
        if each.number == tags[0]:
            if len(tags) == 1:
                yield each
            else:
                yield from _found(each.children, tags[1:])


def _parse(data: bytes, depth: int, known: Known) -> tuple[DataObject, ...]:
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
        return DataObject(tag, value, _parse(value, depth + 1, known))
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
