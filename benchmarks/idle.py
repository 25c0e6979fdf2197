"""What waiting costs: 60 seconds without a card.

- Measured: processor time, and how often a thread of the process was woken, from outside and for all its threads. Also the daemon
  is idle: no card is in, nobody asks it anything.
- Against: a thread in SCardGetStatusChange, in slices as long as scardface's, which find again what PC/SC loses; beside the same
  event loop, or a main thread, that waits for nothing. Beside them pyscard's CardRequest and CardMonitor. Each is a process of its
  own; all wait at the same time, and idle they are not in each other's way. The minute is told in parts, so that a ratio has a
  spread.
- It would be unfair to count the start: the first seconds do not count. A bare thread that waits in one call for ever uses nothing
  at all, hears no Ctrl-C and is deaf once its service was started anew; it would be a reference that nobody can use.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

from ._census import Usage, usage
from ._figures import Rounds, Spread, merged, ratios
from ._place import Place
from ._report import Report, Verdict, shown
from ._tables import Runs
from ._turns import LOOPS
from ._waiting import KINDS

TITLE = "60 s of waiting"
_NAMES = {
    "asyncio": "SCard, asyncio",
    "uvloop": "SCard, uvloop",
    "trio": "SCard, trio",
    "sync": "sync.SCard",
    "monitor": "ReaderMonitor, asyncio",
    "CardRequest": "pyscard CardRequest",
    "CardMonitor": "pyscard CardMonitor",
}
_TARGETS = {**dict.fromkeys((*LOOPS, "monitor"), 1.2), "sync": 1.5}
_PARTS = 5


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return ["1 s" if quick else "60 s"]


def measure(setting: str, quick: bool) -> object:
    """One run: kind to seconds of processor time, and wakes, of each part of the minute."""
    length, parts = (0.5, 2) if quick else (60 / _PARTS, _PARTS)
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
            looks = [_all(waiting)]
            for _ in range(parts):
                time.sleep(length)
                looks.append(_all(waiting))
        finally:
            for process in waiting.values():
                assert process.stdin is not None
                process.stdin.close()
                process.wait(10)
    pairs = list(itertools.pairwise(looks))
    return {
        what: {kind: [[after[kind][place] - before[kind][place]] for before, after in pairs] for kind in KINDS}
        for place, what in enumerate(Usage._fields)
    }


def _all(waiting: dict[str, subprocess.Popen[bytes]]) -> dict[str, Usage]:
    return {kind: usage(process.pid) for kind, process in waiting.items()}


def _bare(kind: str) -> str:
    """Who does the same work."""
    return f"bare-{ {'monitor': 'asyncio', 'CardRequest': 'sync', 'CardMonitor': 'sync'}.get(kind, kind) }"


def report(runs: Runs) -> Report:
    """What the runs found."""
    columns = ("who waits", "setting", "processor time, ms", "ratio to a bare thread", "wakes", "ratio")
    found = Report(TITLE, columns, axis="ms of processor time", data=runs)
    for setting, measured in runs.items():
        cpu, wakes = (merged(run[what] for run in measured) for what in Usage._fields)
        for kind in KINDS:
            seconds, woken = (sum(turn[0] for turn in each[kind]) for each in (cpu, wakes))
            is_bare = kind.startswith("bare-")
            ratio = None if is_bare else _ratio(cpu, kind)
            of_wakes = None if is_bare else _ratio(wakes, kind)
            name = _NAMES.get(kind, f"bare thread, {kind.partition('-')[2]}")
            cells = ["1" if is_bare else "" if each is None else shown(each) for each in (ratio, of_wakes)]
            found.rows.append((name, setting, f"{1e3 * seconds:.2f}", cells[0], f"{woken:.0f}", cells[1]))
            found.bars.append((name, 1e3 * seconds))
            if kind in _TARGETS and ratio is not None:
                what = f"{name} / a bare thread, processor time"
                found.verdicts.append(Verdict(what, ratio.median, "<=", _TARGETS[kind], ratio))
    return found


def _ratio(rounds: Rounds, kind: str) -> Spread | None:
    """None: the bare thread did nothing in a part."""
    bare = rounds[_bare(kind)]
    return ratios(rounds, kind, _bare(kind)) if all(turn[0] for turn in bare) else None
