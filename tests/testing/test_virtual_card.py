"""scardface.testing._virtual_card: what a card is without a reader."""

from __future__ import annotations

import logging

import pytest

from scardface import ATR, Protocol
from scardface.testing import VirtualCard
from scardface.testing._virtual_card import keep_error, raise_kept


class Counting(VirtualCard):
    """A card that counts its power-ons."""

    count = 0

    def process(self, command: bytes) -> bytes:
        return command

    def power_on(self) -> None:
        self.count += 1


def test_process_has_to_be_written() -> None:
    with pytest.raises(TypeError, match="process"):
        VirtualCard()  # type: ignore[abstract]  # that is the test


def test_the_default_atr_offers_t1_only() -> None:
    atr = ATR(VirtualCard.atr)
    assert atr.is_well_formed
    assert atr.is_tck_right
    assert atr.protocols == Protocol.T1


def test_a_reset_is_a_power_on_unless_overridden() -> None:
    card = Counting()
    card.reset()
    card.power_off()
    assert card.count == 1


def test_the_first_error_is_kept_and_each_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    card = Counting()
    first, second = ValueError("first"), ValueError("second")
    keep_error(card, first)
    keep_error(card, second)
    assert card.error is first
    assert Counting.error is None
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert logged == [first, second]
    assert {(record.name, record.levelno) for record in caplog.records} == {("scardface.testing", logging.ERROR)}


def test_kept_errors_are_raised_once() -> None:
    good, bad = Counting(), Counting()
    keep_error(bad, KeyError("mistake"))
    with pytest.raises(KeyError, match="mistake"):
        raise_kept(good, bad)
    raise_kept(good, bad)
