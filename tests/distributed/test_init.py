"""Importing `scardface.distributed`: with the extra nothing else is needed, without it one sentence says what to install."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from scardface.errors import pip_install

ROOT = Path(__file__).resolve().parents[2]


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_it_prints_nothing_and_needs_no_other_extra() -> None:
    if find_spec("distributed") is None:
        pytest.skip("distributed is not installed: pip install -e '.[distributed]'")
    done = run(
        "import sys\n"
        "for name in ('rich', 'prompt_toolkit', 'cryptography', 'smartcard', 'pandas', 'bokeh'): sys.modules[name] = None\n"
        "import scardface.distributed\n"
        "assert all(hasattr(scardface.distributed, name) for name in scardface.distributed.__all__)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_the_extra_it_says_what_to_install() -> None:
    done = run("import sys; sys.modules['distributed'] = None\nimport scardface.distributed")
    last = done.stderr.splitlines()[-1]
    assert last == f"ImportError: scardface.distributed needs the package distributed: {pip_install('distributed')}"


def test_so_does_the_command() -> None:
    done = run(
        "import sys; sys.modules['distributed'] = None\n"
        "from scardface.cli import main; sys.exit(main(['serve', 'tcp://127.0.0.1:8786']))"
    )
    words = f"scardface: the command 'serve' needs the package distributed: {pip_install('distributed')}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", words)
