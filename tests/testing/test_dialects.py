"""What is different on Windows and macOS, in the simulation alone: there is no real one here to compare with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scardface._enums import Disposition, ShareMode, StateFlag
from scardface._pcsc.backend import PNP_READER
from scardface.errors import COMM_ERROR, NO_SERVICE, REMOVED_CARD, RESET_CARD, SERVICE_STOPPED, SHARING_VIOLATION, SYSTEM_CANCELLED
from scardface.testing import SimulatedPCSC
from scardface.testing._dialects import DIALECTS
from tests.support.conformance import ANY, NO_PROTOCOL, SELECT, Call, Card, code_of, counter, flags, share, state_of

CHANGED, EMPTY, PRESENT, UNKNOWN = StateFlag.CHANGED, StateFlag.EMPTY, StateFlag.PRESENT, StateFlag.UNKNOWN
LONG_MS = 10_000


@pytest.fixture(params=list(DIALECTS))
def pcsc(request: pytest.FixtureRequest) -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC(request.param) as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Card())
        yield pcsc


def only(*dialects: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pcsc", dialects, indirect=True)


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ValueError, match="windows"):
        SimulatedPCSC("solaris")  # type: ignore[arg-type]  # on purpose


def test_every_dialect_has_cards(pcsc: SimulatedPCSC) -> None:
    context = pcsc.establish()
    assert flags(state_of(context, "A")) == PRESENT
    assert share(context, "A").transmit(SELECT) == b"\x90\x00"


def test_on_windows_the_service_comes_with_the_first_reader() -> None:
    with SimulatedPCSC("windows") as pcsc:
        assert pcsc.absent_service_means_no_reader
        assert not pcsc.running
        assert code_of(pcsc.establish) == NO_SERVICE
        pcsc.add_reader("A")
        assert pcsc.running
        assert pcsc.establish().list_readers() == ("A",)


@only("windows")
class TestWindows:
    def test_it_goes_with_the_last(self, pcsc: SimulatedPCSC) -> None:
        pcsc.add_reader("B")
        context, idle = pcsc.establish(), pcsc.establish()
        handle = share(idle, "A")
        wait = Call(context.get_status_change, LONG_MS, [("B", state_of(context, "B"))])
        pcsc.remove_reader("A")
        assert pcsc.running
        assert not wait.ended()
        pcsc.remove_reader("B")
        assert not pcsc.running
        assert wait.code() == SYSTEM_CANCELLED
        assert code_of(context.list_readers) == code_of(handle.status) == SERVICE_STOPPED
        assert code_of(pcsc.establish) == NO_SERVICE
        pcsc.add_reader("B")
        assert code_of(context.list_readers) == SERVICE_STOPPED
        assert pcsc.establish().list_readers() == ("B",)

    def test_a_service_that_was_stopped_waits_to_be_started(self, pcsc: SimulatedPCSC) -> None:
        pcsc.stop_service()
        pcsc.add_reader("B")
        assert not pcsc.running
        pcsc.remove_reader("A")
        pcsc.remove_reader("B")
        pcsc.start_service()
        assert not pcsc.running
        pcsc.add_reader("C")
        assert pcsc.running

    def test_counters_are_always_compared(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        assert not context.get_status_change(LONG_MS, [("A", PRESENT)]).timed_out
        assert context.get_status_change(0, [("A", state_of(context, "A"))]).timed_out

    def test_the_plug_and_play_entry_has_the_number_of_readers(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        change = context.get_status_change(LONG_MS, [(PNP_READER, 0)])
        assert not change.timed_out
        assert change.entries[0].state == CHANGED | 1 << 16
        wait = Call(context.get_status_change, LONG_MS, [(PNP_READER, 1 << 16)])
        assert not wait.ended()
        pcsc.add_reader("B")
        assert wait.result().entries[0].state == CHANGED | 2 << 16

    def test_direct_shares_with_nobody(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        handle = context.connect("A", ShareMode.DIRECT, NO_PROTOCOL)
        assert code_of(share, context, "A") == SHARING_VIOLATION
        handle.reconnect(ShareMode.SHARED, ANY, Disposition.LEAVE)
        handle.end_transaction(Disposition.LEAVE)
        assert code_of(share, context, "A") == 0
        assert code_of(context.connect, "A", ShareMode.DIRECT, NO_PROTOCOL) == SHARING_VIOLATION

    def test_a_reconnect_ends_the_transaction(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        handle, other = share(context, "A"), share(context, "A")
        handle.begin_transaction()
        handle.begin_transaction()
        handle.reconnect(ShareMode.SHARED, ANY, Disposition.LEAVE)
        assert other.transmit(SELECT) == b"\x90\x00"

    def test_unsupported_is_another_number(self, pcsc: SimulatedPCSC) -> None:
        assert code_of(share(pcsc.establish(), "A").control, 1, b"") == 0x80100022


@only("macos")
class TestMacOS:
    def test_there_is_no_plug_and_play_entry(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        change = context.get_status_change(LONG_MS, [(PNP_READER, 0)])
        assert not change.timed_out
        assert change.entries[0].state == UNKNOWN | CHANGED
        assert context.get_status_change(0, [(PNP_READER, UNKNOWN)]).timed_out

    def test_counters_stay_zero(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        state = state_of(context, "A")
        pcsc.insert("A", pcsc.remove("A"))
        assert state_of(context, "A") == state
        assert counter(state) == 0
        assert context.get_status_change(0, [("A", state)]).timed_out

    def test_events_are_told_all_the_same(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        wait = Call(context.get_status_change, LONG_MS, [("A", state_of(context, "A"))])
        card = pcsc.remove("A")
        pcsc.insert("A", card)
        assert wait.result().entries[0].state == EMPTY | CHANGED  # what ended the wait, whatever came after

    def test_a_removal_looks_like_a_reset(self, pcsc: SimulatedPCSC) -> None:
        handle = share(pcsc.establish(), "A")
        pcsc.remove("A")
        assert code_of(handle.transmit, SELECT) == RESET_CARD


@only("pcsclite")
def test_pcsclite_for_comparison(pcsc: SimulatedPCSC) -> None:
    context = pcsc.establish()
    assert not pcsc.absent_service_means_no_reader
    handle = share(context, "A")
    pcsc.remove("A")
    assert code_of(handle.transmit, SELECT) == REMOVED_CARD
    wait = Call(context.get_status_change, LONG_MS, [("A", state_of(context, "A"))])
    assert not wait.ended()
    pcsc.remove_reader("A")
    assert pcsc.running
    assert wait.code() == 0
    wait = Call(context.get_status_change, LONG_MS, [(PNP_READER, 0)])
    assert not wait.ended()
    pcsc.stop_service()
    assert wait.code() == COMM_ERROR
