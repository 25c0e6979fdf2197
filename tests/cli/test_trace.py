"""`scardface trace`, and `send -f` with a log."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command_line import Command

SELECT, READ = "00A40400 F0534341524446414345 Ne=256", "00B08100 Ne=256"
LOG = """\
00000000 APDU: 00 A4 04 00 0A F0 53 43 41 52 44 46 41 43 45 00
00000162 SW: 6F 13 90 00
00000029 APDU: 00 B0 81 00 00
00000043 SW: 6F 6E 90 00
"""


def test_a_trace_in_words(scardface: Command, tmp_path: Path) -> None:
    path = str(tmp_path / "trace.txt")
    sent = scardface("send", "--virtual", "--trace-file", path, SELECT, READ)
    shown = scardface("trace", path)
    assert shown.status == 0
    assert shown.out == sent.out


def test_what_is_left_out_stays_so(scardface: Command, tmp_path: Path) -> None:
    path = str(tmp_path / "trace.jsonl")
    scardface("send", "--virtual", "--trace-file", path, SELECT, "002000010431323334")
    shown = scardface("trace", "--json", "--show-secrets", path)
    assert [json.loads(line)["name"] for line in shown.out.splitlines()] == ["SELECT", "VERIFY"]
    again = scardface("send", "--virtual", "-f", path)
    assert again.status == 2
    assert "left out of this trace" in again.err


def test_the_commands_of_a_log_are_sent(scardface: Command, tmp_path: Path) -> None:
    path = tmp_path / "pcscd.log"
    path.write_text(LOG, encoding="utf-8")
    done = scardface("send", "--virtual", "-f", str(path))
    assert done.status == 0
    assert "Hello from a vir" in done.out
    assert scardface("replay", str(path), SELECT).status == 0


def test_a_damaged_log_names_the_line(scardface: Command, tmp_path: Path) -> None:
    path = tmp_path / "pcscd.log"
    path.write_text("00000000 APDU: 00 A4\n00000162 SW: 90 00\n", encoding="utf-8")
    assert "line 1" in scardface("send", "--virtual", "-f", str(path)).err
    assert "line 1" in scardface("trace", str(path)).err
