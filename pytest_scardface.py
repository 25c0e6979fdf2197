"""What pytest loads of scardface when it starts: the names of the fixtures, what they are, and one option.

Nothing of scardface, anyio or pyscard is imported here: that comes with the first fixture that is asked for, from
`scardface.pytest_plugin`. So this module stands outside the package, which brings all of it along.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from scardface.pytest_plugin import CardCassette
    from scardface.replay import Mode
    from scardface.testing import FileCard, PrivatePcscd, SimulatedPCSC


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
    from scardface import pytest_plugin

    yield from pytest_plugin.pcsc()


@pytest.fixture
def virtual_reader(pcsc: SimulatedPCSC) -> str:
    """The name of the reader of `pcsc`, which is empty."""
    return pcsc.readers[0]


@pytest.fixture
def virtual_card(pcsc: SimulatedPCSC, virtual_reader: str) -> FileCard:
    """A card with files and a PIN, in the reader of `pcsc`: see `scardface.testing.FileCard`.

    Define a fixture of this name that inserts another card, and tests use that one.
    """
    from scardface import pytest_plugin

    return pytest_plugin.virtual_card(pcsc, virtual_reader)


@pytest.fixture(scope="session")
def _scardface_daemon() -> Iterator[PrivatePcscd]:
    from scardface import pytest_plugin

    yield from pytest_plugin.daemon()


@pytest.fixture
def pcscd(_scardface_daemon: PrivatePcscd) -> Iterator[PrivatePcscd]:
    """A real PC/SC daemon of the test run's own, with two virtual readers, empty when the test begins.

    Skips the test where it cannot run, and says why: it needs Linux and the Debian packages pcscd and vsmartcard-vpcd. It is
    started once and kept. See `scardface.testing.PrivatePcscd`.
    """
    from scardface import pytest_plugin

    yield from pytest_plugin.pcscd(_scardface_daemon)


@pytest.fixture
def card_cassette(request: pytest.FixtureRequest) -> Iterator[CardCassette]:
    """Records a session with a live card the first time, and plays it, without a card, from then on.

    `recorder = card_cassette(card)` wraps an open card; what goes through `recorder.send` and `recorder.transmit` is recorded in
    `cassettes/MODULE/TEST.cassette` beside the test module. Once that file is there, `SCard(...)` opens a card that plays it, in
    the reader of `pcsc`. The option --card-record chooses another way. PINs and keys are not recorded: see `scardface.replay`.
    """
    from scardface import pytest_plugin

    name = request.node.name if request.cls is None else f"{request.cls.__name__}.{request.node.name}"
    mode = cast("Mode", request.config.getoption("card_record"))
    yield from pytest_plugin.card_cassette(request.path, name, mode, lambda: request.getfixturevalue("pcsc"))
