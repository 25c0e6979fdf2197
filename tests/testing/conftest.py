"""The fixtures of the conformance suite: `world` runs a test in the simulated PC/SC, and with the real pcscd by both bindings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from scardface.backend import CardHandle, Context, Ctypes, Pyscard
from tests.support.conformance import Card, RealWorld, SimulatedWorld, World, code_of, share

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd


@pytest.fixture(scope="module")
def _emptied(_daemon: PrivatePcscd) -> Iterator[PrivatePcscd]:
    """The daemon that `pcscd` hands out, without waiting before each test until all of its readers are empty."""
    yield _daemon
    _daemon.remove_all()


@pytest.fixture(params=["simulated", "real", "real-ctypes"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """PC/SC with four readers, and the verbs to move it."""
    with_card = "card" in request.fixturenames
    if request.param != "simulated":
        daemon = request.getfixturevalue("_emptied")
        if not daemon.running:  # left like that by a test of another module
            daemon.start()
        real = RealWorld(daemon, Pyscard() if request.param == "real" else Ctypes(), with_card=with_card)
        yield real
        real.end()
        return
    from scardface.testing import SimulatedPCSC

    with SimulatedPCSC() as pcsc:
        yield SimulatedWorld(pcsc, with_card=with_card)
        assert not pcsc.open_contexts, "the test left contexts behind"


@pytest.fixture
def card(world: World) -> Card:
    """A card in the first reader."""
    return world.card


@pytest.fixture
def context(world: World) -> Iterator[Context]:
    """A context."""
    context = world.backend.establish()
    yield context
    code_of(context.release)


@pytest.fixture
def other(world: World) -> Iterator[Context]:
    """Another program's, as it were."""
    other = world.backend.establish()
    yield other
    code_of(other.release)


@pytest.fixture
def reader(world: World) -> str:
    """The name of the first reader."""
    return world.readers[0]


@pytest.fixture
def handle(card: Card, context: Context, reader: str) -> CardHandle:
    """The card in the first reader, shared."""
    return share(context, reader)
