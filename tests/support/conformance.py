"""Two worlds that a conformance test moves with the same verbs: the simulated PC/SC, and the real pcscd with its virtual readers.

Rules:

- A verb returns once PC/SC reports what it did; `yank` alone returns before.
- Nobody sleeps to be on the safe side: the real driver reads a card's ATR at each poll, so the card reports when it has polled.
- Behind `world.backend` both worlds are the same; a test that asks which one it is in is no conformance test.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from scardface._enums import Disposition, ShareMode, StateFlag
from scardface._enums import Protocol as CardProtocol
from scardface._pcsc.backend import Backend, CardHandle, Context
from scardface._pcsc.reader_states import status_change
from scardface.errors import SCardError
from scardface.testing import PrivatePcscd, SimulatedPCSC, VirtualCard
from tests.support.versions import pcscd_version

ANY = CardProtocol.T0 | CardProtocol.T1
NO_PROTOCOL = CardProtocol.UNDEFINED
T0_AND_T1 = bytes.fromhex("3b80800101")
SELECT = bytes.fromhex("00a40000")

PATIENCE = 30.0
"""Seconds after which something that must happen has not happened."""
A_WHILE = 0.1
"""Seconds in which something that must not happen would have happened."""


class Card(VirtualCard):
    """A card that answers a command's bytes after the first four, then 9000, and tells what happens to it."""

    def __init__(self, atr: bytes = T0_AND_T1) -> None:
        self._atr = atr
        self._polls = 0
        self._polled = threading.Condition()
        self.log: list[str] = []
        self.logged = threading.Condition()

    @property
    def atr(self) -> bytes:
        with self._polled:
            self._polls += 1
            self._polled.notify_all()
        return self._atr

    @atr.setter
    def atr(self, atr: bytes) -> None:
        self._atr = atr

    def wait_for_polls(self, count: int) -> None:
        """Return when the reader's driver has looked so many times from now on."""
        with self._polled:
            end = self._polls + count
            assert self._polled.wait_for(lambda: self._polls >= end, PATIENCE), "the driver does not poll its reader"

    def wait_for_log(self, *words: str) -> None:
        """Return when the log is `words`."""
        with self.logged:
            assert self.logged.wait_for(lambda: self.log == list(words), PATIENCE), f"{self.log}, not {list(words)}"

    def _tell(self, word: str) -> None:
        with self.logged:
            self.log.append(word)
            self.logged.notify_all()

    def power_on(self) -> None:
        self._tell("on")

    def power_off(self) -> None:
        self._tell("off")

    def reset(self) -> None:
        self._tell("reset")

    def process(self, command: bytes) -> bytes:
        return command[4:] + b"\x90\x00"


class SlowCard(Card):
    """A card that takes its time: it answers when `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.go = threading.Event()

    def process(self, command: bytes) -> bytes:
        self.asked.set()
        self.go.wait(PATIENCE)
        return b"\x90\x00"


class World(Protocol):
    """What a test may do.

    Attributes:
        readers: the names of the readers that its verbs count. The first is empty when a test begins, the others after `clear`.
        listed: the names in PC/SC's order.
        poll_ms: milliseconds within which the driver certainly polls its readers.
        takes_seventeen: a status call takes more than 16 entries (pcscd 2.5).
    """

    backend: Backend
    readers: tuple[str, ...]
    listed: tuple[str, ...]
    poll_ms: int

    @property
    def takes_seventeen(self) -> bool: ...

    @property
    def card(self) -> Card:
        """The card in the first reader, which is there when a test begins that asked for it."""

    def clear(self) -> None:
        """Return when no card is in."""

    def insert(self, reader: int, card: VirtualCard) -> None:
        """Put a card in."""

    def remove(self, reader: int) -> VirtualCard:
        """Take the card out."""

    def yank(self, reader: int) -> None:
        """Take the card out; return before the driver has looked."""

    def between_polls(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the driver does not poll; in the real world that is only likely, if the block is short."""

    def let_driver_poll(self, *cards: Card) -> None:
        """Return when the driver has looked at the readers of all `cards`."""

    def let_driver_rest(self, card: Card) -> None:
        """Return when a card that nobody uses was switched off."""

    def stop(self) -> None:
        """Stop the service."""

    def start(self) -> None:
        """Start the service again; cards that are in are seen."""


_tests = itertools.count()


