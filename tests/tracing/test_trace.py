"""scardface.tracing: what is told of the wire, when a trace begins and ends."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from scardface import C_APDU, Attribute, CardRemovedError, SCardError, sync, tracing
from scardface._session import trace_hook
from scardface.testing import SimulatedPCSC
from tests.support.faces import both_faces

PIN = b"1234567"
SECRET = PIN.hex().upper()


def test_every_step_of_every_kind_is_told(pcsc: SimulatedPCSC) -> None:
    records: list[tracing.Record] = []
    with tracing.trace(records.append), sync.SCard("A", timeout=10) as card:
        card.send(C_APDU(0, 0xA4, 4, 0, b"\xa0\x00", 256), C_APDU(0, 0xB0, 0, 0, b"", 256))
        card.transmit(bytes.fromhex("0084000008"))
        card.reset()
        with pytest.raises(SCardError):
            card.attribute(Attribute.ATR_STRING)
        with pytest.raises(SCardError):
            card.control(0x42000D48, b"\x12\x34")
    kinds = [record.kind for record in records]
    assert kinds == ["connect", "command", "command", "transmit", "reset", "attribute", "control", "disconnect"]
    assert [record.text for record in records[4:]] == ["EXCLUSIVE RESET", "0x00090303", "0x42000d48 <2 bytes>", "RESET"]
    assert [record.error_class for record in records[4:]] == ["", "SCardError", "SCardError", ""]
    connect, select, read, raw = records[:4]
    assert connect.answer == "3B00"
    assert (select.text, select.answer) == ("00A40400 A000 Ne=256", "616263 9000")
    assert [(step.sent_text, step.received_text) for step in select.steps] == [
        ("00A4040002A000", "6103"),
        ("00C0000003", "6162639000"),
    ]
    assert [(step.sent_text, step.received_text) for step in read.steps] == [
        ("00B0000000", "6C05"),
        ("00B0000005", "31323334359000"),
    ]
    assert (raw.text, raw.answer) == ("0084000008", "9000")
    assert all(record.reader == "A" and record.seconds >= 0 for record in records)
    times = [step.time for record in records for step in record.steps]
    assert times == sorted(times)


@pytest.mark.anyio
@both_faces
async def test_both_faces_and_cards_that_were_open_before(pcsc: SimulatedPCSC, face: Any) -> None:
    records: list[tracing.Record] = []
    async with face.open("A", timeout=10) as card:
        await card.send(b"\x00\x84\x00\x00\x08")
        with tracing.trace(records.append):
            await card.send(b"\x00\x84\x00\x00\x04")
        await card.send(b"\x00\x84\x00\x00\x02")
    assert [(record.kind, record.text, record.answer) for record in records] == [("command", "00840000 Ne=4", "9000")]


def test_a_pulled_card_is_an_error_and_a_removal(pcsc: SimulatedPCSC) -> None:
    records: list[tracing.Record] = []
    with tracing.trace(records.append), sync.SCard("A", timeout=10) as card:
        pcsc.remove("A")
        with pytest.raises(CardRemovedError):
            card.send(C_APDU(0, 0x20, 0, 0x81, PIN))
    assert [record.kind for record in records] == ["connect", "removal", "command", "disconnect"]
    failed = records[2]
    assert failed.error_class == "CardRemovedError"
    assert failed.error.startswith("CardRemovedError: ")
    assert (failed.answer, failed.steps[0].received_text) == ("", "")
    assert SECRET not in repr(records)


def test_a_connect_that_fails(pcsc: SimulatedPCSC) -> None:
    records: list[tracing.Record] = []
    with sync.SCard("A", timeout=10), tracing.trace(records.append), pytest.raises(SCardError):
        sync.SCard("A", timeout=0)
    assert all(record.kind == "connect" and record.error for record in records)


def test_traces_end_one_by_one_and_close_what_they_opened(pcsc: SimulatedPCSC, tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    first, second = tracing.trace(tracing.TextWriter(path)), tracing.trace(list[tracing.Record]().append)
    with sync.SCard("A", timeout=10):
        pass
    first.stop()
    first.stop()
    second.stop()
    assert path.read_text(encoding="utf-8").startswith("# scardface trace 1\n")
    file = io.StringIO()
    with tracing.trace(tracing.TextWriter(file)):
        pass
    assert not file.closed


@pytest.mark.parametrize("writers", [(), (None,), (io.StringIO(),)])
def test_what_is_no_writer_is_refused(writers: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        tracing.trace(*writers)
    assert trace_hook.receivers == ()
