"""Reading and writing cassette files.

Rules:

- The format is in `_lines` (cassettes), `_dump` (of apdu4j) and `_logs` (of others); here the file's name is added to errors.
- A file is replaced as a whole: a program that is killed while it writes leaves the old one.
- An error names the file that the caller named, and no folder is created, so that a mistyped path is an error.
- Lines are appended without changing what is there: comments and manual edits stay.
"""

from __future__ import annotations

import codecs
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._enums import Protocol
from ._dump import is_dump, parse_dump
from ._lines import Line, MalformedLineError, exchange_lines, head_lines, parse
from ._logs import is_log, parse_log
from ._tape import Exchange

StrPath = str | os.PathLike[str]


class CassetteError(ValueError):
    """A cassette that cannot be read, or cannot be added to; `words` say why.

    Attributes:
        path: the file.
        line: the number of the line that is wrong, counted from 1; 0: none in particular.
    """

    path: str
    line: int

    def __init__(self, path: StrPath, line: int, words: str) -> None:
        self.path = os.fspath(path)
        self.line = line
        self._words = words
        super().__init__(f"{self.path}, line {line}: {words}" if line else f"{self.path}: {words}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.line, self._words)


@dataclass(frozen=True, repr=False)
class Cassette:
    """The contents of a cassette.

    Attributes:
        atr: the card's ATR.
        protocol: the protocol in use.
        exchanges: in the order of recording.
        is_dump: whether the file is a dump of apdu4j, a log or a trace, which are read and never written.
    """

    atr: bytes
    protocol: Protocol
    exchanges: tuple[Exchange, ...]
    is_dump: bool


def read(path: StrPath) -> Cassette:
    """Read a cassette, a dump of apdu4j, a log or a trace.

    Raises:
        OSError: the file cannot be opened.
        CassetteError: it is damaged; the text names the line.
    """
    content = Path(path).read_bytes()
    try:
        lines = _lines(content)
        if is_log(lines):
            return Cassette(*parse_log(lines), is_dump=True)
        dump = is_dump(lines)
        return Cassette(*(parse_dump(lines) if dump else parse(lines)), is_dump=dump)
    except MalformedLineError as damage:
        raise CassetteError(path, damage.line, str(damage)) from None


def _utf8(content: bytes) -> bytes:
    """A file's text in UTF-8, without a byte order mark: PowerShell's `>` writes UTF-16."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16").encode()
        except UnicodeError:
            raise MalformedLineError(0, "neither UTF-8 nor UTF-16 text") from None
    return content.removeprefix(codecs.BOM_UTF8)


def _lines(content: bytes) -> list[Line]:
    lines: list[Line] = []
    for number, line in enumerate(_utf8(content).splitlines(), 1):
        try:
            lines.append((number, line.decode()))
        except UnicodeDecodeError:
            raise MalformedLineError(number, "not UTF-8 text") from None
    return lines


def check_writable(path: StrPath) -> None:
    """Check that a cassette can be written there, before anything depends on it.

    Raises:
        OSError: it cannot.
    """
    target = Path(path)
    if target.exists() and not target.is_file():  # replacing a device file would remove it
        code = errno.EISDIR if target.is_dir() else errno.EINVAL
        raise OSError(code, "not a file that can be replaced", os.fspath(path))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    with _named(path), _beside(target) as beside:
        beside.touch()


def write(path: StrPath, atr: bytes, protocol: Protocol, exchanges: Iterable[Exchange]) -> None:
    """Write a cassette, replacing any file that is there."""
    _replace(path, "\n".join([*head_lines(atr, protocol), "", *exchange_lines(exchanges), ""]))


def append(path: StrPath, exchanges: Iterable[Exchange]) -> None:
    """Append exchanges to a cassette."""
    before = _utf8(Path(path).read_bytes()).decode()
    _replace(path, "\n".join([before.replace("\r\n", "\n").removesuffix("\n"), *exchange_lines(exchanges), ""]))


def _replace(path: StrPath, text: str) -> None:
    target = Path(path)
    with _named(path), _beside(target) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(target)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary file in the same folder, removed at the end."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield beside
    finally:
        with suppress(OSError):  # where it could not be made there is nothing to remove
            beside.unlink()


@contextmanager
def _named(path: StrPath) -> Iterator[None]:
    """Errors within the block name the caller's file, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
