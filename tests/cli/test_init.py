"""The command line's frame: usage, exit status, what happens on Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scardface.cli import demo, main

ROOT = Path(__file__).resolve().parents[2]


def test_the_status_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "run", lambda: 7)
    assert main(["demo"]) == 7


def test_an_interrupted_command_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert main(["demo"]) == 130


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--loud"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: scardface" in capsys.readouterr().err


def test_no_extra_is_needed() -> None:
    """Neither click nor rich is loaded, be they installed or not."""
    program = (
        "import sys\n"
        "sys.modules['click'] = sys.modules['rich'] = None\n"
        "from scardface.cli import demo, main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ended:\n    sys.exit(ended.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
