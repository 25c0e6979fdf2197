"""`scardface watch`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from scardface import ATR, Event, ServiceUnavailableError
from scardface.cli._virtual import virtual_pcsc
from scardface.cli._watch import _show, describe, fields
from scardface.sync import CardInserted, CardRemoved, EventsLost, ReaderAdded, ReaderMonitor, ReaderRemoved, ServiceDown, ServiceUp
from scardface.testing import FileCard, SimulatedPCSC
from tests.support.command_line import Command, Terminal, piped

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

FILE_CARD = ATR(bytes.fromhex("3B87018031E873F4214039"))


@pytest.mark.parametrize(
    ("event", "words", "as_json"),
    [
        (
            CardInserted("R", FILE_CARD, initial=True),
            "card in   R: ATR 3B 87 01 80 31 E8 73 F4 21 40 39 (a card), was there",
            {"event": "card-inserted", "reader": "R", "initial": True, "atr": "3B87018031E873F4214039", "names": ("a card",)},
        ),
        (
            CardInserted("R", ATR()),
            "card in   R: it does not answer",
            {"event": "card-inserted", "reader": "R", "initial": False, "atr": "", "names": ()},
        ),
        (CardRemoved("R"), "card out  R", {"event": "card-removed", "reader": "R"}),
        (ReaderAdded("R"), "reader +  R", {"event": "reader-added", "reader": "R", "initial": False}),
        (ReaderRemoved("R"), "reader -  R", {"event": "reader-removed", "reader": "R"}),
        (ServiceDown(), "PC/SC is gone", {"event": "service-down", "initial": False, "error": None}),
        (
            ServiceDown(error=ServiceUnavailableError("no pcscd")),
            "PC/SC is gone: no pcscd",
            {"event": "service-down", "initial": False, "error": "no pcscd"},
        ),
        (ServiceUp(), "PC/SC is back", {"event": "service-up"}),
        (EventsLost(7), "7 events were lost", {"event": "events-lost", "count": 7}),
    ],
)
def test_every_event_has_words(event: Event, words: str, as_json: dict[str, object], home: Path) -> None:
    (home / ".smartcard_list.txt").write_text("3B 87 .. .. .. .. .. .. .. .. ..\n\ta card\n")
    assert describe(event) == words
    assert fields(event) == as_json


def test_one_reader(scardface: Command) -> None:
    done = scardface("watch", "--virtual", "--json", "--count", "2", "--reader", "Virtual Reader 0")
    assert [line["event"] for line in done.lines] == ["reader-added", "card-inserted"]
    done = scardface("watch", "--virtual", "--count", "1", "--reader", "7")
    assert (done.status, done.out) == (3, "")


def test_one_event_a_line_where_there_is_no_terminal(scardface: Command) -> None:
    done = scardface("watch", "--virtual", "--count", "3")
    assert (done.status, done.err) == (0, "")
    kinds = [line.split(" ", 1)[1].split("Virtual")[0].strip() for line in done.out.splitlines()]
    assert kinds == ["reader +", "card in", "card out"]
    done = scardface("watch", "--virtual", "--count", "2", "--json")
    assert [line["event"] for line in done.lines] == ["reader-added", "card-inserted"]
    assert all(line["time"] > 1e9 for line in done.lines)


def test_a_table_that_changes_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("watch", "--virtual")
    shown.read_until("Virtual Reader 0  3B 87")
    shown.read_until("card out")
    shown.interrupt()
    assert shown.end() == 130


def test_the_table_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Console(force_terminal=True, width=120)
    with virtual_pcsc(), ReaderMonitor() as monitor:
        _show(monitor, 2, screen)
    told = capsys.readouterr().out
    assert "Virtual Reader 0" in told
    assert "card in" in told


def test_names_of_readers_are_no_orders(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Reader \x1b[31m")
        assert scardface("watch", "--count", "1").out.endswith("reader +  Reader \\x1b[31m, was there\n")


def test_it_ends_after_so_many_events_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("watch", "--virtual", "--count", "2")
    shown.read_until("card in")
    assert shown.end() == 0


def test_a_real_daemon_in_a_pipe_until_ctrl_c(pcscd: PrivatePcscd) -> None:
    with piped("watch", "--json") as process:
        assert process.stdout is not None
        lines = (json.loads(line) for line in process.stdout)
        assert [next(lines)["reader"] for _ in pcscd.readers] == list(pcscd.readers)
        pcscd.insert(2, FileCard())
        event = next(lines)
        assert (event["event"], event["reader"], event["initial"]) == ("card-inserted", pcscd.readers[2], False)
        pcscd.remove(2)
        assert next(lines)["event"] == "card-removed"
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 130
