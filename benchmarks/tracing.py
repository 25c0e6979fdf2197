"""A trace of the wire: what it costs while nobody traces, and as text.

- Measured: `send` of one command, READ BINARY for 16 bytes from a card of 0 ms, while a trace is written as text to a file.
- Against: the same without a trace. And, to see what the hook costs while it is off, a card whose session has none.
- It would be unfair to write to a terminal: what that takes is the terminal's. The file is in the system's folder for such files.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import scardface
import scardface.sync
from scardface import C_APDU, tracing
from scardface.errors import SCardError

from ._place import Place
from ._report import Report
from ._tables import COLUMNS, CORES, Runs, add_contest, repeated, verdict
from ._turns import LOOPS, AsyncTurn, Contender, Turn, contest, timed, timed_async

TITLE = "a trace of the wire"
SYNC = "sync"

_COMMAND = C_APDU(0x00, 0xB0, 0x00, 0x10, b"", 16)
_OFF, _TEXT, _NONE = "send", "send, traced as text", "send, without the hook"


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return repeated(CORES, 2, quick)


def measure(setting: str, quick: bool) -> object:
    """One run."""
    with Place(4 + 2 * len(LOOPS)) as place:
        for each in range(len(place.readers)):
            place.insert(each)
        readers = iter(place.readers)
        contenders = [_sending(_OFF, next(readers)), _sending(_TEXT, next(readers)), _sending(_NONE, next(readers))]
        for loop in LOOPS:
            contenders += [_sending_on_loop(_OFF, loop, next(readers)), _sending_on_loop(_TEXT, loop, next(readers))]
        return contest(contenders, 1, 2) if quick else contest(contenders, 80, 20)


def _without_hook(card: scardface.sync.SCard) -> None:
    """Take the hook out of an open card's session."""
    session: Any = card._session
    transmit = session._handle.transmit

    def bare(data: bytes) -> bytes:
        try:
            answer: bytes = transmit(data)
        except SCardError as error:
            raise session._translate(error) from error
        if len(answer) < 2:
            raise AssertionError(answer)
        return answer

    session._exchanger._transmit = bare


def _sending(what: str, reader: str) -> Contender:
    @contextmanager
    def opened() -> Iterator[Turn]:
        with tempfile.TemporaryFile("w", encoding="utf-8") as file, scardface.sync.SCard(readers=reader, timeout=10) as card:
            if what == _NONE:
                _without_hook(card)
            turn = timed(lambda: card.send(_COMMAND))

            def traced(count: int) -> list[float]:
                with tracing.trace(tracing.TextWriter(file)):
                    return turn(count)

            yield traced if what == _TEXT else turn

    return Contender(f"{what}, {SYNC}", opened)


def _sending_on_loop(what: str, loop: str, reader: str) -> Contender:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        with tempfile.TemporaryFile("w", encoding="utf-8") as file:
            async with scardface.SCard(readers=reader, timeout=10) as card:
                turn = timed_async(lambda: card.send(_COMMAND))

                async def traced(count: int) -> list[float]:
                    with tracing.trace(tracing.TextWriter(file)):
                        return await turn(count)

                yield traced if what == _TEXT else turn

    return Contender(f"{what}, {loop}", opened, loop)


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, COLUMNS, axis="us for one command, card of 0 ms", data=runs)
    everything = add_contest(found, runs, lambda name: f"{_OFF}, {name.rsplit(', ')[-1]}")
    for setting, rounds in everything.items():
        found.verdicts.append(verdict(rounds, f"{_OFF}, {SYNC}", f"{_NONE}, {SYNC}", 1.02, setting))
        for face in (SYNC, *LOOPS):
            found.verdicts.append(verdict(rounds, f"{_TEXT}, {face}", f"{_OFF}, {face}", 1.3, setting))
    found.bars = [(name, 1e6 * median) for name, median in found.bars]
    return found
