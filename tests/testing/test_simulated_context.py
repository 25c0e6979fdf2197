"""scardface.testing._simulated_context: two threads in one context, limits. What pcscd can show: test_conformance*.py."""

from __future__ import annotations

import logging
import threading

import pytest

from scardface._enums import Disposition, ShareMode
from scardface._pcsc.backend import PNP_READER
from scardface.errors import INVALID_PARAMETER, NO_SERVICE, UNKNOWN_READER
from scardface.testing import SimulatedPCSC
from tests.support.conformance import NO_PROTOCOL, SELECT, Call, Card, SlowCard, code_of, share, state_of

LONG_MS = 10_000


class TestTwoThreadsInOneContext:
    """What freezes every PC/SC call of a real process (fact 5)."""

    def test_the_second_gets_an_error_that_is_raised_again_at_the_end(self, caplog: pytest.LogCaptureFixture) -> None:
        pcsc = SimulatedPCSC()
        pcsc.add_reader("A")
        context = pcsc.establish()
        wait = Call(context.get_status_change, LONG_MS, [("A", state_of(context, "A"))])
        assert not wait.ended()
        with caplog.at_level(logging.ERROR), pytest.raises(AssertionError, match="two threads in one PC/SC context") as caught:
            context.list_readers()
        for part in ("SCardListReaders", "SCardGetStatusChange", threading.current_thread().name):
            assert part in str(caught.value)
        assert caught.value.args[0] in caplog.text
        with pytest.raises(AssertionError, match="two threads"):
            pcsc.close()
        pcsc.close()
        assert wait.code()

    def test_a_release_is_such_a_call(self) -> None:
        pcsc = SimulatedPCSC()
        context = pcsc.establish()
        wait = Call(context.get_status_change, LONG_MS, [(PNP_READER, 0)])
        assert not wait.ended()
        with pytest.raises(AssertionError):
            context.release()
        with pytest.raises(AssertionError):
            pcsc.close()
        assert wait.code()

    def test_handles_of_one_context_are_one_context(self) -> None:
        pcsc = SimulatedPCSC()
        card = SlowCard()
        for name in "AB":
            pcsc.add_reader(name)
        pcsc.insert("A", card)
        pcsc.insert("B", Card())
        context = pcsc.establish()
        first, second = share(context, "A"), share(context, "B")
        exchange = Call(first.transmit, SELECT)
        assert card.asked.wait(10)
        with pytest.raises(AssertionError, match="SCardTransmit"):
            second.status()
        card.go.set()
        exchange.result()
        with pytest.raises(AssertionError):
            pcsc.close()

    def test_a_block_that_failed_is_not_hidden_by_it(self) -> None:
        def block() -> None:
            with SimulatedPCSC() as pcsc:
                context = pcsc.establish()
                wait = Call(context.get_status_change, LONG_MS, [(PNP_READER, 0)])
                assert not wait.ended()
                with pytest.raises(AssertionError):
                    context.list_readers()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            block()

    def test_one_after_the_other_is_allowed(self) -> None:
        with SimulatedPCSC() as pcsc:
            context = pcsc.establish()
            assert [Call(context.list_readers).result() for _ in range(3)] == [(), (), ()]

    def test_a_cancel_is_allowed(self) -> None:
        with SimulatedPCSC() as pcsc:
            context = pcsc.establish()
            wait = Call(context.get_status_change, LONG_MS, [(PNP_READER, 0)])
            assert not wait.ended()
            context.cancel()
            assert wait.code()


class TestLimits:
    def test_of_contexts(self) -> None:
        with SimulatedPCSC(max_contexts=2) as pcsc:
            first, _ = pcsc.establish(), pcsc.establish()
            assert code_of(pcsc.establish) == NO_SERVICE
            first.release()
            pcsc.establish()

    def test_those_of_a_life_that_ended_do_not_count(self) -> None:
        with SimulatedPCSC(max_contexts=2) as pcsc:
            old = [pcsc.establish(), pcsc.establish()]
            pcsc.stop_service()
            pcsc.start_service()
            new = [pcsc.establish(), pcsc.establish()]
            assert pcsc.open_contexts == 4
            assert [code_of(one.release) for one in old + new] == [NO_SERVICE, NO_SERVICE, 0, 0]
            assert pcsc.open_contexts == 0

    @pytest.mark.parametrize("limit", [1, 16, 17, 1000])
    def test_of_readers_and_entries(self, limit: int) -> None:
        with SimulatedPCSC(max_readers=limit) as pcsc:
            assert pcsc.max_entries == limit
            for number in range(limit):
                pcsc.add_reader(f"Reader {number}")
            with pytest.raises(ValueError, match="max_readers"):
                pcsc.add_reader("one more")
            context = pcsc.establish()
            entries = [(name, 0) for name in pcsc.readers]
            assert len(context.get_status_change(LONG_MS, entries).entries) == limit
            assert code_of(context.get_status_change, LONG_MS, [*entries, (PNP_READER, 0)]) == INVALID_PARAMETER


def test_a_reader_that_goes_while_somebody_waits_to_connect() -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        owner = pcsc.establish().connect("A", ShareMode.DIRECT, NO_PROTOCOL)
        owner.begin_transaction()
        connect = Call(pcsc.establish().connect, "A", ShareMode.DIRECT, NO_PROTOCOL)
        assert not connect.ended()
        pcsc.remove_reader("A")
        assert connect.code() == UNKNOWN_READER


def test_a_release_after_the_reader_went() -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Card())
        context = pcsc.establish()
        handle = share(context, "A")
        handle.begin_transaction()
        pcsc.remove_reader("A")
        pcsc.add_reader("A")
        context.release()
        pcsc.insert("A", Card())
        share(pcsc.establish(), "A").disconnect(Disposition.LEAVE)
