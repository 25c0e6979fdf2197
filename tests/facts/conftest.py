"""What the tests of docs/pcsc-facts.md share: contexts that are released, and a card in the first reader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from smartcard import scard

from scardface.testing import PrivatePcscd
from tests.support.bare import Establish, put_in
from tests.support.conformance import Card


@pytest.fixture
def establish(pcscd: PrivatePcscd) -> Iterator[Establish]:
    """SCardEstablishContext; what it gives is released in the end."""
    contexts: list[int] = []

    def make() -> int:
        code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        assert not code, hex(code)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        scard.SCardReleaseContext(context)


@pytest.fixture
def context(establish: Establish) -> int:
    """A context."""
    return establish()


@pytest.fixture
def other(establish: Establish) -> int:
    """Another one, as another program would have it."""
    return establish()


@pytest.fixture
def reader(pcscd: PrivatePcscd) -> str:
    """The first reader, which is empty unless the test asks for `card`."""
    return pcscd.readers[0]


@pytest.fixture
def card(pcscd: PrivatePcscd, reader: str) -> Card:
    """A card in the first reader, which PC/SC knows of. It offers T=0 and T=1, and answers what follows a command's header."""
    card = Card()
    put_in(pcscd, reader, card)
    return card
