"""The promise: whatever order readers, cards, the service and the program's calls come in, what the library says is what is so.

Proved here: hypothesis moves a simulated PC/SC and the sync face at random, beside a model of one page that knows who can have
which card; after each move the library, a monitor and the model agree, and nothing hangs. Proved elsewhere: the table of
waiters against a model of its own (_waiting/test_dispatcher.py), the simulation against pcscd (testing/test_conformance.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from scardface import (
    C_APDU,
    CardInserted,
    CardRemoved,
    CardRemovedError,
    CardTimeoutError,
    NoReaderError,
    ReaderAdded,
    ReaderRemoved,
    ServiceDown,
    ServiceUnavailableError,
    ServiceUp,
    ShareMode,
    WaitCancelledError,
    sync,
)
from scardface._threads import spawn
from scardface.testing import SimulatedPCSC
from tests.support import census
from tests.support.cards import ECHO, LogCard
from tests.support.figures import tell, times
from tests.support.waits import wait_until, waiters

NAMES = ("A", "B")
BOUND = 30.0
"""Seconds after which something hangs."""


@dataclass(eq=False)
class Place:
    """The model of a reader: from its plug to its unplug."""

    name: str
    card: LogCard | None = None


@dataclass(eq=False)
class Waiting:
    """The model of a program's thread that waits for something, with what came of it."""

    share: ShareMode
    card: list[sync.SCard] = field(default_factory=list)
    outcome: SimpleQueue[Any] = field(default_factory=SimpleQueue)

    def begin(self, call: Callable[[], object]) -> None:
        """Have a thread wait."""

        def run() -> None:
            try:
                self.outcome.put(call())
            except BaseException as error:
                self.outcome.put(error)

        spawn("program", run)


@dataclass(eq=False)
class Open:
    """The model of an open card: which card, in which reader, in which life of the service."""

    card: sync.SCard
    place: Place
    inserted: LogCard
    life: int
    share: ShareMode
    removal: SimpleQueue[Any] | None = None


class _Began(sync.SCard):
    """A card that can be cancelled while its constructor waits."""

    def __init__(self, began: list[sync.SCard], **kwargs: Any) -> None:
        began.append(self)
        super().__init__(**kwargs)


