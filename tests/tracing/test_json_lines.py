"""scardface.tracing: JSON lines."""

from __future__ import annotations

import io
import json

from scardface import C_APDU, sync, tracing
from scardface.testing import SimulatedPCSC


def test_lines_of_json_have_all_members(pcsc: SimulatedPCSC) -> None:
    lines = io.StringIO()
    with tracing.trace(tracing.JSONLinesWriter(lines)), sync.SCard("A", timeout=10) as card:
        card.send(C_APDU(0, 0xA4, 4, 0, b"\xa0\x00", 256))
    records = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [record["kind"] for record in records] == ["connect", "command", "disconnect"]
    assert {tuple(record) for record in records} == {
        ("time", "seconds", "reader", "kind", "text", "answer", "error", "secret", "steps")
    }
    assert [step["sent"] for step in records[1]["steps"]] == ["00A4040002A000", "00C0000003"]
