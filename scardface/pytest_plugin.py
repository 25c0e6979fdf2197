"""The pytest plugin: fixtures with a simulated PC/SC, a real daemon and cassettes, and the option --card-record.

Rules:

- pytest imports this module whenever it starts, in projects that do not use it, too. So nothing is imported here but pytest and
  the package itself, which imports nothing; each fixture imports what it needs. A coverage measurement that pytest-cov starts
  later sees everything but the module-level lines of these two files.
- Everything is back as it was when a test ends. An exception in a card's own code, which its caller does not see, fails the test
  then.
- There is one real daemon per test run, started with the first test that asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from .replay import Mode
    from .replay._card_cassette import CardCassette as CardCassette
    from .testing import FileCard, PrivatePcscd, SimulatedPCSC

__all__ = ["CardCassette"]

_READER = "Virtual Reader"
"""The reader that the fixture `pcsc` has at first."""

_READERS = 2
"""How many readers the private pcscd has."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "CardCassette":
            from .replay._card_cassette import CardCassette

            return CardCassette
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option --card-record."""
    parser.getgroup("scardface").addoption(
        "--card-record",
        choices=("once", "none", "new", "all"),
        default="once",
        help="how the fixture card_cassette uses a cassette: 'once' (default) records where there is none, and plays it from then "
        "on; 'none' only plays; 'new' plays what is recorded and adds what is not; 'all' records everything anew",
    )


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    """A simulated PC/SC, in place of the machine's while the test runs, with one empty reader.

    Code under test that says `SCard(timeout=5)` uses it without being told. Readers and cards come and go by `add_reader`,
    `remove_reader`, `insert` and `remove`, failures by `inject`, `stop_service` and `start_service`: see
    `scardface.testing.SimulatedPCSC`.
    """
    from .testing import SimulatedPCSC

    with SimulatedPCSC() as simulated:
        simulated.add_reader(_READER)
        yield simulated


@pytest.fixture
def virtual_reader(pcsc: SimulatedPCSC) -> str:
    """The name of the reader of `pcsc`, which is empty."""
    return pcsc.readers[0]


@pytest.fixture
def virtual_card(pcsc: SimulatedPCSC, virtual_reader: str) -> FileCard:
    """A card with files and a PIN, in the reader of `pcsc`: see `scardface.testing.FileCard`.

    Define a fixture of this name that inserts another card, and tests use that one.
    """
    from .testing import FileCard

    card = FileCard()
    pcsc.insert(virtual_reader, card)
    return card


@pytest.fixture(scope="session")
def _scardface_daemon() -> Iterator[PrivatePcscd]:
    from . import testing

    try:
        daemon = testing.PrivatePcscd(_READERS)
        daemon.start()
    except testing.PcscdUnavailable as error:
        pytest.skip(f"no private pcscd here: {error}")
    try:
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture
def pcscd(_scardface_daemon: PrivatePcscd) -> Iterator[PrivatePcscd]:
    """A real PC/SC daemon of the test run's own, with two virtual readers, empty when the test begins.

    Skips the test where it cannot run, and says why: it needs Linux and the Debian packages pcscd and vsmartcard-vpcd. It is
    started once and kept. See `scardface.testing.PrivatePcscd`.
    """
    daemon = _scardface_daemon
    if not daemon.running or len(daemon.readers) != _READERS:  # the test before has left it so
        daemon.stop()
        daemon.start(_READERS)
    for reader in daemon.readers:
        daemon.wait_for_removal(reader)
    yield daemon
    daemon.remove_all()


@pytest.fixture
def card_cassette(request: pytest.FixtureRequest) -> Iterator[CardCassette]:
    """Records a session with a live card the first time, and plays it, without a card, from then on.

    `recorder = card_cassette(card)` wraps an open card; what goes through `recorder.send` and `recorder.transmit` is recorded in
    `cassettes/MODULE/TEST.cassette` beside the test module. Once that file is there, `SCard(...)` opens a card that plays it, in
    the reader of `pcsc`. The option --card-record chooses another way. PINs and keys are not recorded: see `scardface.replay`.
    """
    from .replay import ReplayCard
    from .replay._card_cassette import CardCassette, path_of

    test = request.node.name if request.cls is None else f"{request.cls.__name__}.{request.node.name}"
    cassette = CardCassette(path_of(request.path, test), cast("Mode", request.config.getoption("card_record")))
    if cassette.replays:
        if not cassette.path.exists():
            pytest.fail(f"there is no cassette {cassette.path}; record it with --card-record=once", pytrace=False)
        request.getfixturevalue("pcsc").insert(0, ReplayCard(cassette.path))
    yield cassette
    cassette.save()
