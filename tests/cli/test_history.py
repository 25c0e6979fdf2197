"""What the shell remembers: no secrets; what it proposes."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import DummyInput
from prompt_toolkit.output import DummyOutput

from scardface.cli._history import NameCompleter, SafeHistory, history_file, is_harmless, prompting
from scardface.cli._shell import SHELL_COMMANDS

HARMLESS = [
    "help",
    "reset cold",
    "channel 3",
    "00A40000023F00",
    "select 04 00 A000000308",
    "00200001",
    "00200001 PIN",
    "00200080 PIN:8",
    "verify 00 01 PIN",
]
SECRET = [
    "0020000104 31323334",
    "verify 00 01 31323334",
    "00200001 31323334",
    "0020000104 3132333",
    "80D8000003 AABBCC",
    "1234",
    "channel 1234",
    "help 31323334",
    "00200001 31323334 PIN",
    "00200001 PIN 31323334",
    "00200001 PIN:4 3132 3334 3132 3334 31",
    "",
]


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_kept(line: str) -> None:
    assert is_harmless(line, SHELL_COMMANDS)


@pytest.mark.parametrize("line", SECRET)
def test_what_is_not(line: str) -> None:
    assert not is_harmless(line, SHELL_COMMANDS)


@pytest.fixture
def no_console() -> Iterator[None]:
    """Windows' prompt_toolkit asks the console for its size and its keys."""
    with create_app_session(DummyInput(), DummyOutput()):
        yield


def test_the_file_has_no_secrets_and_is_the_users_alone(home: Path) -> None:
    path = history_file()
    assert path == home / ".local/state/scardface/history"
    assert sys.platform == "win32" or stat.S_IMODE(path.stat().st_mode) == 0o600
    history = SafeHistory(path, SHELL_COMMANDS)
    for line in (*HARMLESS, *SECRET):
        history.append_string(line)
    kept = [line[1:] for line in path.read_text().splitlines() if line.startswith("+")]
    assert kept == HARMLESS
    assert list(SafeHistory(path, SHELL_COMMANDS).load_history_strings()) == HARMLESS[::-1]


@pytest.mark.usefixtures("no_console")
def test_the_folder_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "scardface" / "history"
    assert prompting(SHELL_COMMANDS).history is not None


@pytest.mark.parametrize(
    ("before", "names"),
    [
        ("sel", ["select"]),
        ("READ-", ["read-binary", "read-record"]),
        ("80 get-st", ["get-status"]),
        ("re", ["read-binary", "read-record", "reset", "reset-retry-counter"]),
        ("select ", []),
        ("select a", []),
        ("00A4 sel", []),
    ],
)
def test_names_are_completed(before: str, names: list[str]) -> None:
    completer = NameCompleter(SHELL_COMMANDS)
    found = list(completer.get_completions(Document(before), CompleteEvent()))
    assert [each.text for each in found] == names
    assert all(each.start_position == -len(before.split()[-1]) for each in found)


def test_all_names_are_proposed_at_the_start() -> None:
    found = list(NameCompleter(SHELL_COMMANDS).get_completions(Document(""), CompleteEvent()))
    assert set(SHELL_COMMANDS) < {each.text for each in found}


@pytest.mark.usefixtures("no_console")
def test_without_a_place_the_shell_remembers_for_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that cannot be written, and a user that the machine does not know."""
    (home / ".local").touch()
    assert history_file() is None
    assert isinstance(prompting(SHELL_COMMANDS).history, InMemoryHistory)

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert history_file() is None
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    assert history_file() == home / "scardface" / "history"
