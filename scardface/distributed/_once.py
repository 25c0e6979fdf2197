"""At most once: how a job that may not run twice is begun on one host only, and what is known of it when that host is lost.

Dask reruns what a lost worker had, whatever the job. So each such job has, on the scheduler, while somebody waits for it:

- a token, the only entry of a Dask queue. Whoever takes it may begin. Taking is one message, and the scheduler serves one message
  after the other, so no two workers have it. A worker that finds none does not begin.
- a record, a Dask variable: the worker, the host, the reader, the time, the last stage that the job reached, and at its end its
  result. Each entry is written, and its receipt awaited, before the job goes on.

What follows:

- A host that is lost after it took the token and before it wrote the record has not begun; the job counts as begun all the same.
- A worker that is lost matters only if the job began on it. Dask may have moved the job before its waiter hears of the loss.
- A result that is lost with its worker is taken from the record, if it is not too large for it.
- If the scheduler itself is lost, both are, and the job's end is not known.
"""

from __future__ import annotations

import asyncio
import time
import uuid
import weakref
from collections.abc import Callable, Container
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

from distributed import Client
from distributed.protocol import pickle

from ._errors import JobInterruptedError

LARGEST = 1 << 20
"""Bytes of a pickled result that the scheduler keeps beside Dask's own copy."""
LOST = "the job's worker was lost"

current_claim: ContextVar[Claim | None] = ContextVar("scardface_claim", default=None)
"""That of the job that runs, if it may begin only once."""


class Record:
    """What the scheduler has of a job that has begun."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    @property
    def worker(self) -> str | None:
        """The address of the worker on which it began."""
        return self._fields.get("worker")

    def result(self) -> Any:
        """What the job returned.

        Raises:
            JobInterruptedError: it did not come to its end.
        """
        if "result" in self._fields:
            return pickle.loads(self._fields["result"])
        raise interrupted(LOST, self._fields)


class Claim:
    """That a job may run here and now, and nowhere else; made by `claim`."""

    def __init__(self, scheduler: Any, name: str, record: dict[str, Any]) -> None:
        self._scheduler, self._name, self._record = scheduler, name, record

    async def reached(self, stage: str) -> None:
        """Add to the record how far the job got."""
        await self._write(stage=stage)

    async def done(self, result: Any) -> None:
        """Add the result to the record, if it fits."""
        try:
            pickled = pickle.dumps(result)
        except Exception:  # Dask reports what cannot be pickled
            return
        if len(pickled) <= LARGEST:
            await self._write(result=pickled)

    async def _write(self, **fields: Any) -> None:
        self._record.update(fields)
        await self._scheduler.variable_set(name=self._name, data=self._record)

    def interrupted(self, reason: str) -> JobInterruptedError:
        """The error of this job, if it ends here."""
        return interrupted(reason, self._record)


async def claim(scheduler: Any, name: str, worker: str, host: str, reader: str) -> Claim | Record:
    """Take the token of a job.

    Args:
        scheduler: a worker's connection to it.
        name: of the token and the record.
        worker: the worker's address.
        host: this host's name.
        reader: the reader that the card is in.

    Returns:
        The claim; or the record, if the job has begun elsewhere.
    """
    try:
        tokens = await scheduler.queue_get(name=name, batch=True)
    except KeyError:  # nobody waits for it any more
        tokens = ()
    if not tokens:
        return await _read(scheduler, name)
    mine = Claim(scheduler, name, {"worker": worker, "host": host, "reader": reader, "began": time.time()})
    await mine._write()
    return mine


def interrupted(reason: str, record: dict[str, Any]) -> JobInterruptedError:
    """The error that tells what a record has."""
    began = record.get("began")
    when = None if began is None else datetime.fromtimestamp(began, timezone.utc)
    return JobInterruptedError(reason, record.get("host"), record.get("reader"), when, record.get("stage"))


async def _read(scheduler: Any, name: str) -> Record:
    try:
        answer = await scheduler.variable_get(name=name, timeout=0.001)  # it is there, or will not be
    except asyncio.TimeoutError:
        return Record({})
    value = answer.get("value")
    return Record(value if isinstance(value, dict) else {})


class Pending:
    """The token and the record of one job, made and removed by whoever waits for it.

    What `distributed.Queue` does is said to the scheduler here: that class begins to make the queue in its constructor, in a task
    of its own whose error nobody gets.
    """

    def __init__(self, client: Client) -> None:
        self.name = f"scardface-once-{uuid.uuid4().hex}"
        self._client = client

    @classmethod
    async def create(cls, client: Client) -> Pending:
        """One whose token and empty record are on the scheduler.

        Raises:
            OSError: it cannot be reached.
        """
        pending = cls(client)
        await client.scheduler.queue_create(name=pending.name, maxsize=1)
        await client.scheduler.variable_set(name=pending.name, data={})
        await client.scheduler.queue_put(name=pending.name, data="may begin once", timeout=None)
        return pending

    async def begun(self) -> bool:
        """Whether some worker has taken the token."""
        return not await self._client.scheduler.queue_qsize(name=self.name)

    async def record(self) -> Record:
        """The record."""
        return await _read(self._client.scheduler, self.name)

    async def lost(self, key: str, workers: Container[str]) -> Record | None:
        """The record, if the job of this key began on one of these workers, which are lost; None: it goes on, or may yet begin."""
        if not await self.begun():
            return None
        record = await self.record()
        if record.worker is None:  # who has taken the token writes it next, unless that is the lost one
            jobs = await self._client.scheduler.processing(workers=None)
            if any(key in each for each in jobs.values()):
                return None
            record = await self.record()
        return record if record.worker is None or record.worker in workers else None

    def remove(self) -> None:
        """Remove both."""
        if self._client.status == "running":
            self._client._send_to_scheduler({"op": "queue_release", "name": self.name})
            self._client._send_to_scheduler({"op": "variable_delete", "name": self.name})


class _Losses:
    """Tells those who wait for a job that a worker which had it is lost; by Dask's events, topic "all"."""

    def __init__(self, client: Client) -> None:
        self._client: weakref.ref[Client] = weakref.ref(client)
        self._jobs: dict[str, asyncio.Queue[str]] = {}
        self._next: Callable[[Any], Any] | None = None

    def expect(self, key: str) -> asyncio.Queue[str]:
        """A queue of the addresses of the workers that had the job of this key and are lost."""
        client = self._client()
        if not self._jobs and client is not None:  # each time: a scheduler that was restarted has forgotten it
            handler = getattr(client, "_event_handlers", {}).get("all")
            if handler != self._heard:
                self._next = handler  # the user's own
            client.subscribe_topic("all", self._heard)
        workers = self._jobs[key] = asyncio.Queue()
        return workers

    def forget(self, key: str) -> None:
        """End of `expect`."""
        self._jobs.pop(key, None)
        client = self._client()
        if not self._jobs and self._next is None and client is not None and client.status == "running":
            client.unsubscribe_topic("all")

    def _heard(self, event: Any) -> Any:
        message = event[1]
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            for part in ("processing-tasks", "lost-computed-tasks"):
                for key in message.get(part, ()):
                    if key in self._jobs:
                        self._jobs[key].put_nowait(message["worker"])
        return None if self._next is None else self._next(event)


_losses: weakref.WeakKeyDictionary[Client, _Losses] = weakref.WeakKeyDictionary()


def losses_of(client: Client) -> _Losses:
    """Those of a client's scheduler."""
    found = _losses.get(client)
    if found is None:
        found = _losses[client] = _Losses(client)
    return found
