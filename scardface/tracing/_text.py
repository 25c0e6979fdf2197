"""A trace as text, one line for each record, with its steps in lines of their own where it took several.

    2026-11-26T16:20:01.123456Z 0.000812 "Reader 0" command 00A40400 A000000308 Ne=256 -> 6F10840E 9000

The time at which it began (UTC), the seconds that it took, the reader as a JSON string, the kind, what was asked, and behind an
arrow the answer, or `!` and the error.
"""

from __future__ import annotations

import datetime
import json
import os
from functools import lru_cache
from typing import TextIO

from ._output import Output
from ._record import Record

TITLE = "# scardface trace 1\n"
_quoted = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder for each call


def utc(seconds: float) -> str:
    """A time since 1970 as ISO 8601 has it, with microseconds."""
    second, microseconds = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_second(second)}.{microseconds:06}Z"


@lru_cache(maxsize=1)  # most records begin in the same second as the one before
def _second(second: int) -> str:
    return datetime.datetime.fromtimestamp(second, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


class TextWriter:
    """Writes a trace as text, for reading; `scardface trace`, `replay` and `send -f` read it, too.

    Args:
        file: a path, whose file is overwritten, or a file that is open for text, `sys.stderr` for instance.
    """

    def __init__(self, file: str | os.PathLike[str] | TextIO) -> None:
        self._output: Output[TextIO] = Output(file, "w")
        self._output.write(TITLE)

    def __call__(self, record: Record) -> None:
        """Write a record."""
        reader = _quoted(record.reader)
        lines = [
            f"{utc(record.time)} {record.seconds:.6f} {reader} {record.kind} {_told(record.text, record.answer, record.error)}"
        ]
        if len(record.steps) > 1:
            lines += [
                f"{utc(step.time)} {step.seconds:.6f} {reader} step {_told(step.sent_text, step.received_text, step.error)}"
                for step in record.steps
            ]
        self._output.write("".join(f"{line.rstrip()}\n" for line in lines))

    def close(self) -> None:
        """Close the file, if it was given as a path."""
        self._output.close()


def _told(asked: str, answer: str, error: str) -> str:
    if error:
        return f"{asked} -> ! {error}".lstrip()
    return f"{asked} -> {answer}".lstrip() if answer else asked
