"""A cassette on disk.

Rules of this room:

- What stands in it is for `_lines` (ours) and `_dump` (apdu4j's) to say; here a damaged one gets its file's name.
- A file is replaced as a whole: a program that is killed while it writes leaves the old one.
- Lines are added behind what is there, and that is not touched: comments and what was edited by hand stay.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._enums import Protocol
from ._dump import is_dump, parse_dump
from ._lines import Damage, Line, exchange_lines, head_lines, parse
from ._tape import Exchange

StrPath = str | os.PathLike[str]


class CassetteError(ValueError):
    """A cassette that cannot be read, or not be recorded on; `words` say why.

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
    """What a file says.

    Attributes:
        atr: the card's ATR.
        protocol: the protocol in which it was spoken to.
        exchanges: in the order of recording.
        is_dump: whether the file is a dump of apdu4j, which is read and never written.
    """

    atr: bytes
    protocol: Protocol
    exchanges: tuple[Exchange, ...]
    is_dump: bool


def read(path: StrPath) -> Cassette:
    """Read a cassette, or a dump of apdu4j.

    Raises:
        OSError: the file cannot be opened.
        CassetteError: it is damaged; the text names the line.
    """
    content = Path(path).read_bytes()
    try:
        lines = _lines(content)
        dump = is_dump(lines)
        return Cassette(*(parse_dump(lines) if dump else parse(lines)), is_dump=dump)
    except Damage as damage:
        raise CassetteError(path, damage.line, str(damage)) from None


def _lines(content: bytes) -> list[Line]:
    lines: list[Line] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            lines.append((number, line.decode()))
        except UnicodeDecodeError:
            raise Damage(number, "not UTF-8 text") from None
    return lines


def write(path: StrPath, atr: bytes, protocol: Protocol, exchanges: Iterable[Exchange]) -> None:
    """Write a cassette in the place of what is there; its folder is made if it has to be."""
    _replace(Path(path), "\n".join([*head_lines(atr, protocol), "", *exchange_lines(exchanges), ""]))


def append(path: StrPath, exchanges: Iterable[Exchange]) -> None:
    """Write exchanges behind those that are there."""
    before = Path(path).read_text(encoding="utf-8")
    _replace(Path(path), "\n".join([before.removesuffix("\n"), *exchange_lines(exchanges), ""]))


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
