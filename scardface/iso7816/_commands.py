"""Commands by the standard's names: each function returns a `C_APDU` to be sent.

Rules (ISO/IEC 7816-4:2020, clause 11; each function names its own):

- Arguments are what the standard calls them, with the coding left to the function. What does not fit is refused, never cut.
- `cla` is 00 unless given. A logical channel's number is put in by `card.channel()`.
- A command that has an answer asks for all of it (Ne 256) unless `le` says otherwise.
- Offsets from 32,768 on have no place in P1-P2: there the odd instruction carries them in an offset data object (tag 54), and the
  data in a discretionary data object (tag 53), in both directions.
- A tag of one or two bytes stands in P1-P2; one of three bytes goes into a tag list (5C), with the odd instruction.
- Neither a repr nor a log shows a PIN or a key: that is `C_APDU`'s rule, by the instruction.
"""

from __future__ import annotations

from ._apdu import C_APDU, Buffer, octets_of
from ._tlv import build_tlv, tag_octets

MAX_OFFSET = 0x7FFF
"""The largest offset that P1-P2 takes (11.3.2)."""
_CURRENT_DF = 0x3FFF
_BY_NAME, _BY_PATH = 0x04, 0x08
LONGEST_NAME = 16
"""Bytes of a DF name (ISO/IEC 7816-4, selection by DF name)."""


def select(data: Buffer = b"", *, p1: int = _BY_NAME, p2: int = 0x00, le: int | None = 256, cla: int = 0x00) -> C_APDU:
    """SELECT, by DF name unless `p1` says otherwise (11.2.2).

    Args:
        data: the name, an AID for instance, or its first bytes, 16 at most; with another `p1` an identifier or a path.
        p1: 0x04 by DF name, 0x00 by file identifier, 0x08 by path from the MF, 0x09 by path from the current DF.
        p2: 0x00 the first or only one, 0x02 the next one; 0x04 answers FCP in place of FCI, 0x0C nothing.
        le: how many bytes of answer at most; not counted if `p2` asks for none.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    octets = octets_of("data", data, LONGEST_NAME if p1 == _BY_NAME else None)
    return C_APDU(cla, 0xA4, p1, p2, octets, None if p2 & 0x0C == 0x0C else le)


def select_file(file_id: int, *, p2: int = 0x00, le: int | None = 256, cla: int = 0x00) -> C_APDU:
    """SELECT by file identifier: the MF, a DF, or an EF under the current DF (11.2.2, P1 00).

    Args:
        file_id: two bytes as a number, 0x3F00 for the MF.
        p2: as for `select`.
        le: as for `select`.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    return select(_number("file_id", file_id, 0, 0xFFFF).to_bytes(2, "big"), p1=0x00, p2=p2, le=le, cla=cla)


def select_path(path: Buffer, *, p2: int = 0x00, le: int | None = 256, cla: int = 0x00) -> C_APDU:
    """SELECT by path from the MF (11.2.2, P1 08).

    Args:
        path: file identifiers, each of two bytes, without that of the MF in front; with it, it is left out.
        p2: as for `select`.
        le: as for `select`.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: no identifier, half of one, or out of these ranges.
    """
    octets = octets_of("path", path).removeprefix(b"\x3f\x00")
    if not octets or len(octets) % 2:
        raise ValueError(f"a path has file identifiers of two bytes each, not {len(octets)} bytes behind the MF")
    return select(octets, p1=_BY_PATH, p2=p2, le=le, cla=cla)


