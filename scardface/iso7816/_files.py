"""Whole files of an open card, read and written.

Rules (ISO/IEC 7816-4:2020, 7.4, 11.3, 11.4):

- The file is selected, and what the card says of it (FCI, else FCP) decides: bytes or records, how many. Where it says nothing,
  bytes are read until it says that there are no more, and records if it answers 6981, which means that the file has some.
- A transparent file is read in parts of 256 bytes, or of `part`. From offset 32,768 on it is B1 with an offset data object (54),
  and the data come in a discretionary data object (53, 73), whose tag and length count as answer.
- Records are read by number from 1 on: as many as the card says, else up to 254, until it answers 6A83.
- Data that come with 9000, a warning (62xx) or one of the card's success words count; 6282 and 6B00 are the end. Any other status
  ends it, and so does an answer without data.
- Nothing is lost: what was read or written until then, why it ended there and the card's last answer are in the result; only a
  file that cannot be selected is an error.
- The card is not trusted: there is a bound on bytes, on records, and each step brings at least one byte or ends.
- What does not fit into the file, as far as the card says how large it is, is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn, overload

from ._apdu import C_APDU, R_APDU, Buffer, StatusError, octets_of
from ._commands import MAX_OFFSET, read_binary, read_record, select, select_file, select_path, update_binary, update_record
from ._file_control import FileControl, Structure
from ._open_card import AsyncSender, Steps, SyncSender, carry_out
from ._tlv import TLVError, parse_tlv

MAX_BYTES = 1 << 20
"""Bytes of a file that are read unless the caller asks for more."""
_MAX_RECORDS = 254
_NO_RESPONSE, _FCP = 0x0C, 0x04

_OK = 0x9000
_END_OF_FILE = 0x6282
_NO_BINARY = 0x6981
_NO_RECORD = 0x6A83
_OUTSIDE = 0x6B00
_OTHER_P2 = (0x6A86, 0x6A81, 0x6B00)
"""What cards answer to a SELECT whose P2 they do not know."""


class FileError(StatusError):
    """A file that was not read or written to its end.

    Args:
        response: the card's last answer.
        stopped: where and why it ended; the text of the error.
    """

    def __init__(self, response: R_APDU, stopped: str) -> None:
        Exception.__init__(self, stopped)
        self.response = response

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.response, str(self.args[0]))


class FileContents(bytes):
    """What was read of a file: its bytes, of records those of all of them, with what is known besides.

    Attributes:
        records: the records, in order of their numbers; empty for a transparent file.
        control: what the card said of the file; None: nothing that can be understood.
        stopped: why reading ended before the end of the file; empty if it did not.
        response: the card's last answer.
    """

    records: tuple[bytes, ...]
    control: FileControl | None
    stopped: str
    response: R_APDU

    @property
    def complete(self) -> bool:
        """Whether all of the file was read."""
        return not self.stopped

    def check(self) -> FileContents:
        """The contents, if they are complete.

        Raises:
            FileError: reading ended before the end; the text says where and why.
        """
        if self.stopped:
            raise FileError(self.response, self.stopped)
        return self


class FileWrite:
    """How much of a file was written.

    Attributes:
        written: how many bytes, or how many records.
        control: what the card said of the file; None: nothing that can be understood.
        stopped: why writing ended before the end of the data; empty if it did not.
        response: the card's last answer.
    """

    __slots__ = ("control", "response", "stopped", "written")

    def __init__(self, written: int, control: FileControl | None, stopped: str, response: R_APDU) -> None:
        self.written: int = written
        self.control: FileControl | None = control
        self.stopped: str = stopped
        self.response: R_APDU = response

    @property
    def complete(self) -> bool:
        """Whether all of it was written."""
        return not self.stopped

    def check(self) -> FileWrite:
        """This, if all was written.

        Raises:
            FileError: writing ended before the end; the text says where and why.
        """
        if self.stopped:
            raise FileError(self.response, self.stopped)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}(written={self.written}, stopped={self.stopped!r})"


@overload
def read_file(
    card: SyncSender, file: int | Buffer | None = None, *, part: int = 256, max_bytes: int = MAX_BYTES
) -> FileContents: ...
@overload
def read_file(
    card: AsyncSender, file: int | Buffer | None = None, *, part: int = 256, max_bytes: int = MAX_BYTES
) -> Coroutine[Any, Any, FileContents]: ...
def read_file(
    card: SyncSender | AsyncSender, file: int | Buffer | None = None, *, part: int = 256, max_bytes: int = MAX_BYTES
) -> Any:
    """Read a whole file, transparent or of records (ISO/IEC 7816-4:2020, 11.3.3 and 11.4.3).

    On the async face it is awaited. All commands go out in one transaction.

    Args:
        card: an open card, its channel or its layer, or a Recorder; of either face.
        file: its identifier, as a number or two bytes; or its path from the MF, as bytes; None: the current EF, of which nothing is
            known then.
        part: how many bytes are asked for at once, 8 to 65,536; more than 256 for cards with extended length.
        max_bytes: the most that is read.

    Returns:
        The bytes; `records` if it has some; `complete`, or `stopped` says why not.

    Raises:
        StatusError: the file cannot be selected.
        ValueError: out of these ranges, before anything is sent; or a DF, which has no contents to read.
        TypeError: no card, or an argument of another type. And what the card's `send` raises.
    """
    selections = _selections(file)
    if not isinstance(part, int) or not 8 <= part <= 0x10000:
        raise ValueError(f"part is 8 to 65536, not {part}")
    if not isinstance(max_bytes, int) or max_bytes < 1:
        raise ValueError(f"max_bytes is at least 1, not {max_bytes}")
    return carry_out(card, _read(selections, part, max_bytes))


@overload
def write_file(
    card: SyncSender, file: int | Buffer | None, data: Buffer | Sequence[Buffer], *, part: int = 255, offset: int = 0
) -> FileWrite: ...
@overload
def write_file(
    card: AsyncSender, file: int | Buffer | None, data: Buffer | Sequence[Buffer], *, part: int = 255, offset: int = 0
) -> Coroutine[Any, Any, FileWrite]: ...
def write_file(
    card: SyncSender | AsyncSender,
    file: int | Buffer | None,
    data: Buffer | Sequence[Buffer],
    *,
    part: int = 255,
    offset: int = 0,
) -> Any:
    """Write a file that is there: bytes into a transparent one, records in place of records (ISO/IEC 7816-4:2020, 11.3.5, 11.4.5).

    On the async face it is awaited. All commands go out in one transaction, but a card that is pulled keeps what came before.

    Args:
        card: as for `read_file`.
        file: as for `read_file`.
        data: bytes; or a list of records, which take the places of records 1, 2 and so on. In a cyclic file each is a new record,
            and the last of them the newest.
        part: how many bytes of data a command has at most, 16 to 65,535; more than 255 for cards with chaining or extended length.
        offset: where in a transparent file the bytes go.

    Returns:
        How much was `written`; `complete`, or `stopped` says why not.

    Raises:
        StatusError: the file cannot be selected.
        ValueError: out of these ranges, or no data, before anything is sent; data that do not fit into the file, and a DF, before
            anything is written.
        TypeError: no card, or an argument of another type. And what the card's `send` raises.
    """
    selections = _selections(file)
    if not isinstance(part, int) or not 16 <= part <= 0xFFFF:
        raise ValueError(f"part is 16 to 65535, not {part}")
    if not isinstance(offset, int) or offset < 0:
        raise ValueError(f"offset is at least 0, not {offset}")
    if isinstance(data, (bytes, bytearray, memoryview)):
        octets = octets_of("data", data)
        if not octets:
            raise ValueError("there is no data to write")
        return carry_out(card, _write(selections, octets, part, offset))
    if isinstance(data, str) or not isinstance(data, Sequence):
        raise TypeError(f"data is bytes, or a list of records, not {type(data).__name__}")
    items: Sequence[Any] = data
    records = [octets_of("a record", each, 0xFFFF) for each in items]
    if not records or not all(records):
        raise ValueError("there is no record to write" if not records else "a record is empty")
    if len(records) > _MAX_RECORDS:
        raise ValueError(f"a file has at most {_MAX_RECORDS} records, not {len(records)}")
    if offset:
        raise ValueError("offset is for bytes; records are written from the first on")
    return carry_out(card, _write_records(selections, records))


def _selections(file: int | Buffer | None) -> list[C_APDU]:
    """SELECT commands for a file, to be tried in turn where the card does not know P2."""
    if file is None:
        return []
    templates = (0x00, _FCP, _NO_RESPONSE)
    if isinstance(file, bool):
        raise TypeError("file is a number or bytes, not bool")
    if isinstance(file, int):
        return [select_file(file, p2=p2) for p2 in templates]
    octets = octets_of("file", file)
    if len(octets) == 2:
        return [select(octets, p1=0x00, p2=p2) for p2 in templates]
    return [select_path(octets, p2=p2) for p2 in templates]


def _select(selections: list[C_APDU]) -> Steps[tuple[FileControl | None, R_APDU | None]]:
    """Select a file; what the card says of it."""
    response: R_APDU | None = None
    for command in selections:
        response = yield command
        if response.sw not in _OTHER_P2:
            break
    if response is None:
        return None, None
    if not _is_fine(response) and response.sw1 != 0x61:  # 61xx where the caller fetches, or leaves, what there is
        raise StatusError(response)
    try:
        control = FileControl.from_bytes(response.data) if response.data else None
    except TLVError:
        control = None
    if control is not None and control.is_df:
        raise ValueError("the file is a DF: it has files in it, and no contents")
    return control, response


def _is_fine(response: R_APDU) -> bool:
    """Whether a command has done its work: 9000, a warning without a change, or a success word of the card's."""
    return response.sw == _OK or response.sw1 == 0x62 or response.is_successful()


