"""Recorded exchanges, and playing them.

Rules:

- An exchange is a command and its response: `Sent` as the caller of `send` gave and got them, whatever steps that took, or `Raw` by
  `transmit`, verbatim. Hidden data is not stored: that of a command is empty and matches any data that is not, that of a response
  is zeros.
- Each exchange is played once, until the tape is rewound: the first one that matches and was not played yet.
- An error text shows no data that a trace would not show (`redacted`): it says where data differ, not how.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .._threads import RLock
from ..iso7816._apdu import C_APDU, R_APDU, as_command, redacted

_NEAREST = 3
"""How many recorded commands an error shows."""


@dataclass(frozen=True, repr=False)
class Sent:
    """An exchange by `send`.

    Attributes:
        command: as the caller gave it; without data if those are hidden.
        response: as the caller got it.
        hides_data: whether the command's data are hidden: any data match, but not none.
        hides_response: whether the response's data are hidden.
        line: where it stands in the cassette; 0: nowhere yet.
    """

    command: C_APDU
    response: R_APDU
    hides_data: bool = False
    hides_response: bool = False
    line: int = 0

    @property
    def apdu(self) -> C_APDU:
        """The command, to compare with."""
        return self.command

    def is_of(self, command: C_APDU) -> bool:
        """Whether this is what was recorded of `command`."""
        mine = self.command
        if self.hides_data:
            return header(mine) == header(command) and mine.le == command.le and bool(command.data)
        return mine == command


@dataclass(frozen=True, repr=False)
class Raw:
    """An exchange by `transmit`.

    Attributes:
        command: the bytes sent; the header alone if the rest is hidden.
        response: the bytes received.
        hides_data, hides_response, line: as in `Sent`.
    """

    command: bytes
    response: bytes
    hides_data: bool = False
    hides_response: bool = False
    line: int = 0

    @property
    def apdu(self) -> C_APDU:
        """The command, to compare with."""
        return as_command(self.command)

    def is_of(self, command: bytes) -> bool:
        """Whether this is what was recorded of `command`."""
        if self.hides_data:
            return self.command == command[:4] and len(command) > 4
        return self.command == command


Exchange = Sent | Raw


class UnrecordedCommandError(LookupError):
    """A command that is not on the cassette, or was played already. The text shows the recorded ones that are nearest to it."""


class Tape:
    """The exchanges of a cassette while it is played. Any thread may play.

    Args:
        exchanges: in the order of recording.
        path: the cassette's, for texts.
    """

    def __init__(self, exchanges: Iterable[Exchange], path: str | os.PathLike[str]) -> None:
        self._exchanges = tuple(exchanges)
        self._path = os.fspath(path)
        self._played: set[int] = set()
        self._place = 0  # after the one played last
        self._lock = RLock()

    def rewind(self) -> None:
        """Play from the beginning."""
        with self._lock:
            self._played.clear()
            self._place = 0

    @property
    def all_played(self) -> bool:
        """Whether every exchange was played since the beginning."""
        return len(self._played) == len(self._exchanges)

    def holds(self, fits: Callable[[Exchange], bool]) -> bool:
        """Whether an exchange that was not played yet fits."""
        return self._find(fits) is not None

    def take(self, fits: Callable[[Exchange], bool]) -> Exchange | None:
        """Play the first exchange that fits and was not played yet; None: there is none."""
        with self._lock:
            index = self._find(fits)
            if index is None:
                return None
            self._played.add(index)
            self._place = index + 1
            return self._exchanges[index]

    def _find(self, fits: Callable[[Exchange], bool]) -> int | None:
        found = (index for index, each in enumerate(self._exchanges) if index not in self._played and fits(each))
        return next(found, None)

    def unrecorded(self, command: C_APDU) -> UnrecordedCommandError:
        """The error to raise for a command that nothing fits."""
        with self._lock:
            ranked = sorted(range(len(self._exchanges)), key=lambda index: self._distance(index, command))
            lines = [self._describe(index, command) for index in ranked[:_NEAREST]]
        nearest = "\n".join(["The nearest that are:", *lines]) if lines else "Nothing is."
        return UnrecordedCommandError(
            f"{redacted(command)} is not recorded in {self._path}, or was played already. {nearest}\n"
            "To record it, delete the cassette, or choose the mode 'new' or 'all'."
        )

    def _distance(self, index: int, command: C_APDU) -> tuple[Any, ...]:
        each = self._exchanges[index]
        differences = _differences(each, command)
        return (
            each.apdu.ins != command.ins,
            len(differences),
            _missed(each, command),
            index in self._played,
            abs(index - self._place),
        )

    def _describe(self, index: int, command: C_APDU) -> str:
        each = self._exchanges[index]
        differences = _differences(each, command)
        if index in self._played:
            differences.append("played already")
        kind = "raw " if isinstance(each, Raw) else ""
        hidden = " <secret>" if each.hides_data else ""
        return f"  line {each.line}: {kind}{redacted(each.apdu)}{hidden} ({', '.join(differences) or 'sent the other way'})"


def header(command: C_APDU) -> tuple[int, int, int, int]:
    """CLA, INS, P1, P2."""
    return command.cla, command.ins, command.p1, command.p2


def _differences(exchange: Exchange, command: C_APDU) -> list[str]:
    """The differences between a recorded command and `command`, as texts without data."""
    recorded = exchange.apdu
    names = ("CLA", "INS", "P1", "P2")
    pairs = zip(names, header(recorded), header(command), strict=True)
    differences = [f"{name} is {mine:02X}, not {other:02X}" for name, mine, other in pairs if mine != other]
    if exchange.hides_data:
        if not command.data:
            differences.append("has data")
    elif len(recorded.data) != len(command.data):
        differences.append(f"{len(recorded.data)} bytes of data, not {len(command.data)}")
    elif recorded.data != command.data:
        differences.append(f"data differ from byte {1 + _common(recorded.data, command.data)} on")
    if recorded.le != command.le and not (isinstance(exchange, Raw) and exchange.hides_data):
        differences.append(f"Ne is {recorded.le}, not {command.le}")
    return differences


def _missed(exchange: Exchange, command: C_APDU) -> int:
    """How many bytes of the command's data are behind the first that differs."""
    if exchange.hides_data:
        return 0
    return len(command.data) - _common(exchange.apdu.data, command.data)


def _common(first: bytes, second: bytes) -> int:
    """How many bytes two strings have in common at their beginning."""
    shorter = min(len(first), len(second))
    return next((index for index in range(shorter) if first[index] != second[index]), shorter)
