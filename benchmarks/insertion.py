"""From a card's insertion to the task that waits for it, beyond the moment at which a bare waiter saw it.

- Measured: a card goes in; one program waits for it in a bare status call, another one with a task in an event loop; both note
  the monotonic clock. What is told is how much later the task was. The driver's poll, up to 0.4 s, is in neither.
- Against: what an asyncio user of pyscard writes: CardMonitor's observer, `call_soon_threadsafe`, a queue, a task. Beside them,
  open cards: a task with an `SCard` that is open, and a CardRequest in a thread with its connection.
- Each contender is a process of its own, for a few insertions at a time, in turns: CardMonitor's thread cannot be stopped within
  a minute, and would compete. It would be unfair to let them see the same insertion: the daemon tells one after the other.
"""

from __future__ import annotations

import random
import subprocess
import sys

from ._figures import merged, ratios, spread
from ._place import Place
from ._report import Report, Verdict, micro
from ._tables import Runs
from ._turns import LOOPS

TITLE = "insertion to the resumed task, beyond a bare waiter"
REFERENCE = "pyscard"
MONITORS = tuple(f"monitor-{loop}" for loop in LOOPS)
CARDS = ("card-asyncio", "pyscard-card")
_NAMES = {
    "pyscard": "pyscard CardMonitor, asyncio",
    "card-asyncio": "SCard open, asyncio",
    "pyscard-card": "pyscard CardRequest, connected",
}


class _Listener:
    """A program of `_inserted`."""

    def __init__(self, kind: str, reader: str) -> None:
        command = [sys.executable, "-m", "benchmarks._inserted", kind, reader]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect("ready")

    def expect(self, word: str) -> None:
        """Read the word that must come next."""
        said = self.said()
        if said != word:
            raise RuntimeError(f"a listener said {said!r} in place of {word!r}")

    def said(self) -> str:
        """The next word."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return ["all cores"]


def measure(setting: str, quick: bool) -> object:
    """One run."""
    kinds = [MONITORS[0], REFERENCE] if quick else [*MONITORS, REFERENCE, *CARDS]
    blocks, insertions = (1, 1) if quick else (5, 4)
    order = random.Random(7)
    later: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    with Place(2) as place:
        witness = _Listener("bare", place.readers[0])
        for _ in range(blocks):
            for kind in order.sample(kinds, len(kinds)):
                listener = _Listener(kind, place.readers[0])
                later[kind].append([_later(place, witness, listener) for _ in range(insertions)])
                listener.close()
        witness.close()
    return later


def _later(place: Place, witness: _Listener, listener: _Listener) -> float:
    place.insert(0, seen=False)
    seconds = (int(listener.said()) - int(witness.said())) / 1e9
    place.remove(0, seen=False)
    witness.expect("out")
    listener.expect("out")
    return seconds


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, ("contender", "insertions", "median, us", "quartiles"), axis="us later than a bare waiter", data=runs)
    for measured in runs.values():
        for kind, blocks in measured[0].items():
            times = [seconds for block in blocks for seconds in block]
            middle = spread(times)
            name = _NAMES.get(kind, f"ReaderMonitor, {kind.partition('-')[2]}")
            found.rows.append((name, str(len(times)), micro(middle.median), f"{micro(middle.low)} to {micro(middle.high)}"))
            found.bars.append((name, 1e6 * middle.median))
    for kind in MONITORS:
        if all(kind in measured[0] for measured in runs.values()):
            blocks = merged(run for measured in runs.values() for run in measured)
            ratio = ratios(blocks, kind, REFERENCE)
            what = f"ReaderMonitor, {kind.partition('-')[2]} / {_NAMES[REFERENCE]}"
            found.verdicts.append(Verdict(what, ratio.median, "<=", 0.8, ratio))
    return found
