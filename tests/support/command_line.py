"""The command `scardface` in a process of its own: on a terminal, or with pipes; and what it leaves.

Rules:

- A process is ended by the test that started it; nothing is waited for without a bound.
- What a terminal shows is looked at without the orders to the terminal in it.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BOUND = 30.0
"""Seconds after which something that must happen has not happened."""

SELECT = "00A404000AF053434152444641434500"
"""SELECT of a FileCard's application."""


@dataclass
class Done:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output, one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Done]


_WHERE = "\x1b[6n"
"""The question where the cursor is, which a terminal answers."""


class Terminal:
    """A process that has a terminal of its own for everything, unless its output is told to go elsewhere."""

    def __init__(self, words: tuple[str, ...], environment: dict[str, str]) -> None:
        import pty  # Unix alone has it

        self._master, slave = pty.openpty()
        self.text = ""
        variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40", **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, *words],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=variables,
            start_new_session=True,
        )
        os.close(slave)

    def read_until(self, words: str) -> str:
        """What was shown until `words` was, without the terminal's orders."""
        end = time.monotonic() + BOUND
        while words not in self.text:
            left = end - time.monotonic()
            assert left > 0, f"{words!r} was not shown, but:\n{self.text}"
            assert self._read(left), f"{words!r} was not shown, but:\n{self.text}"
        shown, self.text = self.text.split(words, 1)
        return shown + words

    def _read(self, timeout: float) -> bool:
        """Take in what comes; whether there is anybody left to write."""
        if not select.select([self._master], [], [], timeout)[0]:
            return True
        try:
            new = os.read(self._master, 65536).decode("utf-8", "replace")
        except OSError:  # Linux's way to say that nobody is left at the other end
            return False
        if _WHERE in new:
            os.write(self._master, b"\x1b[1;1R")
        self.text += re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[=>]", "", new)
        return bool(new)

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal does it for those who do not read keys themselves."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Wait for the end; the exit status."""
        deadline = time.monotonic() + BOUND
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end; it shows:\n{self.text}"
            if not self._read(0.05):
                break
        return self.process.wait(BOUND)

    def close(self) -> None:
        """Let go of it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(BOUND)
        os.close(self._master)


_OWN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from scardface.cli import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def piped(*words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, its output in pipes."""
    command = [sys.executable, "-m", "scardface", *words]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
