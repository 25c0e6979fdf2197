"""The history and completion of the shell.

Rules:

- A line is written to the history file only if it is known to carry no secret: a command of the shell itself, or an APDU whose data
  the library would show in a trace. A line that cannot be parsed is not written either: it may be a mistyped PIN.
- Only the user can read the file. If it cannot be written, the history is kept until the shell ends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, InMemoryHistory

from ..iso7816._instructions import INSTRUCTION_BY_NAME
from ..replay import may_carry_secret
from ._apdu_text import ApduTextError, needs_pin, parse
from ._names import home_folder


def history_file() -> Path | None:
    """The history file, by the XDG base directory specification; its folder is created if necessary.

    Returns:
        The file; None: there can be none.
    """
    given, home = os.environ.get("XDG_STATE_HOME"), home_folder()
    state = Path(given) if given else home and home / ".local" / "state"
    if state is None:
        return None
    path = state / "scardface" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return None
    return path if os.access(path, os.R_OK | os.W_OK) else None


def is_harmless(line: str, own: Iterable[str]) -> bool:
    """Whether a line is known to carry no secret.

    Args:
        line: as it was entered.
        own: the commands of the shell itself.
    """
    first, *rest = line.split() or [""]
    if first in own:
        return all(word in ("cold", "close") or (word.isdecimal() and len(word) <= 2) for word in rest)
    if needs_pin(line):
        return _is_header_and_pin(line)
    try:
        command = parse(line)
    except ApduTextError:
        return False
    return not command.data or not may_carry_secret(command)


def _is_header_and_pin(line: str) -> bool:
    """Whether the word PIN stands for all the data."""
    try:
        return len(parse(line, lambda: b"\0").data) <= 8 and not parse(re.sub(r"PIN(:\d+)?", "", line)).data
    except ApduTextError:
        return False


class SafeHistory(FileHistory):
    """A history file without secrets."""

    def __init__(self, path: Path, own: Iterable[str]) -> None:
        super().__init__(str(path))
        self._own = frozenset(own)

    def store_string(self, string: str) -> None:
        """Write a line, if it is harmless."""
        if is_harmless(string, self._own):
            super().store_string(string)


class NameCompleter(Completer):
    """Completes the names of commands, the shell's and the card's, where a name can stand."""

    def __init__(self, own: Iterable[str]) -> None:
        self._names = sorted({*own, *INSTRUCTION_BY_NAME})

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Names that begin as the word at the cursor; the second word may be one behind a class."""
        before = document.text_before_cursor
        words = before.split()
        word = "" if not before or before[-1].isspace() else words[-1]
        place = len(words) - bool(word)
        if place == 0 or (place == 1 and len(words[0]) == 2):
            for name in self._names:
                if name.startswith(word.lower()):
                    yield Completion(name, start_position=-len(word))


def prompting(own: Iterable[str]) -> PromptSession[str]:
    """A prompt with history and completion."""
    names, path = tuple(own), history_file()
    history = InMemoryHistory() if path is None else SafeHistory(path, names)
    return PromptSession(history=history, completer=NameCompleter(names), complete_while_typing=False)
