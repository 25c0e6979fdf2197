"""`scardface serve`: the cards of this machine as workers of a Dask scheduler.

Rules:

- What comes and goes is a line of standard output; warnings go to standard error.
- SIGTERM and Ctrl-C end it in order: no new job begins, those that run have `--drain` seconds, then everything is closed. A second
  signal ends the waiting; and the process, where a job blocks the event loop.
- Dask is imported when the command runs; without it one sentence says what to install.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..errors import pip_install
from ._failures import INTERRUPTED, OK, TIMEOUT, USAGE, print_error
from ._log import Warnings, logging_to
from ._options import READER, Seconds, atr_pattern, common, timeout
from ._output import print_json
from ._printable import printable
from ._watch import which_to_watch

if TYPE_CHECKING:
    from ..distributed import CardHost

DRAIN = 30.0
"""Seconds that running jobs have, once serving shall end."""


class _Lines(logging.Handler):
    """Prints what a host tells: information on standard output, warnings as all commands do."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._json, self._warnings = as_json, Warnings()

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        if record.levelno >= logging.WARNING:
            self._warnings.emit(record)
        elif self._json:
            print_json(time=round(record.created, 3), message=record.getMessage())
        else:
            print(f"{time.strftime('%H:%M:%S')} {printable(record.getMessage())}", flush=True)


def _labels(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, re.Pattern[bytes]]:
    found: dict[str, re.Pattern[bytes]] = {}
    for text in texts:
        name, equals, pattern = text.partition("=")
        if not name or not equals or not pattern:
            raise click.BadParameter(f"{text!r} is not NAME=ATR, as visa=3B6E")
        if name in found:
            raise click.BadParameter(f"the label {name!r} is given twice")
        found[name] = atr_pattern(pattern)
    return found


@click.command(short_help="Serve the cards of this machine to a Dask scheduler.")
@click.argument("scheduler", metavar="SCHEDULER")
@click.option("--host", metavar="NAME", help="The name of this host; that of the machine without it.")
@click.option("--reader", "readers", metavar="R", multiple=True, help=f"Only this reader, or these. {READER}")
@click.option(
    "--atr",
    metavar="RE",
    callback=lambda context, parameter, text: None if text is None else atr_pattern(text),
    help="Only cards whose ATR begins with these hex digits ('..': any byte), or in which this regular expression is found.",
)
@click.option(
    "--label",
    "labels",
    metavar="NAME=ATR",
    multiple=True,
    callback=_labels,
    help="Give cards with such an ATR this label, by which jobs ask for them: visa=3B6E..31. Several are possible.",
)
@timeout("Seconds that the scheduler has to answer.  [default: 10]")
@click.option("--retry", is_flag=True, help="Wait for a scheduler that is not there at the start.")
@click.option("--listen", metavar="ADDRESS", help="The address to listen on; that of the way to the scheduler without it.")
@click.option("--tls-ca-file", metavar="FILE", help="For tls://: the authority that signed the certificates of the fleet.")
@click.option("--tls-cert", metavar="FILE", help="This host's certificate.")
@click.option("--tls-key", metavar="FILE", help="The key of it.")
@click.option("--no-reset", is_flag=True, help="Leave the card as it is between jobs: selections and verified PINs stay.")
@click.option(
    "--drain",
    metavar="S",
    type=Seconds(),
    default=DRAIN,
    show_default=True,
    help="Seconds that running jobs have when it is stopped.",
)
@common
def serve(
    scheduler: str,
    host: str | None,
    readers: tuple[str, ...],
    atr: re.Pattern[bytes] | None,
    labels: dict[str, re.Pattern[bytes]],
    timeout: float | None,
    retry: bool,
    listen: str | None,
    tls_ca_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    no_reset: bool,
    drain: float,
    as_json: bool,
) -> int:
    """Serve the cards of this machine to a Dask scheduler, tcp://HOST:PORT or tls://HOST:PORT.

    Each card is a worker while it is in, with the resource 'card' and its labels. See docs/fleet.md.
    """
    try:
        from ..distributed import CardHost, SchedulerUnavailableError, VersionMismatchError
    except ImportError as missing:
        if missing.name != "distributed":
            raise
        print_error(f"the command 'serve' needs the package distributed: {pip_install('distributed')}")
        return USAGE
    from distributed.security import Security

    files = {"tls_ca_file": tls_ca_file, "tls_worker_cert": tls_cert, "tls_worker_key": tls_key}
    given = {name: value for name, value in files.items() if value is not None}
    if given and not scheduler.startswith("tls://"):
        raise click.UsageError("certificates are for a scheduler at tls://")
    try:
        arguments: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        served = CardHost(
            scheduler,
            host=host,
            readers=[which_to_watch(each) for each in readers] or None,
            atr=atr,
            labels=labels,
            security=Security(require_encryption=True, **given) if given else None,
            retry=retry,
            listen=listen,
            reset=not no_reset,
            **arguments,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with _quiet("distributed"), logging_to(_Lines(as_json), logging.INFO):
        try:
            return asyncio.run(_serve(served, drain))
        except SchedulerUnavailableError as error:
            print_error(str(error))
            return TIMEOUT
        except VersionMismatchError as error:
            print_error(str(error))
            return USAGE


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Within the block, Dask logs nothing: what matters is told here."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Signals:
    """What SIGTERM and Ctrl-C do: the first one ends serving in order, the second one the waiting for jobs.

    A job that blocks the event loop, or holds it up between two of them, keeps the loop from hearing of either: then the second one
    ends the process at once.
    """

    def __init__(self) -> None:
        self.came: list[int] = []
        self.stopped = asyncio.Event()
        self._heard = 0
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def _handle(self, number: int, frame: object) -> None:
        if len(self.came) > self._heard:
            print_error("a job blocks the event loop of this host, which is ended at once")
            os._exit(128 + number)
        self.came.append(number)
        self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._heard += 1
        if self.stopped.is_set() and self._task is not None:
            self._task.cancel()
        self.stopped.set()

    def restore(self) -> None:
        """Have them do what they did before."""
        for number, before in self._before.items():
            signal.signal(number, before)


async def _serve(host: CardHost, drain: float) -> int:
    """Serve until a signal comes; the exit status."""
    signals = _Signals()
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(signals.stopped.wait())]
    entering = asyncio.ensure_future(host.__aenter__())
    try:
        await asyncio.wait({entering, *waits}, return_when=asyncio.FIRST_COMPLETED)
        if not entering.done():
            return _status(signals)
        entering.result()
        try:
            logging.getLogger("scardface.distributed").info("host %r serves its cards to %s", host.host, host.scheduler)
            waits.append(asyncio.ensure_future(host.wait()))
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not signals.stopped.is_set():
                waits[1].result()
            if drain:
                await host.drain(drain)
        finally:
            await host.__aexit__(None, None, None)
    except asyncio.CancelledError:
        if not signals.came:
            raise
    finally:
        for each in (entering, *waits):
            each.cancel()
        await asyncio.gather(entering, *waits, return_exceptions=True)
        signals.restore()
    return _status(signals)


def _status(signals: _Signals) -> int:
    return INTERRUPTED if signal.SIGINT in signals.came else OK
