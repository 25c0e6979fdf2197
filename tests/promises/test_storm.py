"""The promise: whatever disturbs a process, the next who wants the card gets it. See tests/support/storm.py for what disturbs.

`SCARDFACE_STORM=3600 python -m pytest tests/promises/test_storm.py -s -o faulthandler_timeout=0` storms for an hour on each face.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import pytest

from tests.support.faces import both_faces
from tests.support.figures import tell
from tests.support.storm import DISTURBANCES, PATIENCE, Storm, nothing_left

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]

SECONDS = float(os.environ.get("SCARDFACE_STORM", "0"))
SEED = int(os.environ.get("SCARDFACE_SEED", "14"))
ROUNDS = 3 * len(DISTURBANCES)


def _memory() -> int:
    """The most that this process has had, in KiB; 0 on Windows, where Python does not tell it."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@both_faces
async def test_after_every_disturbance_the_next_one_gets_the_card(face: Any) -> None:
    storm = Storm(face, SEED)
    began = time.monotonic()
    memory = _memory()
    await storm.run(lambda number: number < ROUNDS if not SECONDS else time.monotonic() < began + SECONDS)
    await nothing_left()
    if SECONDS:
        growth = _memory() - memory
        took = f"{sum(storm.counted.values()):,} disturbances in {time.monotonic() - began:.0f} s"
        tell(f"{face.name}, seed {SEED}: {took}; the next card after {storm.longest:.2f} s at most; memory +{growth} KiB")
        print(dict(storm.counted))
        assert storm.longest < PATIENCE