def read_binary(offset: int = 0, length: int = 256, *, sfi: int | None = None, cla: int = 0x00) -> C_APDU:
    """READ BINARY (11.3.3).

    Args:
        offset: in data units, bytes mostly, 0 to 0xFFFFFFFF; with `sfi` up to 255. From 32,768 on it is B1, and the answer has the
            data in an object with tag 53.
        length: Ne, 1 to 65,536, of B1 with the object's tag and length counted; 256: all there are, as far as a short answer goes.
        sfi: short EF identifier, 1 to 30, which also selects; None: the current EF.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    _number("length", length, 1, 0x10000)
    ins, p1, p2, data = _place(0xB0, offset, sfi)
    return C_APDU(cla, ins, p1, p2, data, length)


def write_binary(offset: int, data: Buffer, *, sfi: int | None = None, cla: int = 0x00) -> C_APDU:
    """WRITE BINARY: write once, or set or clear bits, as the file has it (11.3.4).

    Args:
        offset: as for `read_binary`.
        data: what to write.
        sfi: as for `read_binary`.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges, or no data.
    """
    return _storing(0xD0, offset, data, sfi, cla)


def update_binary(offset: int, data: Buffer, *, sfi: int | None = None, cla: int = 0x00) -> C_APDU:
    """UPDATE BINARY: put data in the place of what is there (11.3.5).

    Args:
        offset: as for `read_binary`; from 32,768 on it is D7, with the data in an object with tag 53.
        data: what to write.
        sfi: as for `read_binary`.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges, or no data.
    """
    return _storing(0xD6, offset, data, sfi, cla)


def erase_binary(offset: int = 0, end: int | None = None, *, sfi: int | None = None, cla: int = 0x00) -> C_APDU:
    """ERASE BINARY: set to the erased state (11.3.7).

    Args:
        offset: the first data unit, 0 to 32,767; with `sfi` up to 255.
        end: the first one that is kept; None: all to the end.
        sfi: as for `read_binary`.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    _number("offset", offset, 0, MAX_OFFSET)
    ins, p1, p2, _ = _place(0x0E, offset, sfi)
    data = b"" if end is None else _number("end", end, offset, 0xFFFF).to_bytes(2, "big")
    return C_APDU(cla, ins, p1, p2, data)


def read_record(number: int, *, sfi: int = 0, mode: int = 0x04, le: int | None = 256, cla: int = 0x00) -> C_APDU:
    """READ RECORD (11.4.3).

    Args:
        number: record number, 1 to 254, or 0 for the current record; record identifier where `mode` is 0 to 3.
        sfi: short EF identifier, 1 to 30; 0: the current EF.
        mode: P2, b3-b1. 0 to 3: first, last, next or previous record with that identifier. 4: that record; 5: all from it to the
            last; 6: all from the last to it.
        le: how many bytes of answer at most.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    return C_APDU(cla, 0xB2, _number("number", number, 0, 0xFE), _record(sfi, mode), b"", le)


def write_record(number: int, data: Buffer, *, sfi: int = 0, mode: int = 0x04, cla: int = 0x00) -> C_APDU:
    """WRITE RECORD (11.4.4).

    Args:
        number: as for `read_record`; 0 with modes 0 to 3.
        data: the record.
        sfi: as for `read_record`.
        mode: P2, b3-b1: 0 first, 1 last, 2 next, 3 previous record, 4 the record with that number.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges, or no data.
    """
    return C_APDU(cla, 0xD2, _number("number", number, 0, 0xFE), _record(sfi, mode), _some("data", data))


def update_record(number: int, data: Buffer, *, sfi: int = 0, mode: int = 0x04, cla: int = 0x00) -> C_APDU:
    """UPDATE RECORD: put a record in the place of another (11.4.5). In a cyclic EF, mode 3 with number 0 writes a new record.

    Args:
        number: as for `write_record`.
        data: the record.
        sfi: as for `read_record`.
        mode: as for `write_record`.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges, or no data.
    """
    return C_APDU(cla, 0xDC, _number("number", number, 0, 0xFE), _record(sfi, mode), _some("data", data))


def append_record(data: Buffer, *, sfi: int = 0, cla: int = 0x00) -> C_APDU:
    """APPEND RECORD: a new record at the end, or the first of a cyclic EF (11.4.6).

    Args:
        data: the record.
        sfi: as for `read_record`.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges, or no data.
    """
    return C_APDU(cla, 0xE2, 0x00, _record(sfi, 0), _some("data", data))


def erase_record(number: int, *, sfi: int = 0, mode: int = 0x04, cla: int = 0x00) -> C_APDU:
    """ERASE RECORD (11.4.8).

    Args:
        number: record number, 1 to 254.
        sfi: as for `read_record`.
        mode: P2, b3-b1: 4 that record, 5 all from it to the last.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    return C_APDU(cla, 0x0C, _number("number", number, 1, 0xFE), _record(sfi, mode))


