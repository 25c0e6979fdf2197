"""scardface.tracing: the text."""

from __future__ import annotations

import io
import threading

import pytest

from scardface import C_APDU, sync, tracing
from scardface.testing import SimulatedPCSC
from scardface.tracing._text import utc
from tests.support.cards import LogCard


def test_threads_write_whole_lines(pcsc: SimulatedPCSC) -> None:
    text = io.StringIO()

    def use(name: str) -> None:
        with sync.SCard(name, timeout=10) as card:
            for _ in range(50):
                card.send(C_APDU(0, 0x84, 0, 0, b"", 8))

    for number in range(4):
        pcsc.add_reader(f"R{number}")
        pcsc.insert(f"R{number}", LogCard())
    with tracing.trace(tracing.TextWriter(text)):
        threads = [threading.Thread(target=use, args=(f"R{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = text.getvalue().splitlines()
    assert len(lines) == 1 + 4 * (2 + 50)
    assert all(line.startswith("20") and '"R' in line for line in lines[1:])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_793_550_000.25, "2026-11-01T16:20:00.250000Z"),
        (1_793_550_000.9999996, "2026-11-01T16:20:01.000000Z"),
        (1_793_550_001.000002, "2026-11-01T16:20:01.000002Z"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert utc(seconds) == text