class Life(RuleBasedStateMachine):
    """The library, the simulation and the model."""

    steps = 0

    @initialize()
    def begin(self) -> None:
        """An empty PC/SC, and a monitor that watches from the start."""
        self.before = census.take()
        self.pcsc = SimulatedPCSC()
        self.places: dict[str, Place] = {}
        self.running, self.life = True, 0
        self.cards: list[Open] = []
        self.line: list[Waiting] = []
        self.monitor = sync.ReaderMonitor(backend=self.pcsc).__enter__()
        self.believed: dict[str, bool] = {}
        self.up = True

    def teardown(self) -> None:
        """Everything ends, and nothing is left."""
        if not hasattr(self, "pcsc"):
            return
        for waiting in self.line:
            waiting.card[0].cancel()
            assert isinstance(waiting.outcome.get(timeout=BOUND), WaitCancelledError)
        for card in self.cards:
            card.card.close()
        self.monitor.__exit__(None, None, None)
        wait_until(lambda: not self.pcsc.open_contexts)
        self.pcsc.close()
        census.settle(self.before)

    # The world.

    @precondition(lambda self: len(self.places) < len(NAMES))
    @rule(number=st.integers(0, 2))
    def plug(self, number: int) -> None:
        """A reader comes."""
        free = [name for name in NAMES if name not in self.places]
        name = free[number % len(free)]
        self.pcsc.add_reader(name)
        self.places[name] = Place(name)

    @precondition(lambda self: self.places)
    @rule(number=st.integers(0, 2))
    def unplug(self, number: int) -> None:
        """A reader goes, with its card."""
        name = list(self.places)[number % len(self.places)]
        self.pcsc.remove_reader(name)
        self.places.pop(name).card = None

    @precondition(lambda self: any(place.card is None for place in self.places.values()))
    @rule(number=st.integers(0, 2))
    def insert(self, number: int) -> None:
        """A card comes."""
        free = [place for place in self.places.values() if place.card is None]
        place = free[number % len(free)]
        place.card = LogCard()
        self.pcsc.insert(place.name, place.card)

    @precondition(lambda self: any(place.card for place in self.places.values()))
    @rule(number=st.integers(0, 2))
    def remove(self, number: int) -> None:
        """A card goes."""
        taken = [place for place in self.places.values() if place.card]
        place = taken[number % len(taken)]
        self.pcsc.remove(place.name)
        place.card = None

    @precondition(lambda self: self.running)
    @rule()
    def stop(self) -> None:
        """The service stops."""
        self.pcsc.stop_service()
        self.running = False
        self.life += 1

    @precondition(lambda self: not self.running)
    @rule()
    def start(self) -> None:
        """The service starts."""
        self.pcsc.start_service()
        self.running = True

    # The program.

    def _free_for(self, share: ShareMode) -> Place | None:
        """The reader whose card a new SCard gets. An old handle keeps its reader, unless it died with it or with the service."""
        if not self.running:
            return None
        for name in self.pcsc.readers:
            place = self.places[name]
            shares = [card.share for card in self.cards if card.place is place and card.life == self.life]
            if place.card and (not shares or {share, *shares} == {ShareMode.SHARED}):
                return place
        return None

    def _opened(self, card: sync.SCard, share: ShareMode, place: Place) -> None:
        assert card.reader == place.name
        assert place.card is not None
        self.cards.append(Open(card, place, place.card, self.life, share))

    @precondition(lambda self: len(self.cards) < 6 and not self.line)
    @rule(share=st.sampled_from((ShareMode.EXCLUSIVE, ShareMode.SHARED)))
    def connect(self, share: ShareMode) -> None:
        """Take a card that is free now."""
        expected = self._free_for(share)
        try:
            card = sync.SCard(timeout=0, share=share, backend=self.pcsc)
        except ServiceUnavailableError:
            assert not self.running
        except NoReaderError:
            assert self.running
            assert not self.places
        except CardTimeoutError:
            assert self.running
            assert self.places
            assert expected is None
        else:
            assert expected is not None
            self._opened(card, share, expected)

    @precondition(lambda self: len(self.line) < 3 and len(self.cards) < 6 and self.running)
    @rule()
    def wait_for_a_card(self) -> None:
        """Wait for any card, for ever."""
        waiting = Waiting(ShareMode.EXCLUSIVE)
        count = len(waiters(self.pcsc))
        free = self._free_for(waiting.share)
        waiting.begin(lambda: _Began(waiting.card, pnp=True, share=waiting.share, backend=self.pcsc))
        if free is None:
            wait_until(lambda: len(waiters(self.pcsc)) == count + 1)
        self.line.append(waiting)

    @precondition(lambda self: self.line)
    @rule(number=st.integers(0, 2))
    def cancel(self, number: int) -> None:
        """Cancel such a wait."""
        waiting = self.line.pop(number % len(self.line))
        waiting.card[0].cancel()
        assert isinstance(waiting.outcome.get(timeout=BOUND), WaitCancelledError)

    @precondition(lambda self: self.cards)
    @rule(number=st.integers(0, 5))
    def send(self, number: int) -> None:
        """Use an open card, which may be gone."""
        card = self.cards[number % len(self.cards)]
        try:
            assert card.card.send(C_APDU(0, ECHO, 0, 0, b"x")).data == b"x"
        except ServiceUnavailableError:
            assert card.life != self.life
        except CardRemovedError:
            assert card.life == self.life
            assert card.place.card is not card.inserted
        else:
            assert card.life == self.life
            assert card.place.card is card.inserted

    @precondition(lambda self: any(card.removal is None for card in self.cards))
    @rule(number=st.integers(0, 5))
    def wait_for_a_removal(self, number: int) -> None:
        """Wait until an open card is gone."""
        idle = [card for card in self.cards if card.removal is None]
        card = idle[number % len(idle)]
        waiting = Waiting(card.share)
        card.removal = waiting.outcome
        waiting.begin(card.card.wait)
        wait_until(lambda: card.card._removals or not waiting.outcome.empty())

    @precondition(lambda self: self.cards)
    @rule(number=st.integers(0, 5))
    def close(self, number: int) -> None:
        """Close an open card."""
        card = self.cards.pop(number % len(self.cards))
        card.card.close()
        if card.removal is not None:
            assert isinstance(card.removal.get(timeout=BOUND), WaitCancelledError)

    # What holds after each move.

    @invariant()
    def the_library_agrees(self) -> None:
        """Waits that have their card end, others do not; the monitor tells of what is so."""
        if not hasattr(self, "pcsc"):
            return
        type(self).steps += 1
        self._settle_line()
        self._settle_removals()
        self._settle_monitor()

    def _settle_line(self) -> None:
        while self.line and (place := self._free_for(self.line[0].share)) is not None:
            first = self.line.pop(0)
            card = first.outcome.get(timeout=BOUND)
            if isinstance(card, BaseException):
                raise card
            self._opened(card, first.share, place)
        assert all(waiting.outcome.empty() for waiting in self.line)

    def _settle_removals(self) -> None:
        for card in self.cards:
            if card.removal is not None and (card.life != self.life or card.place.card is not card.inserted):
                end = card.removal.get(timeout=BOUND)
                assert end is None or (card.life != self.life and isinstance(end, ServiceUnavailableError)), end
                card.removal = None
            assert card.removal is None or card.removal.empty()

    def _settle_monitor(self) -> None:
        end = time.monotonic() + BOUND
        while self.up != self.running or (self.running and self.believed != self._so()):
            assert time.monotonic() < end, f"the monitor believes {self.believed}, and {self._so()} is so"
            self._hear()
        assert {name: state.present for name, state in self.monitor.state.items()} == self.believed

    def _so(self) -> dict[str, bool]:
        return {name: place.card is not None for name, place in self.places.items()}

    def _hear(self) -> None:
        """One event, which must fit those before."""
        bound = threading.Timer(BOUND, self.monitor.__exit__, (None, None, None))  # which ends an iteration that hangs
        bound.start()
        event = next(self.monitor, None)
        bound.cancel()
        bound.join()
        match event:
            case ReaderAdded(reader=reader):
                assert reader not in self.believed
                self.believed[reader] = False
            case ReaderRemoved(reader=reader):
                assert self.believed.pop(reader) is False
            case CardInserted(reader=reader):
                assert self.believed[reader] is False
                self.believed[reader] = True
            case CardRemoved(reader=reader):
                assert self.believed[reader] is True
                self.believed[reader] = False
            case ServiceDown():
                assert self.up
                self.up = False
            case ServiceUp():
                assert not self.up
                self.up = True
            case _:
                raise AssertionError(event)


def test_the_model_and_the_library_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scardface._waiting.watcher.LONGEST_PAUSE", 0.05)  # pauses while the service is down are no matter of order
    for name in ("TAKE_TIMEOUT", "FIRST_QUERY_PRIORITY"):  # who stands still for longer loses a turn, which the model does not know
        monkeypatch.setattr(f"scardface._waiting.dispatcher.{name}", BOUND)
    Life.steps = 0
    examples = times(12, 300)
    run_state_machine_as_test(
        Life,
        settings=settings(max_examples=examples, stateful_step_count=40, suppress_health_check=list(HealthCheck), database=None),
    )
    tell(f"{Life.steps} moves in {examples} lives")
