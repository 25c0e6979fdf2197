"""`scardface record`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scardface.cli import _history, main
from scardface.testing import FileCard
from tests.support.command_line import SELECT, Command, Terminal

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

VERIFY = "0020000104 31323334"


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    return tmp_path / "session.cassette"


def exchanges(cassette: Path) -> list[str]:
    return [line for line in cassette.read_text().splitlines() if "->" in line]


def test_what_was_said_is_written_without_the_pin(scardface: Command, cassette: Path) -> None:
    done = scardface("record", str(cassette), "--virtual", SELECT, VERIFY)
    assert done.status == 0
    assert done.out.count("< 9000 success") == 2
    assert exchanges(cassette) == [
        "00A40400 F0534341524446414345 Ne=256 -> 6F1382013883025000840AF0534341524446414345 9000",
        "00200001 <secret> -> 9000",
    ]


def test_what_nobody_knows_may_be_hidden_too(scardface: Command, cassette: Path) -> None:
    scardface("record", str(cassette), "--virtual", "8001000002AABB")
    assert exchanges(cassette) == ["80010000 AABB -> 6E00"]
    scardface("record", str(cassette), "--virtual", "--overwrite", "--hide-unknown", "8001000002AABB")
    assert exchanges(cassette) == ["80010000 <secret> -> 6E00"]


def test_a_file_that_is_there_stays(scardface: Command, cassette: Path) -> None:
    cassette.write_text("precious")
    done = scardface("record", str(cassette), "--virtual", SELECT)
    assert (done.status, done.out, done.err) == (5, "", f"scardface: {cassette}: the file exists; --overwrite replaces it\n")
    assert cassette.read_text() == "precious"
    assert scardface("record", str(cassette), "--virtual", "--overwrite", SELECT).status == 0
    assert len(exchanges(cassette)) == 1


@pytest.mark.parametrize("place", ["plain/a.cassette", "none/a.cassette"])
def test_a_cassette_that_cannot_be_written_is_told_before_anything_is_sent(
    scardface: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """And before a card is waited for."""
    (tmp_path / "plain").touch()
    monkeypatch.chdir(tmp_path)
    for words in (("--virtual",), ("--virtual", "--atr", "3F")):
        done = scardface("record", *words, place, SELECT)
        assert (done.status, done.out) == (5, "")
        assert done.err.startswith(f"scardface: {Path(place)}: ")
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["plain"]


def test_what_is_no_file_is_not_replaced(scardface: Command, tmp_path: Path) -> None:
    """In a folder where an ordinary user may write; in that of the devices root alone gets so far."""
    link = tmp_path / "null"
    if sys.platform == "win32":  # which lets administrators alone make links, and has devices in every folder
        link = Path(os.devnull)
    else:
        link.symlink_to(os.devnull)
    done = scardface("record", "--virtual", "--overwrite", str(link), SELECT)
    assert (done.status, done.out) == (5, "")
    assert f"{link}: not a file that can be replaced" in done.err


def test_what_went_wrong_is_written_up_to_there(scardface: Command, cassette: Path) -> None:
    done = scardface("record", str(cassette), "--virtual", stdin=f"00B08100 Ne=256\n{SELECT}\n")
    assert done.status == 1
    assert exchanges(cassette) == ["00B08100 Ne=256 -> 6A82"]


def test_the_shell_is_recorded_on_a_terminal(terminal: Callable[..., Terminal], cassette: Path) -> None:
    shown = terminal("record", str(cassette), "--virtual")
    shown.read_until("'help' tells what can be typed")
    shown.read_until(">")
    shown.type("00A40000\r")
    shown.read_until("< 9000 success")
    shown.read_until(">")
    shown.type("channel\r")
    shown.read_until("what is recorded goes through the basic channel")
    shown.read_until(">")
    shown.type("quit\r")
    assert shown.end() == 0
    assert exchanges(cassette) == ["00A40000 -> 9000"]


class Typist:
    """A terminal, and somebody who types two lines."""

    def __init__(self) -> None:
        self._lines = iter(["00A40000", "quit"])

    def isatty(self) -> bool:
        return True

    def prompt(self, text: str) -> str:
        return next(self._lines)


def test_the_same_in_this_process(cassette: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typist = Typist()
    monkeypatch.setattr(sys, "stdin", typist)
    monkeypatch.setattr(_history, "prompting", lambda own: typist)
    assert main(["record", str(cassette), "--virtual"]) == 0
    assert exchanges(cassette) == ["00A40000 -> 9000"]


def test_a_real_daemon(pcscd: PrivatePcscd, scardface: Command, cassette: Path) -> None:
    pcscd.insert(0, FileCard())
    assert scardface("record", str(cassette), "--timeout", "10", "--json", SELECT).lines[0]["sw"] == "9000"
    assert len(exchanges(cassette)) == 1
