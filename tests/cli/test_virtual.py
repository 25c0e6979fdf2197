"""What --virtual puts in the place of PC/SC."""

from __future__ import annotations

import threading

from scardface import CardInserted, CardRemoved
from scardface.cli._virtual import READER, card_comes_and_goes, virtual_pcsc
from scardface.sync import ReaderMonitor, SCard, readers
from tests.support.cards import LogCard


def test_there_is_a_card_in_one_reader() -> None:
    with virtual_pcsc():
        assert readers() == (READER,)
        with SCard(timeout=30) as card:
            assert card.atr.hex().startswith("3b87")


def test_it_may_be_somebodys_own() -> None:
    card = LogCard()
    with virtual_pcsc(card) as pcsc:
        assert dict(pcsc.cards) == {READER: card}


def test_it_goes_and_comes_and_is_in_at_the_end() -> None:
    with virtual_pcsc() as pcsc:
        with ReaderMonitor() as monitor, card_comes_and_goes(pcsc, pause=0.01):
            kinds = [type(event) for event, _ in zip(monitor, range(6), strict=False)]
        assert kinds[1:5] == [CardInserted, CardRemoved, CardInserted, CardRemoved]
        assert len(pcsc.cards) == 1
        assert "scardface-visits" not in [thread.name for thread in threading.enumerate()]
