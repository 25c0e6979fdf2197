"""The library's words as the command line has them: all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import scardface
from scardface.cli._option_names import in_options
from scardface.errors import error_for, meanings
from scardface.testing import FileCard, SimulatedPCSC
from tests.support.command_line import SELECT, Command

PACKAGE = Path(scardface.__file__).parent
PYTHON = re.compile(r"(?<![\w-])(?!Ne=)[a-z_]+=\w|ShareMode|Lengths\.|\bExchangeOptions\b|pnp")
"""What is an argument, or a value of one."""
NEVER_ON_THE_COMMAND_LINE = (
    "atr: must be None with ShareMode",
    "settle and new_only: not with ShareMode",
    "options: ExchangeOptions are needed",
    ", which was opened without one (ShareMode.DIRECT)",
    "gevent.monkey.",
    "): set mode=Mode.S",
    "tuple[",
)
"""What wrong arguments are answered with, and what else no option leads to."""


def texts() -> Iterator[str]:
    """The texts in the library's code that name an argument: those with a blank in them, docstrings apart."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "pytest_plugin.py" or {"cli", "testing"} & set(path.relative_to(PACKAGE).parts):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone else ""
            if " " in text and PYTHON.search(text) and not text.startswith(NEVER_ON_THE_COMMAND_LINE):
                yield text


@pytest.mark.parametrize("text", sorted(set(texts())))
def test_no_text_names_an_argument(text: str) -> None:
    assert not PYTHON.search(in_options(text)), in_options(text)


def test_there_are_some() -> None:
    assert len(list(texts())) >= 5


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin"])
def test_no_error_of_pcsc_names_an_argument(platform: str) -> None:
    for code in meanings(platform):
        assert not PYTHON.search(in_options(str(error_for(code, "SCardConnect"))))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("open the card with share=ShareMode.SHARED", "open the card with --shared"),
        ("wait for one with pnp=True", "wait for one with --wait-for-reader"),
        ("wait with wait_for_reader=True", "wait with --wait-for-reader"),
        ("set lengths=Lengths.CHAINING, or Lengths.SHORT", "set --lengths CHAINING, or --lengths SHORT"),
        ("readers() lists those there are", "'scardface readers' lists those there are"),
        ("'00A40400 Ne=256' stays", "'00A40400 Ne=256' stays"),
    ],
)
def test_options_take_the_place_of_arguments(text: str, words: str) -> None:
    assert in_options(text) == words


def test_it_is_so_wherever_a_text_is_shown(scardface: Command, tmp_path: Path) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Wrong())
        pcsc.inject("SCardConnect", 0x8010000B, times=1000)
        done = scardface("send", "--timeout", "0.05", SELECT)
        assert done.status == 4
        assert not PYTHON.search(done.err), "warnings of the library included, where one came in time"
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Wrong())
        for words in (("send",), ("send", "--json")):
            told = scardface(*words, "FF82000006FFFFFFFFFFFF").out
            assert "no volatile memory for keys; try P1 20" in told
            assert not PYTHON.search(told)
        assert scardface("send", "--lengths", "chaining", SELECT).status == 1
        assert scardface("send", "--lengths", "long", SELECT).status == 2
    cassette = tmp_path / "a.cassette"
    assert scardface("record", "--virtual", str(cassette), SELECT).status == 0
    done = scardface("replay", str(cassette), "00B0000000")
    assert "'scardface record --overwrite'" in done.err


class Wrong(FileCard):
    """A reader without volatile memory, which answers in the card's place."""

    def process(self, command: bytes) -> bytes:
        return b"\x69\x86"
