"""Output for people and for programs.

Rules:

- For programs: JSON, one object a line, ASCII, each line flushed, so that a pipe sees it at once.
- For people: rich. If standard output is no terminal, no colours and no added line breaks.
- Names of readers, text from cards and lines of files are data: they are not interpreted as markup, and control characters in them
  are printed as `\\x1b`, not sent to the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from ..iso7816._readable import digits, legible
from ._printable import printable

_WIDE = 1000
_ROW = 16


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end the process; `_failures` handles it


def console(*, stderr: bool = False) -> Console:
    """A console for output for people."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDE
    return _Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_line(screen: Console, text: str, style: str = "") -> None:
    """Print a line without adding line breaks, so that it can be copied from the terminal as a whole."""
    screen.print(as_text(text, style), soft_wrap=True)


def print_table(screen: Console, table: RenderableType) -> None:
    """Print what rich lays out; in a pipe without the trailing blanks of its columns."""
    if screen.is_terminal:
        screen.print(table)
        return
    with screen.capture() as laid_out:
        screen.print(table)
    for line in laid_out.get().splitlines():
        screen.print(line.rstrip(), soft_wrap=True)


def print_json(**fields: Any) -> None:
    """One JSON object on a line of its own."""
    print(json.dumps(fields), flush=True)


def as_text(text: str, style: str = "") -> Text:
    """`text` for rich: one line, escaped, and not interpreted as markup."""
    return Text(printable(text).replace("\n", "\\n"), style=style)


def rows(data: bytes) -> Iterator[str]:
    """Bytes as hex and text, 16 in a row, with offsets if there are several rows."""
    for start in range(0, len(data), _ROW):
        row = data[start : start + _ROW]
        offset = f"{start:04X}  " if len(data) > _ROW else ""
        width = 3 * min(_ROW, len(data)) - 1
        yield f"{offset}{digits(row):<{width}}  {legible(row)}"
