"""The frame with the extra: help, wrong usage, the demo."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scardface import __version__
from scardface.cli import demo
from scardface.cli._failures import EXITS
from tests.support.command_line import ROOT, Command


def test_help_tells_of_commands_and_statuses(scardface: Command) -> None:
    done = scardface("--help")
    assert (done.status, done.err) == (0, "")
    for command in ("readers", "watch", "atr", "send", "shell", "record", "replay", "demo", "doctor"):
        assert f"\n  {command} " in done.out
    for status, meaning in EXITS.items():
        assert f"{status:>3}  {meaning}" in done.out
    assert scardface("-h").out == done.out
    assert "..." not in done.out.partition("Commands:")[2]  # each fits into its line
    assert "Usage: scardface schema [OPTIONS] [COMMAND]\n" in scardface("schema", "--help").out


def test_no_command_is_wrong_usage_and_helps(scardface: Command) -> None:
    assert scardface().status == 2


@pytest.mark.parametrize("words", [["dance"], ["--loud"], ["demo", "more"], ["watch", "--count", "0"], ["record"]])
def test_wrong_usage_is_one_sentence(words: list[str], scardface: Command) -> None:
    done = scardface(*words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.endswith("--help' tells more\n")


def test_the_version(scardface: Command) -> None:
    assert scardface("--version").out == f"scardface {__version__}\n"


def test_the_demo_is_told_what_was_asked_for(scardface: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, bool]] = []
    monkeypatch.setattr(demo, "run", lambda **options: told.append(options))
    assert scardface("demo").status == 0
    assert scardface("demo", "--json", "--virtual").status == 0
    assert told == [{"as_json": False, "virtual": False}, {"as_json": True, "virtual": True}]


def test_a_click_abort_is_an_interruption(scardface: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    def abort(**options: bool) -> int:
        raise click.Abort

    monkeypatch.setattr(demo, "run", abort)
    assert scardface("demo").status == 130


def test_the_shells_completion() -> None:
    environment = {**os.environ, "_SCARDFACE_COMPLETE": "bash_complete", "COMP_WORDS": "scardface do", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "scardface"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("plain,doctor\n", "")


def test_without_the_extra_each_command_says_what_it_needs() -> None:
    """And is not taken for a wrong word."""
    from scardface.cli import COMMANDS, _main

    assert set(COMMANDS) == set(_main.commands.commands) - {"demo"}
