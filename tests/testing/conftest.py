"""The fixtures of the conformance suite: `world` has a test run in the simulated PC/SC and against the real pcscd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scardface._backend import Context
from tests.support.conformance import RealWorld, SimulatedWorld, World, code_of


@pytest.fixture(params=["simulated", "simulated 1.9", "real"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """PC/SC with four empty readers, and the verbs to move it."""
    if request.param == "real":
        yield RealWorld(request.getfixturevalue("pcscd"))
        return
    from scardface.testing import SimulatedPCSC

    with SimulatedPCSC("pcsclite" if request.param == "simulated" else "pcsclite-1.9") as pcsc:
        yield SimulatedWorld(pcsc)
        assert not pcsc.open_contexts, "the test left contexts behind"


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
