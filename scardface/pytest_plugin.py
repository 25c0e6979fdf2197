"""What the fixtures of the pytest plugin do. `pytest_scardface.py`, beside the package, declares them.

Rules:

- pytest imports every plugin when it starts, and a module of this package brings all of it along. So names and docstrings of the
  fixtures stand outside the package, and this is imported when the first of them is asked for.
- Everything is back as it was when a test ends. What a card's own code raised and nobody saw fails the test then.
- There is one real daemon per test run, started with the first test that asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .replay import Mode, Recorder, ReplayCard, carries_secret
from .replay._recorder import CardT, Redact
from .testing import FileCard, PcscdUnavailable, PrivatePcscd, SimulatedPCSC

__all__ = ["CardCassette"]

_READER = "Virtual Reader"
"""The reader that the fixture `pcsc` has at first."""

_READERS = 2
"""How many readers the private pcscd has."""


def pcsc() -> Iterator[SimulatedPCSC]:
    """See `pytest_scardface.pcsc`."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader(_READER)
        yield pcsc


def virtual_card(pcsc: SimulatedPCSC, reader: str) -> FileCard:
    """See `pytest_scardface.virtual_card`."""
    card = FileCard()
    pcsc.insert(reader, card)
    return card


def daemon() -> Iterator[PrivatePcscd]:
    """The daemon of the test run; skips the test where none can run."""
    try:
        daemon = PrivatePcscd(_READERS)
        daemon.start()
    except PcscdUnavailable as error:
        pytest.skip(f"no private pcscd here: {error}")
    try:
        yield daemon
    finally:
        daemon.stop()


def pcscd(daemon: PrivatePcscd) -> Iterator[PrivatePcscd]:
    """See `pytest_scardface.pcscd`."""
    if not daemon.running or len(daemon.readers) != _READERS:  # the test before has left it so
        daemon.stop()
        daemon.start(_READERS)
    for reader in daemon.readers:
        daemon.wait_for_removal(reader)
    yield daemon
    daemon.remove_all()


class CardCassette:
    """What the fixture `card_cassette` is: call it with the open card, use what it returns instead.

    Attributes:
        path: where the test's cassette is: `cassettes/MODULE/TEST.cassette` beside the module. Its folder is made to record.
        mode: how it is used, see `scardface.replay.Recorder`; option `--card-record`.
        replays: whether the test runs without a live card.
    """

    def __init__(self, path: Path, mode: Mode) -> None:
        self.path: Path = path
        self.mode: Mode = mode
        self.replays: bool = mode == "none" or (mode == "once" and path.exists())
        self._recorder: Recorder[Any] | None = None

    def __call__(self, card: CardT, *, redact: Redact = carries_secret) -> Recorder[CardT]:
        """Wrap a card: it is recorded, or played from the cassette.

        Args:
            card: an open card, of either face.
            redact: which commands are written without their data.

        Raises:
            RuntimeError: called a second time; a test has one cassette, and that one card's session.
            CassetteError: the cassette is damaged.
        """
        if self._recorder is not None:
            raise RuntimeError("a test has one cassette, and a cassette one session: card_cassette can be called once")
        if not self.replays:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        recorder = Recorder(card, self.path, self.mode, redact=redact)
        self._recorder = recorder
        return recorder

    def save(self) -> None:
        """Write what was recorded."""
        if self._recorder is not None:
            self._recorder.save()


def card_cassette(module: Path, test: str, mode: Mode, pcsc: Callable[[], SimulatedPCSC]) -> Iterator[CardCassette]:
    """See `pytest_scardface.card_cassette`.

    Args:
        module: the test's file.
        test: the test's name, its class's in front of it.
        mode: of the recorder.
        pcsc: gives the fixture `pcsc`.
    """
    path = module.parent / "cassettes" / module.stem / (re.sub(r"[^\w.-]+", "_", test) + ".cassette")
    cassette = CardCassette(path, mode)
    if cassette.replays:
        if not path.exists():
            pytest.fail(f"there is no cassette {path}; record it with --card-record=once", pytrace=False)
        pcsc().insert(0, ReplayCard(path))
    yield cassette
    cassette.save()
