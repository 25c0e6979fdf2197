"""scardface._session.trace_hook: what it costs, and what a receiver can do."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from scardface import C_APDU, sync, tracing
from scardface._session import trace_hook
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        simulated.insert("A", LogCard())
        yield simulated
        assert trace_hook.receivers == ()


def test_while_nobody_traces_nothing_is_timed_and_kept(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tell", "timed", "tell_call"):
        monkeypatch.setattr(trace_hook, name, lambda *args: pytest.fail("something was told"))
    with sync.SCard("A", timeout=10) as card:
        card.send(C_APDU(0, 0xA4, 4, 0, b"\xa0\x00", 256))
        card.transmit(b"\x00\x84\x00\x00\x08")
        card.reset()
        assert card._session is not None
        assert card._session._exchanger.steps == []


def test_a_writer_that_raises_ends_no_exchange(pcsc: SimulatedPCSC, caplog: pytest.LogCaptureFixture) -> None:
    records: list[tracing.Record] = []

    def broken(record: tracing.Record) -> None:
        raise OSError("no space left on device")

    with caplog.at_level(logging.ERROR), tracing.trace(broken), tracing.trace(records.append), sync.SCard("A", timeout=10) as card:
        assert card.send(b"\x00\x84\x00\x00\x08").sw == 0x9000
    assert len(records) == 3
    assert "a trace could not be written" in caplog.text


def test_a_trace_that_begins_in_a_batch_has_each_command_by_itself(pcsc: SimulatedPCSC) -> None:
    records: list[tracing.Record] = []
    traces: list[tracing.Trace] = []

    class Begins(LogCard):
        def process(self, command: bytes) -> bytes:
            if not traces:
                traces.append(tracing.trace(records.append))
            return super().process(command)

    pcsc.remove("A")
    pcsc.insert("A", Begins())
    with sync.SCard("A", timeout=10) as card:
        card.send(*(C_APDU(0, 0x84, 0, number, b"", 8) for number in range(3)))
        traces[0].stop()
    assert [(record.text, len(record.steps)) for record in records] == [("00840001 Ne=8", 1), ("00840002 Ne=8", 1)]
