"""`scardface send`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from scardface.cli import _send
from scardface.cli._options import OutputOptions
from scardface.cli._virtual import virtual_pcsc
from scardface.testing import FileCard, SimulatedPCSC, VirtualCard
from tests.support.command_line import SELECT, Command, Terminal, piped

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

READ = "00B0810000"
VERIFY = "0020000104 31323334"


def test_commands_of_the_command_line(scardface: Command) -> None:
    done = scardface("send", "--virtual", SELECT, READ)
    assert (done.status, done.err) == (0, "")
    assert [line for line in done.out.splitlines() if line[0] in "<>"] == [
        "> 00A40400 F0534341524446414345 Ne=256   SELECT",
        "< 9000 success",
        "> 00B08100 Ne=256   READ BINARY",
        "< 9000 success",
    ]
    assert "Hello from a vir" in done.out
    assert scardface("send", "--virtual", "select", "04", "00", "F0534341524446414345").status == 0


def test_json_is_a_line_for_each(scardface: Command) -> None:
    first, second = scardface("send", "--virtual", "--json", SELECT, READ).lines
    assert first["sw"] == second["sw"] == "9000"
    assert second["text"] == "Hello from a virtual card."


def test_the_first_other_status_ends_it(scardface: Command) -> None:
    done = scardface("send", "--virtual", "--json", READ, SELECT)
    assert (done.status, [line["sw"] for line in done.lines]) == (1, ["6A82"])
    done = scardface("send", "--virtual", "--json", "--keep-going", READ, SELECT)
    assert (done.status, [line["sw"] for line in done.lines]) == (0, ["6A82", "9000"])


def test_success_words_say_what_ends_it(scardface: Command) -> None:
    done = scardface("send", "--virtual", "--json", "--success", "6A82,9000", READ, SELECT, READ)
    assert (done.status, [line["sw"] for line in done.lines]) == (0, ["6A82", "9000", "9000"])
    done = scardface("send", "--virtual", "--json", "--success", "6Axx", "--success", "63xx", READ, SELECT, READ)
    assert (done.status, [line["sw"] for line in done.lines]) == (1, ["6A82", "9000"])
    done = scardface("send", "--virtual", "--success", "900", SELECT)
    assert (done.status, done.out) == (2, "")
    assert "--success" in done.err
    assert "'900' is no pattern" in done.err
    done = scardface("send", "--virtual", "--success", ",", SELECT)
    assert (done.status, done.out) == (2, "")


def test_the_protocol_and_how_answers_are_fetched(scardface: Command) -> None:
    assert scardface("send", "--virtual", "--protocol", "T1", SELECT).status == 0
    assert scardface("send", "--virtual", "--protocol", "t0", "--timeout", "0.1", SELECT).status == 4
    words = "response-class=A0,fetch-after=9F+62,response-instruction=A5,follow-61=yes,max-steps=9"
    assert scardface("send", "--virtual", "--exchange", words, "--exchange", "max-bytes=500", SELECT).status == 0
    assert scardface("send", "--virtual", "--reader", "0", "--serial", "77", SELECT).status == 2
    done = scardface("send", "--virtual", "--serial", "77", "--timeout", "60", SELECT)
    assert (done.status, done.out) == (3, "")


def test_lines_of_standard_input_and_of_a_file(scardface: Command, tmp_path: Path) -> None:
    script = f"# the application\n{SELECT}  # select\n\n00B08100 Ne=256\n"
    assert len(scardface("send", "--virtual", "--json", stdin=script).lines) == 2
    path = tmp_path / "script"
    path.write_text(script)
    assert len(scardface("send", "--virtual", "--json", "--file", str(path)).lines) == 2
    assert len(scardface("send", "--virtual", "--json", "00A40000", "-f", "-", stdin=script).lines) == 3


def test_a_mistake_anywhere_sends_nothing(scardface: Command) -> None:
    done = scardface("send", "--virtual", stdin=f"{SELECT}\n\n00A4 # short\n")
    assert (done.status, done.out) == (2, "")
    assert "line 3: a command is CLA INS P1 P2" in done.err
    done = scardface("send", "--virtual", SELECT, "00A4000002 3F")
    assert (done.status, done.out) == (2, "")
    assert "APDU 2, '00A40000...': a command is CLA INS P1 P2" in done.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("00A4", "00A40000023F00"), "APDU 1, '00A4':"),
        (("00A40000023F00", "00A4"), "APDU 2, '00A4':"),
        (("00A40000", "3F00"), "APDU 2, '3F00':"),
        (("00A4", "3F00", "Ne=256"), "APDU 1, '00A4':"),
        (("00A40000", "nonsense"), "APDU 2, 'nonsense':"),
        (("select", "04", "00", "A000000308", "00B0810000"), "'00B08100...' stands behind"),
        (("00200001", "123456"), "APDU 2:"),  # it may be the PIN
        (("002000011", "00A40000"), "APDU 1, '00200001...':"),
    ],
)
def test_a_piece_that_is_no_command_is_named_and_nothing_is_sent(scardface: Command, words: tuple[str, ...], named: str) -> None:
    done = scardface("send", "--virtual", *words)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"scardface: {named}")
    assert "123456" not in done.err


def test_what_was_printed_can_be_sent(scardface: Command) -> None:
    done = scardface("send", "--virtual", "00A40400 F0534341524446414345")
    assert (done.status, done.err) == (0, "")
    printed = done.out.splitlines()[0]
    assert printed == "> 00A40400 F0534341524446414345   SELECT"
    assert scardface("send", "--virtual", printed[2:].partition("   ")[0]).out == done.out


def test_data_without_quotes_are_told_to_be_quoted(scardface: Command) -> None:
    done = scardface("send", "--virtual", "00A40400", "F0534341524446414345")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("scardface: APDU 2, 'F0534341...': ")
    assert "; if it is the data of the command before it, quote header and data together: '00A40400 A000000308'; " in done.err
    done = scardface("send", "--virtual", "00200001", "123456")
    assert (done.status, done.out) == (2, "")
    assert "write the word PIN, and quote header and PIN together: '00200001 PIN'" in done.err
    assert "123456" not in done.err
    assert "quote" not in scardface("send", "--virtual", SELECT, "F0534341524446414345").err
    assert "quote" not in scardface("send", "--virtual", stdin="00A40400\nF0534341524446414345\n").err


def test_a_misspelt_name_is_guessed_unless_it_may_be_a_pin(scardface: Command) -> None:
    done = scardface("send", "--virtual", "slect", "04", "00", "A000000308")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "scardface: APDU 1, 'slect': 'slect' is no command's name; did you mean 'select'? 'scardface send --help' tells more\n"
    )
    assert "line 2: 'slect' is no" in scardface("send", "--virtual", stdin=f"{SELECT}\nslect 04 00\n").err
    assert "'F0SCARD' is wrong" in scardface("send", "--virtual", "select", "04", "00", "F0SCARD").err
    for done in (
        scardface("send", "--virtual", "00200001", "verify9"),
        scardface("send", "--virtual", stdin="00200001\nverify9\n"),
    ):
        assert done.status == 2
        assert "verify" not in done.err


def test_the_help_lists_the_names(scardface: Command) -> None:
    shown = " ".join(scardface("send", "--help").out.split())
    assert ", read-binary, read-record, reset-retry-counter, " in shown


@pytest.mark.slow
def test_a_script_in_any_encoding(scardface: Command, tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le"):
        path = tmp_path / encoding
        path.write_text(f"{SELECT}\n{READ}\n", encoding=encoding)
        assert [line["sw"] for line in scardface("send", "--virtual", "--json", "-f", str(path)).lines] == ["9000", "9000"]
        with path.open("rb") as stdin, piped("send", "--virtual", "--json", stdin=stdin) as process:
            out, err = process.communicate(timeout=30)
        assert (process.returncode, len(out.splitlines()), err) == (0, 2, "")


def test_padding_leaves_the_tree_as_it_is(scardface: Command) -> None:
    for fill in (b"", bytes(8), b"\xff" * 8):
        with virtual_pcsc(RecordCard(bytes.fromhex("61084F06A00000000001") + fill)):
            assert "4F application identifier" in scardface("send", "00B2010400").out


class RecordCard(VirtualCard):
    """Answers everything with one record."""

    def __init__(self, record: bytes) -> None:
        self._record = record

    def process(self, command: bytes) -> bytes:
        return self._record + b"\x90\x00"


def test_nothing_to_send_and_no_such_file(scardface: Command, tmp_path: Path) -> None:
    done = scardface("send", "--virtual", stdin="# nothing\n")
    assert (done.status, done.err) == (2, "scardface: there is no command to send; 'scardface send --help' tells more\n")
    done = scardface("send", "--virtual", "-f", str(tmp_path / "none"))
    assert done.status == 5
    assert done.err.endswith("none: No such file or directory\n")


def test_what_the_card_cannot_take_is_wrong_usage(scardface: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from scardface.sync import SCard

    def refuse(self: SCard, *apdus: object) -> None:
        raise ValueError("lengths: on T=1 only")

    monkeypatch.setattr(SCard, "send", refuse)
    done = scardface("send", "--virtual", SELECT)
    assert (done.status, done.err) == (2, "scardface: lengths: on T=1 only; 'scardface send --help' tells more\n")


def test_no_card_within_the_time(scardface: Command) -> None:
    done = scardface("send", "--virtual", "--atr", "3F", "--timeout", "0", SELECT)
    assert (done.status, done.out) == (4, "")
    assert "no matching card within 0 s" in done.err


@pytest.mark.parametrize("words", [["send"], ["record", "{tmp}/cassette"]])
@pytest.mark.parametrize(("option", "count"), [("--shared", 1), ("--trace", 0)])
def test_what_is_shared_is_a_transaction(words: list[str], option: str, count: int, scardface: Command, tmp_path: Path) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", FileCard())
        assert scardface(*[word.format(tmp=tmp_path) for word in words], option, SELECT, READ).status == 0
        calls = pcsc.calls
    assert (calls.get("SCardBeginTransaction", 0), calls.get("SCardEndTransaction", 0)) == (count, count)


def test_a_pin_on_the_command_line_is_warned_of_and_hidden(scardface: Command) -> None:
    done = scardface("send", "--virtual", VERIFY, "00B0000000", "--keep-going")
    assert "--pin-prompt" in done.err
    assert "31323334" not in done.out + done.err
    assert "--pin-prompt" not in scardface("send", "--virtual", stdin=VERIFY).err
    assert "31323334" in scardface("send", "--virtual", "--show-secrets", VERIFY).out


def test_the_word_pin_needs_its_option_and_a_terminal(scardface: Command) -> None:
    done = scardface("send", "--virtual", "00200001 PIN")
    assert (done.status, done.out) == (2, "")
    assert "--pin-prompt" in done.err


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_for_a_card(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("send", "--virtual", "--atr", "3F", SELECT)
    shown.read_until("waiting for a card that matches; Ctrl-C ends it")
    shown.interrupt()
    assert shown.end() == 130
    assert "Traceback" not in shown.text


def test_nothing_is_read_from_a_terminal(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("send", "--virtual")
    shown.read_until("there is no command to send")
    assert shown.end() == 2


def test_a_bar_moves_where_it_can(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Console(force_terminal=True, width=80)
    monkeypatch.setattr(_send, "console", lambda *, stderr=False: screen)
    with _send._progress(_send.LONG, OutputOptions(False, False)) as (shown, step):
        step()
        assert shown is screen
    assert f"1/{_send.LONG}" in capsys.readouterr().out


def test_a_trace(scardface: Command) -> None:
    done = scardface("send", "--virtual", "--trace", SELECT)
    assert "scardface.apdu" in done.err


def test_a_pin_is_asked_for_on_the_terminal(terminal: Callable[..., Terminal]) -> None:
    shell = terminal("send", "--virtual", "--pin-prompt", "00200001 PIN", "00200001 PIN:4", "select 04 00 F0534341524446414345")
    shell.read_until("PIN: ")
    shell.type("1234\n")
    shown = shell.read_until("SELECT")
    assert shown.count("> 00200001 <4 bytes>   VERIFY") == 2
    assert "1234" not in shown
    assert shell.end() == 0


def test_a_long_script_has_a_bar_on_a_terminal(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("00A40000\n" * 40)
    shell = terminal("send", "--virtual", "-f", str(script))
    assert "sending" in shell.read_until("40/40")
    assert shell.end() == 0


def test_there_is_no_bar_where_there_is_no_terminal() -> None:
    with piped("send", "--virtual", "--json", stdin=subprocess.PIPE) as process:
        out, err = process.communicate("00A40000\n" * 25, timeout=30)
    assert (process.returncode, err) == (0, "")
    assert len(out.splitlines()) == 25


def test_whoever_reads_may_leave(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("00A40000\n" * 3000)
    with piped("send", "--virtual", "-f", str(script)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 141


def test_a_real_daemon(pcscd: PrivatePcscd, scardface: Command) -> None:
    pcscd.insert(1, FileCard())
    done = scardface("send", "--json", "--reader", "1", "--timeout", "10", "--shared", SELECT, READ)
    assert (done.status, done.err) == (0, "")
    assert [(line["reader"], line["sw"]) for line in done.lines] == [(pcscd.readers[1], "9000")] * 2


def test_a_real_daemon_in_a_pipe(pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, FileCard())
    with piped("send", "--json", "--timeout", "10", "-f", "-", stdin=subprocess.PIPE) as process:
        out, err = process.communicate(f"{SELECT}\n", timeout=30)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["reader"] == pcscd.readers[0]
