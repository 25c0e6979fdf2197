"""Every `console` block of README.md and of the pages in docs/ is what the commands in it really print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONSOLE = [
    block
    for page in PAGES
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
]


SCARDFACE = """\
import runpy
from scardface.cli import _names

_names.SYSTEM = ()  # a machine without pcsc-tools, whose list has a name for every card
runpy.run_module("scardface", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("block", CONSOLE, ids=range(len(CONSOLE)))
def test_the_console_is_real(block: str, tmp_path: Path) -> None:
    """Commands follow `$ `; they run one after the other in an empty folder, as `python -m scardface`, with a home of their own."""
    program = tmp_path / "bin" / "scardface"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{SCARDFACE}")
    program.chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir()
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.stdout == shown
