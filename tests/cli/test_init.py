"""The command line's frame: with the extra and without it, usage, exit status, what happens on Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scardface.cli import COMMANDS, demo, main
from scardface.errors import pip_install
from tests.support.command_line import ROOT, Command

WITHOUT = """
import sys
for name in ("click", "rich", "prompt_toolkit"):
    sys.modules[name] = None
from scardface.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without_extra(*words: str) -> subprocess.CompletedProcess[str]:
    """The command where nothing of the extra is installed."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_status_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "run", lambda **options: 7)
    assert main(["demo"]) == 7


def test_an_interrupted_command_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**options: bool) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert main(["demo"]) == 130


def test_the_process_has_arguments_of_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["scardface", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("scardface ")


@pytest.mark.parametrize("command", COMMANDS)
def test_without_the_extra_a_command_says_how_to_get_it(command: str) -> None:
    done = without_extra(command, "--json")
    words = f"scardface: the command {command!r} needs click, rich and prompt_toolkit: {pip_install('cli')}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", words)


def test_without_the_extra_there_is_the_demo() -> None:
    done = without_extra("demo", "--virtual")
    assert (done.returncode, done.stderr) == (0, "")
    assert "wait() returned" in done.stdout
    done = without_extra("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert pip_install("cli") in " ".join(done.stdout.split())
    assert "demo" in done.stdout


@pytest.fixture
def extraless(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, nothing of the extra can be imported."""
    monkeypatch.delitem(sys.modules, "scardface.cli._main", raising=False)
    monkeypatch.setitem(sys.modules, "click", None)


@pytest.mark.usefixtures("extraless")
def test_the_same_in_this_process(scardface: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, bool]] = []
    monkeypatch.setattr(demo, "run", lambda **options: told.append(options) or 7)
    assert scardface("demo", "--virtual").status == 7
    assert told == [{"as_json": False, "virtual": True}]
    assert scardface("readers").status == 2
    assert scardface("--help").status == 0
    assert scardface("dance").status == 2


def test_names_that_cannot_be_written_end_nothing() -> None:
    program = "import sys; from scardface.cli import main; main(['--version']); print('Leser \\u00fc')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Leser \\xfc\n")


@pytest.mark.parametrize("words", [[], ["dance"], ["demo", "--loud"]])
def test_wrong_usage_without_the_extra_is_2(words: list[str]) -> None:
    done = without_extra(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: scardface" in done.stderr


def test_another_module_that_is_missing_is_a_mistake_of_ours(monkeypatch: pytest.MonkeyPatch, scardface: Command) -> None:
    monkeypatch.delitem(sys.modules, "scardface.cli._main", raising=False)
    monkeypatch.setitem(sys.modules, "scardface.cli._readers", None)
    done = scardface("readers")
    assert done.status == 70
    assert "please report it: ModuleNotFoundError" in done.err


def test_every_command_is_there_with_it(scardface: Command) -> None:
    for command in (*COMMANDS, "demo"):
        done = scardface(command, "--help")
        assert (done.status, done.err) == (0, "")
        assert command == "schema" or {"--json", "--virtual"} <= set(done.out.split())
        assert "Exit status:" in done.out
