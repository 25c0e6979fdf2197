"""A card borrowed from a pool for one command, against that command alone, and against opening a card for it.

- Measured: `with pool.card() as card: card.send(command)`, with one card that is idle; READ BINARY for 16 bytes from a card of 0
ms.
- Against: `card.send(command)` of a card that stays open; and opening, sending and closing, as who has no pool does it.
- All cards are EXCLUSIVE, as is the default, in readers of the same driver: a card cannot be in two hands. A close resets the card
  then, which a card of 0 ms does at once; real cards take 10 ms and more for it.
- It would be unfair to have the pool prepare its cards, and leave that out when one is opened: nothing is prepared in either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import scardface
import scardface.pool
import scardface.sync
from scardface import C_APDU

from ._figures import ratios
from ._place import Place
from ._report import Report, Verdict
from ._tables import COLUMNS, CORES, Runs, add_contest, repeated, verdict
from ._turns import LOOPS, AsyncTurn, Contender, Turn, contest, timed, timed_async

TITLE = "a loan of a card from a pool, with one command"
SYNC = "sync"

_COMMAND = C_APDU(0x00, 0xB0, 0x00, 0x10, b"", 16)
_SEND, _LOAN, _CYCLE = "send", "loan, send", "open, send, close"


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return repeated(CORES, 4, quick)


def measure(setting: str, quick: bool) -> object:
    """One run."""
    with Place(3 * (1 + len(LOOPS))) as place:
        for each in range(len(place.readers)):
            place.insert(each)
        readers = iter(place.readers)
        contenders = [_plain(next(readers)), _loan(next(readers)), _cycle(next(readers))]
        for loop in LOOPS:
            contenders += [
                _plain_on_loop(loop, next(readers)),
                _loan_on_loop(loop, next(readers)),
                _cycle_on_loop(loop, next(readers)),
            ]
        return contest(contenders, 1, 2) if quick else contest(contenders, 60, 20)


def _plain(reader: str) -> Contender:
    @contextmanager
    def opened() -> Iterator[Turn]:
        with scardface.sync.SCard(readers=reader, timeout=10) as card:
            yield timed(lambda: card.send(_COMMAND))

    return Contender(f"{_SEND}, {SYNC}", opened)


def _loan(reader: str) -> Contender:
    @contextmanager
    def opened() -> Iterator[Turn]:
        with scardface.sync.CardPool(readers=reader, timeout=10) as pool:

            def loan() -> None:
                with pool.card() as card:
                    card.send(_COMMAND)

            yield timed(loan)

    return Contender(f"{_LOAN}, {SYNC}", opened)


def _cycle(reader: str) -> Contender:
    def cycle() -> None:
        with scardface.sync.SCard(readers=reader, timeout=10) as card:
            card.send(_COMMAND)

    @contextmanager
    def opened() -> Iterator[Turn]:
        yield timed(cycle)

    return Contender(f"{_CYCLE}, {SYNC}", opened)


def _plain_on_loop(loop: str, reader: str) -> Contender:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        async with scardface.SCard(readers=reader, timeout=10) as card:
            yield timed_async(lambda: card.send(_COMMAND))

    return Contender(f"{_SEND}, {loop}", opened, loop)


def _loan_on_loop(loop: str, reader: str) -> Contender:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        async with scardface.pool.CardPool(readers=reader, timeout=10) as pool:

            async def loan() -> None:
                async with pool.card() as card:
                    await card.send(_COMMAND)

            yield timed_async(loan)

    return Contender(f"{_LOAN}, {loop}", opened, loop)


def _cycle_on_loop(loop: str, reader: str) -> Contender:
    async def cycle() -> None:
        async with scardface.SCard(readers=reader, timeout=10) as card:
            await card.send(_COMMAND)

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        yield timed_async(cycle)

    return Contender(f"{_CYCLE}, {loop}", opened, loop)


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, COLUMNS, axis="us for one command, card of 0 ms", data=runs)
    everything = add_contest(found, runs, lambda name: f"{_SEND}, {name.rsplit(', ')[-1]}")
    for setting, rounds in everything.items():
        for face in (SYNC, *LOOPS):
            found.verdicts.append(verdict(rounds, f"{_LOAN}, {face}", f"{_SEND}, {face}", 1.1, setting))
        for face in (SYNC, *LOOPS):
            ratio = ratios(rounds, f"{_CYCLE}, {face}", f"{_LOAN}, {face}")
            what = f"loans per second / cycles of open, send, close per second, {face}, {setting}"
            found.verdicts.append(Verdict(what, ratio.median, ">=", 2, ratio))
    found.bars = [(name, 1e6 * median) for name, median in found.bars]
    return found