def _is_unknown_unit(control: FileControl | None) -> str:
    if control is None or control.data_unit in (None, 1, 2):  # 1, half a byte: cards that leave the byte 00
        return ""
    return f"at offset 0: the file counts in units of {control.data_unit} quartets, not in bytes"


def _has_records(control: FileControl | None) -> bool:
    return control is not None and control.structure is not None and control.structure.has_records


def _read(selections: list[C_APDU], part: int, max_bytes: int) -> Steps[FileContents]:
    control, response = yield from _select(selections)
    if _has_records(control):
        return (yield from _read_records(control, max_bytes))
    if response is not None and (unit := _is_unknown_unit(control)):
        return _contents(b"", (), control, unit, response)
    size = None if control is None else control.size
    end = max_bytes if size is None else min(size, max_bytes)
    read = bytearray()
    stopped = ""
    if not end and response is not None:
        return _contents(b"", (), control, "", response)
    while len(read) < end:
        offset = len(read)
        response = yield _part_of(offset, end - offset if size is not None else part, part)
        if response.sw == _NO_BINARY and not read and (control is None or control.structure is None):
            return (yield from _read_records(control, max_bytes))
        if size is None and response.sw == _OUTSIDE and (read or not response.data):
            return _contents(bytes(read), (), control, "", response)
        if not _is_fine(response):
            stopped = f"at offset {offset}: the card answered {response.sw:04X}, {response.meaning}"
            break
        try:
            data = response.data if offset <= MAX_OFFSET else _discretionary(response.data)
        except TLVError as error:
            stopped = f"at offset {offset}: the card's answer to READ BINARY (B1) is no data object 53: {error}"
            break
        read += data[: end - offset]
        if response.sw == _END_OF_FILE:
            if size is not None and len(read) < size:
                stopped = f"at offset {len(read)}: the card says that the file ends there, and before that it has {size} bytes"
            return _contents(bytes(read), (), control, stopped, response)
        if not data:
            if size is None and read:
                return _contents(bytes(read), (), control, "", response)
            stopped = f"at offset {offset}: the card answered {response.sw:04X} and no data"
            break
    assert response is not None, "end is at least 1"
    if not stopped and len(read) == max_bytes and (size is None or size > max_bytes):
        stopped = f"at offset {len(read)}: that is the bound of max_bytes"
    return _contents(bytes(read), (), control, stopped, response)


