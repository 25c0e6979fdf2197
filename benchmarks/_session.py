"""One run of one benchmark, in a process of its own: `python -m benchmarks._session NAME SETTING full|quick`.

Rules:

- What was measured is the last line of standard output, as JSON.
- In the setting "one core", the process and all that it starts have one core.
- Byte code is written, as it is where a library is installed; so importing is not compiling.
- The process ends at once when it has said what it found: pyscard's threads that wait for cards cannot be told to stop.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from ._tables import CORES, cores_of

__all__ = ["end", "run"]

_ROOT = Path(__file__).resolve().parents[1]


def run(name: str, setting: str, quick: bool) -> Any:
    """Run a benchmark once, and return what it measured.

    Raises:
        RuntimeError: it failed; why is on standard error.
    """
    environment = {variable: value for variable, value in os.environ.items() if variable != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "benchmarks._session", name, setting, "quick" if quick else "full"]
    done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"the benchmark {name} ({setting}) failed")
    return json.loads(done.stdout.splitlines()[-1])


def end(measured: object) -> NoReturn:
    """Say what was measured, and end the process."""
    print(json.dumps(measured), flush=True)
    os._exit(0)


def _main(name: str, setting: str, extent: str) -> None:
    if cores_of(setting) == CORES[1]:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    measured = importlib.import_module(f"benchmarks.{name}").measure(setting, extent == "quick")
    end(measured)


if __name__ == "__main__":
    _main(*sys.argv[1:])
