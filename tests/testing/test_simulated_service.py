"""scardface.testing._simulated_service: injected codes, latency, places of readers, lives."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from scardface._enums import Disposition, ShareMode, StateFlag
from scardface._pcsc.backend import ATTR_ATR_STRING, CardHandle
from scardface.errors import (
    CANCELLED,
    COMM_ERROR,
    NO_READERS_AVAILABLE,
    NO_SERVICE,
    NOT_TRANSACTED,
    REMOVED_CARD,
    TIMEOUT,
    ServiceUnavailableError,
)
from scardface.testing import SimulatedPCSC
from scardface.testing import _simulated_service as service_module
from scardface.testing._simulated_service import CALLS
from tests.support.conformance import ANY, PATIENCE, SELECT, Call, Card, code_of, counter, flags, share, state_of

LONG_MS = 10_000


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Card())
        yield pcsc


class TestInject:
    def test_the_next_calls_answer_the_code_and_do_nothing(self, pcsc: SimulatedPCSC) -> None:
        handle = share(pcsc.establish(), "A")
        pcsc.inject("SCardTransmit", NOT_TRANSACTED, times=2)
        pcsc.inject("SCardTransmit", REMOVED_CARD - 0x1_0000_0000)
        assert [code_of(handle.transmit, SELECT) for _ in range(4)] == [NOT_TRANSACTED, NOT_TRANSACTED, REMOVED_CARD, 0]

    def test_any_call(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        handle = share(context, "A")
        calls = {
            "SCardEstablishContext": pcsc.establish,
            "SCardListReaders": context.list_readers,
            "SCardListReaderGroups": context.list_reader_groups,
            "SCardGetStatusChange": lambda: context.get_status_change(0, []),
            "SCardConnect": lambda: share(context, "A"),
            "SCardStatus": handle.status,
            "SCardTransmit": lambda: handle.transmit(SELECT),
            "SCardBeginTransaction": handle.begin_transaction,
            "SCardEndTransaction": lambda: handle.end_transaction(Disposition.LEAVE),
            "SCardReconnect": lambda: handle.reconnect(ShareMode.SHARED, ANY, Disposition.LEAVE),
            "SCardControl": lambda: handle.control(1, b""),
            "SCardGetAttrib": lambda: handle.get_attribute(ATTR_ATR_STRING),
            "SCardSetAttrib": lambda: handle.set_attribute(ATTR_ATR_STRING, b""),
            "SCardDisconnect": lambda: handle.disconnect(Disposition.LEAVE),
            "SCardReleaseContext": context.release,
        }
        assert set(calls) == CALLS - {"SCardCancel"}
        for name, call in calls.items():
            before = pcsc.calls.get(name, 0)
            pcsc.inject(name, COMM_ERROR)
            with pytest.raises(ServiceUnavailableError) as caught:
                call()
            assert caught.value.call == name
            assert pcsc.calls[name] == before + 1
        assert context.list_readers() == ("A",)
        assert handle.transmit(SELECT) == b"\x90\x00"

    def test_no_readers_is_no_failure(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        pcsc.inject("SCardListReaders", NO_READERS_AVAILABLE)
        assert context.list_readers() == ()
        assert context.list_readers() == ("A",)

    def test_a_time_out_is_no_failure(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        state = state_of(context, "A")
        pcsc.inject("SCardGetStatusChange", TIMEOUT)
        assert context.get_status_change(LONG_MS, [("A", state)]) == (True, [("A", state, Card().atr)])

    def test_a_cancel_can_be_lost(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        wait = Call(context.get_status_change, LONG_MS, [("A", state_of(context, "A"))])
        assert not wait.ended()
        pcsc.inject("SCardCancel", NO_SERVICE)
        context.cancel()
        assert not wait.ended()
        context.cancel()
        assert wait.code() == CANCELLED

    @pytest.mark.parametrize(
        ("call", "code", "times"), [("transmit", NO_SERVICE, 1), ("SCardTransmit", 0, 1), ("SCardTransmit", NO_SERVICE, 0)]
    )
    def test_what_cannot_be_injected(self, pcsc: SimulatedPCSC, call: str, code: int, times: int) -> None:
        with pytest.raises(ValueError, match=r"call of PC/SC|SUCCESS|at least 1"):
            pcsc.inject(call, code, times)


class TestLatency:
    @pytest.mark.parametrize("latency", [0.05, {"SCardTransmit": 0.05}])
    def test_calls_take_their_time(self, pcsc: SimulatedPCSC, latency: float | dict[str, float]) -> None:
        handle = share(pcsc.establish(), "A")
        pcsc.latency = latency
        assert pcsc.latency == latency
        begin = time.monotonic()
        handle.transmit(SELECT)
        assert time.monotonic() - begin >= 0.05
        pcsc.latency = {"SCardTransmit": 1000.0}
        handle.status()

    def test_others_need_not_wait(self, pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
        handle, context = share(pcsc.establish(), "A"), pcsc.establish()
        pcsc.latency = {"SCardTransmit": 0.5}
        sleeping, over = threading.Event(), threading.Event()
        ended: list[bool] = []  # whether the sleep was ended, and not its bound reached

        def sleep(_: float) -> None:
            sleeping.set()
            ended.append(over.wait(PATIENCE))

        monkeypatch.setattr(service_module, "time", SimpleNamespace(sleep=sleep))
        slow = Call(handle.transmit, SELECT)
        assert sleeping.wait(PATIENCE)
        context.list_readers()
        over.set()
        assert slow.result() == b"\x90\x00"
        assert ended == [True]

    def test_of_no_call(self) -> None:
        with pytest.raises(ValueError, match="'transmit' is no call"):
            SimulatedPCSC(latency={"transmit": 1})


def test_a_new_reader_takes_the_first_free_place() -> None:
    with SimulatedPCSC() as pcsc:
        for name in "ABC":
            pcsc.add_reader(name)
        pcsc.remove_reader("A")
        pcsc.remove_reader("B")
        assert pcsc.readers == ("C",)
        pcsc.add_reader("D")
        assert pcsc.readers == ("D", "C")
        pcsc.add_reader("A")
        pcsc.add_reader("E")
        assert pcsc.readers == pcsc.establish().list_readers() == ("D", "A", "C", "E")


class TestLives:
    def test_a_card_that_is_in_when_the_service_starts_is_not_counted(self, pcsc: SimulatedPCSC) -> None:
        """And fact 10: its removal and return between two calls is not seen then."""
        pcsc.stop_service()
        pcsc.start_service()
        context = pcsc.establish()
        state = state_of(context, "A")
        assert (flags(state), counter(state)) == (StateFlag.PRESENT, 0)
        pcsc.insert("A", pcsc.remove("A"))
        change = context.get_status_change(0, [("A", state)])
        assert change.timed_out
        assert counter(change.entries[0].state) == 2

    def test_what_happens_while_it_does_not_run_is_so_when_it_starts(self, pcsc: SimulatedPCSC) -> None:
        card = pcsc.cards["A"]
        assert isinstance(card, Card)
        pcsc.stop_service()
        pcsc.stop_service()
        pcsc.driver_polls = False
        assert card.log == ["on", "off"]
        pcsc.add_reader("B")
        pcsc.insert("B", pcsc.remove("A"))
        pcsc.poll()
        assert card.log == ["on", "off"]
        pcsc.remove_reader("A")
        pcsc.start_service()
        pcsc.start_service()
        assert card.log == ["on", "off", "on"]
        context = pcsc.establish()
        assert context.list_readers() == ("B",)
        assert flags(state_of(context, "B")) == StateFlag.PRESENT

    def test_a_closed_one_does_not_start(self) -> None:
        pcsc = SimulatedPCSC()
        pcsc.close()
        with pytest.raises(RuntimeError, match="closed"):
            pcsc.start_service()
        assert code_of(pcsc.establish) == NO_SERVICE

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child_has_to_make_its_own(self, pcsc: SimulatedPCSC) -> None:
        context = pcsc.establish()
        child = os.fork()
        if not child:
            try:
                for call in (pcsc.establish, context.list_readers, lambda: share(context, "A")):
                    try:
                        call()
                    except RuntimeError as error:
                        if "fork" not in str(error):
                            os._exit(2)
                    else:
                        os._exit(3)
                with SimulatedPCSC() as own:
                    own.add_reader("B")
                    own.insert("B", Card())
                    os._exit(0 if share(own.establish(), "B").transmit(SELECT) == b"\x90\x00" else 4)
            finally:
                os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_many_threads_at_once(pcsc: SimulatedPCSC) -> None:
    """Eight programs share two cards, in transactions and with resets, while a third card comes and goes."""
    pcsc.add_reader("B")
    pcsc.insert("B", Card())
    pcsc.add_reader("C")
    inside = {"A": 0, "B": 0}
    problems: list[str] = []
    end = threading.Event()

    def program(number: int) -> None:
        reader = "AB"[number % 2]
        for turn in range(25):
            context = pcsc.establish()
            handle: CardHandle = share(context, reader)
            while code_of(handle.begin_transaction):
                handle.reconnect(ShareMode.SHARED, ANY, Disposition.LEAVE)
            inside[reader] += 1
            if inside[reader] != 1 or handle.transmit(SELECT) != b"\x90\x00":
                problems.append(f"{number} is not alone in its transaction")
            inside[reader] -= 1
            handle.end_transaction(Disposition.LEAVE)
            if not turn % 3:
                handle.disconnect(Disposition.RESET if number < 2 else Disposition.LEAVE)
            context.release()

    def visitor() -> None:
        while not end.is_set():
            pcsc.insert("C", Card())
            pcsc.remove("C")

    visits = Call(visitor)
    for call in [Call(program, number) for number in range(8)]:
        call.result()
    end.set()
    visits.result()
    assert problems == []
    assert pcsc.open_contexts == 0