def _part_of(offset: int, wanted: int, part: int) -> C_APDU:
    """The command for the next part of a transparent file."""
    if offset > MAX_OFFSET:  # tag and length of the data object come with the data
        wanted += 2 if wanted < 0x80 else 3 if wanted < 0x100 else 4 if wanted < 0x10000 else 5
    return read_binary(offset, min(wanted, part))


def _discretionary(answer: bytes) -> bytes:
    """The data in an answer to READ BINARY with an offset data object (11.3.3)."""
    if not answer:
        return b""
    for each in parse_tlv(answer):
        if each.number in (0x53, 0x73):
            return each.value
    raise TLVError("it has none of tag 53 or 73")


def _read_records(control: FileControl | None, max_bytes: int) -> Steps[FileContents]:
    count = None if control is None else control.record_count
    records: list[bytes] = []
    stopped, taken = "", 0
    if count == 0:
        response = R_APDU(b"", 0x90, 0x00)
        return _contents(b"", (), control, "", response)
    for number in range(1, min(count or _MAX_RECORDS, _MAX_RECORDS) + 1):
        response = yield read_record(number)
        if count is None and response.sw == _NO_RECORD:
            break
        if not _is_fine(response):
            stopped = f"at record {number}: the card answered {response.sw:04X}, {response.meaning}"
            break
        if taken + len(response.data) > max_bytes:
            stopped = f"at record {number}: that is the bound of max_bytes"
            break
        records.append(response.data)
        taken += len(response.data)
    else:
        if count is not None and count > _MAX_RECORDS:
            stopped = f"at record {_MAX_RECORDS + 1}: no command can name more, and the card says that there are {count}"
    return _contents(b"".join(records), tuple(records), control, stopped, response)


