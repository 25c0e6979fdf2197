"""`scardface replay`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_line import SELECT, Command, Terminal

CASSETTE = """\
scardface cassette 1
atr 3B87018031E873F4214039
protocol T1

00A40400 F0534341524446414345 Ne=256 -> 6F00 9000
00200001 <secret> -> 9000
"""


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    path = tmp_path / "session.cassette"
    path.write_text(CASSETTE)
    return path


def test_the_cassette_answers(scardface: Command, cassette: Path) -> None:
    done = scardface("replay", str(cassette), "--json", SELECT, "0020000106313233343536")
    assert done.status == 0
    assert [line["data"] for line in done.lines] == ["6F00", ""]
    assert scardface("replay", str(cassette), "--virtual", stdin=SELECT).status == 0


def test_success_words(scardface: Command, cassette: Path) -> None:
    assert scardface("replay", str(cassette), "--success", "91xx", SELECT).status == 1
    assert scardface("replay", str(cassette), "--success", "90xx", SELECT).status == 0


def test_what_was_recorded_is_what_is_played(scardface: Command, tmp_path: Path) -> None:
    path = str(tmp_path / "new.cassette")
    recorded = scardface("record", path, "--virtual", "--json", SELECT, "00B0810000").lines
    played = scardface("replay", path, "--json", SELECT, "00B0810000").lines
    assert played == recorded


def test_what_was_not_recorded_is_told_of(scardface: Command, cassette: Path) -> None:
    done = scardface("replay", str(cassette), "00A40000")
    assert done.status == 5
    assert "00A40000 is not recorded in" in done.err
    assert "line 5: 00A40400" in done.err


def test_a_damaged_one_and_none(scardface: Command, cassette: Path, tmp_path: Path) -> None:
    cassette.write_text(CASSETTE + "nonsense\n")
    done = scardface("replay", str(cassette), SELECT)
    assert (done.status, done.out) == (5, "")
    assert "line 7" in done.err
    assert scardface("replay", str(tmp_path / "none"), SELECT).err.endswith("none: No such file or directory\n")


def test_a_shell_on_a_terminal(terminal: Callable[..., Terminal], cassette: Path) -> None:
    shown = terminal("replay", str(cassette))
    shown.read_until("'help' tells what can be typed")
    shown.read_until(">")
    shown.type(SELECT + "\r")
    shown.read_until("< 9000 success")
    shown.read_until(">")
    shown.type("\x04")
    assert shown.end() == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_dump_without_a_head(scardface: Command, tmp_path: Path, encoding: str) -> None:
    """As GlobalPlatformPro's own tests have them."""
    path = tmp_path / "card.dump"
    path.write_text("# a card via a reader\n00A4040000\n# 11ms\n6F009000\n80CA004200\n6A88\n", encoding=encoding)
    done = scardface("replay", str(path), "--json", "00A4040000", "80CA004200")
    assert [(line["data"], line["sw"]) for line in done.lines] == [("6F00", "9000"), ("", "6A88")]
    path.write_text("# a card via a reader\n00A4040000\n", encoding=encoding)
    done = scardface("replay", str(path), "00A4040000")
    assert (done.status, done.out) == (5, "")
    assert "card.dump, line 2: the last command has no response" in done.err
