"""`scardface atr`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from scardface import ServiceUnavailableError
from scardface.cli._atr import _next_card
from scardface.testing import FileCard, SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.command_line import Command, Terminal, piped

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd
    from tests.support.foreign import Foreign

ATR = "3B87018031E873F4214039"


@pytest.mark.parametrize("words", [[ATR], ["3B 87 01 80 31 E8 73 F4 21 40 39"], ["3B", "87:01:80:31:E8:73:F4:21:40:39"]])
def test_one_that_is_given(words: list[str], scardface: Command) -> None:
    done = scardface("atr", *words)
    assert (done.status, done.err) == (0, "")
    first, *rows = done.out.splitlines()
    assert first == "3B 87 01 80 31 E8 73 F4 21 40 39"
    assert [row.split()[0] for row in rows[:-1]] == ["TS", "T0", "TD1", "historical", "historical", "historical", "TCK"]
    assert rows[-2].split(maxsplit=2) == ["TCK", "39", "check character, right"]
    assert "no list of known cards" in rows[-1]


def test_its_name(scardface: Command, home: Path) -> None:
    (home / ".smartcard_list.txt").write_text("3B 87 .. 80 31 E8 73 F4 21 40 39\n\tof ours\n\tor another's\n")
    assert scardface("atr", ATR).out.splitlines()[-2:] == ["may be: of ours", "may be: or another's"]
    assert scardface("atr", "3B00").out.splitlines()[-1] == "not in the list of known cards"


def test_json(scardface: Command) -> None:
    (line,) = scardface("atr", "--json", "3B80800101").lines
    assert {key: line[key] for key in ("atr", "reader", "well_formed", "protocols", "tck_right", "names")} == {
        "atr": "3B80800101",
        "reader": None,
        "well_formed": True,
        "protocols": ["T0", "T1"],
        "tck_right": True,
        "names": [],
    }
    assert line["bytes"][0] == {"name": "TS", "bytes": "3B", "meaning": "direct convention: high is 1, b1 first"}


@pytest.mark.parametrize(("text", "words"), [("3B8", "pairs of hexadecimal digits"), ("xy", "pairs"), ("00" * 256, "at most 33")])
def test_what_is_none(text: str, words: str, scardface: Command) -> None:
    done = scardface("atr", text)
    assert (done.status, done.out) == (2, "")
    assert words in done.err


def test_one_that_is_cut_off(scardface: Command) -> None:
    assert "missing" in scardface("atr", "3B87").out


def test_of_the_card_that_is_in(scardface: Command) -> None:
    assert scardface("atr", "--virtual", "--timeout", "0").out.startswith(
        "3B 87 01 80 31 E8 73 F4 21 40 39   in Virtual Reader 0\n"
    )
    (line,) = scardface("atr", "--virtual", "--json").lines
    assert (line["atr"], line["reader"]) == (ATR, "Virtual Reader 0")


def test_no_card_and_a_mute_one(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        done = scardface("atr", "--timeout", "0.05")
        assert (done.status, done.err) == (4, "scardface: no card within 0.05 s\n")
        mute = LogCard()
        mute.atr = b""
        pcsc.insert("A", mute)
        done = scardface("atr")
        assert done.status == 3
        assert "the card in 'A' does not answer" in done.err


def test_no_reader_and_no_service_are_told(scardface: Command) -> None:
    """Nobody has to wait to hear that nothing can come; who wants to wait says so."""
    with SimulatedPCSC() as pcsc:
        done = scardface("atr")
        assert (done.status, done.err) == (3, "scardface: there is no reader; plug one in, or --wait-for-reader waits for one\n")
        assert scardface("atr", "--wait-for-reader", "--timeout", "0.05").status == 4
        pcsc.add_reader("A")
        done = scardface("atr", "--reader", "B")
        assert (done.status, done.out) == (3, "")
        assert "no reader's name is 'B' or has it in it: there is 0 'A'; --wait-for-reader" in done.err
        pcsc.stop_service()
        done = scardface("atr", "--timeout", "2")
        assert (done.status, done.out) == (3, "")
        assert "PC/SC service" in done.err


@pytest.mark.anyio
@pytest.mark.parametrize("patient", [False, True])
async def test_a_service_that_goes_away_is_told(patient: bool) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")

        async def come_back() -> None:
            await anyio.to_thread.run_sync(pcsc.stop_service)
            if patient:
                await anyio.to_thread.run_sync(pcsc.start_service)
                await anyio.to_thread.run_sync(pcsc.insert, "A", FileCard())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(come_back)
            if patient:
                assert (await _next_card("A", None, patient))[0] == "A"
            else:
                with pytest.raises(ServiceUnavailableError):
                    await _next_card("A", None, patient)


def test_a_reader_and_a_service_may_be_waited_for(pcscd: PrivatePcscd) -> None:
    name = pcscd.readers[1]
    pcscd.stop()
    with piped("atr", "--json", "--wait-for-reader", "--reader", name) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        pcscd.start()
        pcscd.insert(1, FileCard())
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["reader"] == name


@pytest.mark.slow
def test_ctrl_c_ends_the_wait(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("atr", "--virtual", "--wait-for-reader", "--reader", "Other")
    shown.read_until("waiting for a card; Ctrl-C ends it")
    shown.interrupt()
    assert shown.end() == 130
    assert "Traceback" not in shown.text


def test_of_a_card_that_another_program_holds(pcscd: PrivatePcscd, foreign: Foreign, scardface: Command) -> None:
    pcscd.insert(3, FileCard())
    pcscd.wait_for_card(3)
    foreign.connect(pcscd.readers[3])
    done = scardface("atr", "--reader", "3", "--json", "--timeout", "10")
    assert done.lines[0]["reader"] == pcscd.readers[3]