class RealWorld:
    """The private pcscd.

    The driver takes up to 0.4 s to see that a card came or went. So tests that want just a card share one, the standing card, as
    long as none takes it out; it has a reader of its own, and is reset in between. Other tests begin at another reader each, since
    cards of the test before may still be on their way out.
    """

    poll_ms = 2000

    @property
    def takes_seventeen(self) -> bool:
        return pcscd_version() >= (2, 5)

    def __init__(self, pcscd: PrivatePcscd, backend: Backend, *, with_card: bool) -> None:
        self._pcscd = pcscd
        self.backend = backend
        self.listed = pcscd.readers
        *others, standing = self.listed
        first = next(_tests) % len(others)
        others = others[first:] + others[:first]
        self.readers = (standing, *others) if with_card else (*others, standing)
        self._standing = standing
        if with_card and standing not in pcscd.cards:
            self.insert(0, Card())
        elif not with_card:
            pcscd.wait_for_removal(self.readers[0])

    @property
    def card(self) -> Card:
        card = self._pcscd.cards[self._standing]
        assert isinstance(card, Card)
        return card

    def end(self) -> None:
        """The test is over: take its cards out, but for the standing one, which is made as good as new."""
        for reader in set(self._pcscd.cards) - {self._standing}:
            self._pcscd.remove(reader)
        if not self._pcscd.running:
            self.start()
        if self._standing in self._pcscd.cards:
            context = self.backend.establish()
            context.connect(self._standing, ShareMode.DIRECT, NO_PROTOCOL).disconnect(Disposition.RESET)
            context.release()
            self.card.log.clear()

    def clear(self) -> None:
        self._pcscd.remove_all()
        for reader in self.readers:
            self._pcscd.wait_for_removal(reader)

    def insert(self, reader: int, card: VirtualCard) -> None:
        self._pcscd.wait_for_removal(self.readers[reader])
        self._pcscd.insert(self.readers[reader], card)
        self._pcscd.wait_for_card(self.readers[reader])

    def remove(self, reader: int) -> VirtualCard:
        try:
            return self._pcscd.remove(self.readers[reader])
        finally:
            self._pcscd.wait_for_removal(self.readers[reader])

    def yank(self, reader: int) -> None:
        self._pcscd.remove(self.readers[reader])

    def between_polls(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def let_driver_poll(self, *cards: Card) -> None:
        for card in cards:
            card.wait_for_polls(2)  # the first may have begun before

    def let_driver_rest(self, card: Card) -> None:
        card.wait_for_log(*card.log, "off")

    def stop(self) -> None:
        self._pcscd.stop()

    def start(self) -> None:
        self._pcscd.start()
        for reader in self._pcscd.cards:
            self._pcscd.wait_for_card(reader)


class SimulatedWorld:
    """The simulation, with readers that are called as the real ones are."""

    poll_ms = 150
    takes_seventeen = False

    def __init__(self, pcsc: SimulatedPCSC, *, with_card: bool) -> None:
        self.backend: Backend = pcsc
        self._pcsc = pcsc
        for name in ("Virtual PCD 0 00 00", "Virtual PCD 0 00 01", "Virtual PCD 1 00 00", "Virtual PCD 1 00 01"):
            pcsc.add_reader(name)
        self.readers = self.listed = pcsc.readers
        self._card = Card()
        if with_card:
            self.insert(0, self._card)
            self._card.log.clear()

    @property
    def card(self) -> Card:
        return self._card

    def clear(self) -> None:
        assert not self._pcsc.cards

    def insert(self, reader: int, card: VirtualCard) -> None:
        self._pcsc.insert(reader, card)

    def remove(self, reader: int) -> VirtualCard:
        return self._pcsc.remove(reader)

    def yank(self, reader: int) -> None:
        self._pcsc.driver_polls = False
        self._pcsc.remove(reader)

    @contextlib.contextmanager
    def between_polls(self) -> Iterator[None]:
        self._pcsc.driver_polls = False
        yield
        self._pcsc.driver_polls = True

    def let_driver_poll(self, *cards: Card) -> None:
        self._pcsc.driver_polls = True

    def let_driver_rest(self, card: Card) -> None:
        before = list(card.log)
        self._pcsc.poll()
        self._pcsc.poll()
        card.wait_for_log(*before, "off")

    def stop(self) -> None:
        self._pcsc.stop_service()

    def start(self) -> None:
        self._pcsc.start_service()


class Call:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self._ended = threading.Event()
        self._outcome: Any = None
        self._thread = threading.Thread(target=self._run, args=(call, args), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self._outcome = call(*args)
        except Exception as error:
            self._outcome = error
        self._ended.set()

    def ended(self, within: float = A_WHILE) -> bool:
        """Whether it ends in that time (seconds)."""
        return self._ended.wait(within)

    def result(self) -> Any:
        """What it returned or raised, once it has ended."""
        assert self._ended.wait(PATIENCE), "the call does not return"
        self._thread.join()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def code(self) -> int:
        """The code it ended with; 0: success."""
        return code_of(self.result)


def rounds() -> Iterator[None]:
    """One try after the other, until the real driver has not looked in between, which a busy machine cannot promise.

    The caller must know that of each try, by something else than by what it asserts then: by the state of the reader, or because
    less time went by than the driver sleeps between two looks.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        yield
    raise AssertionError("the driver always looked in between, as it seems")


def code_of(call: Callable[..., object], *args: Any) -> int:
    """The code of PC/SC that a call answers; 0: success."""
    try:
        call(*args)
    except SCardError as error:
        return error.code
    return 0


def state_of(context: Context, reader: str) -> int:
    """A reader's state as it is now, without CHANGED: fit to be waited with."""
    return status_change(context, 0, [(reader, StateFlag.UNAWARE)]).entries[0].state & ~int(StateFlag.CHANGED)


def flags(state: int) -> StateFlag:
    """The lower half of a state."""
    return StateFlag(state & 0xFFFF)


def counter(state: int) -> int:
    """The upper half of a state."""
    return state >> 16


def share(context: Context, reader: str, protocols: CardProtocol = ANY) -> CardHandle:
    """A SHARED handle."""
    return context.connect(reader, ShareMode.SHARED, protocols)
