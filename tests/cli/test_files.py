"""`scardface read` and `scardface dir`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from scardface.cli._files import applications, directory, read
from scardface.cli._virtual import virtual_pcsc
from tests.support.command_line import Command, Terminal
from tests.support.iso_card import FIXED, File, IsoCard, Refused

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

AID = "F0534341524446414345"


def test_a_file_and_where_it_goes(scardface: Command, tmp_path: Path) -> None:
    done = scardface("read", "--virtual", "--select", AID, "0001")
    assert (done.status, done.err) == (0, "")
    assert "Hello from a vir" in done.out
    path = tmp_path / "text"
    done = scardface("read", "--virtual", "--select", AID, "0001", "--output", str(path))
    assert (done.status, done.out, path.read_text()) == (0, "", "Hello from a virtual card.")
    done = scardface("read", "--virtual", "--select", AID, "0001", "-o", "-")
    assert done.out == "Hello from a virtual card."
    [fields] = scardface("read", "--virtual", "2F00", "--json").lines
    assert (fields["length"], fields["complete"], fields["tlv"][0]["tag"]) == (23, True, "61")
    done = scardface("read", "--virtual", "2F00", "-o", str(tmp_path / "none" / "file"))
    assert done.status == 5


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["2F"], 2, "two bytes"),
        (["2F0"], 2, "hexadecimal"),
        ([""], 2, "1 to 64"),
        (["00" * 65], 2, "1 to 64"),
        (["2F01"], 1, "6A82"),
        (["3F00"], 2, "DF"),
        (["--select", "A0", "0001"], 1, "6A82"),
        (["--select", "XY", "0001"], 2, "hexadecimal"),
    ],
)
def test_what_cannot_be_read(scardface: Command, words: list[str], status: int, said: str) -> None:
    done = scardface("read", "--virtual", *words)
    assert (done.status, done.out) == (status, "")
    assert said in done.err


def run(command: Any, card: IsoCard, *words: str) -> Any:
    with virtual_pcsc(card):
        return CliRunner().invoke(command, list(words), standalone_mode=False)


def test_records() -> None:
    card = IsoCard({0x0003: File(FIXED, records=[b"one", b"two"])})
    done = run(read, card, "0003")
    assert done.output.splitlines() == ["record 1, 3 bytes", "  6F 6E 65  one", "record 2, 3 bytes", "  74 77 6F  two"]
    assert '"records": ["6F6E65", "74776F"]' in run(read, card, "0003", "--json").output


def test_what_was_read_until_it_ended() -> None:
    class Guarded(IsoCard):
        def read(self, apdu: Any) -> bytes:
            if apdu.p1:
                raise Refused(0x6982)
            return super().read(apdu)

    done = run(read, Guarded({0x0001: File(content=bytearray(b"A" * 300))}), "0001")
    assert done.return_value == 1
    assert "AAAA" in done.output
    assert "reading ended at offset 256: the card answered 6982" in done.output


def test_a_file_behind_a_pin_is_read_as_the_error_says(scardface: Command, terminal: Callable[..., Terminal]) -> None:
    for words in (("--select", AID, "0003"), ("3F0050000003",)):
        done = scardface("read", "--virtual", *words)
        assert (done.status, done.out) == (1, "")
        assert "6982" in done.err
        assert done.err.endswith(", or the same lines in 'scardface shell'\n")
        program, *way = shlex.split(done.err.partition("): ")[2].partition(", or the same")[0])
        assert (program, way[:2]) == ("scardface", ["send", "--pin-prompt"])
        shell = terminal(*way, "--virtual")
        shell.read_until("PIN: ")
        shell.type("1234\n")
        shell.read_until("only after VERIF")
        assert shell.end() == 0


def test_a_file_that_cannot_be_selected_without_a_pin() -> None:
    class Guarded(IsoCard):
        def select(self, apdu: Any) -> bytes:
            raise Refused(0x6982)

    with virtual_pcsc(Guarded({0x0001: File(content=bytearray(b"A"))})):
        done = CliRunner().invoke(read, ["0001"], standalone_mode=False)
    assert done.return_value == 1
    assert "if a PIN opens it (here number 01): scardface send --pin-prompt 'verify 00 01 PIN' 'select 00 00 0001'" in done.output


def test_the_directory(scardface: Command) -> None:
    assert scardface("dir", "--virtual").out == "F0 53 43 41 52 44 46 41 43 45   example\n"
    assert scardface("dir", "--virtual", "--json").lines == [
        {"reader": "Virtual Reader 0", "aid": AID, "label": "example", "path": ""}
    ]
    record = bytes.fromhex("610C4F02A0015001415103 3F0050")
    done = run(directory, IsoCard({0x2F00: File(FIXED, records=[record, b"\xff" * len(record)])}))
    assert done.output == "A0 01   A   path 3F 00 50\n"
    assert run(directory, IsoCard()).exception is not None


@pytest.mark.parametrize("data", [b"", b"\x61", b"\x04\x01A", b"\x61\x03\x50\x01A", b"\xff" * 20])
def test_a_directory_without_applications(data: bytes) -> None:
    assert list(applications(data)) == []


def test_an_identifier_alone_is_an_application() -> None:
    assert [each["aid"] for each in applications(bytes.fromhex("4F02A001"))] == [b"\xa0\x01"]


def test_on_pcscd(pcscd: PrivatePcscd, scardface: Command) -> None:
    content = bytes(number & 0xFF for number in range(0x9000))
    pcscd.insert(0, IsoCard({0x0001: File(content=bytearray(content))}))
    pcscd.wait_for_card(0)
    [fields] = scardface("read", "0001", "--json", "--timeout", "30", "--shared").lines
    assert fields["data"] == content.hex().upper()
