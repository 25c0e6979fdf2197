"""A card borrowed from a pool for one command, against that command alone, and against opening a card for it.

- Measured: `with pool.card() as card: card.send(command)`, with one card, which is idle; READ BINARY for 16 bytes from a card of
  0 ms.
- Against: `card.send(command)`, of the same card in the same thread or event loop, in turns: there it is lent for the whole turn.
  And opening, sending and closing, in a reader of its own, as who has no pool does it.
- All cards are EXCLUSIVE, as is the default. A close resets the card then, which a card of 0 ms does at once; real cards take 10 ms
  and more for it.
- It would be unfair to have the pool prepare its cards, and leave that out when one is opened: nothing is prepared in either. And
  to have a contender each in its own reader: readers differ by more than what a loan costs.
"""

from __future__ import annotations

import random

import scardface
import scardface.pool
import scardface.sync
from scardface import C_APDU

from ._figures import ratios
from ._place import Place
from ._report import Report, Verdict
from ._tables import COLUMNS, CORES, Runs, add_contest, repeated, verdict
from ._turns import LOOPS, run_in_loop, timed, timed_async

TITLE = "a loan of a card from a pool, with one command"
SYNC = "sync"

_COMMAND = C_APDU(0x00, 0xB0, 0x00, 0x10, b"", 16)
_SEND, _LOAN, _CYCLE = "send", "loan, send", "open, send, close"


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return repeated(CORES, 2, quick)


def measure(setting: str, quick: bool) -> object:
    """One run."""
    rounds, count = (1, 2) if quick else (100, 20)
    with Place(2) as place:
        for each in range(2):
            place.insert(each)
        found = _sync(*place.readers, rounds, count)
        for loop in LOOPS:
            found |= run_in_loop(loop, _async, loop, *place.readers, rounds, count)
    return found


def _orders(rounds: int) -> list[list[str]]:
    """Who plays when."""
    order = random.Random(7)
    return [order.sample((_SEND, _LOAN, _CYCLE), 3) for _ in range(rounds)]


def _sync(reader: str, other: str, rounds: int, count: int) -> dict[str, list[list[float]]]:
    times: dict[str, list[list[float]]] = {f"{what}, {SYNC}": [] for what in (_SEND, _LOAN, _CYCLE)}

    def loan() -> None:
        with pool.card() as card:
            card.send(_COMMAND)

    def cycle() -> None:
        with scardface.sync.SCard(readers=other, timeout=10) as card:
            card.send(_COMMAND)

    def send() -> list[float]:
        with pool.card() as card:
            return timed(lambda: card.send(_COMMAND))(count)

    with scardface.sync.CardPool(readers=reader, timeout=10) as pool:
        for order in _orders(rounds):
            for what in order:
                taken = send() if what == _SEND else timed(loan if what == _LOAN else cycle)(count)
                times[f"{what}, {SYNC}"].append(taken)
    return times


async def _async(loop: str, reader: str, other: str, rounds: int, count: int) -> dict[str, list[list[float]]]:
    times: dict[str, list[list[float]]] = {f"{what}, {loop}": [] for what in (_SEND, _LOAN, _CYCLE)}

    async def loan() -> None:
        async with pool.card() as card:
            await card.send(_COMMAND)

    async def cycle() -> None:
        async with scardface.SCard(readers=other, timeout=10) as card:
            await card.send(_COMMAND)

    async def send() -> list[float]:
        async with pool.card() as card:
            return await timed_async(lambda: card.send(_COMMAND))(count)

    async with scardface.pool.CardPool(readers=reader, timeout=10) as pool:
        for order in _orders(rounds):
            for what in order:
                taken = await send() if what == _SEND else await timed_async(loan if what == _LOAN else cycle)(count)
                times[f"{what}, {loop}"].append(taken)
    return times


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
