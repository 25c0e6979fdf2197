"""`import scardface` against `import anyio`.

- Measured: the time that the statement takes in a new interpreter, and whether it has loaded PC/SC.
- Against: importing anyio alone. Beside them what a program needs in the end, names and all: `SCard` of ours, an event and a clock
  of anyio's, pyscard's list of readers, and the same where asyncio and anyio's side of it are loaded already.
- It would be unfair to compile: byte code has been written by a first run that does not count. anyio loads its names at first use,
  and so does scardface; the second and the third pair show what first use costs.
"""

from __future__ import annotations

import subprocess
import sys

from ._report import Report, milli
from ._tables import Runs, add_contest, verdict

TITLE = "import scardface"

_LOADED = "import asyncio, anyio, anyio._backends._asyncio; anyio.Event, anyio.Lock, anyio.sleep; "
_STATEMENTS = {
    "import anyio": "",
    "import scardface": "",
    "from anyio import Event, current_time": "",
    "from scardface import SCard": "",
    "from scardface import SCard, asyncio loaded": _LOADED,
    "from smartcard.System import readers": "",
}
REFERENCE = "import anyio"
COLUMNS = ("statement", "setting", "median, ms", "quartiles", "ratio to import anyio")

_NOTHING_LOADED = "import sys, scardface; scardface.SCard(); print(any(name.split('.')[0] == 'smartcard' for name in sys.modules))"


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return ["all cores"]


def measure(setting: str, quick: bool) -> object:
    """One run."""
    rounds: dict[str, list[list[float]]] = {name: [] for name in _STATEMENTS}
    for _ in range(2 if quick else 41):
        for name, turns in rounds.items():
            turns.append([_seconds(_STATEMENTS[name], name.partition(",")[0] if "loaded" in name else name)])
    for turns in rounds.values():
        del turns[0]  # which may have written byte code
    return {"rounds": rounds, "PC/SC loaded": _said(_NOTHING_LOADED) == "True"}


def _seconds(before: str, statement: str) -> float:
    return float(_said(f"{before}import time; begun = time.perf_counter(); {statement}; print(time.perf_counter() - begun)"))


def _said(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, COLUMNS, axis="ms", data=runs)
    for setting, measured in runs.items():
        rounds = add_contest(found, {setting: [run["rounds"] for run in measured]}, lambda _: REFERENCE, milli)[setting]
        found.verdicts.append(verdict(rounds, "import scardface", REFERENCE, 1.1, setting))
        loaded = any(run["PC/SC loaded"] for run in measured)
        found.notes.append(f"PC/SC is {'' if loaded else 'not '}loaded by the import and by making an SCard")
    found.bars = [(name, 1e3 * median) for name, median in found.bars]
    return found
