"""The storm over a pool, whole: `pool_storm.py [pcscd|simulation] [async|sync] [TASKS] [DISTURBANCES] [DEATHS] [SEED]`.

1,000 tasks (or as many jobs for 100 threads) borrow from 16 readers while cards are pulled and put in at random, three of which
refuse the PIN, and the daemon is killed. See tests/support/pool_storm.py for what must hold. It prints figures, and exits 1 with
what was wrong.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.faces import off_loop
from tests.support.pool_storm import PoolStorm, Real, Simulated, World


@contextlib.contextmanager
def world(which: str, words: dict[str, object]) -> Iterator[World]:
    """Sixteen readers."""
    if which == "pcscd":
        with PrivatePcscd(16) as pcscd:
            yield Real(pcscd)
    else:
        with SimulatedPCSC() as pcsc:
            words["backend"] = pcsc
            yield Simulated(pcsc, 16)


def main() -> None:
    """Run it."""
    which, face, *numbers = [*sys.argv[1:], *["pcscd", "async"][len(sys.argv) - 1 :]]
    tasks, disturbances, deaths, seed = [*map(int, numbers), *[1000, 400, 5, 1][len(numbers) :]]
    logging.disable(logging.WARNING)
    words: dict[str, object] = {}
    begun = time.monotonic()
    with world(which, words) as place:
        pause = 0.15 if which == "pcscd" else 0.03
        storm = PoolStorm(place, seed, tasks=tasks, turns=2, disturbances=disturbances, deaths=deaths, pause=pause)
        if face == "sync":
            storm.run_sync(100, **words)
        else:
            anyio.run(lambda: storm.run(off_loop, **words))
    print(f"{which}, {face}, {tasks} tasks, 16 readers, {time.monotonic() - begun:.0f} s, longest wait {storm.longest:.2f} s")
    print(", ".join(f"{what}: {count:,}" for what, count in sorted(storm.counted.items())))
    if storm.faults:
        print(*storm.faults[:20], sep="\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
