"""What waiting costs: 60 seconds without a card.

- Measured: processor time, and how often a thread of the process was woken, from outside and for all its threads. Also the daemon
  is idle: no card is in, nobody asks it anything.
- Against: pyscard's CardRequest and CardMonitor, in processes of their own. All wait at the same time; idle, they are not in each
  other's way.
- It would be unfair to count the start: the first two seconds do not count. A `CardRequest` without a time-out waits in one call
  for ever, and cannot be told to stop; scardface's waits go in slices, so that what PC/SC loses is found again.
"""

from __future__ import annotations

import subprocess
import sys
import time

from ._census import usage
from ._place import Place
from ._report import Report, Verdict
from ._tables import Runs
from ._waiting import KINDS

TITLE = "60 s of waiting"
OURS = {
    "asyncio": "SCard, asyncio",
    "uvloop": "SCard, uvloop",
    "trio": "SCard, trio",
    "sync": "sync.SCard",
    "monitor": "ReaderMonitor",
}


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return ["1 s" if quick else "60 s"]


def measure(setting: str, quick: bool) -> object:
    """One run."""
    with Place(2) as place:
        waiting = {
            kind: subprocess.Popen(
                [sys.executable, "-m", "benchmarks._waiting", kind, place.readers[0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for kind in KINDS
        }
        try:
            for process in waiting.values():
                assert process.stdout is not None
                process.stdout.readline()
            time.sleep(1 if quick else 4)
            before = {kind: usage(process.pid) for kind, process in waiting.items()}
            time.sleep(1 if quick else 60)
            after = {kind: usage(process.pid) for kind, process in waiting.items()}
        finally:
            for process in waiting.values():
                assert process.stdin is not None
                process.stdin.close()
                process.wait(10)
    return {kind: {"cpu": after[kind].cpu - before[kind].cpu, "wakes": after[kind].wakes - before[kind].wakes} for kind in KINDS}


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, ("who waits", "setting", "processor time, ms", "wakes"), axis="wakes in 60 s", data=runs)
    for setting, measured in runs.items():
        for kind, used in measured[0].items():
            name = OURS.get(kind, f"pyscard {kind}")
            found.rows.append((name, setting, f"{1e3 * used['cpu']:.2f}", str(used["wakes"])))
            found.bars.append((name, used["wakes"]))
            if kind in OURS:
                found.verdicts.append(Verdict(f"{name}, processor time", 1e3 * used["cpu"], "<", 5, unit=" ms"))
                found.verdicts.append(Verdict(f"{name}, wakes", used["wakes"], "<", 70))
    return found
