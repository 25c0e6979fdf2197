"""File control information: what a card says of a file when it is selected.

Rules (ISO/IEC 7816-4:2020, 7.4):

- The answer to SELECT is a template: FCI (6F), FCP (62) or FMD (64), whose objects count; without one, the objects themselves do.
  An FCI may have an FCP in it.
- Tag 80 is the number of data bytes, 81 the same with structural information, which is taken where there is no 80.
- Tag 82 is the file descriptor byte (7.4.5), the data coding byte (7.4.7), the largest size of a record (one or two bytes), the
  number of records (one or two bytes), as far as they are there.
- Tag 88 is the short EF identifier, in b8-b4; empty: there is none. Without tag 88 it is b5-b1 of the file identifier, unless they
  are all equal (7.4.4).
- What cards send is not trusted. An object of a length that the standard does not know counts as not there; only an answer that is
  no BER-TLV at all is an error.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ._tlv import DataObject, find_tlv, parse_tlv

_TEMPLATES = (0x6F, 0x62, 0x64)


class Structure(enum.Enum):
    """The structure of an EF, by b3-b1 of its file descriptor byte (ISO/IEC 7816-4:2020, 7.4.5)."""

    TRANSPARENT = 1
    """A row of bytes."""
    LINEAR_FIXED = 2
    """Records of one size, in order."""
    LINEAR_FIXED_TLV = 3
    """The same, each a data object."""
    LINEAR_VARIABLE = 4
    """Records of different sizes, in order."""
    LINEAR_VARIABLE_TLV = 5
    """The same, each a data object."""
    CYCLIC = 6
    """Records of one size; a new one takes the place of the oldest, and record 1 is the newest."""
    CYCLIC_TLV = 7
    """The same, each a data object."""

    @property
    def has_records(self) -> bool:
        """Whether it consists of records."""
        return self is not Structure.TRANSPARENT


@dataclass(frozen=True)
class FileControl:
    """What a card says of a file; None where it says nothing (ISO/IEC 7816-4:2020, 7.4).

    Attributes:
        size: the number of data bytes (tag 80, else 81).
        descriptor: tag 82 as it came.
        is_df: whether it is a DF, or an application.
        structure: of an EF.
        data_unit: quartets of a data unit, in which offsets count; 2 is a byte.
        record_size: the largest size of a record.
        record_count: the number of records.
        file_id: the file identifier (tag 83).
        name: the DF name (tag 84); empty: it has none, or does not say.
        sfi: the short EF identifier, 1 to 30.
        life_cycle: the life cycle status byte (tag 8A).
        objects: all that the card said, as data objects.
    """

    size: int | None = None
    descriptor: bytes = b""
    is_df: bool | None = None
    structure: Structure | None = None
    data_unit: int | None = None
    record_size: int | None = None
    record_count: int | None = None
    file_id: int | None = None
    name: bytes = b""
    sfi: int | None = None
    life_cycle: int | None = None
    objects: tuple[DataObject, ...] = field(default=(), repr=False)

    @classmethod
    def from_bytes(cls, data: bytes) -> FileControl:
        """Take an answer to SELECT apart.

        Args:
            data: the response data; any bytes.

        Returns:
            What it says of the file.

        Raises:
            TLVError: it is no BER-TLV.
        """
        objects = parse_tlv(data)
        inside = next((each.children for tag in _TEMPLATES for each in objects if each.number == tag), objects)
        nested = find_tlv(inside, 0x62)
        if nested is not None:
            inside = (*nested.children, *inside)
        values = {each.number: each.value for each in reversed(inside)}
        descriptor = values.get(0x82, b"")
        is_df, structure = _descriptor(descriptor)
        file_id = _number(values.get(0x83), 2, 2)
        return cls(
            size=_number(values.get(0x80, values.get(0x81)), 1, 4),
            descriptor=descriptor,
            is_df=(0x84 in values) or None if is_df is None else is_df,
            structure=structure,
            data_unit=1 << (descriptor[1] & 0x0F) if len(descriptor) > 1 else None,
            record_size=_number(descriptor[2:4], 1, 2),
            record_count=_number(descriptor[4:6], 1, 2),
            file_id=file_id,
            name=values.get(0x84, b"") if len(values.get(0x84, b"")) <= 16 else b"",
            sfi=_short_identifier(values.get(0x88), file_id),
            life_cycle=_number(values.get(0x8A), 1, 1),
            objects=objects,
        )


def _descriptor(descriptor: bytes) -> tuple[bool | None, Structure | None]:
    """Whether the file is a DF, and the structure of an EF."""
    if not descriptor or descriptor[0] & 0x80:
        return None, None
    if descriptor[0] & 0xBF == 0x38:
        return True, None
    if descriptor[0] & 0x38 == 0x38:  # 39 and 3A: EFs whose contents are data objects
        return False, None
    code = descriptor[0] & 0x07
    return False, Structure(code) if code else None


def _number(value: bytes | None, shortest: int, longest: int) -> int | None:
    return int.from_bytes(value, "big") if value is not None and shortest <= len(value) <= longest else None


def _short_identifier(value: bytes | None, file_id: int | None) -> int | None:
    if value is not None:
        return value[0] >> 3 if len(value) == 1 and 1 <= value[0] >> 3 <= 30 else None
    return file_id & 0x1F if file_id is not None and 1 <= file_id & 0x1F <= 30 else None
