"""`python -m scardface` is the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m scardface` in a process of its own."""
    command = [sys.executable, "-m", "scardface", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_the_demo() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "usage: scardface" in done.stdout
    assert "demo" in done.stdout


def test_unknown_commands_are_wrong_usage() -> None:
    done = run("dance")
    assert done.returncode == 2
    assert "usage: scardface" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_command_is_wrong_usage() -> None:
    assert run().returncode == 2
