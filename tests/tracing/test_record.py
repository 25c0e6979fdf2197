"""scardface.tracing: what may be secret is left out."""

from __future__ import annotations

import io

from scardface import C_APDU, sync, tracing
from scardface.testing import SimulatedPCSC

PIN = b"1234567"
SECRET = PIN.hex().upper()


def test_what_may_be_secret_is_left_out_of_every_writer(pcsc: SimulatedPCSC) -> None:
    text, lines, capture = io.StringIO(), io.StringIO(), io.BytesIO()
    records: list[tracing.Record] = []
    writers = tracing.TextWriter(text), tracing.JSONLinesWriter(lines), tracing.PcapWriter(capture), records.append
    with tracing.trace(*writers), sync.SCard("A", timeout=10) as card:
        card.send(C_APDU(0, 0x20, 0, 0x81, PIN))
        card.transmit(b"\x00\x20\x00\x81\x07" + PIN)
    told = "".join(map(repr, records)) + text.getvalue() + lines.getvalue()
    assert SECRET not in told.upper()
    assert str(PIN) not in told
    assert PIN not in capture.getvalue()
    assert "0020008107 <7 bytes> -> 63C2" in text.getvalue()
    assert [record.secret for record in records] == [False, True, True, False]
    assert records[1].steps[0].sent == b"\x00\x20\x00\x81\x07" + bytes(7)


def test_the_users_own_word_shows_them(pcsc: SimulatedPCSC) -> None:
    records: list[tracing.Record] = []
    with tracing.trace(records.append, show_secrets=True), sync.SCard("A", timeout=10) as card:
        card.send(C_APDU(0, 0x20, 0, 0x81, PIN))
    assert records[1].text == f"00200081 {SECRET}"
    assert records[1].steps[0].sent == b"\x00\x20\x00\x81\x07" + PIN
    assert not records[1].secret