def get_data(tag: int, *, le: int | None = 256, cla: int = 0x00) -> C_APDU:
    """GET DATA (11.5): a data object of the current DF or EF.

    Args:
        tag: as a number, 0x5F50; of three bytes it goes into a tag list (CB, P1-P2 3FFF: the current DF), 0x5FC102.
        le: how many bytes of answer at most.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    _number("tag", tag, 1, 0xFFFFFF)
    if tag <= 0xFFFF:
        return C_APDU(cla, 0xCA, tag >> 8, tag & 0xFF, b"", le)
    return C_APDU(cla, 0xCB, _CURRENT_DF >> 8, _CURRENT_DF & 0xFF, build_tlv(0x5C, tag_octets(tag)), le)


def put_data(tag: int, data: Buffer, *, cla: int = 0x00) -> C_APDU:
    """PUT DATA (11.5): store a data object in the current DF or EF.

    Args:
        tag: as a number; of three bytes the whole object is the data (DB, P1-P2 3FFF: the current DF).
        data: the value.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    _number("tag", tag, 1, 0xFFFFFF)
    if tag <= 0xFFFF:
        return C_APDU(cla, 0xDA, tag >> 8, tag & 0xFF, data)
    return C_APDU(cla, 0xDB, _CURRENT_DF >> 8, _CURRENT_DF & 0xFF, build_tlv(tag, octets_of("data", data)))


def verify(reference: int, data: Buffer = b"", *, cla: int = 0x00) -> C_APDU:
    """VERIFY: have reference data, such as a PIN, compared (11.6.6).

    Args:
        reference: P2: 0x01 to 0x1F global ones, 0x81 to 0x9F those of the current DF, 0x00 where the card knows which.
        data: the PIN as the card wants it, filled up if need be; empty: nothing is compared, the card answers 9000 where it is
            verified already, else 63Cx with the tries left.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    return C_APDU(cla, 0x20, 0x00, _number("reference", reference, 0, 0xFF), data)


def change_reference_data(reference: int, current: Buffer, new: Buffer, *, cla: int = 0x00) -> C_APDU:
    """CHANGE REFERENCE DATA (11.6.7).

    Args:
        reference: as for `verify`.
        current: the PIN as it is, filled up as the card wants it; empty: the card does not ask for it (P1 01).
        new: the new one, likewise.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges, or no new one.
    """
    before = octets_of("current", current)
    p1 = 0x00 if before else 0x01
    return C_APDU(cla, 0x24, p1, _number("reference", reference, 0, 0xFF), before + _some("new", new))


def disable_verification_requirement(reference: int, data: Buffer = b"", *, cla: int = 0x00) -> C_APDU:
    """DISABLE VERIFICATION REQUIREMENT (11.6.9).

    Args:
        reference: as for `verify`.
        data: the PIN; empty: the card does not ask for it (P1 01).
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    octets = octets_of("data", data)
    return C_APDU(cla, 0x26, 0x00 if octets else 0x01, _number("reference", reference, 0, 0xFF), octets)


def enable_verification_requirement(reference: int, data: Buffer = b"", *, cla: int = 0x00) -> C_APDU:
    """ENABLE VERIFICATION REQUIREMENT (11.6.8).

    Args:
        reference: as for `verify`.
        data: the PIN; empty: the card does not ask for it (P1 01).
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    octets = octets_of("data", data)
    return C_APDU(cla, 0x28, 0x00 if octets else 0x01, _number("reference", reference, 0, 0xFF), octets)


def reset_retry_counter(reference: int, code: Buffer = b"", new: Buffer = b"", *, cla: int = 0x00) -> C_APDU:
    """RESET RETRY COUNTER (11.6.10).

    Args:
        reference: as for `verify`.
        code: the resetting code (PUK); empty: the card does not ask for it.
        new: the new PIN; empty: it stays as it is.
        cla: the class byte.

    Returns:
        The command, its P1 by which of the two there are: 00 both, 01 the code, 02 the new PIN, 03 neither.

    Raises:
        ValueError: out of these ranges.
    """
    puk, pin = octets_of("code", code), octets_of("new", new)
    p1 = (0x00 if pin else 0x01) if puk else (0x02 if pin else 0x03)
    return C_APDU(cla, 0x2C, p1, _number("reference", reference, 0, 0xFF), puk + pin)


def get_challenge(length: int = 8, *, cla: int = 0x00) -> C_APDU:
    """GET CHALLENGE: random bytes of the card's (11.6.3).

    Args:
        length: how many, 1 to 65,536.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    return C_APDU(cla, 0x84, 0x00, 0x00, b"", _number("length", length, 1, 0x10000))


