"""The file of a writer: one that is opened here, and closed, or one of the caller's, which is left open."""

from __future__ import annotations

import os
from typing import IO, Any, Generic, TypeVar

from .._threads import RLock

FileT = TypeVar("FileT", bound="IO[Any]")


class Output(Generic[FileT]):
    """Where a writer writes to, one record at a time, flushed, so that all is there if the program ends."""

    def __init__(self, file: str | os.PathLike[str] | FileT, mode: str) -> None:
        self._mine = isinstance(file, (str, os.PathLike))
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")  # the same file on every platform
        if isinstance(file, (str, os.PathLike)):
            self._file: Any = open(file, mode, encoding=encoding, newline=newline)  # noqa: SIM115  closed by `close`
        else:
            self._file = file
        self._lock = RLock()  # a signal handler may use a card while its thread writes

    def write(self, data: Any) -> None:
        """Write and flush."""
        with self._lock:
            self._file.write(data)
            self._file.flush()

    def close(self) -> None:
        """Close the file, if it was opened here."""
        with self._lock:
            if self._mine:
                self._file.close()