def _contents(data: bytes, records: tuple[bytes, ...], control: FileControl | None, stopped: str, response: R_APDU) -> FileContents:
    contents = FileContents(data)
    contents.records, contents.control, contents.stopped, contents.response = records, control, stopped, response
    return contents


def _write(selections: list[C_APDU], data: bytes, part: int, offset: int) -> Steps[FileWrite]:
    control, response = yield from _select(selections)
    if _has_records(control):
        raise ValueError("the file has records: data is a list of them, not bytes")
    if response is not None and (unit := _is_unknown_unit(control)):
        return FileWrite(0, control, unit, response)
    if control is not None and control.size is not None and offset + len(data) > control.size:
        raise ValueError(f"{len(data)} bytes at offset {offset} do not fit into a file of {control.size} bytes")
    written = 0
    while written < len(data):
        place = offset + written
        chunk = data[written : written + _room(place, part)]
        response = yield update_binary(place, chunk)
        if not _is_fine(response) and response.sw1 != 0x63:
            return FileWrite(written, control, _stopped_at(f"offset {place}", response), response)
        written += len(chunk)
    assert response is not None, "there is data"
    return FileWrite(written, control, "", response)


def _room(offset: int, part: int) -> int:
    """How many bytes fit into a command of `part` bytes of data."""
    if offset <= MAX_OFFSET:
        return part
    return part - 6 - (2 if part < 0x80 + 8 else 3 if part < 0x100 + 9 else 4)  # 54 and its value, 53 and its length


def _write_records(selections: list[C_APDU], records: list[bytes]) -> Steps[FileWrite]:
    control, response = yield from _select(selections)
    if control is not None:
        _check_fit(control, records)
    is_cyclic = control is not None and control.structure in (Structure.CYCLIC, Structure.CYCLIC_TLV)
    for number, record in enumerate(records, 1):
        response = yield update_record(0, record, mode=3) if is_cyclic else update_record(number, record)
        if not _is_fine(response) and response.sw1 != 0x63:
            return FileWrite(number - 1, control, _stopped_at(f"record {number}", response), response)
    assert response is not None, "there are records"
    return FileWrite(len(records), control, "", response)


def _check_fit(control: FileControl, records: list[bytes]) -> None:
    if control.structure is Structure.TRANSPARENT:
        _refuse("the file is transparent: data is bytes, not a list of records")
    if control.record_count is not None and len(records) > control.record_count:
        _refuse(f"{len(records)} records do not fit into a file of {control.record_count}")
    size = control.record_size
    for number, record in enumerate(records, 1):
        if size is not None and len(record) > size:
            _refuse(f"record {number} has {len(record)} bytes, and the file's have {size} at most")


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)


def _stopped_at(where: str, response: R_APDU) -> str:
    return f"at {where}: the card answered {response.sw:04X}, {response.meaning}"
