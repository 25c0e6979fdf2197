"""Programs of other people that use the same PC/SC: opensc-tool, and GnuPG's scdaemon with a card that it takes for an OpenPGP
card.

Rules:

- They are what Debian's packages opensc and scdaemon install. Where they are missing: see tests/support/required.py.
- Both are children of the test, know the private pcscd by the environment, and are ended by their input's end or their process id.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cards import LogCard
from tests.support.required import without_program

BOUND = 30.0
"""Seconds that one of them may take."""


def _program(package: str, *places: str) -> str:
    found = next(filter(None, map(shutil.which, places)), None)
    if found is None:
        without_program(f"{places[0]} is not here: install Debian's package {package}")
    return found


def opensc_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run opensc-tool on the first reader, to its end."""
    command = [_program("opensc", "opensc-tool"), "--reader", "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)


class Scdaemon:
    """GnuPG's smart card daemon, which opens a card EXCLUSIVE and keeps it.

    Attributes:
        pid: its process id.
    """

    def __init__(self, home: Path) -> None:
        places = ("/usr/lib/gnupg/scdaemon", "/usr/libexec/scdaemon", "scdaemon")
        command = [_program("scdaemon", *places), "--server", "--disable-ccid", "--homedir", str(home)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
        self.pid = self._process.pid
        self._answer()

    def _answer(self) -> list[str]:
        assert self._process.stdout is not None
        lines: list[str] = []
        for line in self._process.stdout:  # it ends with the daemon, which the test's own time bounds
            lines.append(line.strip())
            if line.startswith(("OK", "ERR")):
                break
        return lines

    def ask(self, command: str) -> list[str]:
        """A command of its protocol, and the lines of the answer; the last one begins with OK or ERR."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        return self._answer()

    def end(self) -> None:
        """Let it end; kill it if it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def scdaemon() -> Iterator[Scdaemon]:
    """An scdaemon for the length of a block."""
    with tempfile.TemporaryDirectory() as home:
        program = Scdaemon(Path(home))
        try:
            yield program
        finally:
            program.end()


def _object(tag: str, value: bytes) -> bytes:
    length = len(value)
    return bytes.fromhex(tag) + (bytes([length]) if length < 0x80 else bytes([0x81, length])) + value


class OpenPgpCard(LogCard):
    """As much of an OpenPGP card (version 2.0 of its specification) as scdaemon wants to see before it keeps it."""

    APPLICATION = bytes.fromhex("D2760001240102000005000012340000")
    _HISTORICAL = bytes.fromhex("0031C573C00140059000")
    _RETRIES = bytes.fromhex("00202020030003")
    _RSA = bytes.fromhex("010800002000")
    _KEYS = b"".join(_object(tag, bytes.fromhex("010800002000")) for tag in ("C1", "C2", "C3"))
    _DISCRETIONARY = _object(
        "73",
        _object("C0", bytes(10)) + _KEYS + _object("C4", _RETRIES) + _object("C5", bytes(60)) + _object("C6", bytes(60))
        + _object("CD", bytes(12)),
    )  # fmt: skip
    _OBJECTS = {  # noqa: RUF012  what a card holds
        0x004F: APPLICATION,
        0x5F52: _HISTORICAL,
        0x00C4: _RETRIES,
        0x006E: _object("6E", _object("4F", APPLICATION) + _object("5F52", _HISTORICAL) + _DISCRETIONARY),
    }

    def process(self, command: bytes) -> bytes:
        """SELECT and GET DATA; the rest as LogCard."""
        if command[:2] == b"\x00\xa4":
            return b"\x90\x00" if self.APPLICATION[:6] in command else b"\x6a\x82"
        if command[:2] == b"\x00\xca":
            value = self._OBJECTS.get(int.from_bytes(command[2:4], "big"))
            return b"\x6a\x88" if value is None else value + b"\x90\x00"
        return super().process(command)
