"""Jobs: `submit`, which gives one to a card and waits for its result, and what runs it on the host.

Rules:

- A job is never taken for another one with the same function and arguments: what it does to a card it does each time. (Dask's own
  `Client.submit` returns the first one's result again, unless it is told `pure=False`.)
- Function and arguments travel pickled, and are unpickled after the versions of both ends were compared: Dask's logs and
  dashboards, which show the arguments of tasks, show none of them.
- Whoever stops waiting cancels the job: one that has not begun does not begin. One that runs goes on to its end on its host.
- At least once: what a lost worker had runs again elsewhere, and what a lost scheduler had is submitted again, once the client has
  found it again. At most once: see `_once`.
- Dask gives a job up (KilledWorker) once more than `allowed-failures` workers, 3 by default, were lost that had it. A host has a
  worker for each reader, and loses all of them when it is killed: Dask moves the job from one to the next before it hears of that.
  So the job is submitted again, that often, and whoever gets the error knows that more than `allowed-failures` hosts were lost.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from distributed import Client, Future, get_worker
from distributed.client import FutureCancelledError, FuturesCancelledError
from distributed.protocol import pickle
from distributed.scheduler import KilledWorker

from ._cards import CardKeeper, keeper_here, leave_if_gone
from ._errors import JobCancelledError, JobInterruptedError, SchedulerUnavailableError
from ._once import Pending, Record, claim, current_claim, losses_of
from ._scheduler import check_job, own_versions

T = TypeVar("T")

CARD = "card"
"""The resource that each worker has one of."""
_SCHEDULER_LOST = "scheduler-connection-lost"
_RELEASED = 1.0
"""Seconds in which whoever waits for a released job has noticed."""
_RECONNECTED = 0.1
"""Seconds between two looks at the client's status, which has no event."""


async def submit(
    client: Client, function: Callable[..., Any], /, *args: Any, card: str | None = None, once: bool = False, **kwargs: Any
) -> Any:
    """Run a function on a host, beside a card, and return what it returns: `await submit(client, sign, digest, card="visa")`.

    It waits until there is a card, for ever if need be: put `asyncio.timeout` or `asyncio.wait_for` around it. A coroutine function
    runs in its host's event loop, which it must not block; another one runs in a thread. Function, arguments and result travel
    pickled (by cloudpickle where pickle cannot), through the scheduler. From a script: `client.sync(submit, client, ...)`.

    Args:
        client: an asynchronous client: `await Client(address, asynchronous=True)`.
        function: what to run. It has the card by `current_card`.
        args: its positional arguments. No Dask futures.
        card: a label that hosts give to their cards; None: any card.
        once: begin it at most once, whatever is lost. False: it is run again if its card goes or its host is lost.
        kwargs: its keyword arguments. Those named `card` or `once` are for `submit`; `functools.partial` passes them on.

    Returns:
        What the function returns.

    Raises:
        JobInterruptedError: with `once`, it was lost after it had begun.
        JobCancelledError: somebody else cancelled it.
        SchedulerUnavailableError: the client has lost the scheduler and has not found it again.
        VersionMismatchError: the host has another version of Dask, scardface or Python than this client.
        KilledWorker: of Dask: it was on four hosts in turn that were killed; with `once`, it had not begun there.
        TypeError: no client, one that is not asynchronous, nothing callable, or a Dask future among the arguments.
        Exception: what the function itself raised.
    """
    if not isinstance(client, Client):
        raise TypeError(f"submit needs a distributed.Client, not {type(client).__name__}")
    if not client.asynchronous:
        raise TypeError("submit needs an asynchronous client; with another one use client.sync(submit, client, function, ...)")
    if not callable(function):
        raise TypeError(f"a job is a function, not {type(function).__name__}")
    if card is not None and not isinstance(card, str):
        raise TypeError(f"card is the label of a card, a str, not {type(card).__name__}")
    if any(isinstance(each, Future) for each in (*args, *kwargs.values())):
        raise TypeError("a Dask future cannot be an argument of a card's job: await it, and pass on its result")
    payload = pickle.dumps((function, args, kwargs))
    name = getattr(function, "__name__", type(function).__name__)
    resources = {CARD: 1} if card in (None, CARD) else {CARD: 1, card: 1}
    if once:
        return await _once(client, name, payload, resources)
    given_up = 0
    while True:
        key = f"{name}-{uuid.uuid4().hex}"
        future = client.submit(run_job, payload, _information(), key=key, pure=False, resources=resources)
        try:
            return await _result(client, future)
        except _SchedulerLost:
            await _reconnected(client)
        except KilledWorker as error:
            given_up += 1
            if given_up > error.allowed_failures:
                raise


async def _once(client: Client, name: str, payload: bytes, resources: Mapping[str, int]) -> Any:
    """See `_once.py`."""
    pending = await _pending(client)
    given_up = 0
    try:
        while True:
            try:
                return await _once_or_lost(client, name, payload, resources, pending)
            except KilledWorker as error:
                if await _asked(pending.begun()):
                    return (await _asked(pending.record())).result()
                given_up += 1
                if given_up > error.allowed_failures:
                    raise
    except _SchedulerLost as error:
        raise JobInterruptedError("the scheduler was lost") from error
    finally:
        pending.remove()


