"""`python -m scardface` is the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scardface import cli

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m scardface` in a process of its own."""
    command = [sys.executable, "-m", "scardface", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def execute(name: str) -> None:
    """Execute the module under this `__name__`. Not by runpy: pytest loads the package of a plugin with a loader that runpy cannot
    use."""
    path = ROOT / "scardface" / "__main__.py"
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {"__name__": name, "__package__": "scardface"})


def test_help_names_the_demo() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "usage: scardface" in done.stdout.lower()
    assert "demo" in done.stdout


def test_unknown_commands_are_wrong_usage() -> None:
    done = run("dance")
    assert done.returncode == 2
    assert "dance" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_command_is_wrong_usage() -> None:
    assert run().returncode == 2


def test_it_ends_with_the_commands_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda: 7)
    with pytest.raises(SystemExit) as ended:
        execute("__main__")
    assert ended.value.code == 7


def test_importing_it_runs_nothing() -> None:
    execute("imported")
