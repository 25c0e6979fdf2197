"""Decoding text from files and pipes, in the encodings that editors and shells of all platforms use.

Rules:

- UTF-8, UTF-16 and UTF-32, with a byte order mark or without one: Windows' editors write one, PowerShell's `>` writes UTF-16.
- Anything else is decoded as Latin-1: commands are ASCII, and comments do not matter.
- Lines of a pipe are returned as soon as they arrive.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from io import BufferedReader
from typing import IO

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARK = "\ufeff"


def encoding_of(begin: bytes) -> str:
    """The encoding of a text that begins so; of UTF-16 and UTF-32 without a mark, by where the zeros of ASCII's bytes are."""
    for mark, encoding in _MARKS:
        if begin.startswith(mark):
            return encoding
    zeros = tuple(octet == 0 for octet in begin[:4])
    if zeros[:2] == (True, False):
        return "utf-16-be"
    if zeros == (True, True, True, False):
        return "utf-32-be"
    if zeros == (False, True, True, True):
        return "utf-32-le"
    return "utf-16-le" if zeros[1:2] == (True,) else "utf-8"


def text_of(content: bytes) -> str:
    """The text of a file."""
    try:
        return content.decode(encoding_of(content))
    except UnicodeDecodeError:
        return content.decode("latin-1")


def lines_of(stream: IO[str]) -> Iterator[str]:
    """The lines of standard input, each as soon as it is there, with its end."""
    source: BufferedReader | None = getattr(stream, "buffer", None)
    if source is None:  # replaced by a text stream
        for number, line in enumerate(stream):
            yield line if number else line.removeprefix(_MARK)
        return
    chunk = source.read1()
    decoder = codecs.getincrementaldecoder(encoding_of(chunk))(errors="backslashreplace")
    text = ""
    while chunk:
        *whole, text = (text + decoder.decode(chunk)).splitlines(keepends=True) or [""]
        if text.endswith("\n"):
            whole, text = [*whole, text], ""
        yield from whole
        chunk = source.read1()
    if text:
        yield text
