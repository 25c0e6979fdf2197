"""The command line in a test: in this process, where what it prints is caught, or in one of its own on a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scardface.cli import _names, _pin, main
from tests.support.command_line import Command, Done, Terminal


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any files, on a machine without a list of cards."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("USERPROFILE" if sys.platform == "win32" else "HOME", str(path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(_names, "SYSTEM", ())
    _pin.forget()
    return path


@pytest.fixture
def scardface(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, in this process; no terminal anywhere."""

    def run(*words: str, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = main(words)
        told = capsys.readouterr()
        return Done(status, told.out, told.err)

    return run


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Starts the command on a terminal."""
    if sys.platform == "win32":
        pytest.skip("there are no pseudo-terminals as Unix has them")
    started: list[Terminal] = []

    def start(*words: str, **environment: str) -> Terminal:
        started.append(Terminal(words, environment))
        return started[-1]

    yield start
    for each in started:
        each.close()