def internal_authenticate(
    challenge: Buffer, *, algorithm: int = 0x00, reference: int = 0x00, le: int | None = 256, cla: int = 0x00
) -> C_APDU:
    """INTERNAL AUTHENTICATE: have the card prove that it has a key (11.6.2).

    Args:
        challenge: what it computes the answer from.
        algorithm: P1; 0x00 where the card knows which.
        reference: P2, the key; 0x00 where the card knows which.
        le: how many bytes of answer at most.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges, or no challenge.
    """
    return C_APDU(cla, 0x88, algorithm, reference, _some("challenge", challenge), le)


def external_authenticate(
    data: Buffer, *, algorithm: int = 0x00, reference: int = 0x00, le: int | None = None, cla: int = 0x00
) -> C_APDU:
    """EXTERNAL AUTHENTICATE: prove to the card that one has a key; with `le` MUTUAL AUTHENTICATE (11.6.4).

    Args:
        data: what was computed from the card's challenge; empty: asks how many tries are left.
        algorithm: as for `internal_authenticate`.
        reference: as for `internal_authenticate`.
        le: how many bytes of answer at most; None: the card proves nothing in turn.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    return C_APDU(cla, 0x82, algorithm, reference, data, le)


def general_authenticate(
    data: Buffer, *, algorithm: int = 0x00, reference: int = 0x00, ins: int = 0x86, le: int | None = 256, cla: int = 0x00
) -> C_APDU:
    """GENERAL AUTHENTICATE: one step of an authentication in several (11.6.5).

    Args:
        data: a dynamic authentication template (7C).
        algorithm: as for `internal_authenticate`.
        reference: as for `internal_authenticate`.
        ins: 0x86, or 0x87 as in PIV.
        le: how many bytes of answer at most.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges, or no data.
    """
    if ins not in (0x86, 0x87):
        raise ValueError(f"ins is 0x86 or 0x87, not {ins}")
    return C_APDU(cla, ins, algorithm, reference, _some("data", data), le)


def manage_security_environment(p1: int, p2: int, data: Buffer = b"", *, cla: int = 0x00) -> C_APDU:
    """MANAGE SECURITY ENVIRONMENT (11.6.11).

    Args:
        p1: 0x41, 0x81, 0xC1 and the like set what computing, verifying or both use; 0xF2 stores, 0xF3 restores, 0xF4 erases.
        p2: the tag of the control reference template in `data` (0xA4, 0xB6, 0xB8), or the environment's number.
        data: the control reference data objects.
        cla: the class byte.

    Returns:
        The command.

    Raises:
        ValueError: out of these ranges.
    """
    return C_APDU(cla, 0x22, p1, p2, data)


def _place(ins: int, offset: int, sfi: int | None) -> tuple[int, int, int, bytes]:
    """Instruction, P1, P2, and data of a command for data units (11.3.2)."""
    _number("offset", offset, 0, 0xFFFFFFFF)
    if sfi is not None:
        _number("sfi", sfi, 1, 30)
        if offset <= 0xFF:
            return ins, 0x80 | sfi, offset, b""
    elif offset <= MAX_OFFSET:
        return ins, offset >> 8, offset & 0xFF, b""
    if offset <= MAX_OFFSET:
        raise ValueError(
            f"offset is 0 to 255 with a short EF identifier, not {offset}: without it, the EF is the current one by now"
        )
    return ins | 1, 0x00, sfi or 0x00, build_tlv(0x54, offset.to_bytes((offset.bit_length() + 7) // 8, "big"))


def _storing(even: int, offset: int, data: Buffer, sfi: int | None, cla: int) -> C_APDU:
    octets = _some("data", data)
    ins, p1, p2, place = _place(even, offset, sfi)
    return C_APDU(cla, ins, p1, p2, place + build_tlv(0x53, octets) if place else octets)


def _record(sfi: int, mode: int) -> int:
    """P2 of a command for records (11.4.2)."""
    return _number("sfi", sfi, 0, 30) << 3 | _number("mode", mode, 0, 7)


def _number(name: str, value: int, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a number, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {least} to {most}, not {value}")
    return value


def _some(name: str, value: Buffer) -> bytes:
    octets = octets_of(name, value)
    if not octets:
        raise ValueError(f"there is no {name}")
    return octets
