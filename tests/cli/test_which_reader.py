"""Which reader is meant: never one that nobody named."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import NoReaderError
from scardface.cli import _which_reader
from scardface.cli._which_reader import none_matches, which
from scardface.testing import FileCard, SimulatedPCSC
from tests.support.command_line import SELECT, Command
from tests.support.freezing import freeze

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

NAMES = ("Token CCID 01", "Token CCID", "ACS ACR122U 00 00", "1", "Lecteur \xe9t\xe9")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Token CCID", "Token CCID"),
        ("Token CCID 01", "Token CCID 01"),
        ("01", "Token CCID 01"),  # a number has no zero in front
        ("00 00", "ACS ACR122U 00 00"),
        ("0", "Token CCID 01"),
        ("2", "ACS ACR122U 00 00"),
        ("1", "1"),  # an exact name comes before a number
        ("acr122", "ACS ACR122U 00 00"),
        ("CCID 01", "Token CCID 01"),
        ("nosuch", None),
        ("Token CCID 02", None),
    ],
)
def test_the_exact_name_else_the_number_else_a_part_that_no_other_has(text: str, found: str | None) -> None:
    assert which(text, NAMES) == found


@pytest.mark.parametrize("text", ["token ccid", "Token", "", "CCID"])
def test_what_may_mean_several_is_refused_and_they_are_listed(text: str) -> None:
    with pytest.raises(click.UsageError, match=r"part of [2-5] names") as refused:
        which(text, NAMES)
    assert "0 'Token CCID 01', 1 'Token CCID', 2 'ACS ACR122U 00 00'" in refused.value.message


@pytest.mark.parametrize("text", ["5", "122", "999999999"])
def test_a_number_is_never_a_part_of_a_name(text: str) -> None:
    with pytest.raises(NoReaderError, match=f"there is no reader {text}: there are 0 "):
        which(text, NAMES)


@pytest.mark.parametrize("text", ["4", "Lecteur", "Lecteur \xe9t\xe9"])
def test_a_reader_that_cannot_be_used_is_told(text: str) -> None:
    with SimulatedPCSC(), pytest.raises(NoReaderError, match="ASCII names only"):  # the simulation takes what pyscard takes
        which(text, NAMES)


def test_nothing_to_choose_from() -> None:
    assert "no reader is plugged in" in str(none_matches("x", ()))
    assert "there is no reader" in str(none_matches(None, ()))
    assert "ASCII" in str(none_matches(None, NAMES[4:]))
    assert all("--wait-for-reader" in str(none_matches(text, ())) for text in (None, "x"))


@given(st.lists(st.text("AB 01", min_size=1, max_size=4), unique=True, max_size=5), st.text("AB 01", max_size=3))
def test_no_other_reader_is_ever_taken(names: list[str], text: str) -> None:
    """Whatever the names are: what is found is named exactly, by number, or by a part that no other name has."""
    try:
        found = which(text, names)
    except (NoReaderError, click.UsageError):
        assert text not in names
        return
    if found is None:
        assert not [name for name in names if text in name]
    elif found != text and text not in ("0", "1"):
        assert [name for name in names if text.lower() in name.lower()] == [found]


@pytest.mark.parametrize("words", [("send", "--timeout", "0"), ("record", "a.cassette", "--overwrite"), ("shell",)])
def test_commands_take_only_the_reader_that_is_meant(
    scardface: Command, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.chdir(str(tmp_path))
    with SimulatedPCSC() as pcsc:
        for name in ("Token 01", "Token"):
            pcsc.add_reader(name)
            pcsc.insert(name, FileCard())
        done = scardface(*words, "--json", "--reader", "Token", stdin=f"{SELECT}\n")
        assert [line["reader"] for line in done.lines] == ["Token"]
        before = pcsc.calls["SCardConnect"]
        done = scardface(*words, "--json", "--reader", "oken", stdin=f"{SELECT}\n")
        assert (done.status, done.out) == (2, "")
        assert "0 'Token 01', 1 'Token'" in done.err
        assert pcsc.calls["SCardConnect"] == before


def test_the_number_is_the_one_that_is_shown(scardface: Command) -> None:
    """A reader that cannot be used is counted as well, and told."""
    with SimulatedPCSC() as pcsc:
        for name in ("Lecteur \xe9t\xe9 00 00", "Admin", "User"):
            pcsc.add_reader(name)
            pcsc.insert(name, FileCard())
        listed = scardface("readers", "--json")
        assert [(line["number"], line["reader"], line["card"]) for line in listed.lines] == [
            (0, "Lecteur \xe9t\xe9 00 00", "unreachable"),
            (1, "Admin", "present"),
            (2, "User", "present"),
        ]
        assert "cannot be used: this PC/SC binding takes ASCII names only" in listed.err
        assert re.search("0  Lecteur \xe9t\xe9 00 00  unreachable +unknown", scardface("readers").out)
        for line in listed.lines[1:]:
            done = scardface("send", "--json", "--timeout", "0", "--reader", str(line["number"]), SELECT)
            assert done.lines[0]["reader"] == line["reader"]
            assert scardface("atr", "--json", "--reader", str(line["number"])).lines[0]["reader"] == line["reader"]
        done = scardface("send", "--timeout", "0", "--reader", "0", SELECT)
        assert (done.status, done.out) == (3, "")


def test_a_real_daemon_that_is_frozen_holds_no_command(
    pcscd: PrivatePcscd, scardface: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _which_reader.PATIENCE + 3 <= 8, "seconds in which every command has ended, its start included"
    monkeypatch.setattr(_which_reader, "PATIENCE", 0.3)
    freeze(pcscd.pid)
    try:
        for words in (("readers",), ("atr",), ("send", SELECT), ("shell",), ("watch",)):
            done = scardface(*words)
            assert (done.status, done.out) == (3, ""), words
            assert "did not answer within 0.3 s" in done.err
    finally:
        os.kill(pcscd.pid, signal.SIGCONT)
