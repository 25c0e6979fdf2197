"""`scardface shell`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scardface.cli import _pin
from scardface.cli._options import OutputOptions
from scardface.cli._shell import Shell
from scardface.cli._virtual import READER
from scardface.replay import Recorder
from scardface.sync import SCard
from scardface.testing import FileCard, SimulatedPCSC, VirtualCard
from tests.support.command_line import SELECT, Command, Terminal

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd


def test_lines_as_they_come(scardface: Command) -> None:
    done = scardface("shell", "--virtual", stdin=f"# head\n{SELECT}\n00B08100 Ne=256 # read\nquit\n00B0\n")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("< 9000 success") == 2
    assert "Hello from a vir" in done.out
    assert done.out.startswith("> 00A40400")


def test_json(scardface: Command) -> None:
    done = scardface("shell", "--virtual", "--json", stdin=f"{SELECT}\nreset\nreset cold\nhelp\natr\n")
    select, warm, cold, *rest = done.lines
    assert select["sw"] == "9000"
    assert warm == cold == {"reset": True, "atr": "3B87018031E873F4214039"}
    assert rest[0]["help"].startswith("APDU")
    assert rest[-1]["name"] == "TCK"


def test_a_mistake_is_told_and_the_next_line_counts(scardface: Command) -> None:
    done = scardface("shell", "--virtual", stdin="dance\nreset now\nchannel 7\nchannel close\n00200001 PIN\n00A40000\n")
    assert done.status == 0
    assert done.err.count("scardface: ") == done.err.count("\n") == 5
    assert "it is 'reset' or 'reset cold'" in done.err
    assert "the number of an open one: 0" in done.err
    assert "the basic channel is always open" in done.err
    assert "no terminal to ask for the PIN" in done.err
    assert done.out.count("< 9000 success") == 1


def test_a_misspelt_name_is_guessed_the_shells_own_too(scardface: Command) -> None:
    done = scardface("shell", "--virtual", stdin="chanel\nrese\nselct 04 00\nselect 04 00 F0SCARD\n00200001 12x4\n")
    channel, reset, select, piece, pin = done.err.splitlines()
    assert channel == "scardface: 'chanel' is no command's name; did you mean 'channel'?"
    assert reset.endswith("did you mean 'reset' or 'reset-retry-counter'?")
    assert select.endswith("did you mean 'select'?")
    assert piece.startswith("scardface: 'F0SCARD' is wrong")
    assert "12x4" not in pin


def test_a_reset_forgets_a_pin(scardface: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(_pin, "ask", lambda: asked.append("PIN") or b"1234")
    lines = f"{SELECT}\n00200001 PIN\n00B08300 Ne=256\nreset\n{SELECT}\n00B08300 Ne=256\n"
    done = scardface("shell", "--virtual", "--json", stdin=lines)
    assert [line.get("sw") for line in done.lines] == ["9000", "9000", "9000", None, "9000", "6982"]
    assert asked == ["PIN"]
    assert "1234" not in done.out


def test_help_and_atr_in_words(scardface: Command) -> None:
    done = scardface("shell", "--virtual", stdin="help\natr\n")
    assert "reset [cold]" in done.out
    assert "check character, right" in done.out


class Channels(VirtualCard):
    """Opens channels 1, 2, 3, and says in which one a command came."""

    def __init__(self) -> None:
        self.open: list[int] = []

    def process(self, command: bytes) -> bytes:
        if command[1] == 0x70 and command[2] == 0x80:
            self.open.remove(command[3])
            return b"\x90\x00"
        if command[1] == 0x70:
            number = 1 + len(self.open)
            self.open.append(number)
            return bytes((number, 0x90, 0x00))
        return bytes((command[0], 0x90, 0x00))


def test_logical_channels(scardface: Command) -> None:
    lines = "channel\n00B00000 Ne=1\nchannel\n00B00000 Ne=1\nchannel 1\n00B00000 Ne=1\nchannel close\n00B00000 Ne=1\nchannel 2\n"
    card = Channels()
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader(READER)
        pcsc.insert(READER, card)
        done = scardface("shell", "--json", stdin=lines)
        assert [line.get("data", line.get("channel")) for line in done.lines] == [1, "01", 2, "02", 1, "01", 0, "00", 2]
        assert done.err == ""
        assert card.open == []
        done = scardface("shell", stdin="channel\nreset\n00B00000 Ne=1\nchannel 1\n")
        assert "channel 1 is in use" in done.out
        assert "00  ." in done.out
        assert "the number of an open one: 0" in done.err
        assert card.open == []


def test_a_card_that_refuses_channels(scardface: Command) -> None:
    done = scardface("shell", "--virtual", stdin="channel\n00A40000\n")
    assert "6D00" in done.err
    assert "< 9000 success" in done.out


class Pulled(FileCard):
    """Is taken out by the command that it is sent."""

    def __init__(self, pcsc: SimulatedPCSC) -> None:
        super().__init__()
        self._pcsc = pcsc

    def process(self, command: bytes) -> bytes:
        self._pcsc.remove(READER)
        return b"\x90\x00"


def test_a_card_that_is_gone_ends_it(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader(READER)
        pcsc.insert(READER, Pulled(pcsc))
        done = scardface("shell", stdin="00A40000\nhelp\n")
    assert (done.status, done.out) == (3, "")
    assert done.err.count("\n") == 1


def test_other_failures_do_not(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader(READER)
        pcsc.insert(READER, FileCard())
        pcsc.inject("SCardTransmit", 0x80100068)  # SCARD_W_RESET_CARD
        done = scardface("shell", stdin="00A40000\n00A40000\n")
    assert (done.status, done.out.count("< 9000")) == (0, 1)
    assert "reset" in done.err


def test_on_a_terminal(terminal: Callable[..., Terminal], home: Path) -> None:
    shown = terminal("shell", "--virtual")
    shown.read_until("'help' tells what can be typed")
    shown.read_until(">")
    shown.type("sel\t")
    shown.read_until("ect")
    shown.type(" 04 00 F0534341524446414345\r")
    assert "DF name" in shown.read_until("< 9000 success")
    shown.read_until(">")
    shown.type("\r")
    shown.read_until(">")
    shown.type("00200001 PIN\r")
    shown.read_until("PIN: ")
    shown.type("1234\r")
    assert "1234" not in shown.read_until("< 9000 success")
    shown.read_until(">")
    shown.type("0020000104 31323334\r")
    shown.read_until("< 9000 success")
    shown.read_until(">")
    shown.type("\x04")
    assert shown.end() == 0
    kept = (home / ".local/state/scardface/history").read_text()
    assert "+select 04 00 F0534341524446414345" in kept
    assert "+00200001 PIN" in kept
    assert "31323334" not in kept


class Prompt:
    """A terminal on which somebody types."""

    def __init__(self, *lines: str) -> None:
        self._lines = iter(lines)
        self.shown: list[str] = []

    def prompt(self, text: str) -> str:
        self.shown.append(text)
        try:
            return next(self._lines)
        except StopIteration:
            raise EOFError from None


def test_a_prompt_says_which_channel_is_in_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from scardface.cli import _history, main

    prompt = Prompt("channel", "", "channel 0", "00B00000 Ne=1")
    monkeypatch.setattr(sys, "stdin", Screen())
    monkeypatch.setattr(_history, "prompting", lambda own: prompt)
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader(READER)
        pcsc.insert(READER, Channels())
        assert main(["shell"]) == 0
    assert prompt.shown == ["> ", "1> ", "1> ", "> ", "> "]
    assert "'help' tells what can be typed" in capsys.readouterr().out


class Screen:
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_what_is_recorded_has_one_channel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader(READER)
        pcsc.insert(READER, FileCard())
        with SCard(timeout=30) as card, Recorder(card, tmp_path / "cassette") as recorder:
            conversation = Shell(recorder, card, OutputOptions(False, False))
            assert conversation.run_line("channel")
    assert conversation.prompt() == "> "
    assert "through the basic channel" in capsys.readouterr().err


def test_ctrl_c_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("shell", "--virtual")
    shown.read_until("'help' tells what can be typed")
    shown.read_until(">")
    shown.type("\x03")
    assert shown.end() == 130


def test_a_real_daemon(pcscd: PrivatePcscd, scardface: Command) -> None:
    pcscd.insert(0, FileCard())
    done = scardface("shell", "--json", "--timeout", "10", stdin=f"{SELECT}\nreset\n00B08100 Ne=256\n")
    assert [line.get("sw") for line in done.lines] == ["9000", None, "6A82"]
