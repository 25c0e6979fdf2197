"""`--trace` and `--trace-file`."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from scardface.cli._main import commands
from scardface.cli._open import open_card
from scardface.cli._options import CardChoice
from scardface.cli._tracing import logged
from scardface.cli._virtual import virtual_pcsc
from tests.support.command_line import Command

SELECT = "00A40400 F0534341524446414345 Ne=256"


@pytest.mark.parametrize("name", ["trace.txt", "trace.jsonl", "trace.pcap"])
def test_each_form_by_its_name(scardface: Command, tmp_path: Path, name: str) -> None:
    done = scardface("send", "--virtual", "--trace-file", str(tmp_path / name), SELECT, "002000010431323334")
    assert done.status == 0
    content = (tmp_path / name).read_bytes()
    assert b"31323334" not in content
    assert not re.search(rb"(?<![0-9.:])1234(?![0-9])", content), "but in a time"
    if name.endswith(".jsonl"):
        assert [json.loads(line)["kind"] for line in content.splitlines()] == ["connect", "command", "command", "disconnect"]
    elif name.endswith(".txt"):
        assert content.startswith(b"# scardface trace 1\n")
        assert b"command 00200001 <4 bytes> -> 9000" in content
    else:
        assert content[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4")


def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_sent(scardface: Command, tmp_path: Path) -> None:
    done = scardface("send", "--virtual", "--trace-file", str(tmp_path / "nowhere" / "trace"), SELECT)
    assert done.status == 5
    assert "nowhere" in done.err
    assert not done.out


def test_a_trace_is_what_the_library_logs(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("scardface")
    before = logger.level, list(logger.handlers)
    with virtual_pcsc(), logged(), open_card(CardChoice(None, None, 0.0, shared=False)) as card:
        card.send(bytes.fromhex("0020000104 31323334"))
    told = capsys.readouterr().err
    assert "scardface.apdu" in told
    assert "00200001 <4 bytes> -> 9000" in told
    assert (logger.level, list(logger.handlers)) == before


def test_every_command_can_be_traced() -> None:
    """But `schema`, which speaks to no card."""
    for name, command in commands.commands.items():
        assert name == "schema" or {"trace", "trace_file"} <= {option.name for option in command.params}, name
