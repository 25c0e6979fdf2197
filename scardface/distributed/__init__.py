"""A fleet of readers: cards of many hosts under one Dask scheduler (extra `distributed`).

On each host, `scardface serve tcp://scheduler:8786`, or::

    async with CardHost("tcp://scheduler:8786", labels={"visa": "3B6E"}) as host:
        await host.wait()

Anywhere::

    async def sign(digest):                 # runs on the host, beside the card
        async with current_card() as card:
            return (await card.send(C_APDU(0x00, 0x2A, 0x9E, 0x9A, digest, 256))).check().data

    async with Client("tcp://scheduler:8786", asynchronous=True) as client:
        signature = await submit(client, sign, digest, card="visa")

Rules:

- Each card is a Dask worker of its own while it is in: `Worker.set_resources` does not wake a task that waits for a resource, a new
  worker does. The worker has one thread and one card, so no two jobs use a card at once.
- Jobs run at least once, as all of Dask's do: what a lost worker had, or was doing, runs again elsewhere. With `once=True` a job
  begins at most once; if it is lost, whoever waits for it gets a `JobInterruptedError` that says how far it got.
- Everything runs on asyncio, which Dask needs.
"""

from __future__ import annotations

from ..errors import pip_install

try:
    import distributed as _distributed  # noqa: F401  that of Dask
except ImportError as _missing:
    _needs = f"scardface.distributed needs the package distributed: {pip_install('distributed')}"
    raise ImportError(_needs, name="distributed") from _missing

from ._cards import current_card, reached
from ._errors import JobCancelledError, JobInterruptedError, SchedulerUnavailableError, VersionMismatchError
from ._host import CardHost
from ._jobs import submit

__all__ = [
    "CardHost",
    "JobCancelledError",
    "JobInterruptedError",
    "SchedulerUnavailableError",
    "VersionMismatchError",
    "current_card",
    "reached",
    "submit",
]
