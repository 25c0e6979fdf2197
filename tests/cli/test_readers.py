"""`scardface readers`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scardface import ATR, ReaderState
from scardface.cli._readers import card_of, use_of
from scardface.testing import FileCard, SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.command_line import Command

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd
    from tests.support.foreign import Foreign


def test_a_table(scardface: Command, home: Path) -> None:
    (home / ".cache").mkdir()
    (home / ".cache" / "smartcard_list.txt").write_text("3B 87 .. 80 31 E8 73 F4 21 40 39\n\tscardface's FileCard\n")
    done = scardface("readers", "--virtual")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "#  reader            card                              in use",
        "0  Virtual Reader 0  3B 87 01 80 31 E8 73 F4 21 40 39  free",
        "                     scardface's FileCard",
    ]


def test_json(scardface: Command) -> None:
    done = scardface("readers", "--virtual", "--json")
    assert done.lines == [
        {
            "number": 0,
            "reader": "Virtual Reader 0",
            "card": "present",
            "atr": "3B87018031E873F4214039",
            "names": [],
            "use": "free",
            "programs": [],
        }
    ]


def test_no_reader_and_no_service(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        done = scardface("readers")
        assert (done.status, done.out) == (0, "")
        assert "doctor" in done.err
        assert scardface("readers", "--json").out == ""
        pcsc.stop_service()
        done = scardface("readers")
        assert (done.status, done.out, done.err.count("\n")) == (3, "", 1)


def test_names_that_look_like_orders(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("[red]Reader \x1b[31m")
        assert "[red]Reader \\x1b[31m  none" in scardface("readers").out


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ReaderState(False, ATR(), False, False, False), ("none", "free")),
        (ReaderState(True, ATR(), True, False, False), ("mute", "free")),
        (ReaderState(True, ATR(), False, False, False), ("unpowered", "free")),
        (ReaderState(True, ATR(b"\x3b\x00"), False, True, False), ("present", "shared")),
        (ReaderState(True, ATR(b"\x3b\x00"), False, True, True), ("present", "exclusive")),
    ],
)
def test_states_in_words(state: ReaderState, words: tuple[str, str]) -> None:
    assert (card_of(state), use_of(state)) == words


def test_a_real_daemon_and_another_program(pcscd: PrivatePcscd, foreign: Foreign, scardface: Command) -> None:
    pcscd.insert(0, FileCard())
    mute = LogCard()
    mute.atr = b""
    pcscd.insert(1, mute)
    for reader in (0, 1):
        pcscd.wait_for_card(reader)
    foreign.connect(pcscd.readers[0])
    found = scardface("readers", "--json").lines
    assert [(line["reader"], line["card"], line["use"]) for line in found[:3]] == [
        (pcscd.readers[0], "present", "exclusive"),
        (pcscd.readers[1], "mute", "free"),
        (pcscd.readers[2], "none", "free"),
    ]
    assert found[0]["programs"]  # the other one is among them, if no more than eight newer programs have PC/SC open
    assert all(re.fullmatch(r".+ \(pid \d+\)", program) for program in found[0]["programs"])
    assert found[1]["programs"] == []
    assert re.search(r"^programs with PC/SC open: .+ \(pid \d+\)", scardface("readers").out, re.MULTILINE)
