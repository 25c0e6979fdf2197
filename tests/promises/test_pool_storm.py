"""Many tasks borrow from a pool while cards are pulled and put in at random and the service dies.

No loan is lost, no card lent twice, no PIN tried twice. `.ci/pool_storm.py` is the same with more of all.
"""

from __future__ import annotations

import pytest

from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.faces import off_loop
from tests.support.pool_storm import PoolStorm, Real, Simulated

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("seed", "tasks"), [(1, 150), (2, 10)])
async def test_sixteen_readers(seed: int, tasks: int) -> None:
    """With tasks that wait for cards, and with cards that wait for tasks."""
    with SimulatedPCSC() as pcsc:
        storm = PoolStorm(Simulated(pcsc, 16), seed, tasks=tasks, turns=2, disturbances=80, deaths=3, pause=0.02)
        await storm.run(off_loop, backend=pcsc)
    assert not storm.faults


@pytest.mark.parametrize("threads", [24, 6])
def test_sixteen_readers_among_threads(threads: int) -> None:
    with SimulatedPCSC() as pcsc:
        storm = PoolStorm(Simulated(pcsc, 16), 3, tasks=threads, turns=2, disturbances=60, deaths=3, pause=0.02)
        storm.run_sync(threads, backend=pcsc)
    assert not storm.faults


async def test_on_pcscd(pcscd: PrivatePcscd) -> None:
    storm = PoolStorm(Real(pcscd), 4, tasks=60, turns=2, disturbances=16, deaths=2, pause=0.3, bad=2)
    await storm.run(off_loop)
    assert not storm.faults
