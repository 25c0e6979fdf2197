"""Contenders take turns.

Rules:

- Each contender lives in a thread of its own, with an event loop of its own if it needs one, from the first round to the last: its
  card stays open, its threads stay kept. While one plays all others are blocked, and use no processor.
- A round is one turn of each, in an order that is drawn anew for every round. The first exchange of a turn is not counted: it finds
  cold caches, whichever contender it belongs to.
- What would make it unfair: a turn so long that the machine changes within a round, or one so short that its first exchange counts.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import anyio
import anyio.to_thread

__all__ = ["LOOPS", "AsyncTurn", "Contender", "Turn", "calling", "contest", "run_in_loop", "timed", "timed_async"]

LOOPS = ("asyncio", "uvloop", "trio")

Turn = Callable[[int], list[float]]
"""Does something so many times; the seconds that each took."""
AsyncTurn = Callable[[int], Awaitable[list[float]]]


@dataclass(frozen=True)
class Contender:
    """Who takes part.

    Attributes:
        name: for the table.
        opened: gives a context manager around all turns, an async one if there is a loop; it yields the turn.
        loop: one of `LOOPS`; None: a thread without a loop.
    """

    name: str
    opened: Callable[[], AbstractContextManager[Turn]] | Callable[[], AbstractAsyncContextManager[AsyncTurn]]
    loop: str | None = None


def run_in_loop(loop: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """`anyio.run` by the name that tables use."""
    if loop == "trio":
        return anyio.run(function, *args, backend="trio")
    return anyio.run(function, *args, backend="asyncio", backend_options={"use_uvloop": loop == "uvloop"})


def timed(call: Callable[[], object]) -> Turn:
    """A turn of calling `call`."""

    def turn(count: int) -> list[float]:
        clock = time.perf_counter
        times = []
        call()
        for _ in range(count):
            begun = clock()
            call()
            times.append(clock() - begun)
        return times

    return turn


def timed_async(call: Callable[[], Awaitable[object]]) -> AsyncTurn:
    """A turn of awaiting `call()`."""

    async def turn(count: int) -> list[float]:
        clock = time.perf_counter
        times = []
        await call()
        for _ in range(count):
            begun = clock()
            await call()
            times.append(clock() - begun)
        return times

    return turn


def calling(call: Callable[[], object]) -> Callable[[], AbstractContextManager[Turn]]:
    """For a contender that needs nothing opened."""

    @contextmanager
    def opened() -> Iterator[Turn]:
        yield timed(call)

    return opened


class _Player:
    """One contender's thread."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._asked: SimpleQueue[int] = SimpleQueue()
        self._answers: SimpleQueue[list[float] | BaseException] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=contender.name, daemon=True)
        self._thread.start()

    def play(self, count: int) -> list[float]:
        """One turn."""
        self._asked.put(count)
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise RuntimeError(f"{self._contender.name} failed") from answer
        return answer

    def leave(self) -> None:
        """Close what it has open."""
        self._asked.put(0)
        self._thread.join(20)

    def _run(self) -> None:
        opened: Any = self._contender.opened
        try:
            if self._contender.loop is not None:
                run_in_loop(self._contender.loop, self._play_async, opened)
                return
            with opened() as turn:
                while count := self._asked.get():
                    self._answers.put(turn(count))
        except BaseException as error:
            self._answers.put(error)

    async def _play_async(self, opened: Callable[[], AbstractAsyncContextManager[AsyncTurn]]) -> None:
        async with opened() as turn:
            while count := await anyio.to_thread.run_sync(self._asked.get):
                self._answers.put(await turn(count))


@contextmanager
def _players(contenders: Sequence[Contender]) -> Iterator[list[tuple[str, _Player]]]:
    players: list[tuple[str, _Player]] = []
    try:
        for contender in contenders:
            player = _Player(contender)
            players.append((contender.name, player))
            player.play(1)  # open, and warm
        yield players
    finally:
        for _, player in players:
            player.leave()


def contest(contenders: Sequence[Contender], rounds: int, count: int) -> dict[str, list[list[float]]]:
    """Let all take turns.

    Args:
        contenders: at least one.
        rounds: how many turns each gets.
        count: how many times are taken in one turn.

    Returns:
        Contender to rounds to times.
    """
    order = random.Random(7)
    times: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    with _players(contenders) as players:
        for _ in range(rounds):
            for name, player in order.sample(players, len(players)):
                times[name].append(player.play(count))
    return times