async def _once_or_lost(client: Client, name: str, payload: bytes, resources: Mapping[str, int], pending: Pending) -> Any:
    """The result of a job that has a token; KilledWorker if Dask gives it up."""
    key, losses = f"{name}-{uuid.uuid4().hex}", losses_of(client)
    losing, lost = losses.expect(key), set[str]()
    future = client.submit(run_job, payload, _information(once=pending.name), key=key, pure=False, resources=resources)
    result = asyncio.ensure_future(_result(client, future))
    waiting = [result]
    try:
        while True:
            loss = asyncio.ensure_future(losing.get())
            waiting.append(loss)
            await asyncio.wait({result, loss}, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            lost.add(loss.result())
            record = await _asked(pending.lost(key, lost))
            if record is not None:
                return record.result()
    finally:
        future.release()  # which ends `result`; cancelled in the middle of a transfer, Dask would log a mistake of its own
        await asyncio.wait({result}, timeout=_RELEASED)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        losses.forget(key)


async def _pending(client: Client) -> Pending:
    """The token and the record of a job that is not submitted yet, so that a lost scheduler is no harm."""
    while True:
        try:
            return await Pending.create(client)
        except OSError:
            await _reconnected(client)


async def _asked(question: Awaitable[T]) -> T:
    """What the scheduler answers about a job that was submitted."""
    try:
        return await question
    except (OSError, KeyError) as error:  # KeyError: a new one knows nothing of it
        raise _SchedulerLost from error


class _SchedulerLost(Exception):
    """The client has lost the scheduler, and with it the job."""


async def _result(client: Client, future: Future) -> Any:
    """The result of a job. However the wait ends, the job is released then: if it has not begun, it will not.

    A client fetches the results of all who wait at a time together, and whoever is cancelled meanwhile would cancel that for all.
    So nobody is, here; and who is all the same, by others' doing, asks again.
    """
    try:
        while True:
            fetched = asyncio.ensure_future(_fetched(future))
            try:
                return await asyncio.shield(fetched)
            except asyncio.CancelledError:
                if not fetched.cancelled():
                    fetched.add_done_callback(_ignore)
                    raise
    except (FutureCancelledError, FuturesCancelledError) as error:
        reason = getattr(error, "reason", "its result was lost")
        if reason == _SCHEDULER_LOST or client.status != "running":
            raise _SchedulerLost from None
        raise JobCancelledError(f"the job was cancelled ({reason})") from None
    except OSError:
        if future.status == "error":
            raise  # the job's own
        raise _SchedulerLost from None
    finally:
        future.release()


async def _fetched(future: Future) -> Any:
    return await future


def _ignore(task: asyncio.Task[Any]) -> None:
    """Nobody waits for it any more."""
    if not task.cancelled():
        task.exception()


def _information(**more: Any) -> dict[str, Any]:
    """What a host has to know of a job, beside its payload."""
    return {"versions": own_versions(), **more}


async def _reconnected(client: Client) -> None:
    """Wait until the client has a scheduler again; it may not have noticed yet that it has none.

    Raises:
        SchedulerUnavailableError: it has given up.
    """
    await asyncio.sleep(_RECONNECTED)
    while client.status == "connecting":
        await asyncio.sleep(_RECONNECTED)
    if client.status != "running":
        raise SchedulerUnavailableError("the client has lost the scheduler, and has not found it again; the job's end is not known")


async def run_job(payload: bytes, information: Mapping[str, Any]) -> Any:
    """What a worker runs for `submit`.

    Args:
        payload: function and arguments, pickled.
        information: the submitter's `versions`; under `once` the name of the token and the record.
    """
    keeper, worker = keeper_here(), get_worker()
    check_job(information["versions"], keeper.host)
    function, args, kwargs = pickle.loads(payload)
    call = functools.partial(function, *args, **kwargs)
    with keeper.job():
        await leave_if_gone(keeper)
        try:
            return await _run(worker, keeper, call, information.get("once"))
        except Exception as error:
            end_cycles(error)
            raise


async def _run(worker: Any, keeper: CardKeeper, call: functools.partial[Any], name: str | None) -> Any:
    if name is None:
        return await _called(worker, call)
    mine = await claim(worker.scheduler, name, worker.address, keeper.host, keeper.reader)
    if isinstance(mine, Record):
        return mine.result()
    reset = current_claim.set(mine)
    try:
        result = await _called(worker, call)
    except asyncio.CancelledError:  # the worker is being closed: Dask would run the job elsewhere
        raise mine.interrupted("its worker was closed") from None
    finally:
        current_claim.reset(reset)
    await mine.done(result)
    return result


def end_cycles(error: BaseException) -> None:
    """Cut the chain of causes where it comes back to itself: Dask follows it, in the host's event loop, and would never end."""
    seen = {id(error)}
    while error.__cause__ is not None:
        if id(error.__cause__) in seen:
            error.__cause__ = None
            return
        error = error.__cause__
        seen.add(id(error))


async def _called(worker: Any, call: functools.partial[Any]) -> Any:
    """What the function returns: called here if it is a coroutine function, else in the worker's thread."""
    function: Any = call.func
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return await call()
    run = functools.partial(contextvars.copy_context().run, call)
    result = await asyncio.get_running_loop().run_in_executor(worker.executors["default"], run)
    return await result if inspect.isawaitable(result) else result
