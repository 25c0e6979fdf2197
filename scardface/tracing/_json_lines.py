"""A trace as JSON, one object in a line (https://jsonlines.org)."""

from __future__ import annotations

import json
import os
from typing import TextIO

from ._output import Output
from ._record import Record
from ._text import utc


class JSONLinesWriter:
    """Writes a trace as JSON lines, for programs.

    The members of each object: `time` (ISO 8601, UTC), `seconds`, `reader`, `kind`, `text`, `answer`, `error`, `secret`, and
    `steps`, a list of objects with `time`, `seconds`, `sent`, `received` and `error`. All are there each time.

    Args:
        file: a path, whose file is overwritten, or a file that is open for text.
    """

    def __init__(self, file: str | os.PathLike[str] | TextIO) -> None:
        self._output: Output[TextIO] = Output(file, "w")

    def __call__(self, record: Record) -> None:
        """Write a record."""
        line = {
            "time": utc(record.time),
            "seconds": round(record.seconds, 6),
            "reader": record.reader,
            "kind": record.kind,
            "text": record.text,
            "answer": record.answer,
            "error": record.error,
            "secret": record.secret,
            "steps": [
                {
                    "time": utc(step.time),
                    "seconds": round(step.seconds, 6),
                    "sent": step.sent_text,
                    "received": step.received_text,
                    "error": step.error,
                }
                for step in record.steps
            ],
        }
        self._output.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Close the file, if it was given as a path."""
        self._output.close()
