"""The fixture that makes a test of the conformance suite: it runs in the simulated PC/SC and against the real pcscd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.conformance import RealWorld, SimulatedWorld, World


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
