"""What is printed: nothing that a terminal obeys, JSON in lines, hex and text."""

from __future__ import annotations

import json

import pytest
from rich.console import Console
from rich.table import Table

from scardface.cli import _output


def test_json_is_one_line_of_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    _output.print_json(reader="Leser\n\x1b[31mü", data=None)
    told = capsys.readouterr().out
    assert told.isascii()
    assert told.count("\n") == 1
    assert json.loads(told) == {"reader": "Leser\n\x1b[31mü", "data": None}


def test_nothing_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    _output.console().print(_output.as_text("[bold]Reader[/] :smile: \x1b[31m\x07\u202e\n", "red"))
    assert capsys.readouterr().out == "[bold]Reader[/] :smile: \\x1b[31m\\x07\\u202e\\n\n"


def test_rows() -> None:
    assert list(_output.rows(b"ab\x00\xff")) == ["61 62 00 FF  ab.."]
    assert list(_output.rows(bytes(range(0x41, 0x53)))) == [
        "0000  41 42 43 44 45 46 47 48 49 4A 4B 4C 4D 4E 4F 50  ABCDEFGHIJKLMNOP",
        "0010  51 52                                            QR",
    ]
    assert list(_output.rows(b"")) == []


def test_a_table_in_a_pipe_has_no_blanks_at_the_end_and_no_width(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("a", "x" * 300)
    table.add_row("bb", "y")
    _output.print_table(_output.console(), table)
    assert capsys.readouterr().out == f"a   {'x' * 300}\nbb  y\n"


def test_on_a_terminal_a_table_is_as_wide_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("a", "x" * 30)
    _output.print_table(Console(force_terminal=True, width=20, color_system=None), table)
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) == 20


def test_a_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    _output.print_line(Console(force_terminal=True, width=20, color_system=None), "word " * 20 + "end")
    assert capsys.readouterr().out == "word " * 20 + "end\n"


def test_a_console_leaves_broken_pipes_to_others() -> None:
    with pytest.raises(BrokenPipeError):
        _output.console().on_broken_pipe()
