"""A storm over a pool: many tasks borrow, while cards are pulled and put in at random and the service dies.

Rules:

- Each task goes on until the last disturbance, and until it has had its loans. What may end one is the named error of what was done
  to its card, or a cancel of the task's own; then it asks again. Anything else is a fault.
- Cards say themselves whether they were lent twice: from the BEGIN of a loan to its END they take the commands of no other one. So
  does the storm, by the cards that it holds.
- Some cards refuse the PIN. They are pulled and put in like all others, and must count one wrong PIN at most.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import anyio

from scardface import C_APDU, CardCommunicationError, CardRemovedError, CardTimeoutError, SCardError, ServiceUnavailableError, sync
from scardface.pool import CardPool
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.pins import SELECT, VERIFY, PinCard

BEGIN, WORK, END = 0x10, 0x12, 0x14
OF_THE_CARD = (CardRemovedError, ServiceUnavailableError, CardCommunicationError)
"""What may end a loan whose card is pulled, or whose service dies."""
BOUND = 120.0
"""Seconds without any loan after which the storm is stuck."""


class Witness(PinCard):
    """A card that says whether it was lent twice."""

    def __init__(self, name: str, pin: bytes, faults: list[str]) -> None:
        super().__init__(name, pin)
        self._faults = faults
        self._loan = b""

    def process(self, command: bytes) -> bytes:
        if command[0] != 0x80:
            return super().process(command)
        loan = command[5:9]
        if not self.verified:
            self._faults.append(f"{self.name}: lent without its PIN")
        if command[1] != BEGIN and self._loan != loan:
            self._faults.append(f"{self.name}: a command of loan {loan.hex()} in loan {self._loan.hex()}")
        self._loan = loan
        return b"\x90\x00"


class World(Protocol):
    """Where cards are put in and taken out."""

    names: list[str]

    def insert(self, reader: int, card: PinCard) -> None: ...

    def remove(self, reader: int) -> None: ...

    def await_card(self, reader: int) -> None: ...

    def kill(self) -> None: ...

    def start(self) -> None: ...


class Simulated:
    """The simulation."""

    def __init__(self, pcsc: SimulatedPCSC, readers: int) -> None:
        self._pcsc = pcsc
        self.names = [f"Reader {number:02}" for number in range(readers)]
        for name in self.names:
            pcsc.add_reader(name)

    def insert(self, reader: int, card: PinCard) -> None:
        self._pcsc.insert(self.names[reader], card)

    def remove(self, reader: int) -> None:
        self._pcsc.remove(self.names[reader])

    def await_card(self, reader: int) -> None:
        """It is seen at once."""

    def kill(self) -> None:
        self._pcsc.stop_service()

    def start(self) -> None:
        self._pcsc.start_service()


class Real:
    """A real pcscd. It polls its readers: a card that is swapped between two polls is the same one to it, so none is."""

    def __init__(self, pcscd: PrivatePcscd) -> None:
        self._pcscd = pcscd
        self.names = list(pcscd.readers)

    def insert(self, reader: int, card: PinCard) -> None:
        self._pcscd.wait_for_removal(reader)
        self._pcscd.insert(reader, card)

    def remove(self, reader: int) -> None:
        self._pcscd.remove(reader)

    def await_card(self, reader: int) -> None:
        self._pcscd.wait_for_card(reader)

    def kill(self) -> None:
        self._pcscd.kill()

    def start(self) -> None:
        self._pcscd.start()


class PoolStorm:
    """One storm.

    Args:
        tasks: how many tasks borrow.
        turns: how many loans each of them wants at least.
        disturbances: how often a card is moved or the service killed.
        deaths: how many of these are the service's.
        pause: seconds between two disturbances, at most.

    Attributes:
        faults: what must not be.
        counted: what happened.
    """

    def __init__(
        self, world: World, seed: int, *, tasks: int, turns: int, disturbances: int, deaths: int, pause: float, bad: int = 3
    ) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.tasks, self.turns, self.disturbances, self.pause = tasks, turns, disturbances, pause
        self.faults: list[str] = []
        self.counted: Counter[str] = Counter()
        self.longest = 0.0
        self.calm = False
        readers = len(world.names)
        self.bad = [Witness(f"bad {number}", b"9999", self.faults) for number in range(bad)]
        self.good = [Witness(f"good {number}", b"1234", self.faults) for number in range(readers)]
        self._deck: list[Witness] = [*self.bad, *self.good]
        self._in: dict[int, Witness] = {}
        self._out: dict[int, Witness] = {}  # taken out, since they were set aside, and to be put in again
        self._numbers = itertools.count(1)
        self._held: set[int] = set()
        self._deaths = set(self.dice.sample(range(disturbances), deaths))

    # Disturbances.

    def disturb(self, number: int) -> None:
        """One of them."""
        if number in self._deaths:
            self.counted["deaths of the service"] += 1
            self.world.kill()
            self.world.start()
            return
        reader = self.dice.randrange(len(self.world.names))
        if reader in self._in:
            self.counted["cards pulled"] += 1
            self.world.remove(reader)
            self._deck.append(self._in.pop(reader))
        else:
            self.counted["cards put in"] += 1
            card = self._deck.pop(self.dice.randrange(len(self._deck)))
            self._in[reader] = card
            self.world.insert(reader, card)

    def fill(self) -> None:
        """The last disturbance: good cards into all readers but those that have a bad one."""
        good = [card for card in self._deck if card in self.good]
        for reader in range(len(self.world.names)):
            if reader not in self._in:
                self._in[reader] = good.pop()
                self._deck.remove(self._in[reader])
                self.world.insert(reader, self._in[reader])
        self.calm = True

    def take_out_and_put_in(self, aside: Collection[str]) -> None:
        """Good cards that are set aside are taken out, and put in once the pool has noticed, as a person would do.

        Where one has come around a restart of the service, unseen, in the place of one whose PIN was refused, nothing tells that it
        is another one. PC/SC must have seen it: a reader that a restarted service has never seen a card in may have the old one.
        """
        names = self.world.names
        for reader, card in list(self._in.items()):
            if names[reader] in aside and card in self.good and self._deaths:
                self.world.await_card(reader)
                self.world.remove(reader)
                self._out[reader] = self._in.pop(reader)
                self.counted["cards taken out that were set aside"] += 1
        for reader, card in list(self._out.items()):
            if names[reader] not in aside:
                self.world.insert(reader, card)
                self._in[reader] = self._out.pop(reader)

    def is_settled(self, pool: Any) -> bool:
        """Whether all good cards are back."""
        return not self._out and pool.stats().idle == self.good_cards_in()

    def good_cards_in(self) -> int:
        """How many of the cards that are in can be lent."""
        return sum(card in self.good for card in self._in.values())

    def _in_reader(self, name: str) -> str:
        card = self._in.get(self.world.names.index(name))
        return "nothing" if card is None else card.name

    # Loans.

    def begin(self, card: Any) -> tuple[bytes, float]:
        """A loan has begun."""
        if id(card) in self._held:
            self.faults.append(f"{card!r} is lent twice")
        self._held.add(id(card))
        self.counted["loans"] += 1
        return next(self._numbers).to_bytes(4, "big"), time.monotonic()

    def end(self, card: Any) -> None:
        """It has ended."""
        self._held.discard(id(card))

    def commands(self, loan: bytes) -> list[C_APDU]:
        """What one loan sends."""
        work = [C_APDU(0x80, WORK, 0, 0, loan)] * self.dice.randrange(4)
        return [C_APDU(0x80, BEGIN, 0, 0, loan), *work, C_APDU(0x80, END, 0, 0, loan)]

    def error(self, error: BaseException) -> None:
        """A loan has ended with an error."""
        if isinstance(error, OF_THE_CARD):
            self.counted[type(error).__name__] += 1
        else:
            self.faults.append(f"a loan ended with {error!r}")

    def check(self, pool: Any) -> None:
        """What must hold when all tasks have ended and the good cards are back."""
        stats = pool.stats()
        if self._out:
            self.faults.append(f"the pool has not noticed that {[card.name for card in self._out.values()]} were taken out")
        if self.counted["tasks that ended"] != self.tasks or self.counted["loans done"] < self.tasks * self.turns:
            self.faults.append(f"{self.counted['loans done']} loans were done by {self.counted['tasks that ended']} tasks")
        if stats.lent or stats.waiting or stats.preparing or stats.idle != self.good_cards_in():
            self.faults.append(f"at the end {self.good_cards_in()} good cards are in, and the pool has {stats}")
            self.faults += [f"{reader} ({self._in_reader(reader)}): {error!r}" for reader, error in pool.set_aside.items()]
        if stats.loans < self.counted["loans"]:
            self.faults.append(f"the pool counts {stats.loans} loans, the tasks {self.counted['loans']}")
        self.faults += [f"{card.name} was sent a wrong PIN {card.wrong} times" for card in self.bad if card.wrong > 1]
        self.faults += [f"{card.name} has {card.left} tries left" for card in self.good if card.left != 3]
        self.counted["PINs refused"] = sum(card.wrong for card in self.bad)
        self.counted["counters asked for"] = sum(card.asked for card in [*self.bad, *self.good])
        self.counted["cards prepared"] = stats.prepared
        self.counted["cards lost"] = stats.lost

    # The async face.

    async def run(self, off_loop: Callable[..., Any], **words: Any) -> None:
        """The storm on the async face."""

        async def prepare(card: Any) -> None:
            (await card.send(SELECT)).check()
            (await card.send(VERIFY)).check()

        async with CardPool(min_cards=0, prepare=prepare, **words) as pool:
            async with anyio.create_task_group() as tasks:
                for _ in range(self.tasks):
                    tasks.start_soon(self._task, pool)
                for number in range(self.disturbances):
                    await off_loop(self.disturb, number)
                    await anyio.sleep(self.dice.random() * self.pause)
                await off_loop(self.fill)
            with anyio.move_on_after(BOUND):  # after which `check` tells what is not as it should be
                while not self.is_settled(pool):
                    await off_loop(self.take_out_and_put_in, list(pool.set_aside))
                    await anyio.sleep(0.01)
            self.check(pool)

    async def _task(self, pool: CardPool) -> None:
        done = 0
        while done < self.turns or not self.calm:
            asked = time.monotonic()
            try:
                with anyio.move_on_after(self.dice.random() * 0.05 if self.dice.random() < 0.1 else BOUND) as scope:
                    async with pool.card(timeout=BOUND) as card:
                        loan, begun = self.begin(card)
                        try:
                            self.longest = max(self.longest, begun - asked)
                            for command in self.commands(loan):
                                (await card.send(command)).check()
                                await anyio.sleep(self.dice.choice((0, 0, 0.002)))
                        finally:
                            self.end(card)
                    done += 1
                    self.counted["loans done"] += 1
                self.counted["cancelled"] += scope.cancelled_caught
            except (SCardError, RuntimeError) as error:
                self.error(error)
                if isinstance(error, CardTimeoutError):
                    return
        self.counted["tasks that ended"] += 1

    # The sync face.

    def run_sync(self, threads: int, **words: Any) -> None:
        """The storm on the sync face, with so many threads for the tasks."""

        def prepare(card: Any) -> None:
            card.send(SELECT).check()
            card.send(VERIFY).check()

        with sync.CardPool(min_cards=0, prepare=prepare, **words) as pool:
            with ThreadPoolExecutor(threads) as workers:
                running = [workers.submit(self._thread, pool) for _ in range(self.tasks)]
                for number in range(self.disturbances):
                    self.disturb(number)
                    time.sleep(self.dice.random() * self.pause)
                self.fill()
                for each in running:
                    each.result()
            end = time.monotonic() + BOUND
            while not self.is_settled(pool) and time.monotonic() < end:
                self.take_out_and_put_in(list(pool.set_aside))
                time.sleep(0.01)
            self.check(pool)

    _counting = threading.Lock()

    def _thread(self, pool: sync.CardPool) -> None:
        done = 0
        while done < self.turns or not self.calm:
            asked = time.monotonic()
            try:
                with pool.card(timeout=BOUND) as card:
                    with self._counting:
                        loan, begun = self.begin(card)
                        self.longest = max(self.longest, begun - asked)
                    try:
                        for command in self.commands(loan):
                            card.send(command).check()
                    finally:
                        with self._counting:
                            self.end(card)
                done += 1
                with self._counting:
                    self.counted["loans done"] += 1
            except (SCardError, RuntimeError) as error:
                with self._counting:
                    self.error(error)
                if isinstance(error, CardTimeoutError):
                    return
        with self._counting:
            self.counted["tasks that ended"] += 1
