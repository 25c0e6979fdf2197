"""scardface.testing._simulated_reader: a driver that does not poll, power. What pcscd can show: test_conformance*.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from scardface._enums import Disposition, ShareMode, StateFlag
from scardface.errors import NO_SMARTCARD, NOT_TRANSACTED, REMOVED_CARD, RESET_CARD
from scardface.testing import SimulatedPCSC
from scardface.testing._simulated_slot import SlotEmptyError
from tests.support.conformance import ANY, SELECT, Call, Card, code_of, counter, flags, share, state_of

CHANGED, EMPTY, PRESENT = StateFlag.CHANGED, StateFlag.EMPTY, StateFlag.PRESENT
LONG_MS = 10_000


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        yield pcsc


class TestADriverThatDoesNotLook:
    def test_sees_no_card_come(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        pcsc.driver_polls = False
        card = Card()
        pcsc.insert("A", card)
        assert flags(state_of(context, "A")) == EMPTY
        assert code_of(share, context, "A") == NO_SMARTCARD
        assert card.log == []
        wait = Call(context.get_status_change, LONG_MS, [("A", state_of(context, "A"))])
        assert not wait.ended()
        pcsc.poll()
        assert flags(wait.result().entries[0].state) == PRESENT | CHANGED

    def test_sees_no_card_go(self, pcsc: SimulatedPCSC) -> None:
        pcsc.insert("A", Card())
        context = pcsc.establish()
        handle = share(context, "A")
        pcsc.driver_polls = False
        pcsc.remove("A")
        assert code_of(handle.transmit, SELECT) == NOT_TRANSACTED
        assert handle.status().atr
        assert not pcsc.driver_polls
        pcsc.driver_polls = True
        assert pcsc.driver_polls
        assert code_of(handle.transmit, SELECT) == REMOVED_CARD

    def test_sees_no_short_visit(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        state = state_of(context, "A")
        pcsc.driver_polls = False
        pcsc.insert("A", Card())
        pcsc.remove("A")
        pcsc.poll()
        assert state_of(context, "A") == state

    def test_takes_the_next_card_for_the_one_before(self, pcsc: SimulatedPCSC) -> None:
        pcsc.insert("A", Card())
        context = pcsc.establish()
        handle, state = share(context, "A"), state_of(context, "A")
        pcsc.driver_polls = False
        pcsc.remove("A")
        pcsc.insert("A", Card(b"\x3b\x00"))
        pcsc.poll()
        assert state_of(context, "A") == state
        assert handle.transmit(SELECT) == b"\x90\x00"

    def test_lets_a_reset_find_out(self, pcsc: SimulatedPCSC) -> None:
        pcsc.insert("A", Card())
        context = pcsc.establish()
        handle, state = share(context, "A"), state_of(context, "A")
        pcsc.driver_polls = False
        pcsc.remove("A")
        assert code_of(handle.reconnect, ShareMode.SHARED, ANY, Disposition.RESET) == NO_SMARTCARD
        assert code_of(handle.transmit, SELECT) == RESET_CARD
        assert flags(state_of(context, "A")) == EMPTY
        assert counter(state_of(context, "A")) == counter(state)
        pcsc.poll()
        assert code_of(handle.transmit, SELECT) == REMOVED_CARD
        assert counter(state_of(context, "A")) == counter(state) + 1

    @pytest.mark.parametrize("disposition", [Disposition.RESET, Disposition.UNPOWER])
    def test_lets_a_disconnect_find_out(self, pcsc: SimulatedPCSC, disposition: Disposition) -> None:
        pcsc.insert("A", Card())
        context = pcsc.establish()
        handle = share(context, "A")
        pcsc.driver_polls = False
        pcsc.remove("A")
        handle.disconnect(disposition)
        assert flags(state_of(context, "A")) == EMPTY

    def test_reports_a_hold_that_lasts_over_a_poll(self, pcsc: SimulatedPCSC) -> None:
        pcsc.insert("A", Card())
        context, other = pcsc.establish(), pcsc.establish()
        pcsc.driver_polls = False
        handle = share(other, "A")
        pcsc.poll()
        wait = Call(context.get_status_change, LONG_MS, [("A", state_of(context, "A"))])
        handle.disconnect(Disposition.LEAVE)
        assert not wait.ended()
        pcsc.poll()
        assert flags(wait.result().entries[0].state) == PRESENT | CHANGED

    def test_reports_what_it_missed_with_the_next_event_of_another_reader(self, pcsc: SimulatedPCSC) -> None:
        pcsc.add_reader("B")
        pcsc.insert("A", Card())
        context, other = pcsc.establish(), pcsc.establish()
        pcsc.driver_polls = False
        handle = share(other, "A")
        wait = Call(context.get_status_change, LONG_MS, [("A", state_of(context, "A"))])
        assert not wait.ended()
        handle.disconnect(Disposition.LEAVE)
        pcsc.insert("B", Card())
        pcsc.poll()
        assert flags(wait.result().entries[0].state) == PRESENT | CHANGED


class TestPower:
    def test_a_card_that_nobody_uses_is_switched_off_at_the_next_poll(self, pcsc: SimulatedPCSC) -> None:
        card = Card()
        pcsc.insert("A", card)
        pcsc.poll()
        pcsc.poll()
        card.wait_for_log("on", "off")
        context = pcsc.establish()
        handle = share(context, "A")
        assert card.log == ["on", "off", "on"]
        pcsc.poll()
        pcsc.poll()
        handle.disconnect(Disposition.LEAVE)
        pcsc.poll()
        assert card.log == ["on", "off", "on"]
        pcsc.poll()
        card.wait_for_log("on", "off", "on", "off")

    def test_an_idle_card_that_has_gone_unseen_can_be_connected(self, pcsc: SimulatedPCSC) -> None:
        pcsc.insert("A", Card())
        pcsc.poll()
        pcsc.driver_polls = False
        pcsc.remove("A")
        handle = share(pcsc.establish(), "A")
        assert code_of(handle.transmit, SELECT) == NOT_TRANSACTED

    def test_a_card_that_has_gone_unseen_is_not_switched_off(self, pcsc: SimulatedPCSC) -> None:
        pcsc.insert("A", Card())
        pcsc.driver_polls = False
        card = pcsc.remove("A")
        assert isinstance(card, Card)
        card.wait_for_log("on", "off")
        pcsc.poll()
        assert card.log == ["on", "off"]


class Restless(Card):
    """Moves about while it is switched on."""

    def __init__(self, pcsc: SimulatedPCSC, then: Card | None) -> None:
        super().__init__()
        self._pcsc = pcsc
        self._then = then

    def power_on(self) -> None:
        super().power_on()
        self._pcsc.remove("A")
        if self._then is not None:
            self._pcsc.insert("A", self._then)


def test_a_card_that_goes_while_it_is_switched_on_was_there(pcsc: SimulatedPCSC) -> None:
    context = pcsc.establish()
    pcsc.insert("A", Restless(pcsc, None))
    state = state_of(context, "A")
    assert flags(state) == EMPTY
    assert counter(state) == 2


def test_a_card_that_makes_room_for_another_while_it_is_switched_on(pcsc: SimulatedPCSC) -> None:
    context = pcsc.establish()
    card = Card(b"\x3b\x00")
    pcsc.insert("A", Restless(pcsc, card))
    entry = context.get_status_change(0, [("A", 0)]).entries[0]
    assert flags(entry.state) == PRESENT | CHANGED
    assert entry.atr == b"\x3b\x00"
    assert card.log == ["on"]


class Stopper(Card):
    """Stops the service while it is switched on."""

    def __init__(self, pcsc: SimulatedPCSC) -> None:
        super().__init__()
        self._pcsc = pcsc

    def power_on(self) -> None:
        if not self.log:
            super().power_on()
            self._pcsc.stop_service()


def test_the_service_goes_while_a_card_is_switched_on(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", Stopper(pcsc))
    assert not pcsc.running
    pcsc.start_service()
    state = state_of(pcsc.establish(), "A")
    assert (flags(state), counter(state)) == (PRESENT, 0)


def test_the_counter_has_16_bits(pcsc: SimulatedPCSC) -> None:
    context = pcsc.establish()
    reader = pcsc._service.find("A")
    assert reader is not None
    reader.counter = 0xFFFF
    pcsc.insert("A", Card())
    assert counter(state_of(context, "A")) == 0


def test_a_card_that_comes_while_the_one_before_is_reset_is_there(pcsc: SimulatedPCSC) -> None:
    """The reset of one that was taken out meanwhile ends after the next one was found."""
    pcsc.insert("A", Card())
    context = pcsc.establish()
    handle = context.connect("A", ShareMode.EXCLUSIVE, ANY)

    def swapped() -> bytes:
        pcsc.remove("A")
        pcsc.insert("A", Card())
        raise SlotEmptyError

    slot: Any = pcsc._find("A").slot
    slot.reset = swapped
    handle.disconnect(Disposition.RESET)
    [entry] = context.get_status_change(0, [("A", 0)]).entries
    assert entry.state & PRESENT
    assert entry.atr
    context.connect("A", ShareMode.EXCLUSIVE, ANY).disconnect(Disposition.LEAVE)
    context.release()
